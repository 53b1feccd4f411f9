/* state.json: the record of one migration.  A superset of what the first
 * engine wrote, which is read as well. */
#include "job/job.h"
#include "base/clock.h"

#include <string.h>

#define RECORD_DISKS_MAX 256

/* The fields of a record and of a disk: JSON name and where.  Two of a disk
 * have a second name, by which the programs of vmware-to-cloudstack know
 * them. */
enum field_kind { TEXT, NUMBER, REAL, FLAG, WHEN };

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
    bool always; /* written even when empty or zero */
};

#define R(name, kind, f, always)                       \
    {                                                  \
        name, kind, offsetof(struct record, f), always \
    }
static const struct field record_fields[] = {
    R("vm_name", TEXT, vm_name, true),
    R("vm_moref", TEXT, vm_moref, true),
    R("uuid", TEXT, uuid, false),
    R("instance_uuid", TEXT, instance_uuid, false),
    R("migration_id", TEXT, migration_id, true),
    R("active_snapshot", TEXT, active_snapshot, true),
    R("round", NUMBER, round, true),
    R("final_round", FLAG, final_round, false),
    R("finalize_requested", FLAG, finalize_requested, false),
    R("tracked_from_start", FLAG, tracked_from_start, false),
    R("verify_seed", NUMBER, verify_seed, false),
    R("shutdown_action_required", FLAG, shutdown_required, false),
    R("shutdown_reason", TEXT, shutdown_reason, false),
    R("shutdown_tools_status", TEXT, tools_status, false),
    R("progress", REAL, progress, true),
    R("transfer_speed_mbps", REAL, speed, true),
    R("last_error", TEXT, last_error, false),
    R("result", TEXT, result, false),
    R("started_at", WHEN, started, false),
    R("finished_at", WHEN, finished, false),
    R("updated_at", WHEN, updated, true),
};
#undef R

#define D(name, kind, f, always)                            \
    {                                                       \
        name, kind, offsetof(struct disk_record, f), always \
    }
static const struct field disk_fields[] = {
    D("key", NUMBER, key, true),
    D("unit", NUMBER, unit, true),
    D("address", TEXT, address, true),
    D("label", TEXT, label, false),
    D("uuid", TEXT, uuid, false),
    D("capacity", NUMBER, capacity, true),
    D("target_qcow2", TEXT, target, true),
    D("source_disk_path", TEXT, source_path, true),
    D("change_id", TEXT, change_id, true),
    D("marked_change_id", TEXT, marked_change_id, false),
    D("plan", TEXT, plan, false),
    D("doubt", TEXT, doubt, false),
    D("stage", TEXT, stage, false),
    D("waiting_for", TEXT, waiting, false),
    D("progress", REAL, progress, true),
    D("qemu_progress", REAL, progress, false),
    D("bytes_read", NUMBER, bytes_read, true),
    D("bytes_written", NUMBER, bytes_written, true),
    D("copied_bytes", NUMBER, bytes_written, true),
    D("bytes_zero_skipped", NUMBER, bytes_zero, true),
    D("speed_mbps", REAL, speed, true),
    D("eta_seconds", NUMBER, eta_seconds, false),
    D("blank", FLAG, blank, false),
    D("base_copied", FLAG, base_copied, true),
    D("delta_rounds", NUMBER, delta_rounds, true),
    D("round", NUMBER, round, true),
    D("paused", TEXT, paused, false),
    D("round_total", NUMBER, round_total, false),
    D("round_done", NUMBER, round_done, false),
    D("changed_bytes", NUMBER, changed, false),
    D("verified_bytes", NUMBER, verified, false),
    D("different_bytes", NUMBER, different, false),
    D("mended_bytes", NUMBER, mended, false),
};
#undef D

#define COUNT(a) (sizeof(a) / sizeof *(a))

