/* The steps of the switch: source down, last changes, target up.  Each phase
 * is entered in the downtime ledger. */
#include "migrate/machine.h"
#include "base/clock.h"

#include <inttypes.h>
#include <string.h>

#define SHUTDOWN_WAIT_MS (300 * 1000) /* for a guest that was asked */
#define POWER_POLL_MS    500
/* A moment for the host to let go of the VM's files; what it still holds
 * after that the snapshot call waits for. */
#define SETTLE_MS 1000

static int
phase(struct machine *m, const char *name, struct err *e)
{
    record_phase(m->r, name);
    machine_event(m, "phase", json_pack("{s:s?}", "phase", name));
    return machine_save(m, e);
}

/* 1: off; 0: not (yet). */
static int
is_off(struct machine *m, struct err *e)
{
    char power[16], tools[40];

    if (vs_get_power(m->vs, m->moref, power, tools, e))
        return -1;
    record_set(&m->r->tools_status, tools);
    return !strcmp(power, "poweredOff");
}

static int
ask_operator(struct machine *m, const char *why, enum step *next, struct err *e)
{
    *next = STEP_awaiting_shutdown_action;
    m->r->shutdown_required = true;
    record_set(&m->r->shutdown_reason, why);
    log_warn("%s; shut the VM down yourself, or create %s/%s to power it off",
             why, store_dir(m->store), MARK_SHUTDOWN_FORCE);
    return machine_save(m, e);
}

/* Markers from before nobody asked. */
static int
forget_wishes(struct machine *m, struct err *e)
{
    return store_unmark(m->store, MARK_SHUTDOWN_FORCE, e) ||
                   store_unmark(m->store, MARK_SHUTDOWN_MANUAL, e)
               ? -1
               : 0;
}

static int
shut_guest_down(struct machine *m, enum step *next, struct err *e)
{
    int64_t end = clock_ms() + SHUTDOWN_WAIT_MS;
    int off = 0;

    if (vs_shutdown_guest(m->vs, m->moref, e)) {
        if (strcmp(e->fault, "ToolsUnavailable"))
            return err_wrap(e, "shutting the guest down");
        err_clear(e);
        return ask_operator(m, "VMware Tools do not answer", next, e);
    }
    while (!off && clock_ms() < end) {
        if (machine_pause(m, POWER_POLL_MS, e) || (off = is_off(m, e)) < 0)
            return -1;
    }
    return off ? 0
               : ask_operator(m, "the guest did not shut down in 5 minutes",
                              next, e);
}

int
step_shutting_down(struct machine *m, enum step *next, struct err *e)
{
    int off = is_off(m, e);

    if (off < 0)
        return -1;
    if (phase(m, "shutdown", e) || forget_wishes(m, e))
        return -1;
    if (off)
        return 0;
    switch (m->o->spec->migration.shutdown_mode) {
    case SHUTDOWN_FORCE: return vs_power_off(m->vs, m->moref, e);
    case SHUTDOWN_MANUAL:
        return ask_operator(m, "shutdown_mode is manual", next, e);
    default:
        if (strcmp(m->r->tools_status, "guestToolsRunning"))
            return ask_operator(m, "VMware Tools are not running", next, e);
        return shut_guest_down(m, next, e);
    }
}

int
step_awaiting_shutdown_action(struct machine *m, enum step *next, struct err *e)
{
    int off = 0;

    (void)next;
    while (!off) {
        if (store_marked(m->store, MARK_SHUTDOWN_FORCE)) {
            /* a wish that is lost is asked for again; one that stays would
             * power the VM off another time */
            if (store_unmark(m->store, MARK_SHUTDOWN_FORCE, e) ||
                vs_power_off(m->vs, m->moref, e))
                return -1;
            machine_event(m, "powered_off", NULL);
        }
        /* "I do it myself": nothing but to look again */
        if (store_unmark(m->store, MARK_SHUTDOWN_MANUAL, e) ||
            (off = is_off(m, e)) < 0 ||
            (!off && machine_pause(m, POWER_POLL_MS, e)))
            return -1;
    }
    m->r->shutdown_required = false;
    record_set(&m->r->shutdown_reason, "");
    return forget_wishes(m, e) ? -1 : machine_save(m, e);
}

static int
settle(struct machine *m, struct err *e)
{
    int64_t seconds = m->o->spec->migration.finalize_settle_seconds;

    if (phase(m, "settle", e))
        return -1;
    return machine_pause(m, seconds > 0 ? seconds * 1000 : SETTLE_MS, e);
}

static int
still_off(struct machine *m, struct err *e)
{
    int off = is_off(m, e);

    if (off < 0)
        return -1;
    return off ? 0
               : err_set(e, ERR_BUSY,
                         "the VM is running again; shut it down, the changes "
                         "it makes now must be copied first");
}

/* Each entry has a round and a snapshot of its own: what was cut off is of a
 * running VM, or of a moment after which the VM may have run again.  The
 * snapshot is left to `done`: removing it can wait until the target is up. */
