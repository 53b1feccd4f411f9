/* What a block map's file must mean, and a comparison with what the library
 * makes of it. */
#include "map_model.h"
#include "fuzz.h"

#include <unistd.h>
#include <xxhash.h>

/* What is explored is the library, not its judge. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), \
                             apply_to = function)

#define MAGIC "\0v2cmap1"

/* Where a slot has its fields. */
enum {
    AT_MAGIC = 8,
    AT_VERSION = 16,
    AT_BLOCK = 20,
    AT_SIZE = 24,
    AT_GENERATION = 32,
    AT_DIGEST = 40,
    AT_FLAGS = 48,
    AT_DISK = 56,
    AT_TARGET = AT_DISK + MAP_DISK_ID_MAX,
    AT_PLAN = AT_TARGET + MAP_TARGET_ID_MAX,
    AT_BORN = AT_PLAN + MAP_PLAN_ID_MAX,
    AT_PAGE_HASH = 8,
    AT_PAGE_FLAGS = AT_PAGE_HASH + 8 * MAP_PAGE_BLOCKS,
};

static uint64_t
u64_at(const uint8_t *p, size_t at)
{
    uint64_t x;

    memcpy(&x, p + at, sizeof x);
    return x;
}

static uint32_t
u32_at(const uint8_t *p, size_t at)
{
    uint32_t x;

    memcpy(&x, p + at, sizeof x);
    return x;
}

void
model_sum_slot(uint8_t *slot)
{
    uint64_t sum = XXH3_64bits(slot + 8, MODEL_PAGE - 8);

    memcpy(slot, &sum, sizeof sum);
}

void
model_sum_page(uint8_t *page, uint64_t no)
{
    uint64_t sum = XXH3_64bits_withSeed(page + 8, MODEL_PAGE - 8, no);

    memcpy(page, &sum, sizeof sum);
}

/* Zeroes past the end. */
static void
read_at(int fd, uint8_t *page, uint64_t at)
{
    ssize_t n = pread(fd, page, MODEL_PAGE, (off_t)at);

    check(n >= 0);
    memset(page + n, 0, MODEL_PAGE - (size_t)n);
}

static bool
ends(const uint8_t *slot, size_t at, size_t max)
{
    return memchr(slot + at, 0, max);
}

static bool
slot_counts(const uint8_t *s, unsigned no)
{
    uint64_t size = u64_at(s, AT_SIZE), generation = u64_at(s, AT_GENERATION);

    return u64_at(s, 0) == XXH3_64bits(s + 8, MODEL_PAGE - 8) &&
           !memcmp(s + AT_MAGIC, MAGIC, 8) && u32_at(s, AT_VERSION) == 1 &&
           u32_at(s, AT_BLOCK) == DISK_BLOCK && size && size <= DISK_SIZE_MAX &&
           generation % 2 == no && generation < UINT64_MAX &&
           ends(s, AT_DISK, MAP_DISK_ID_MAX) &&
           ends(s, AT_TARGET, MAP_TARGET_ID_MAX) &&
           ends(s, AT_PLAN, MAP_PLAN_ID_MAX) &&
           ends(s, AT_BORN, MAP_PLAN_ID_MAX);
}

bool
model_head(int fd, struct map_head *out)
{
    uint64_t best = 0;
    bool found = false;

    for (unsigned i = 0; i < 2; i++) {
        uint8_t s[MODEL_PAGE];

        read_at(fd, s, i * MODEL_PAGE);
        if (!slot_counts(s, i) || (found && u64_at(s, AT_GENERATION) < best))
            continue;
        found = true;
        best = u64_at(s, AT_GENERATION);
        *out = (struct map_head){
            .size = u64_at(s, AT_SIZE),
            .digest = u64_at(s, AT_DIGEST),
            .zeroed = u32_at(s, AT_FLAGS) & 1,
            .holes_zero = u32_at(s, AT_FLAGS) & 2,
        };
        memcpy(out->disk_id, s + AT_DISK, MAP_DISK_ID_MAX);
        memcpy(out->target_id, s + AT_TARGET, MAP_TARGET_ID_MAX);
        memcpy(out->plan, s + AT_PLAN, MAP_PLAN_ID_MAX);
        memcpy(out->born, s + AT_BORN, MAP_PLAN_ID_MAX);
    }
    return found;
}

unsigned
model_pages(uint64_t size, uint64_t *out)
{
    /* neighbours in a cache of 64 pages, and the disk's end */
    static const uint64_t first[] = { 0, 1, 64, 65 };
    uint64_t blocks = size / DISK_BLOCK + !!(size % DISK_BLOCK);
    uint64_t pages = (blocks + MAP_PAGE_BLOCKS - 1) / MAP_PAGE_BLOCKS;
    unsigned n = 0;

    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (first[i] < pages)
            out[n++] = first[i];
    for (uint64_t no = pages > 2 ? pages - 2 : 0; no < pages; no++)
        if (no > out[n - 1])
            out[n++] = no;
    return n;
}

