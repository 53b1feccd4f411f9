/* What a block map amounts to; and the block map in other hands: read-only,
 * without a lock. */
#include "disk/map_file.h"

#include <errno.h>
#include <fcntl.h>

static struct map *
open_to_read(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct map *m;

    if (fd < 0) {
        err_errno(e, errno, "opening the block map %s", path);
        return NULL;
    }
    m = map_new(fd, path);
    if (map_load_head(m, e)) {
        map_close(m);
        return NULL;
    }
    return m;
}

static void
count(struct map_summary *s, struct map_entry x)
{
    s->dirty += !!(x.flags & MAP_DIRTY);
    if ((x.flags & MAP_COPIED) && !(x.flags & MAP_DIRTY)) {
        s->copied++;
        s->zero += !!(x.flags & MAP_ZERO);
        s->verified += !!(x.flags & MAP_VERIFIED);
    }
}

int
map_summary(const char *path, struct map_summary *out, struct err *e)
{
    defer(map_close_ptr) struct map *m = open_to_read(path, e);
    uint64_t seen = 0, absent;

    if (!m)
        return -1;
    *out = (struct map_summary){ .head = m->head };
    out->blocks = disk_blocks(m->head.size);
    for (uint64_t no = map_next_page(m, 0); no != UINT64_MAX;
         no = map_next_page(m, no + 1)) {
        const struct map_cached *c = map_load_page(m, no, e);
        unsigned n = map_page_blocks(m, no);

        if (!c)
            return -1;
        for (unsigned i = 0; i < n; i++)
            count(out, map_entry_of(m, c, i));
        seen += n;
        out->torn += c->torn ? n : 0;
    }
    absent = out->blocks - seen;
    if (m->head.holes_zero) {
        out->copied += absent;
        out->zero += absent;
    }
    out->unknown = out->blocks - out->copied - out->dirty;
    return 0;
}

struct left {
    uint64_t bytes, first;
    uint64_t held; /* first page at or after the last one asked for that the
                    * file holds */
};

static void
add_left(const struct map *m, uint64_t block, uint64_t end, struct left *l)
{
    uint64_t from = block * DISK_BLOCK, to = end * DISK_BLOCK;

    if (!l->bytes)
        l->first = from;
    l->bytes += (to < m->head.size ? to : m->head.size) - from;
}

/* Of page `no`, or, where the file does not hold it, of all up to the next
 * that it does: a huge disk has few.  Returns where it ended. */
static int
add_page(struct map *m, uint64_t *block, uint64_t end, struct left *l,
         struct err *e)
{
    uint64_t no = *block / MAP_PAGE_BLOCKS;
    const struct map_cached *c;

    if (l->held < no)
        l->held = map_next_page(m, no);
    if (l->held != no) {
        if (l->held <= (end - 1) / MAP_PAGE_BLOCKS)
            end = l->held * MAP_PAGE_BLOCKS;
        if (!m->head.holes_zero)
            add_left(m, *block, end, l);
        *block = end;
        return 0;
    }
    c = map_load_page(m, no, e);
    if (!c)
        return -1;
    if (end > (no + 1) * MAP_PAGE_BLOCKS)
        end = (no + 1) * MAP_PAGE_BLOCKS;
    for (; *block < end; ++*block) {
        struct map_entry x = map_entry_of(m, c, *block % MAP_PAGE_BLOCKS);

        if ((x.flags & (MAP_COPIED | MAP_DIRTY)) != MAP_COPIED)
            add_left(m, *block, *block + 1, l);
    }
    return 0;
}

int
map_left(struct map *m, const struct extents *x, uint64_t *left,
         uint64_t *first, struct err *e)
{
    struct left l = { .held = map_next_page(m, 0) };

    for (size_t i = 0; i < x->n; i++) {
        uint64_t block = x->p[i].start / DISK_BLOCK;
        uint64_t end = disk_blocks(x->p[i].start + x->p[i].length);

        while (x->p[i].length && block < end)
            if (add_page(m, &block, end, &l, e))
                return -1;
    }
    *left = l.bytes;
    if (first && l.bytes)
        *first = l.first;
    return 0;
}

int
map_covers(const char *path, const struct extents *x, uint64_t *first,
           struct err *e)
{
    defer(map_close_ptr) struct map *m = open_to_read(path, e);
    uint64_t left;

    if (!m)
        return -1;
    for (size_t i = 0; i < x->n; i++)
        if (x->p[i].start + x->p[i].length > m->head.size)
            return err_set(e, ERR_DAMAGED,
                           "an area of the plan ends past the disk of the "
                           "block map %s",
                           path);
    if (map_left(m, x, &left, first, e))
        return -1;
    return !left;
}