int
step_final_sync(struct machine *m, enum step *next, struct err *e)
{
    (void)next;
    if (still_off(m, e) || settle(m, e) || round_clean(m, e))
        return -1;
    m->r->round++;
    m->r->final_round = true;
    if (phase(m, "final_snapshot", e) || round_begin(m, e) || still_off(m, e) ||
        phase(m, "final_copy", e) || round_copy(m, e))
        return -1;
    return still_off(m, e);
}

/* What the last round wrote, and what was not read back before.  The last
 * snapshot is still there: what differs is copied from it again. */
int
step_verifying(struct machine *m, enum step *next, struct err *e)
{
    int off;

    (void)next;
    if (m->o->spec->migration.verify == VERIFY_NONE)
        return 0;
    if (phase(m, "verifying", e) || verify_last(m, e))
        return -1;
    off = is_off(m, e);
    if (off == 0) /* what was copied is no longer the last */
        *next = STEP_final_sync;
    return off < 0 ? -1 : 0;
}

/* Each block of each replica, by its map: nothing unproven is imported. */
static int
prove_all(const struct machine *m, struct err *e)
{
    for (size_t i = 0; i < m->r->disks.n; i++) {
        const struct disk_record *d = &m->r->disks.p[i];
        defer_free char *map = plan_map_path(m, d);
        struct map_summary s;

        if (map_summary(map, &s, e))
            return err_wrap(e, "disk %s", d->name);
        if (s.dirty || s.torn || s.unknown)
            return err_set(e, ERR_DAMAGED,
                           "disk %s: %" PRIu64 " blocks are not proven",
                           d->name, s.dirty + s.torn + s.unknown);
    }
    return 0;
}

int
step_import_root_disk(struct machine *m, enum step *next, struct err *e)
{
    defer_free char *result = NULL;

    int off = is_off(m, e);

    if (off < 0)
        return -1;
    if (!off) { /* what was copied is no longer the last */
        *next = STEP_final_sync;
        return 0;
    }
    if (phase(m, "import", e) || prove_all(m, e) ||
        m->o->cloud->import(m->cloud, &m->target, &result, e))
        return -1;
    record_set(&m->r->result, result);
    return phase(m, NULL, e);
}

static json_t *
report_proof(const struct machine *m)
{
    const __typeof__(m->o->spec->migration) *s = &m->o->spec->migration;
    int64_t capacity = 0, verified = 0, different = 0, mended = 0;

    for (size_t i = 0; i < m->r->disks.n; i++) {
        const struct disk_record *d = &m->r->disks.p[i];

        capacity += d->capacity;
        verified += d->verified;
        different += d->different;
        mended += d->mended;
    }
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "policy",
        verify_names[s->verify], "sample",
        (json_int_t)(s->verify == VERIFY_FULL   ? 100
                     : s->verify == VERIFY_NONE ? 0
                                                : s->verify_sample),
        "seed", (json_int_t)m->r->verify_seed, "capacity", (json_int_t)capacity,
        "verified", (json_int_t)verified, "different", (json_int_t)different,
        "mended", (json_int_t)mended);
}

static json_t *
report_disks(const struct record *r)
{
    json_t *all = json_array();

    for (size_t i = 0; i < r->disks.n; i++) {
        const struct disk_record *d = &r->disks.p[i];

        json_array_append_new(
            all,
            json_pack(
                "{s:s, s:I, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
                "disk", d->name, "key", (json_int_t)d->key, "label", d->label,
                "capacity", (json_int_t)d->capacity, "target", d->target,
                "rounds", (json_int_t)d->delta_rounds + 1, "bytes_read",
                (json_int_t)d->bytes_read, "bytes_written",
                (json_int_t)d->bytes_written, "last_changed",
                (json_int_t)d->changed, "verified", (json_int_t)d->verified,
                "different", (json_int_t)d->different, "mended",
                (json_int_t)d->mended));
    }
    return all;
}

static int
write_report(struct machine *m, struct err *e)
{
    defer_json json_t *all = record_json(m->r);
    defer_json json_t *j = json_object();
    static const char *const fields[] = {
        "vm_name",    "vm_moref",    "migration_id", "result",
        "started_at", "finished_at", "downtime",     "downtime_ms",
    };

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        json_object_set(j, fields[i], json_object_get(all, fields[i]));
    json_object_set_new(j, "disks", report_disks(m->r));
    json_object_set_new(j, "verification", report_proof(m));
    return store_replace(m->store, "report.json", j, e);
}

int
step_done(struct machine *m, enum step *next, struct err *e)
{
    (void)next;
    if (m->r->finished)
        return 0;
    if (round_clean(m, e))
        return -1;
    m->r->finished = clock_wall_ms();
    m->r->progress = 100;
    if (write_report(m, e)) {
        m->r->finished = 0; /* the next run writes it */
        return -1;
    }
    machine_event(
        m, "done",
        json_pack("{s:I}", "downtime_ms", (json_int_t)record_downtime(m->r)));
    log_info("%s is made; the source was down for %.1f s", m->r->result,
             (double)record_downtime(m->r) / 1000);
    return machine_save(m, e);
}