static void
load_page(struct model *m, struct model_page *p, int fd)
{
    uint8_t raw[MODEL_PAGE], zero[MODEL_PAGE] = { 0 };
    uint64_t left = m->blocks - p->no * MAP_PAGE_BLOCKS;

    p->blocks = left < MAP_PAGE_BLOCKS ? (unsigned)left : MAP_PAGE_BLOCKS;
    read_at(fd, raw, MODEL_PAGES_AT + p->no * MODEL_PAGE);
    p->torn =
        memcmp(raw, zero, sizeof raw) &&
        u64_at(raw, 0) != XXH3_64bits_withSeed(raw + 8, MODEL_PAGE - 8, p->no);
    for (unsigned i = 0; i < MAP_PAGE_BLOCKS; i++) {
        p->entry[i].hash = p->torn ? 0 : u64_at(raw, AT_PAGE_HASH + 8 * i);
        p->entry[i].flags = p->torn ? MAP_DIRTY : raw[AT_PAGE_FLAGS + i];
    }
}

bool
model_load(struct model *m, int fd)
{
    uint64_t no[MODEL_PAGES];

    if (!model_head(fd, &m->head))
        return false;
    m->blocks = m->head.size / DISK_BLOCK + !!(m->head.size % DISK_BLOCK);
    m->n = model_pages(m->head.size, no);
    for (unsigned i = 0; i < m->n; i++) {
        m->page[i].no = no[i];
        load_page(m, &m->page[i], fd);
    }
    return true;
}

uint32_t
model_block_bytes(const struct model *m, uint64_t block)
{
    uint64_t left = m->head.size - block * DISK_BLOCK;

    return left < DISK_BLOCK ? (uint32_t)left : DISK_BLOCK;
}

struct map_entry
model_get(const struct model *m, const struct model_page *p, unsigned i)
{
    static const uint8_t zeroes[DISK_BLOCK];
    static uint64_t whole;
    uint32_t n = model_block_bytes(m, p->no * MAP_PAGE_BLOCKS + i);

    if (p->entry[i].flags || !m->head.holes_zero)
        return p->entry[i];
    if (!whole)
        whole = XXH3_64bits(zeroes, sizeof zeroes);
    return (struct map_entry){
        n == DISK_BLOCK ? whole : XXH3_64bits(zeroes, n),
        MAP_COPIED | MAP_ZERO,
    };
}

void
model_mark(const struct model *m, struct model_page *p, unsigned i)
{
    struct map_entry x = model_get(m, p, i);

    if (x.flags & MAP_DIRTY)
        x = (struct map_entry){ 0, MAP_DIRTY };
    else if (x.flags)
        x.flags = (uint8_t)((x.flags & ~MAP_VERIFIED) | MAP_DIRTY);
    p->entry[i] = x;
}

bool
model_prove(const struct model *m, struct model_page *p, unsigned i, bool good)
{
    struct map_entry x = model_get(m, p, i);

    if (!good)
        x = (struct map_entry){ 0, MAP_DIRTY };
    else if ((x.flags & (MAP_COPIED | MAP_DIRTY)) == MAP_COPIED)
        x.flags |= MAP_VERIFIED;
    else
        return false;
    p->entry[i] = x;
    return true;
}

/* comparing --------------------------------------------------------------- */

/* Bytes of the disk's blocks that no page of the model holds. */
static uint64_t
elsewhere(const struct model *m)
{
    uint64_t n = m->head.size;

    for (unsigned i = 0; i < m->n; i++)
        for (unsigned k = 0; k < m->page[i].blocks; k++)
            n -= model_block_bytes(m, m->page[i].no * MAP_PAGE_BLOCKS + k);
    return n;
}

static bool
listed(const struct extents *x, size_t *at, uint64_t start, uint64_t n)
{
    while (*at < x->n && x->p[*at].start + x->p[*at].length <= start)
        ++*at;
    if (*at == x->n || x->p[*at].start >= start + n)
        return false;
    check(x->p[*at].start <= start);
    check(x->p[*at].start + x->p[*at].length >= start + n);
    return true;
}

static void
check_left(const struct model *m, struct map *map, uint64_t total,
           uint64_t start)
{
    struct extent whole = { 0, m->head.size };
    struct extents x = { &whole, 1, 1 };
    uint64_t left = 0, first = start;
    struct err e = ERR_INIT;

    check(!map_left(map, &x, &left, &first, &e));
    check(left == total && first == start);
}

