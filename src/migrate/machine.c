/* Drives one VM through the steps of steps.def: record before, record after,
 * retry by class, clean up on every way out. */
#include "migrate/machine.h"
#include "base/clock.h"

#include <string.h>

#define REPORT_MS    500
#define SAVE_MS      1000
#define KEEPALIVE_MS 60000
#define TRIES_MAX    6    /* of a step that fails for a passing reason */
#define PAUSE_MIN_MS 2000 /* doubled at each try */
#define PAUSE_MAX_MS 30000

static step_fn *const functions[STEP_COUNT] = {
#define STEP(name, text, next, down) [STEP_##name] = step_##name,
#include "job/steps.def"
#undef STEP
};

bool
machine_stopping(const struct machine *m)
{
    return *m->o->stop != 0;
}

static void
report(struct machine *m)
{
    m->reported = clock_ms();
    if (m->o->report && m->r)
        m->o->report(m->o->ctx, store_dir(m->store), m->r);
}

int
machine_save(struct machine *m, struct err *e)
{
    if (!m->r)
        return 0;
    m->saved = clock_ms();
    if (store_save(m->store, m->r, e))
        return err_wrap(e, "saving the record");
    report(m);
    return 0;
}

int
machine_tick(struct machine *m, struct err *e)
{
    int64_t now = clock_ms();

    if (now - m->kept_alive >= KEEPALIVE_MS && m->vs) {
        m->kept_alive = now;
        if (vs_keepalive(m->vs, e)) {
            log_warn("keeping the session alive: %s", e->msg);
            err_clear(e); /* the next real call tells, and logs in again */
        }
    }
    if (now - m->saved >= SAVE_MS)
        return machine_save(m, e);
    if (now - m->reported >= REPORT_MS)
        report(m);
    return 0;
}

void
machine_event(struct machine *m, const char *name, json_t *what)
{
    struct err e;

    if (!m->store)
        json_decref(what);
    else if (store_event(m->store, name, what, &e))
        log_warn("%s", e.msg);
}

int
machine_pause(struct machine *m, int64_t ms, struct err *e)
{
    int64_t end = clock_ms() + ms, left;

    while ((left = end - clock_ms()) > 0 && !machine_stopping(m)) {
        clock_pause(left < 200 ? left : 200);
        if (machine_tick(m, e))
            return -1;
    }
    if (machine_stopping(m))
        return err_set(e, ERR_STOPPED, "stopped");
    return 0;
}

int
machine_look(struct machine *m, struct err *e)
{
    vs_vm_fini(&m->vm);
    memset(&m->vm, 0, sizeof m->vm);
    return vs_get_vm(m->vs, m->moref, &m->vm, e);
}

/* The first steps run anew at each start; while they do, the record keeps
 * saying how far the migration was. */
static bool
arriving(const struct machine *m, enum step s)
{
    return s < STEP_enabling_cbt && s < m->resume;
}

static int
enter(struct machine *m, enum step s, struct err *e)
{
    log_context(m->r ? m->r->vm_name : spec_vm(m->o->spec), steps[s].name);
    if (!m->r || arriving(m, s))
        return 0;
    if (m->r->stage != s)
        machine_event(m, "step", json_pack("{s:s}", "step", steps[s].name));
    m->r->stage = s;
    return machine_save(m, e);
}

/* Before the source was touched somebody waits for an answer, not for
 * retries. */
static bool
may_retry(const struct machine *m, const struct err *e, int tries)
{
    return err_retryable(e) && tries < TRIES_MAX && !machine_stopping(m) &&
           m->r && m->r->stage >= STEP_enabling_cbt;
}

static int
run_step(struct machine *m, enum step s, enum step *next, struct err *e)
{
    int64_t pause = PAUSE_MIN_MS;

    for (int tries = 1;; tries++) {
        struct err waiting;

        *next = steps[s].next;
        err_clear(e);
        if (!functions[s](m, next, e))
            return 0;
        if (!may_retry(m, e, tries))
            return -1;
        log_warn("%s; trying again in %d s", e->msg, (int)(pause / 1000));
        if (machine_pause(m, pause, &waiting)) {
            *e = waiting;
            return -1;
        }
        pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
    }
}

static int
drive(struct machine *m, struct err *e)
{
    enum step s = STEP_init, next;

    for (;;) {
        if (machine_stopping(m))
            return err_set(e, ERR_STOPPED, "stopped");
        if (enter(m, s, e) || run_step(m, s, &next, e))
            return -1;
        if (s == STEP_done)
            return 0;
        /* Arrived: go on where the record stands.  What follows the last round
         * takes what it left, and that is only sure right after it. */
        if (s == STEP_preparing_target_storage && m->resume > next)
            next = m->resume > STEP_final_sync && m->resume < STEP_done
                       ? STEP_final_sync
                       : m->resume;
        s = next;
    }
}

/* No snapshot of ours outlives an orderly end; the record and the map know
 * enough to go on with another one. */
static void
leave(struct machine *m, struct err *why)
{
    struct err e;

    if (m->vs)
        vs_set_stop(m->vs, NULL);
    /* also one that was asked for and is not in the record yet */
    if (m->r && m->vs && m->r->stage >= STEP_enabling_cbt && !m->r->finished &&
        round_clean(m, &e))
        log_warn("a snapshot of ours is left on the VM: %s; the next run "
                 "removes it",
                 e.msg);
    if (m->r && m->store) {
        record_set(&m->r->last_error,
                   why->class == ERR_STOPPED ? "" : why->msg);
        machine_event(m, why->class == ERR_STOPPED ? "stopped" : "failed",
                      json_pack("{s:s}", "why", why->msg));
        if (machine_save(m, &e))
            log_warn("%s", e.msg);
    }
}

static void
fini(struct machine *m)
{
    limits_close(m);
    vs_close(m->vs);
    if (m->cloud)
        m->o->cloud->close(m->cloud);
    for (size_t i = 0; i < m->target.disks.n; i++)
        free(m->target.disks.p[i].path);
    vec_fini(&m->target.disks);
    vec_fini(&m->target.nics);
    vs_disks_fini(&m->frozen);
    vs_vm_fini(&m->vm);
    vs_vm_fini(&m->found);
    record_free(m->r);
    store_close(m->store);
    free(m->server);
}

int
migrate_run(const struct migrate_opts *o, struct err *e)
{
    struct machine m = { .o = o, .limits.first = SLOT_INIT };
    int rc = drive(&m, e);

    if (rc)
        leave(&m, e);
    fini(&m);
    return rc;
}