static json_t *
field_json(const struct field *f, const void *s)
{
    const void *at = (const char *)s + f->offset;
    const char *text = f->kind == TEXT ? *(char *const *)at : NULL;
    int64_t n = f->kind == NUMBER || f->kind == WHEN ? *(const int64_t *)at : 0;
    double real = f->kind == REAL ? *(const double *)at : 0;
    char when[CLOCK_TEXT_MAX];

    switch (f->kind) {
    case TEXT:
        return text && (*text || f->always) ? json_string(text)
               : f->always                  ? json_string("")
                                            : NULL;
    case NUMBER: return n || f->always ? json_integer(n) : NULL;
    case REAL:
        return real != 0 || f->always
                   ? json_real((double)(int64_t)(real * 100 + 0.5) / 100)
                   : NULL;
    case FLAG:
        return *(const bool *)at || f->always ? json_boolean(*(const bool *)at)
                                              : NULL;
    case WHEN:
        if (!n)
            return NULL;
        clock_text(n, when);
        return json_string(when);
    }
    return NULL;
}

static void
fields_json(json_t *o, const struct field *f, size_t n, const void *s)
{
    for (size_t i = 0; i < n; i++) {
        json_t *v = field_json(&f[i], s);

        if (v)
            json_object_set_new(o, f[i].name, v);
    }
}

static int
field_parse(const struct field *f, const json_t *v, void *s, struct err *e)
{
    void *at = (char *)s + f->offset;
    bool ok = f->kind == TEXT || f->kind == WHEN ? json_is_string(v)
              : f->kind == NUMBER                ? json_is_integer(v)
              : f->kind == REAL                  ? json_is_number(v)
                                                 : json_is_boolean(v);

    if (json_is_null(v))
        return 0;
    if (!ok)
        return err_set(e, ERR_DAMAGED, "'%s' is of the wrong type", f->name);
    switch (f->kind) {
    case TEXT: record_set(at, json_string_value(v)); break;
    case NUMBER: *(int64_t *)at = json_integer_value(v); break;
    case REAL: *(double *)at = json_number_value(v); break;
    case FLAG: *(bool *)at = json_is_true(v); break;
    case WHEN: return clock_parse(json_string_value(v), at, e);
    }
    return 0;
}

static int
fields_parse(const json_t *o, const struct field *f, size_t n, void *s,
             struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(o, f[i].name);

        if (v && field_parse(&f[i], v, s, e))
            return -1;
    }
    return 0;
}

void
record_set(char **field, const char *value)
{
    char *copy = xstrdup(value ? value : "");

    free(*field);
    *field = copy;
}

static void
texts_init(const struct field *f, size_t n, void *s)
{
    for (size_t i = 0; i < n; i++)
        if (f[i].kind == TEXT) {
            char **at = (char **)((char *)s + f[i].offset);

            if (!*at)
                *at = xstrdup("");
        }
}

static void
texts_free(const struct field *f, size_t n, void *s)
{
    for (size_t i = 0; i < n; i++)
        if (f[i].kind == TEXT) {
            free(*(char **)((char *)s + f[i].offset));
            *(char **)((char *)s + f[i].offset) = NULL;
        }
}

struct record *
record_new(void)
{
    struct record *r = xcalloc(1, sizeof *r);

    texts_init(record_fields, COUNT(record_fields), r);
    return r;
}

void
record_free(struct record *r)
{
    if (!r)
        return;
    texts_free(record_fields, COUNT(record_fields), r);
    for (size_t i = 0; i < r->disks.n; i++) {
        texts_free(disk_fields, COUNT(disk_fields), &r->disks.p[i]);
        free(r->disks.p[i].name);
    }
    for (size_t i = 0; i < r->downtime.n; i++)
        free(r->downtime.p[i].name);
    vec_fini(&r->disks);
    vec_fini(&r->downtime);
    free(r);
}

static json_t *
phases_json(const struct record *r)
{
    json_t *all = json_array();

    for (size_t i = 0; i < r->downtime.n; i++) {
        const struct phase *p = &r->downtime.p[i];

        json_array_append_new(
            all, json_pack("{s:s, s:I, s:I}", "phase", p->name, "started_ms",
                           (json_int_t)p->started, "ms", (json_int_t)p->ms));
    }
    return all;
}

