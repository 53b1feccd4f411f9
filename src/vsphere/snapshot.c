/* Snapshots: create, remove with all that follows, read; the CBT flag. */
#include "vsphere/soap.h"
#include "base/log.h"

#include <string.h>

#define BUSY_TRIES      6
#define BUSY_FIRST_MS   5000
#define BUSY_LONGEST_MS 120000
#define NEEDED_POLL_MS  2000
#define NEEDED_POLLS    30 /* before we consolidate ourselves */
#define SETTLE_MS       2000
#define CONSOLIDATIONS  5

/* A task that is tried again while the VM is held by something that ends. */
static int
run_patiently(struct vs *vs, enum vim m, const char *self,
              const struct soap_args *args, char *result,
              bool (*passes)(const struct err *), struct err *e)
{
    int64_t pause = BUSY_FIRST_MS;

    for (int i = 1;; i++) {
        if (!task_run(vs, m, self, args, result, e))
            return 0;
        if (i == BUSY_TRIES || !passes(e))
            return -1;
        log_warn("try %d of %d: %s", i, BUSY_TRIES, e->msg);
        if (session_pause(vs, pause, e))
            return -1;
        pause = pause * 2 < BUSY_LONGEST_MS ? pause * 2 : BUSY_LONGEST_MS;
    }
}

static bool
is_task_in_progress(const struct err *e)
{
    return fault_is(e, "TaskInProgress");
}

/* What is blocked by another product stays so for long. */
static bool
is_brief(const struct err *e)
{
    return e->class == ERR_BUSY && !fault_is(e, "MethodDisabled");
}

int
vs_enable_cbt(struct vs *vs, const char *vm, struct err *e)
{
    return task_run(vs, VIM_RECONFIG, vm,
                    ARGS("<changeTrackingEnabled>true</changeTrackingEnabled>"),
                    NULL, e);
}

int
vs_snapshot_create(struct vs *vs, const char *vm, const char *name,
                   const char *description, bool quiesce, char snap[VS_ID_MAX],
                   struct err *e)
{
    const volatile sig_atomic_t *stop = vs->stop;
    int rc;

    /* One that was begun is waited for: nobody could remove it before it is
     * there, and who is asked to stop wants none left. */
    vs->stop = NULL;
    rc = run_patiently(
        vs, VIM_SNAPSHOT_CREATE, vm,
        ARGS(name, description, "false", quiesce ? "true" : "false"), snap,
        is_task_in_progress, e);
    vs->stop = stop;
    return rc;
}

static int
get_needed(struct vs *vs, const char *vm, bool *needed, struct err *e)
{
    const char *const paths[] = { "runtime.consolidationNeeded", NULL };
    defer_answer struct answer a = { 0 };

    if (props_get(vs, "VirtualMachine", vm, paths, &a, e))
        return -1;
    *needed = prop_true(a.val, paths[0]);
    return 0;
}

/* 0 with *needed false only when it was so twice, with a pause between: the
 * flag may come up late, and a snapshot taken while disks still consolidate
 * has been seen to read wrong data. */
static int
await_not_needed(struct vs *vs, const char *vm, bool *needed, struct err *e)
{
    int calm = 0;

    for (int i = 0; i < NEEDED_POLLS && calm < 2; i++) {
        if (i && session_pause(vs, calm ? SETTLE_MS : NEEDED_POLL_MS, e))
            return -1;
        if (get_needed(vs, vm, needed, e))
            return -1;
        calm = *needed ? 0 : calm + 1;
    }
    *needed = calm < 2;
    return 0;
}

int
vs_consolidate(struct vs *vs, const char *vm, struct err *e)
{
    bool needed;

    for (int i = 0; i < CONSOLIDATIONS; i++) {
        if (await_not_needed(vs, vm, &needed, e))
            return -1;
        if (!needed)
            return 0;
        log_info("%s still needs consolidation, asking for it", vm);
        if (run_patiently(vs, VIM_CONSOLIDATE, vm, NULL, NULL, is_brief, e))
            return -1;
    }
    if (await_not_needed(vs, vm, &needed, e))
        return -1;
    if (needed)
        return err_set(e, ERR_BUSY,
                       "the disks of %s still need consolidation after %d "
                       "attempts: look for what holds them (a backup?)",
                       vm, CONSOLIDATIONS);
    return 0;
}

int
vs_snapshot_remove(struct vs *vs, const char *vm, const char *snap,
                   struct err *e)
{
    if (run_patiently(vs, VIM_SNAPSHOT_REMOVE, snap, ARGS("false", "true"),
                      NULL, is_brief, e)) {
        if (!fault_is(e, "ManagedObjectNotFound"))
            return err_wrap(e, "removing snapshot %s of %s", snap, vm);
        err_clear(e);
    }
    if (vs_consolidate(vs, vm, e))
        return err_wrap(e, "removing snapshot %s of %s", snap, vm);
    return 0;
}

int
vs_snapshot_disks(struct vs *vs, const char *snap, struct vs_disks *out,
                  struct err *e)
{
    const char *const paths[] = { "config.hardware", "config.extraConfig",
                                  NULL };
    defer_answer struct answer a = { 0 };
    struct vs_disks got = { 0 };
    const struct xml *hardware;

    if (props_get(vs, "VirtualMachineSnapshot", snap, paths, &a, e))
        return -1;
    hardware = prop(a.val, paths[0]);
    if (!hardware)
        return err_set(e, ERR_REMOTE,
                       "reading snapshot %s: config.hardware is missing", snap);
    if (disks_read(hardware, prop(a.val, paths[1]), &got, e)) {
        vs_disks_fini(&got);
        return err_wrap(e, "reading snapshot %s", snap);
    }
    *out = got;
    return 0;
}
