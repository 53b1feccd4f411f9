/* The block map in the copier's hands: opened under lock, begun, applied. */
#include "disk/map_file.h"

#include "base/fs.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static int
copy_text(char *to, size_t max, const char *text, const char *what,
          struct err *e)
{
    size_t n = strlen(text);

    if (n >= max)
        return err_set(e, ERR_USER, "%s is longer than %zu bytes", what,
                       max - 1);
    memcpy(to, text, n + 1);
    return 0;
}

/* A file that was renamed or removed between open and flock is not ours to
 * write: its lock guards a name that is gone. */
static int
lock_file(int fd, const char *path, struct err *e)
{
    struct stat mine, named;

    if (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            return err_errno(e, errno, "locking the block map %s", path);
        return err_set(e, ERR_BUSY,
                       "the block map %s is in use by another copier; wait "
                       "for its end",
                       path);
    }
    if (fstat(fd, &mine))
        return err_errno(e, errno, "locking the block map %s", path);
    if (stat(path, &named) || mine.st_ino != named.st_ino ||
        mine.st_dev != named.st_dev)
        return err_set(e, ERR_BUSY,
                       "the block map %s was replaced while it was opened; "
                       "try again",
                       path);
    return 0;
}

/* A copier that was killed may have left what only the cache has: its name,
 * its pages.  From here on what is read is what stable storage has. */
static int
settle(struct map *m, struct err *e)
{
    defer_free char *dir = xstrdup(m->path);

    return map_settle(m, e) || fs_sync_dir(dirname(dir), e) ? -1 : 0;
}

/* The map is born complete: header written and stable under a temporary name,
 * which the lock follows.  So a map without a valid header is damage. */
static int
create(struct map **m, const char *path, const struct map_head *h,
       struct err *e)
{
    defer_free char *tmp = xasprintf("%s.new", path);
    defer_free char *dir = xstrdup(path);
    defer_close int fd = open(tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    defer(map_close_ptr) struct map *new = NULL;

    if (fd < 0)
        return err_errno(e, errno, "creating the block map %s", path);
    if (lock_file(fd, tmp, e))
        return -1;
    if (fs_exists(path))
        return err_set(e, ERR_BUSY,
                       "the block map %s was made by another copier just "
                       "now; try again",
                       path);
    if (ftruncate(fd, 0))
        return err_errno(e, errno, "creating the block map %s", path);
    new = map_new(take_fd(fd), path);
    if (map_store_head(new, h, e))
        return -1;
    if (rename(tmp, path))
        return err_errno(e, errno, "renaming %s to %s", tmp, path);
    if (fs_sync_dir(dirname(dir), e))
        return -1;
    *m = take(new);
    return 0;
}

static int
fits(const struct map *m, const struct map_head *want, struct err *e)
{
    const struct map_head *h = &m->head;

    if (h->size != want->size)
        return err_set(e, ERR_DAMAGED,
                       "the block map %s is of a disk of %llu bytes, not %llu; "
                       "remove map and target to copy the disk anew",
                       m->path, (unsigned long long)h->size,
                       (unsigned long long)want->size);
    if (strcmp(h->disk_id, want->disk_id))
        return err_set(e, ERR_DAMAGED,
                       "the block map %s is of disk '%.80s', not '%.80s'; "
                       "remove map and target to copy the disk anew",
                       m->path, h->disk_id, want->disk_id);
    if (strcmp(h->target_id, want->target_id))
        return err_set(e, ERR_DAMAGED,
                       "the block map %s is of target '%.80s', not '%.80s'; "
                       "remove the map to copy the whole disk there",
                       m->path, h->target_id, want->target_id);
    return 0;
}

static int
open_map(struct map **m, const char *path, const char *disk_id, uint64_t size,
         const char *target_id, bool make, struct err *e)
{
    struct map_head want = { .size = size };
    defer_close int fd = -1;
    defer(map_close_ptr) struct map *old = NULL;

    assert(size && size <= DISK_SIZE_MAX);
    if (copy_text(want.disk_id, sizeof want.disk_id, disk_id, "the disk's id",
                  e) ||
        copy_text(want.target_id, sizeof want.target_id, target_id,
                  "the target's id", e))
        return -1;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && make)
        return create(m, path, &want, e);
    if (fd < 0)
        return err_errno(e, errno, "opening the block map %s", path);
    if (lock_file(fd, path, e))
        return -1;
    old = map_new(take_fd(fd), path);
    if (settle(old, e) || map_load_head(old, e) || fits(old, &want, e))
        return -1;
    *m = take(old);
    return 0;
}

int
map_open(struct map **m, const char *path, const char *disk_id, uint64_t size,
         const char *target_id, struct err *e)
{
    return open_map(m, path, disk_id, size, target_id, true, e);
}

int
map_open_old(struct map **m, const char *path, const char *disk_id,
             uint64_t size, const char *target_id, struct err *e)
{
    return open_map(m, path, disk_id, size, target_id, false, e);
}

int
map_get(struct map *m, uint64_t block, struct map_entry *out, struct err *e)
{
    const struct map_cached *c = map_load_page(m, block / MAP_PAGE_BLOCKS, e);

    if (!c)
        return -1;
    *out = map_entry_of(m, c, block % MAP_PAGE_BLOCKS);
    return 0;
}

