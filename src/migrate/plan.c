/* What of a disk a round has to copy.  Any doubt makes it more, never less. */
#include "migrate/machine.h"

#include <inttypes.h>
#include <string.h>

/* Past this many areas the list itself is the burden: compare instead. */
#define AREAS_MAX (16u << 20)
/* VDDK takes about a second for each 32 GiB, and reads nothing meanwhile; CBT
 * answers in steps of 2000 areas. */
#define IN_USE_FROM (4ll << 40)

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
ask_areas(struct machine *m, const struct disk_record *d,
          const struct vs_disk *f, const char *change_id, struct round_plan *p,
          struct err *e)
{
    if (vs_changed_areas(m->vs, m->moref, m->r->active_snapshot, f->key,
                         f->capacity, change_id, add_area, &p->areas, e))
        return e->class ? -1
                        : err_set(e, ERR_DAMAGED,
                                  "there are more than %u areas", AREAS_MAX);
    extents_round(&p->areas, (uint64_t)d->capacity);
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
    return ask_areas(m, d, f, change_id, p, e);
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

/* "*" tells all that is in use only if tracking began with no snapshot. */
static bool
trusts_in_use(const struct machine *m, const struct disk_record *d)
{
    int wish = m->o->spec->migration.base_plan;

    if (wish == BASE_IN_USE && !m->r->tracked_from_start)
        log_warn("tracking was on before this migration: what is in use is "
                 "asked from VDDK");
    return m->r->tracked_from_start &&
           (wish == BASE_IN_USE ||
            (wish == BASE_AUTO && d->capacity >= IN_USE_FROM));
}

static int
plan_base(struct machine *m, const struct disk_record *d,
          const struct vs_disk *f, struct round_plan *p, struct err *e)
{
    p->mode = m->o->spec->migration.base_plan == BASE_ALL ? "all" : "allocated";
    if (!trusts_in_use(m, d))
        return 0;
    p->listed = !ask_areas(m, d, f, "*", p, e);
    if (p->listed)
        return 0;
    extents_fini(&p->areas);
    if (!is_doubt(e))
        return -1;
    log_warn("CBT does not tell what is in use (%s); VDDK is asked", e->msg);
    err_clear(e);
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
        if (plan_base(m, d, f, p, e))
            return -1;
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
