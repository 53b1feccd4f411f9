/* The block map's file: header slots and pages. */
#include "disk/map_file.h"

#include "base/fs.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <xxhash.h>

#if defined(__x86_64__)
/* The same functions, by the widest instructions of this processor. */
#include <xxh_x86dispatch.h>
#endif

uint64_t
disk_blocks(uint64_t size)
{
    return size / DISK_BLOCK + (size % DISK_BLOCK != 0);
}

uint32_t
disk_block_bytes(uint64_t size, uint64_t block)
{
    uint64_t left = size - block * DISK_BLOCK;

    return left < DISK_BLOCK ? (uint32_t)left : DISK_BLOCK;
}

uint64_t
disk_hash(const void *p, size_t n)
{
    return XXH3_64bits(p, n);
}

bool
disk_is_zero(const void *p, size_t n)
{
    const uint8_t *byte = p;

    return !*byte && !memcmp(byte, byte + 1, n - 1);
}

/* XXH3-64 of DISK_BLOCK zeroes: a disk of 62 TiB may ask a billion times. */
#define ZERO_BLOCK_HASH 0x33b202d302b65caaull

uint64_t
disk_zero_hash(size_t n)
{
    static const uint8_t zeroes[DISK_BLOCK];

    assert(n <= sizeof zeroes);
    return n == DISK_BLOCK ? ZERO_BLOCK_HASH : XXH3_64bits(zeroes, n);
}

struct map *
map_new(int fd, const char *path)
{
    struct map *m = xcalloc(1, sizeof *m);

    m->fd = fd;
    m->path = xstrdup(path);
    for (size_t i = 0; i < MAP_CACHE; i++)
        m->cache[i].no = UINT64_MAX;
    return m;
}

void
map_close(struct map *m)
{
    if (!m)
        return;
    close(m->fd);
    free(m->path);
    free(m);
}

const struct map_head *
map_head(const struct map *m)
{
    return &m->head;
}

/* header ---------------------------------------------------------------- */

static uint64_t
slot_sum(const struct map_slot *s)
{
    return XXH3_64bits((const char *)s + sizeof s->sum,
                       sizeof *s - sizeof s->sum);
}

static bool
ended(const char *text, size_t max)
{
    return memchr(text, 0, max) != NULL;
}

/* In its own place: the next header must go to the other one, and must count
 * for more. */
static bool
slot_valid(const struct map_slot *s, size_t no)
{
    return s->magic == MAP_MAGIC && s->sum == slot_sum(s) &&
           s->version == MAP_VERSION && s->block_bytes == DISK_BLOCK &&
           s->size && s->size <= DISK_SIZE_MAX &&
           s->generation % MAP_SLOTS == no && s->generation < UINT64_MAX &&
           ended(s->disk_id, sizeof s->disk_id) &&
           ended(s->target_id, sizeof s->target_id) &&
           ended(s->plan, sizeof s->plan) && ended(s->born, sizeof s->born);
}

int
map_load_head(struct map *m, struct err *e)
{
    struct map_slot slots[MAP_SLOTS] = { 0 }, *s = NULL;
    ssize_t n = pread(m->fd, slots, sizeof slots, 0);

    if (n < 0)
        return err_errno(e, errno, "reading the block map %s", m->path);
    for (size_t i = 0; i < MAP_SLOTS; i++)
        if (slot_valid(&slots[i], i) &&
            (!s || slots[i].generation > s->generation))
            s = &slots[i];
    if (!s)
        return err_set(e, ERR_DAMAGED,
                       "%s: neither header of the block map is valid; remove "
                       "it to copy the whole disk anew",
                       m->path);
    m->generation = s->generation;
    m->head = (struct map_head){
        .size = s->size,
        .digest = s->digest,
        .zeroed = s->flags & MAP_HEAD_ZEROED,
        .holes_zero = s->flags & MAP_HEAD_HOLES_ZERO,
    };
    memcpy(m->head.disk_id, s->disk_id, sizeof s->disk_id);
    memcpy(m->head.target_id, s->target_id, sizeof s->target_id);
    memcpy(m->head.plan, s->plan, sizeof s->plan);
    memcpy(m->head.born, s->born, sizeof s->born);
    return 0;
}

