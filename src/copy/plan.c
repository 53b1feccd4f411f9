/* What to copy: the request's plan against the map. */
#include "copy/plan.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/source.h"

#include <assert.h>
#include <string.h>

void
plan_fini(struct plan *p)
{
    extents_fini(&p->areas);
}

/* Two requests with the same plan id must mean the same blocks; what a source
 * says of its allocation follows from its snapshot, which the id stands for. */
static uint64_t
digest_of(const struct request *r)
{
    return extents_digest(&r->list) ^ ((uint64_t)r->plan + 1) ^
           ((uint64_t)r->uncopied << 8) ^ ((uint64_t)r->listed << 9);
}

/* May holes of the source stay as the target has them?  Only while nothing
 * was written there but by this one plan. */
static bool
born_zeroed(const struct plan *p, const struct request *r,
            const struct map_head *h)
{
    const char *id = request_text(r, KEY_PLAN_ID);

    if (!*h->plan)
        return r->zeroed;
    return p->resumed && r->zeroed && h->zeroed && !strcmp(h->born, id);
}

/* The extents that the plan itself names. */
static int
add_named(struct plan *p, const struct request *r, struct source *s,
          struct extents *out, struct err *e)
{
    if (p->mode == PLAN_LIST || (p->mode == PLAN_ALLOCATED && r->listed))
        for (size_t i = 0; i < r->list.n; i++)
            vec_push(out, r->list.p[i]);
    else if (p->mode != PLAN_ALLOCATED)
        extents_add(out, 0, r->disk_size);
    else if (s->ops->allocated(s, out, e))
        return -1;
    extents_round(out, r->disk_size);
    return 0;
}

static bool
to_do(struct map_entry x)
{
    return (x.flags & MAP_DIRTY) || !(x.flags & MAP_COPIED);
}

int
plan_left(const struct plan *p, struct map *m, uint64_t *left, struct err *e)
{
    return map_left(m, &p->areas, left, NULL, e);
}

static int
begin_plan(struct plan *p, const struct request *r, struct map *m,
           struct err *e)
{
    const char *id = request_text(r, KEY_PLAN_ID);

    if (p->resumed)
        return 0;
    if (!strcmp(map_head(m)->plan, id))
        report_warn("plan %s was begun with other extents: it is begun anew",
                    id);
    return map_begin(m, id, digest_of(r), &p->areas, r->zeroed, e);
}

/* A large map on a slow disk takes its time. */
static int
begin(struct plan *p, const struct request *r, struct extents *named,
      struct map *m, struct err *e)
{
    defer_extents struct extents dirty = { 0 };
    int rc;

    hang_begin("reading and marking the block map");
    rc = map_dirty(m, r->uncopied, &dirty, e);
    if (!rc) {
        extents_union(named, &dirty, &p->areas);
        rc = begin_plan(p, r, m, e) || plan_left(p, m, &p->todo, e) ? -1 : 0;
    }
    hang_end();
    return rc;
}

int
plan_make(struct plan *p, const struct request *r, struct source *s,
          struct map *m, struct err *e)
{
    const struct map_head *h = map_head(m);
    defer_extents struct extents named = { 0 };
    bool born;

    *p = (struct plan){ 0 };
    p->resumed = !strcmp(h->plan, request_text(r, KEY_PLAN_ID)) &&
                 h->digest == digest_of(r);
    born = born_zeroed(p, r, h);
    p->mode = r->plan == PLAN_ALLOCATED && !born ? PLAN_ALL : r->plan;
    p->skip_zero = born;
    p->trust_hash = r->plan == PLAN_COMPARE && !p->resumed;
    if (add_named(p, r, s, &named, e))
        return -1;
    if (begin(p, r, &named, m, e)) {
        plan_fini(p);
        return -1;
    }
    if (p->areas.n)
        p->block = p->areas.p[0].start / DISK_BLOCK;
    return 0;
}

/* The next block to do, without taking it. */
static int
find(struct plan *p, struct map *m, struct err *e)
{
    while (p->at < p->areas.n) {
        const struct extent *a = &p->areas.p[p->at];
        struct map_entry x;

        if (p->block * DISK_BLOCK >= a->start + a->length) {
            if (++p->at < p->areas.n)
                p->block = p->areas.p[p->at].start / DISK_BLOCK;
            continue;
        }
        if (map_get(m, p->block, &x, e))
            return -1;
        if (to_do(x))
            return 1;
        p->block++;
    }
    return 0;
}

int
plan_next(struct plan *p, struct map *m, uint32_t max, uint32_t gap,
          struct extent *out, bool *wanted, struct err *e)
{
    uint64_t size = map_head(m)->size, first = 0, n = 0;
    int rc;

    while ((rc = find(p, m, e)) > 0) {
        uint64_t skip = n ? p->block - first - n : 0;

        if (!n)
            first = p->block;
        if (skip * DISK_BLOCK > gap || (n + skip + 1) * DISK_BLOCK > max)
            break;
        while (skip--)
            wanted[n++] = false;
        wanted[n++] = true;
        p->block++;
    }
    if (rc < 0)
        return -1;
    out->start = first * DISK_BLOCK;
    out->length = n * DISK_BLOCK;
    if (out->start + out->length > size)
        out->length = size - out->start;
    return n > 0;
}