static void
add_blocks(const struct map *m, uint64_t block, uint64_t n, struct extents *out)
{
    uint64_t start = block * DISK_BLOCK, end = start + n * DISK_BLOCK;

    if (end > m->head.size)
        end = m->head.size;
    extents_add(out, start, end - start);
}

int
map_dirty(struct map *m, bool uncopied, struct extents *out, struct err *e)
{
    uint64_t pages = map_pages(m), no = 0, next;

    out->n = 0;
    for (; no < pages; no = next + 1) {
        const struct map_cached *c;

        next = map_next_page(m, no);
        if (next == UINT64_MAX)
            next = pages;
        /* Pages that the file does not hold. */
        if (uncopied && !m->head.holes_zero)
            add_blocks(m, no * MAP_PAGE_BLOCKS, (next - no) * MAP_PAGE_BLOCKS,
                       out);
        if (next == pages)
            break;
        c = map_load_page(m, next, e);
        if (!c)
            return -1;
        for (unsigned i = 0; i < map_page_blocks(m, next); i++) {
            struct map_entry x = map_entry_of(m, c, i);

            if ((x.flags & MAP_DIRTY) || (uncopied && !(x.flags & MAP_COPIED)))
                add_blocks(m, next * MAP_PAGE_BLOCKS + i, 1, out);
        }
    }
    return 0;
}

/* True if it changed, or had been marked before: that mark may never have
 * become stable, so the page is written again. */
static bool
mark(const struct map *m, struct map_cached *c, unsigned i)
{
    struct map_entry x = map_entry_of(m, c, i);

    if (!x.flags)
        return false;
    if (x.flags & MAP_DIRTY)
        x = (struct map_entry){ 0, MAP_DIRTY };
    else
        x.flags = (uint8_t)((x.flags & ~MAP_VERIFIED) | MAP_DIRTY);
    c->page.hash[i] = x.hash;
    c->page.flags[i] = x.flags;
    return true;
}

static int
mark_extent(struct map *m, const struct extent *x, struct err *e)
{
    uint64_t block = x->start / DISK_BLOCK;
    uint64_t end = disk_blocks(x->start + x->length);

    while (block < end) {
        uint64_t no = block / MAP_PAGE_BLOCKS, held = no;
        uint64_t next = (no + 1) * MAP_PAGE_BLOCKS;
        struct map_cached *c;
        bool marked = false;

        /* What is unknown is not marked. */
        if (!m->head.holes_zero)
            held = map_next_page(m, no);
        if (held == UINT64_MAX)
            return 0;
        if (held > no) {
            block = held * MAP_PAGE_BLOCKS;
            continue;
        }
        c = map_load_page(m, no, e);
        if (!c)
            return -1;
        for (; block < end && block < next; block++)
            marked |= mark(m, c, block % MAP_PAGE_BLOCKS);
        if (marked && map_store_page(m, c, e))
            return -1;
    }
    return 0;
}

int
map_begin(struct map *m, const char *plan_id, uint64_t digest,
          const struct extents *plan, bool zeroed, struct err *e)
{
    struct map_head h = m->head;
    bool first = !*h.plan;

    assert(*plan_id);
    if (copy_text(h.plan, sizeof h.plan, plan_id, "the plan's id", e))
        return -1;
    for (size_t i = 0; !first && i < plan->n; i++)
        if (mark_extent(m, &plan->p[i], e))
            return -1;
    if (!first && map_sync(m, e))
        return -1;
    h.digest = digest;
    if (first) {
        memcpy(h.born, h.plan, sizeof h.born);
        h.zeroed = zeroed;
    } else {
        memset(h.born, 0, sizeof h.born);
    }
    return map_store_head(m, &h, e);
}

static int
by_block(const void *a, const void *b)
{
    const struct map_change *x = a, *y = b;

    return x->block < y->block ? -1 : x->block > y->block;
}

int
map_apply(struct map *m, struct map_change *c, size_t n, struct err *e)
{
    size_t i = 0;

    if (n)
        qsort(c, n, sizeof *c, by_block);
    while (i < n) {
        uint64_t no = c[i].block / MAP_PAGE_BLOCKS;
        struct map_cached *page = map_load_page(m, no, e);

        if (!page)
            return -1;
        for (; i < n && c[i].block / MAP_PAGE_BLOCKS == no; i++) {
            unsigned at = c[i].block % MAP_PAGE_BLOCKS;

            page->page.hash[at] = c[i].entry.hash;
            page->page.flags[at] = c[i].entry.flags;
        }
        if (map_store_page(m, page, e))
            return -1;
    }
    return 0;
}

/* Writes again what the file holds.  After a sync that failed in an earlier
 * run, the kernel may show pages which the disk does not have, and calls them
 * written. */
static int
store_all(struct map *m, struct err *e)
{
    for (uint64_t no = map_next_page(m, 0); no != UINT64_MAX;
         no = map_next_page(m, no + 1)) {
        struct map_cached *c = map_load_page(m, no, e);

        if (!c || map_store_page(m, c, e))
            return -1;
    }
    return map_sync(m, e);
}

int
map_holes_zero(struct map *m, struct err *e)
{
    struct map_head h = m->head;

    if (h.holes_zero)
        return 0;
    /* A page that is lost later would count as zeroes. */
    if (store_all(m, e))
        return -1;
    h.holes_zero = true;
    return map_store_head(m, &h, e);
}