json_t *
record_json(const struct record *r)
{
    json_t *o = json_object(), *disks = json_object();

    json_object_set_new(o, "schema", json_integer(RECORD_SCHEMA));
    json_object_set_new(o, "stage", json_string(steps[r->stage].name));
    json_object_set_new(o, "next_stage",
                        json_string(r->stage == STEP_done
                                        ? "none"
                                        : steps[steps[r->stage].next].name));
    fields_json(o, record_fields, COUNT(record_fields), r);
    for (size_t i = 0; i < r->disks.n; i++) {
        json_t *d = json_object();

        fields_json(d, disk_fields, COUNT(disk_fields), &r->disks.p[i]);
        json_object_set_new(disks, r->disks.p[i].name, d);
    }
    json_object_set_new(o, "disks", disks);
    if (r->downtime.n) {
        json_object_set_new(o, "downtime", phases_json(r));
        json_object_set_new(o, "downtime_ms", json_integer(record_downtime(r)));
    }
    return o;
}

static int
phases_parse(const json_t *all, struct record *r, struct err *e)
{
    const json_t *v;
    size_t i;

    json_array_foreach(all, i, v)
    {
        const char *name = json_str(v, "phase", NULL);

        if (!name || r->downtime.n >= RECORD_PHASES)
            return err_set(e, ERR_DAMAGED,
                           "'downtime' is not a list of phases");
        vec_push(&r->downtime,
                 (struct phase){ xstrdup(name), json_num(v, "started_ms", 0),
                                 json_num(v, "ms", 0) });
    }
    return 0;
}

/* The first engine knew a disk by its unit alone, and had no rounds. */
static void
complete_disk(struct disk_record *d, bool had_round)
{
    texts_init(disk_fields, COUNT(disk_fields), d);
    if (!had_round)
        d->round = d->base_copied ? d->delta_rounds : -1;
}

static int
disks_parse(json_t *disks, struct record *r, struct err *e)
{
    const char *name;
    json_t *v;

    json_object_foreach(disks, name, v)
    {
        struct disk_record d = { .name = xstrdup(name), .eta_seconds = -1 };
        int rc = fields_parse(v, disk_fields, COUNT(disk_fields), &d, e);

        complete_disk(&d, json_object_get(v, "round"));
        vec_push(&r->disks, d);
        if (rc || r->disks.n > RECORD_DISKS_MAX || d.capacity < 0)
            return rc ? err_wrap(e, "disk %s", name)
                      : err_set(e, ERR_DAMAGED, "disk %s: out of bounds", name);
    }
    return 0;
}

static int
parse(const json_t *j, struct record *r, struct err *e)
{
    const char *stage = json_str(j, "stage", "init");

    if (json_num(j, "schema", RECORD_SCHEMA) > RECORD_SCHEMA)
        return err_set(e, ERR_USER,
                       "was written by a newer release (schema %lld); use that",
                       (long long)json_num(j, "schema", 0));
    r->stage = step_parse(stage);
    if (r->stage == STEP_COUNT)
        return err_set(e, ERR_DAMAGED, "unknown stage '%s'", stage);
    if (fields_parse(j, record_fields, COUNT(record_fields), r, e) ||
        disks_parse(json_object_get(j, "disks"), r, e) ||
        phases_parse(json_object_get(j, "downtime"), r, e))
        return -1;
    texts_init(record_fields, COUNT(record_fields), r);
    return 0;
}

struct record *
record_parse(const json_t *j, const char *what, struct err *e)
{
    defer(record_free_ptr) struct record *r = record_new();

    if (parse(j, r, e)) {
        err_wrap(e, "%s", what);
        return NULL;
    }
    return take(r);
}

struct disk_record *
record_disk(struct record *r, int64_t key)
{
    for (size_t i = 0; i < r->disks.n; i++)
        if (r->disks.p[i].key == key)
            return &r->disks.p[i];
    return NULL;
}

void
record_phase(struct record *r, const char *name)
{
    int64_t now = clock_wall_ms();
    struct phase *last =
        r->downtime.n ? &r->downtime.p[r->downtime.n - 1] : NULL;

    if (last && last->ms < 0) {
        if (name && !strcmp(last->name, name))
            return;
        last->ms = now > last->started ? now - last->started : 0;
    }
    if (name && r->downtime.n < RECORD_PHASES)
        vec_push(&r->downtime, (struct phase){ xstrdup(name), now, -1 });
}

int64_t
record_downtime(const struct record *r)
{
    const struct phase *first = r->downtime.p, *last;

    if (!r->downtime.n)
        return 0;
    last = &r->downtime.p[r->downtime.n - 1];
    return (last->ms < 0 ? clock_wall_ms() : last->started + last->ms) -
           first->started;
}
