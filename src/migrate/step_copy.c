/* The steps that copy while the source runs. */
#include "migrate/machine.h"

#include <string.h>

static bool
all_tracked(const struct vs_vm *vm)
{
    for (size_t i = 0; i < vm->disks.n; i++)
        if (!vm->disks.p[i].ctk)
            return false;
    return vm->cbt_enabled;
}

/* Tracking begins at the next stun; a snapshot that comes and goes is one. */
static int
stun(struct machine *m, struct err *e)
{
    defer_free char *name =
        xasprintf(SNAPSHOT_PREFIX "stun-%s", m->r->vm_moref);
    char id[VS_ID_MAX];

    if (vs_snapshot_create(m->vs, m->moref, name, SNAPSHOT_DESCRIPTION, false,
                           id, e) ||
        vs_snapshot_remove(m->vs, m->moref, id, e))
        return err_wrap(e, "starting changed block tracking");
    return 0;
}

int
step_enabling_cbt(struct machine *m, enum step *next, struct err *e)
{
    (void)next;
    if (all_tracked(&m->vm))
        return 0;
    if (round_clean(m, e)) /* ours, of a run that was killed right here */
        return -1;
    if (m->vm.snapshots.n && machine_look(m, e))
        return -1;
    if (m->vm.snapshots.n)
        return err_set(e, ERR_USER,
                       "changed block tracking is off and the VM has "
                       "snapshots (%s); remove them first, tracking does not "
                       "begin before",
                       m->vm.snapshots.p[0].name);
    log_info("enabling changed block tracking");
    machine_event(m, "cbt_enabled", NULL);
    if (vs_enable_cbt(m->vs, m->moref, e) || stun(m, e))
        return -1;
    m->r->tracked_from_start = true;
    return machine_look(m, e);
}

int
step_creating_base_snapshot(struct machine *m, enum step *next, struct err *e)
{
    (void)next;
    if (!*m->r->active_snapshot && limits_wait(m, e))
        return -1;
    return round_begin(m, e);
}

int
step_base_copy(struct machine *m, enum step *next, struct err *e)
{
    bool all = true;

    (void)next;
    for (size_t i = 0; i < m->r->disks.n; i++)
        all &= m->r->disks.p[i].base_copied;
    if (all && !*m->r->active_snapshot)
        return 0; /* done before a restart */
    if (!*m->r->active_snapshot && limits_wait(m, e))
        return -1;
    if (round_begin(m, e) || round_copy(m, e))
        return -1;
    return round_end(m, e);
}

int
step_delta(struct machine *m, enum step *next, struct err *e)
{
    enum finalize f;
    int queued = 0;

    *next = STEP_delta;
    if (finalize_wanted(m, &f, e))
        return -1;
    /* a round that was cut off goes on at once */
    if (f == FINALIZE_NO && !*m->r->active_snapshot) {
        if (finalize_wait(m, e) || finalize_wanted(m, &f, e))
            return -1;
    }
    if (f == FINALIZE_SOON && !*m->r->active_snapshot && verify_before(m, e))
        return -1;
    while (f != FINALIZE_AT_ONCE && !*m->r->active_snapshot && !queued) {
        queued = limits_queue(m, e);
        if (queued < 0 || finalize_wanted(m, &f, e))
            return -1;
    }
    if (f == FINALIZE_AT_ONCE) {
        limits_release(m);
        *next = STEP_shutting_down;
        return verify_before(m, e);
    }
    if (round_begin(m, e) || round_copy(m, e) || round_end(m, e))
        return -1;
    m->extra_round_done |= f == FINALIZE_SOON;
    return 0;
}
