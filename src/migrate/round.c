/* A round: freeze the source by a snapshot, bring the target up to it, let
 * the snapshot go.  Round 0 is the base copy. */
#include "migrate/copier.h"

#include <inttypes.h>
#include <string.h>

/* vSphere's faults when a guest cannot be quiesced. */
static const char *const quiesce_faults[] = {
    "ApplicationQuiesceFault",
    "FilesystemQuiesceFault",
    "ToolsUnavailable",
};

static bool
is_quiesce_fault(const struct err *e)
{
    for (size_t i = 0; i < sizeof quiesce_faults / sizeof *quiesce_faults; i++)
        if (!strcmp(e->fault, quiesce_faults[i]))
            return true;
    return false;
}

static char *
snapshot_name(const struct machine *m)
{
    const struct record *r = m->r;

    bool base = false;

    for (size_t i = 0; i < r->disks.n; i++)
        base |= !r->disks.p[i].base_copied;
    if (base)
        return xasprintf(SNAPSHOT_PREFIX "base-%s", r->vm_moref);
    if (r->final_round)
        return xasprintf(SNAPSHOT_PREFIX "final-%s", r->vm_moref);
    return xasprintf(SNAPSHOT_PREFIX "delta-%" PRId64 "-%s", r->round,
                     r->vm_moref);
}

/* The moref at the end of "KIND-MOREF", or NULL for another kind. */
static const char *
after_kind(const char *s)
{
    static const char *const kinds[] = { "base-", "final-", "stun-" };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (str_starts(s, kinds[i]))
            return s + strlen(kinds[i]);
    if (!str_starts(s, "delta-"))
        return NULL;
    s += strlen("delta-");
    s += strspn(s, "0123456789");
    return *s == '-' ? s + 1 : NULL;
}

/* By name and description, never by id: an id may be another's by now. */
static bool
is_ours(const struct machine *m, const struct vs_snapshot *s)
{
    const char *moref = str_starts(s->name, SNAPSHOT_PREFIX)
                            ? after_kind(s->name + strlen(SNAPSHOT_PREFIX))
                            : NULL;

    return moref && !strcmp(moref, m->r->vm_moref) &&
           !strcmp(s->description, SNAPSHOT_DESCRIPTION);
}

static bool
is_active(const struct machine *m, const struct vs_snapshot *s)
{
    return is_ours(m, s) && !strcmp(s->id, m->r->active_snapshot);
}

static int
clean(struct machine *m, bool stale_only, struct err *e)
{
    if (machine_look(m, e))
        return -1;
    for (size_t i = 0; i < m->vm.snapshots.n; i++) {
        const struct vs_snapshot *s = &m->vm.snapshots.p[i];

        if (!is_ours(m, s) || (stale_only && is_active(m, s)))
            continue;
        log_info("removing the snapshot %s (%s)", s->name, s->id);
        if (vs_snapshot_remove(m->vs, m->moref, s->id, e))
            return err_wrap(e, "removing the snapshot %s", s->name);
    }
    /* A removal that a kill cut off may have left it: a snapshot taken before
     * it is over can read wrong data. */
    return m->vm.consolidation_needed ? vs_consolidate(m->vs, m->moref, e) : 0;
}

int
round_clean_stale(struct machine *m, struct err *e)
{
    return clean(m, true, e);
}

int
round_clean(struct machine *m, struct err *e)
{
    if (clean(m, false, e))
        return -1;
    if (!*m->r->active_snapshot)
        return 0;
    record_set(&m->r->active_snapshot, "");
    return machine_save(m, e);
}

static int
create(struct machine *m, const char *name, bool quiesce, char *id,
       struct err *e)
{
    return vs_snapshot_create(m->vs, m->moref, name, SNAPSHOT_DESCRIPTION,
                              quiesce, id, e);
}

static int
take_snapshot(struct machine *m, struct err *e)
{
    bool running = !strcmp(m->vm.power, "poweredOn");
    bool tools = !strcmp(m->vm.tools_running, "guestToolsRunning");
    int mode = m->o->spec->migration.snapshot_quiesce;
    bool quiesce =
        running && (mode == QUIESCE_TRUE || (mode == QUIESCE_AUTO && tools));
    defer_free char *name = snapshot_name(m);
    char id[VS_ID_MAX];

    if (create(m, name, quiesce, id, e)) {
        if (!quiesce || mode == QUIESCE_TRUE || !is_quiesce_fault(e))
            return err_wrap(e, "taking the snapshot %s", name);
        log_warn("the guest cannot be quiesced (%s); this round is "
                 "crash-consistent",
                 e->msg);
        quiesce = false;
        if (create(m, name, false, id, e))
            return err_wrap(e, "taking the snapshot %s", name);
    }
    record_set(&m->r->active_snapshot, id);
    log_info("snapshot %s (%s)%s", name, id, quiesce ? ", quiesced" : "");
    machine_event(m, "snapshot",
                  json_pack("{s:s, s:s, s:b, s:I}", "name", name, "id", id,
                            "quiesced", quiesce, "round",
                            (json_int_t)m->r->round));
    return machine_save(m, e);
}