int
map_store_head(struct map *m, const struct map_head *h, struct err *e)
{
    struct map_slot s = {
        .magic = MAP_MAGIC,
        .version = MAP_VERSION,
        .block_bytes = DISK_BLOCK,
        .size = h->size,
        .generation = m->generation + 1,
        .digest = h->digest,
        .flags = (h->zeroed ? MAP_HEAD_ZEROED : 0u) |
                 (h->holes_zero ? MAP_HEAD_HOLES_ZERO : 0u),
    };
    off_t at = (off_t)(s.generation % MAP_SLOTS * MAP_PAGE_BYTES);

    memcpy(s.disk_id, h->disk_id, sizeof s.disk_id);
    memcpy(s.target_id, h->target_id, sizeof s.target_id);
    memcpy(s.plan, h->plan, sizeof s.plan);
    memcpy(s.born, h->born, sizeof s.born);
    s.sum = slot_sum(&s);
    if (fs_pwrite_all(m->fd, &s, sizeof s, at))
        return err_errno(e, errno, "writing the header of the block map %s",
                         m->path);
    if (map_sync(m, e))
        return -1;
    m->generation = s.generation;
    m->head = *h;
    return 0;
}

/* pages ------------------------------------------------------------------ */

static off_t
page_at(uint64_t no)
{
    return (off_t)((MAP_SLOTS + no) * MAP_PAGE_BYTES);
}

static uint64_t
page_sum(const struct map_page *p, uint64_t no)
{
    return XXH3_64bits_withSeed((const char *)p + sizeof p->sum,
                                sizeof *p - sizeof p->sum, no);
}

static bool
all_zero(const void *p, size_t n)
{
    const char *c = p;

    return !n || (!*c && !memcmp(c, c + 1, n - 1));
}

struct map_cached *
map_load_page(struct map *m, uint64_t no, struct err *e)
{
    struct map_cached *c = &m->cache[no % MAP_CACHE];
    size_t n = 0;

    if (c->no == no)
        return c;
    c->no = UINT64_MAX;
    memset(&c->page, 0, sizeof c->page);
    while (n < sizeof c->page) {
        ssize_t k = pread(m->fd, (char *)&c->page + n, sizeof c->page - n,
                          page_at(no) + (off_t)n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0) {
            err_errno(e, errno, "reading the block map %s", m->path);
            return NULL;
        }
        if (!k)
            break;
        n += (size_t)k;
    }
    c->torn = !all_zero(&c->page, sizeof c->page) &&
              c->page.sum != page_sum(&c->page, no);
    if (c->torn) {
        memset(&c->page, 0, sizeof c->page);
        memset(c->page.flags, MAP_DIRTY, sizeof c->page.flags);
    }
    c->no = no;
    return c;
}

int
map_store_page(struct map *m, struct map_cached *c, struct err *e)
{
    uint64_t no = c->no;

    c->page.sum = page_sum(&c->page, no);
    c->torn = false;
    if (fs_pwrite_all(m->fd, &c->page, sizeof c->page, page_at(no))) {
        c->no = UINT64_MAX;
        return err_errno(e, errno, "writing the block map %s", m->path);
    }
    return 0;
}

int
map_sync(const struct map *m, struct err *e)
{
    if (fdatasync(m->fd))
        return err_errno(e, errno, "syncing the block map %s", m->path);
    return 0;
}

/* After a sync that failed the cache may go on showing what the disk does not
 * have: what it holds is dropped. */
int
map_settle(struct map *m, struct err *e)
{
    int rc;

    if (map_sync(m, e))
        return -1;
    rc = posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (rc)
        return err_errno(e, rc, "reading the block map %s", m->path);
    return 0;
}

uint64_t
map_next_page(struct map *m, uint64_t no)
{
    off_t at;

    if (no >= map_pages(m))
        return UINT64_MAX;
    at = lseek(m->fd, page_at(no), SEEK_DATA);
    /* Where holes cannot be asked for, every page is looked at. */
    if (at < 0)
        return errno == ENXIO ? UINT64_MAX : no;
    at = at / MAP_PAGE_BYTES - MAP_SLOTS;
    return (uint64_t)at < map_pages(m) ? (uint64_t)at : UINT64_MAX;
}

struct map_entry
map_entry_of(const struct map *m, const struct map_cached *c, unsigned i)
{
    uint64_t block = c->no * MAP_PAGE_BLOCKS + i;

    if (!c->page.flags[i] && m->head.holes_zero)
        return (struct map_entry){
            disk_zero_hash(disk_block_bytes(m->head.size, block)),
            MAP_COPIED | MAP_ZERO,
        };
    return (struct map_entry){ c->page.hash[i], c->page.flags[i] };
}

uint64_t
map_pages(const struct map *m)
{
    uint64_t blocks = disk_blocks(m->head.size);

    return blocks / MAP_PAGE_BLOCKS + (blocks % MAP_PAGE_BLOCKS != 0);
}

unsigned
map_page_blocks(const struct map *m, uint64_t no)
{
    uint64_t left = disk_blocks(m->head.size) - no * MAP_PAGE_BLOCKS;

    return left < MAP_PAGE_BLOCKS ? (unsigned)left : MAP_PAGE_BLOCKS;
}
