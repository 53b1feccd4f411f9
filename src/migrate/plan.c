/* What of a disk a round has to copy.  Any doubt makes it more, never less. */
#include "migrate/machine.h"

#include <inttypes.h>
#include <string.h>

/* Past this many areas the list itself is the burden: compare instead. */
#define AREAS_MAX (16u << 20)

char *
plan_map_path(const struct machine *m, const struct disk_record *d)
{
    return xasprintf("%s/disk-%" PRId64 ".map", store_dir(m->store), d->key);
}

static int
add_area(void *ctx, uint64_t start, uint64_t length)
{
    struct extents *areas = ctx;

    if (areas->n >= AREAS_MAX)
        return -1;
    extents_add(areas, start, length);
    return 0;
}

static int
changed_since(struct machine *m, const struct disk_record *d,
              const struct vs_disk *f, const char *change_id,
              struct round_plan *p, struct err *e)
{
    if (!vs_same_epoch(change_id, f->change_id))
        return err_set(e, ERR_DAMAGED,
                       "changed block tracking was reset since the last "
                       "round");
    if (vs_changed_areas(m->vs, m->moref, m->r->active_snapshot, f->key,
                         f->capacity, change_id, add_area, &p->areas, e))
        return e->class ? -1
                        : err_set(e, ERR_DAMAGED,
                                  "there are more than %u areas", AREAS_MAX);
    extents_round(&p->areas, (uint64_t)d->capacity);
    return 0;
}

/* Classes that say "this cannot be answered", rather than "try later". */
static bool
is_doubt(const struct err *e)
{
    return e->class == ERR_DAMAGED || e->class == ERR_REMOTE ||
           e->class == ERR_NOTFOUND || e->class == ERR_USER;
}

static void
doubt(struct machine *m, struct disk_record *d, const char *why)
{
    record_set(&d->doubt, why);
    log_warn("changed areas are in doubt (%s); comparing the whole disk", why);
    machine_event(m, "full_compare",
                  json_pack("{s:s, s:s}", "disk", d->name, "why", why));
}

static int
plan_changes(struct machine *m, struct disk_record *d, const struct vs_disk *f,
             const char *change_id, struct round_plan *p, struct err *e)
{
    p->mode = "list";
    if (!changed_since(m, d, f, change_id, p, e))
        return 0;
    if (!is_doubt(e))
        return -1;
    doubt(m, d, e->msg);
    err_clear(e);
    extents_fini(&p->areas);
    return 0;
}

int
round_plan_make(struct machine *m, struct disk_record *d,
                const struct vs_disk *f, struct round_plan *p, struct err *e)
{
    const char *from = d->base_copied ? d->change_id : d->marked_change_id;
    const char *kind = d->base_copied ? "delta" : "base";
    defer_free char *same = NULL;

    memset(p, 0, sizeof *p);
    same = xasprintf("base %s %s", m->r->active_snapshot, f->change_id);
    if (!*d->doubt && !d->base_copied && (!*from || !strcmp(d->plan, same))) {
        p->mode = "allocated";
        p->id = take(same);
    } else {
        p->uncopied = !d->base_copied;
        if (!*d->doubt && plan_changes(m, d, f, from, p, e))
            return -1;
        if (*d->doubt)
            p->mode = "compare";
        p->id = xasprintf("%s %s %s from %s %s", kind, m->r->active_snapshot,
                          f->change_id, from, p->mode);
    }
    record_set(&d->source_path, f->path);
    record_set(&d->plan, p->id);
    d->round_done = 0;
    d->round_total = (int64_t)(strcmp(p->mode, "list") || p->uncopied
                                   ? (uint64_t)d->capacity
                                   : extents_total(&p->areas));
    d->progress = 0;
    if (d->base_copied)
        d->changed = d->round_total;
    return 0;
}

int
round_plan_doubt(struct machine *m, struct copy_job *job, const char *why,
                 struct err *e)
{
    round_plan_fini(&job->plan);
    doubt(m, job->d, why);
    return round_plan_make(m, job->d, job->frozen, &job->plan, e) ||
                   machine_save(m, e)
               ? -1
               : 0;
}

void
round_plan_fini(struct round_plan *p)
{
    free(p->id);
    extents_fini(&p->areas);
}
