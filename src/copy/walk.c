/* Which blocks of a disk a verify run takes: the areas asked for, of these
 * what the map calls copied, of these a sample. */
#include "copy/plan.h"
#include "copy/report.h"
#include "copy/request.h"

#include <string.h>

/* In each stretch of so many blocks exactly `sample` are taken. */
#define STRATUM 100u

void
walk_begin(struct walk *w, const struct request *r, struct map *m)
{
    *w = (struct walk){ .req = r, .map = m, .stratum = UINT64_MAX };
    if (r->plan == PLAN_LIST)
        for (size_t i = 0; i < r->list.n; i++)
            vec_push(&w->areas, r->list.p[i]);
    else
        extents_add(&w->areas, 0, r->disk_size);
    if (w->areas.n)
        w->block = w->areas.p[0].start / DISK_BLOCK;
}

void
walk_fini(struct walk *w)
{
    extents_fini(&w->areas);
}

/* splitmix64 */
static uint64_t
mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void
choose(struct walk *w, uint64_t stratum)
{
    uint64_t state = w->req->seed;
    uint8_t order[STRATUM];

    state = mix(&state) ^ stratum;
    for (unsigned i = 0; i < STRATUM; i++)
        order[i] = (uint8_t)i;
    memset(w->chosen, 0, sizeof w->chosen);
    for (unsigned i = 0; i < w->req->sample; i++) {
        unsigned k = i + (unsigned)(mix(&state) % (STRATUM - i));
        uint8_t swap = order[i];

        order[i] = order[k];
        order[k] = swap;
        w->chosen[order[i] / 8] |= (uint8_t)(1u << order[i] % 8);
    }
    w->stratum = stratum;
}

/* The disk's ends always: that is where what cuts a disk off shows. */
static bool
in_sample(struct walk *w)
{
    unsigned at = w->block % STRATUM;

    if (w->req->sample >= 100 || !w->block ||
        w->block + 1 == disk_blocks(w->req->disk_size))
        return true;
    if (w->stratum != w->block / STRATUM)
        choose(w, w->block / STRATUM);
    return w->chosen[at / 8] >> at % 8 & 1;
}

/* Is it to be verified? */
static bool
wanted(struct walk *w, const struct map_look *look, struct proof *p)
{
    uint32_t n = disk_block_bytes(w->req->disk_size, w->block);

    if (!(look->flags & MAP_COPIED) || (look->flags & MAP_DIRTY)) {
        if (p) {
            p->unproven += n;
            p->torn += look->torn ? n : 0;
        }
        return false;
    }
    if ((look->flags & MAP_VERIFIED) && !w->req->again) {
        if (p)
            p->known += n;
        return false;
    }
    return in_sample(w);
}

int
walk_look(struct walk *w, struct proof *p, uint64_t *block,
          struct map_look *look, struct err *e)
{
    while (w->at < w->areas.n) {
        const struct extent *a = &w->areas.p[w->at];

        if (w->block * DISK_BLOCK >= a->start + a->length) {
            if (++w->at < w->areas.n)
                w->block = w->areas.p[w->at].start / DISK_BLOCK;
            continue;
        }
        if (map_look(w->map, w->block, look, e))
            return -1;
        *block = w->block;
        if (wanted(w, look, p))
            return 1;
        w->block++;
    }
    return 0;
}

void
walk_step(struct walk *w)
{
    w->block++;
}
