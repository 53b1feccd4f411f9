/* The block map in the hands of who reads the target back. */
#include "disk/map_file.h"

int
map_look(struct map *m, uint64_t block, struct map_look *out, struct err *e)
{
    const struct map_cached *c = map_load_page(m, block / MAP_PAGE_BLOCKS, e);

    if (!c)
        return -1;
    *out = (struct map_look){
        .flags = c->page.flags[block % MAP_PAGE_BLOCKS],
        .torn = c->torn,
    };
    if (!out->flags && m->head.holes_zero) {
        out->flags = MAP_COPIED | MAP_ZERO;
        out->implied = true;
    }
    return 0;
}

static int
by_block(const void *a, const void *b)
{
    const struct map_proof *x = a, *y = b;

    return x->block < y->block ? -1 : x->block > y->block;
}

/* True if the page changed. */
static bool
prove(const struct map *m, struct map_cached *c, const struct map_proof *p)
{
    unsigned at = p->block % MAP_PAGE_BLOCKS;
    struct map_entry x = map_entry_of(m, c, at);

    if (!p->good)
        x = (struct map_entry){ 0, MAP_DIRTY };
    else if ((x.flags & (MAP_COPIED | MAP_DIRTY)) == MAP_COPIED)
        x.flags |= MAP_VERIFIED;
    else
        return false;
    c->page.hash[at] = x.hash;
    c->page.flags[at] = x.flags;
    return true;
}

int
map_prove(struct map *m, struct map_proof *p, size_t n, struct err *e)
{
    size_t i = 0;

    if (!n)
        return 0;
    qsort(p, n, sizeof *p, by_block);
    while (i < n) {
        uint64_t no = p[i].block / MAP_PAGE_BLOCKS;
        struct map_cached *c = map_load_page(m, no, e);
        bool changed = false;

        if (!c)
            return -1;
        for (; i < n && p[i].block / MAP_PAGE_BLOCKS == no; i++)
            changed |= prove(m, c, &p[i]);
        if (changed && map_store_page(m, c, e))
            return -1;
    }
    return map_sync(m, e);
}
