/* Changed areas.  A wrong answer here is lost data later, so whatever does
 * not add up ends the query. */
#include "vsphere/soap.h"
#include "base/log.h"

#include <inttypes.h>
#include <string.h>

#define CALLS_MAX      1000000u   /* windows of one disk */
#define ROUND_UP_MAX   (1u << 20) /* bytes a window may pass the disk's end */
#define FAULT_TRIES    3
#define FAULT_PAUSE_MS 2000

struct query {
    const char *vm, *snap, *key, *change_id;
    uint64_t capacity, off, end; /* off: next window; end: of the last area */
    vs_area_fn *area;
    void *ctx;
};

static size_t
epoch_len(const char *change_id)
{
    const char *slash = change_id ? strchr(change_id, '/') : NULL;

    return slash ? (size_t)(slash - change_id) : 0;
}

bool
vs_same_epoch(const char *change_id, const char *other)
{
    size_t n = epoch_len(change_id);

    return n && n == epoch_len(other) && !memcmp(change_id, other, n);
}

static int
damaged_num(const struct xml *x, const char *path, uint64_t *out, struct err *e)
{
    if (num_u64(text_at(x, path), 0, INT64_MAX, out, path, e)) {
        e->class = ERR_DAMAGED;
        return -1;
    }
    return 0;
}

/* The keys that say change tracking itself is at fault: asking again does
 * not help. */
static bool
is_final(const struct vs *vs, const struct err *e)
{
    static const char *const passing[] = { "FileFault", "FileLocked",
                                           "FileNotFound", "CannotAccessFile",
                                           "SystemError" };

    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (fault_is(e, passing[i]))
            return str_starts(vs->fault_key, "vim.hostd.vmsvc.cbt.");
    return true;
}

static int
ask(struct vs *vs, const struct query *q, struct answer *a, struct err *e)
{
    defer_free char *off = xasprintf("%" PRIu64, q->off);

    for (int i = 1;; i++) {
        if (!soap_call(vs, VIM_CHANGED_AREAS, q->vm,
                       ARGS(q->snap, q->key, off, q->change_id), a, e))
            return 0;
        if (i == FAULT_TRIES || is_final(vs, e))
            break;
        log_warn("try %d of %d: %s", i, FAULT_TRIES, e->msg);
        if (session_pause(vs, FAULT_PAUSE_MS, e))
            return -1;
        err_clear(e);
    }
    if (*e->fault && (e->class == ERR_REMOTE || fault_is(e, "FileLocked")))
        e->class = ERR_DAMAGED;
    return -1;
}

static int
take_area(struct query *q, const struct xml *x, uint64_t window_end,
          struct err *e)
{
    uint64_t start, length, end;

    if (damaged_num(x, "start", &start, e) ||
        damaged_num(x, "length", &length, e))
        return -1;
    end = start + length;
    if (!length || start < q->off || start < q->end || end > window_end)
        return err_set(e, ERR_DAMAGED,
                       "area %" PRIu64 "+%" PRIu64
                       " does not fit between %" PRIu64 " and %" PRIu64,
                       start, length, q->end > q->off ? q->end : q->off,
                       window_end);
    q->end = end;
    if (start >= q->capacity)
        return 0;
    if (end > q->capacity)
        end = q->capacity;
    return q->area(q->ctx, start, end - start);
}

static int
take_window(struct query *q, const struct xml *window, struct err *e)
{
    const struct xml *x = xml_kid(window, "changedArea");
    uint64_t start, length, end;

    if (damaged_num(window, "startOffset", &start, e) ||
        damaged_num(window, "length", &length, e))
        return -1;
    if (start != q->off || !length)
        return err_set(e, ERR_DAMAGED,
                       "asked for changes from %" PRIu64 " on, got %" PRIu64
                       "+%" PRIu64,
                       q->off, start, length);
    end = start + length;
    if (end > q->capacity) {
        if (end - q->capacity > ROUND_UP_MAX)
            return err_set(e, ERR_DAMAGED,
                           "a window ends at %" PRIu64 ", the disk at %" PRIu64,
                           end, q->capacity);
        log_debug("a window passes the disk's end by %" PRIu64 " bytes",
                  end - q->capacity);
    }
    for (; x; x = xml_next(x)) {
        int rc = take_area(q, x, end, e);

        if (rc)
            return rc;
    }
    q->off = end < q->capacity ? end : q->capacity;
    return 0;
}

static int
walk(struct vs *vs, struct query *q, struct err *e)
{
    for (unsigned calls = 0; q->off < q->capacity; calls++) {
        defer_answer struct answer a = { 0 };
        int rc;

        if (calls == CALLS_MAX)
            return err_set(e, ERR_DAMAGED, "no end after %u windows",
                           CALLS_MAX);
        if (session_pause(vs, 0, e) || ask(vs, q, &a, e))
            return -1;
        rc = take_window(q, a.val, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* The snapshot's own disk must be what the caller thinks it is, and of the
 * epoch of the changeId. */
static int
check_disk(const struct vs_disks *disks, int key, const struct query *q,
           struct err *e)
{
    for (size_t i = 0; i < disks->n; i++) {
        const struct vs_disk *d = &disks->p[i];

        if (d->key != key)
            continue;
        if (d->capacity != q->capacity)
            return err_set(e, ERR_DAMAGED,
                           "the disk has %" PRIu64 " bytes, not %" PRIu64,
                           d->capacity, q->capacity);
        if (!*d->change_id)
            return err_set(e, ERR_DAMAGED, "the snapshot has no changeId");
        if (strcmp(q->change_id, "*") &&
            !vs_same_epoch(q->change_id, d->change_id))
            return err_set(e, ERR_DAMAGED,
                           "change tracking was reset: changeId %.60s is of "
                           "another epoch than %.60s",
                           q->change_id, d->change_id);
        return 0;
    }
    return err_set(e, ERR_DAMAGED, "the snapshot has no such disk");
}

static int
query(struct vs *vs, struct query *q, int key, struct err *e)
{
    defer(vs_disks_fini) struct vs_disks disks = { 0 };

    if (!q->change_id || !*q->change_id)
        return err_set(e, ERR_DAMAGED, "there is no changeId to start from");
    if (vs_snapshot_disks(vs, q->snap, &disks, e) ||
        check_disk(&disks, key, q, e))
        return -1;
    return walk(vs, q, e);
}

int
vs_changed_areas(struct vs *vs, const char *vm, const char *snap, int key,
                 uint64_t capacity, const char *change_id, vs_area_fn *area,
                 void *ctx, struct err *e)
{
    defer_free char *text = xasprintf("%d", key);
    struct query q = {
        .vm = vm,
        .snap = snap,
        .key = text,
        .change_id = change_id,
        .capacity = capacity,
        .area = area,
        .ctx = ctx,
    };
    int rc = query(vs, &q, key, e);

    if (rc && e->class)
        err_wrap(e, "changed areas of disk %d of %s", key, vm);
    return rc;
}