/* The snapshot must hold the very disks we know; else nothing adds up. */
static int
check_frozen(const struct machine *m, struct err *e)
{
    if (m->frozen.n != m->r->disks.n)
        return err_set(e, ERR_DAMAGED,
                       "the snapshot holds %zu disks, the record %zu",
                       m->frozen.n, m->r->disks.n);
    for (size_t i = 0; i < m->frozen.n; i++) {
        const struct vs_disk *f = &m->frozen.p[i];
        const struct disk_record *d = record_disk(m->r, f->key);

        if (!d || (uint64_t)d->capacity != f->capacity ||
            (*d->uuid && strcmp(d->uuid, f->uuid)))
            return err_set(e, ERR_DAMAGED,
                           "disk %d of the snapshot is not the one that was "
                           "recorded (size or uuid differs)",
                           f->key);
    }
    return 0;
}

static int
check_tracked(const struct machine *m, struct err *e)
{
    for (size_t i = 0; i < m->frozen.n; i++)
        if (!*m->frozen.p[i].change_id)
            return err_set(e, ERR_REMOTE,
                           "disk %d (%s) has no changeId: changed block "
                           "tracking is not active; power-cycle the VM, or "
                           "remove its other snapshots and run again",
                           m->frozen.p[i].key, m->frozen.p[i].label);
    return 0;
}

static int
freeze(struct machine *m, struct err *e)
{
    bool alive = false;

    if (machine_look(m, e))
        return -1;
    for (size_t i = 0; i < m->vm.snapshots.n; i++)
        alive |= is_active(m, &m->vm.snapshots.p[i]);
    if (!alive) {
        if (*m->r->active_snapshot)
            log_warn("the snapshot %s is gone; taking another one",
                     m->r->active_snapshot);
        /* also one that was made just before a crash, unrecorded */
        if (round_clean(m, e) || take_snapshot(m, e))
            return -1;
    }
    vs_disks_fini(&m->frozen);
    if (vs_snapshot_disks(m->vs, m->r->active_snapshot, &m->frozen, e))
        return err_wrap(e, "reading the snapshot %s", m->r->active_snapshot);
    return check_frozen(m, e);
}

int
round_begin(struct machine *m, struct err *e)
{
    if (freeze(m, e))
        return -1;
    if (!check_tracked(m, e))
        return 0;
    /* Enabled, but not begun: a run was killed between the two.  The snapshot
     * that comes and goes is the stun at which tracking begins. */
    log_warn("%s; trying another snapshot", e->msg);
    err_clear(e);
    if (round_clean(m, e) || freeze(m, e))
        return -1;
    return check_tracked(m, e);
}

struct cloud_disk *
round_replica(struct machine *m, int64_t key)
{
    for (size_t i = 0; i < m->target.disks.n; i++)
        if (m->target.disks.p[i].key == key)
            return &m->target.disks.p[i];
    return NULL;
}

static void
jobs_fini(struct copy_jobs *jobs)
{
    for (size_t i = 0; i < jobs->n; i++)
        round_plan_fini(&jobs->p[i].plan);
    vec_fini(jobs);
}

int
round_copy(struct machine *m, struct err *e)
{
    defer(jobs_fini) struct copy_jobs jobs = { 0 };

    for (size_t i = 0; i < m->frozen.n; i++) {
        struct copy_job job = { .kind = &kind_copy, .frozen = &m->frozen.p[i] };

        job.d = record_disk(m->r, job.frozen->key);
        job.replica = round_replica(m, job.frozen->key);
        if (job.d->round >= m->r->round)
            continue; /* done before a restart */
        log_disk(job.d->name);
        if (round_plan_make(m, job.d, job.frozen, &job.plan, e))
            return err_wrap(e, "disk %s", job.d->name);
        log_disk(NULL);
        vec_push(&jobs, job);
    }
    /* from here on the replicas are written to: say so first */
    return machine_save(m, e) ? -1 : copiers_run(m, &jobs, NULL, e);
}

int
round_end(struct machine *m, struct err *e)
{
    struct record *r = m->r;
    int64_t changed = 0;

    for (size_t i = 0; i < r->disks.n; i++)
        changed += r->disks.p[i].round_total;
    machine_event(m, "round",
                  json_pack("{s:I, s:I, s:b}", "round", (json_int_t)r->round,
                            "bytes", (json_int_t)changed, "final",
                            r->final_round));
    log_info("round %" PRId64 " done: %" PRId64 " KiB", r->round,
             changed >> 10);
    r->round++;
    /* first the record, then the snapshot: a crash in between leaves one of
     * ours, which the next round removes */
    if (machine_save(m, e))
        return -1;
    return round_clean(m, e);
}