static void
check_dirty(const struct model *m, struct map *map, bool uncopied)
{
    defer_extents struct extents x = { 0 };
    uint64_t total = uncopied && !m->head.holes_zero ? elsewhere(m) : 0;
    struct err e = ERR_INIT;
    size_t at = 0;

    check(!map_dirty(map, uncopied, &x, &e));
    for (size_t i = 0; i < x.n; i++) {
        check(x.p[i].length && x.p[i].start % DISK_BLOCK == 0);
        check(x.p[i].start + x.p[i].length <= m->head.size);
        check(!i || x.p[i].start > x.p[i - 1].start + x.p[i - 1].length);
    }
    for (unsigned i = 0; i < m->n; i++)
        for (unsigned k = 0; k < m->page[i].blocks; k++) {
            uint64_t block = m->page[i].no * MAP_PAGE_BLOCKS + k;
            uint32_t n = model_block_bytes(m, block);
            uint8_t flags = model_get(m, &m->page[i], k).flags;
            bool want =
                (flags & MAP_DIRTY) || (uncopied && !(flags & MAP_COPIED));

            check(listed(&x, &at, block * DISK_BLOCK, n) == want);
            total += want ? n : 0;
        }
    check(extents_total(&x) == total);
    if (uncopied)
        check_left(m, map, total, x.n ? x.p[0].start : 0);
}

void
model_same(const struct model *a, const struct model *b)
{
    check(a->n == b->n && a->head.size == b->head.size);
    for (unsigned i = 0; i < a->n; i++) {
        const struct model_page *x = &a->page[i], *y = &b->page[i];

        check(x->torn == y->torn);
        for (unsigned k = 0; k < x->blocks; k++)
            check(model_get(a, x, k).flags == model_get(b, y, k).flags &&
                  model_get(a, x, k).hash == model_get(b, y, k).hash);
    }
}

void
model_check_page(const struct model *m, const struct model_page *p,
                 struct map *map)
{
    for (unsigned k = 0; k < p->blocks; k++) {
        struct map_entry want = model_get(m, p, k), got;
        struct err e = ERR_INIT;
        struct map_look look;

        check(!map_get(map, p->no * MAP_PAGE_BLOCKS + k, &got, &e));
        check(got.flags == want.flags && got.hash == want.hash);
        check(!map_look(map, p->no * MAP_PAGE_BLOCKS + k, &look, &e));
        check(look.flags == want.flags && look.torn == p->torn);
        check(look.implied == (!p->entry[k].flags && m->head.holes_zero));
    }
}

void
model_check(const struct model *m, struct map *map)
{
    const struct map_head *h = map_head(map);

    check(h->size == m->head.size && h->digest == m->head.digest);
    check(h->zeroed == m->head.zeroed);
    check(h->holes_zero == m->head.holes_zero);
    check(!strcmp(h->disk_id, m->head.disk_id));
    check(!strcmp(h->target_id, m->head.target_id));
    check(!strcmp(h->plan, m->head.plan) && !strcmp(h->born, m->head.born));
    for (unsigned i = 0; i < m->n; i++)
        model_check_page(m, &m->page[i], map);
    check_dirty(m, map, false);
    check_dirty(m, map, true);
}

static void
check_covers(const struct model *m, const struct model_page *p, unsigned from,
             unsigned n, const char *path)
{
    defer_extents struct extents x = { 0 };
    uint64_t first = 0, block = p->no * MAP_PAGE_BLOCKS;
    struct err e = ERR_INIT;
    unsigned i = from;

    while (i < from + n &&
           (model_get(m, p, i).flags & (MAP_COPIED | MAP_DIRTY)) == MAP_COPIED)
        i++;
    for (unsigned k = from; k < from + n; k++)
        extents_add(&x, (block + k) * DISK_BLOCK,
                    model_block_bytes(m, block + k));
    check(map_covers(path, &x, &first, &e) == (i == from + n));
    check(i == from + n || first == (block + i) * DISK_BLOCK);
}

void
model_check_file(const struct model *m, const char *path, unsigned which)
{
    const struct model_page *at = &m->page[which % m->n];
    uint64_t known = 0, copied = 0, zero = 0, dirty = 0, torn = 0;
    uint64_t verified = 0;
    struct err e = ERR_INIT;
    struct map_summary s;

    check(!map_summary(path, &s, &e));
    for (unsigned i = 0; i < m->n; i++) {
        const struct model_page *p = &m->page[i];

        known += p->blocks;
        torn += p->torn ? p->blocks : 0;
        for (unsigned k = 0; k < p->blocks; k++) {
            uint8_t f = model_get(m, p, k).flags;

            dirty += !!(f & MAP_DIRTY);
            if ((f & (MAP_COPIED | MAP_DIRTY)) == MAP_COPIED)
                copied++, zero += !!(f & MAP_ZERO),
                    verified += !!(f & MAP_VERIFIED);
        }
    }
    check_covers(m, at, which & 1 ? which % at->blocks : 0,
                 which & 1 ? 1 : at->blocks, path);
    if (m->head.holes_zero) {
        copied += m->blocks - known;
        zero += m->blocks - known;
    }
    check(s.blocks == m->blocks && s.copied == copied && s.zero == zero);
    check(s.dirty == dirty && s.torn == torn && s.verified == verified);
    check(s.unknown == m->blocks - copied - dirty);
}

#pragma clang attribute pop
