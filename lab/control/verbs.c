/* The verbs that change something. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "lab/control/inside.h"

/* A pattern that tells seed and place apart, so that a moved or stale block
 * shows; `off` is a multiple of 512. */
static void
pattern(unsigned char *buf, uint64_t n, uint64_t off, uint64_t seed)
{
    for (uint64_t i = 0; i < n; i += 512) {
        uint64_t state = seed ^ (off + i) * 0x9e3779b97f4a7c15ull;

        for (size_t j = 0; j < 512; j += sizeof(uint64_t)) {
            uint64_t x = world_random(&state);

            memcpy(buf + i + j, &x, sizeof x);
        }
    }
}

static int
write_extent(struct vm *vm, struct vm_disk *d, const json_t *in, uint64_t off,
             uint64_t length, struct err *e)
{
    defer_free unsigned char *buf = xcalloc(1, WORLD_WRITE_MAX);
    bool zero = json_flag(in, "zero", false);
    uint64_t seed = (uint64_t)json_num(in, "seed", 1);
    int rc = 0;

    for (uint64_t at = 0; at < length && !rc;) {
        uint64_t n = length - at;

        if (n > WORLD_WRITE_MAX)
            n = WORLD_WRITE_MAX;
        if (!zero)
            pattern(buf, n, off + at, seed);
        guest_stun(vm);
        rc = ldisk_write(d->disk, buf, n, off + at, e);
        guest_release(vm);
        at += n;
    }
    return rc;
}

int
verb_write(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    int64_t off = json_num(in, "offset", 0), n = json_num(in, "length", 0);
    struct vm_disk *d = NULL;
    struct vm *vm;

    (void)out;
    if (off < 0 || n <= 0 || off % 512 || n % 512)
        return err_set(e, ERR_USER,
                       "offset and length must be multiples of 512");
    world_lock(c->w);
    vm = control_vm(c, in, e);
    if (vm)
        d = control_disk(vm, in, e);
    world_unlock(c->w);
    return d ? write_extent(vm, d, in, (uint64_t)off, (uint64_t)n, e) : -1;
}

static int
find_truth(struct control *c, const json_t *in, struct vm_disk **d,
           unsigned *version, struct err *e)
{
    const char *name = json_str(in, "snapshot", NULL);
    struct vm *vm = control_vm(c, in, e);
    struct snap *s = NULL;

    *version = LDISK_NOW;
    *d = vm ? control_disk(vm, in, e) : NULL;
    if (!*d)
        return -1;
    if (!name)
        return 0;
    for (size_t i = 0; i < vm->snaps.n; i++)
        if (!strcmp(vm->snaps.p[i]->id, name) ||
            !strcmp(vm->snaps.p[i]->name, name))
            s = vm->snaps.p[i];
    if (!s)
        return err_set(e, ERR_NOTFOUND, "VM %s has no snapshot %.80s",
                       vm->ent->name, name);
    if (!snap_disk(s, (*d)->key) || !snap_disk(s, (*d)->key)->frozen)
        return err_set(e, ERR_NOTFOUND, "that disk is not in the snapshot");
    *version = snap_disk(s, (*d)->key)->version;
    return 0;
}

int
verb_truth(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    const char *file = json_str(in, "file", NULL);
    struct vm_disk *d;
    unsigned version;
    int rc;

    if (!file || *file != '/')
        return err_set(e, ERR_USER, "file must be an absolute path");
    world_lock(c->w);
    rc = find_truth(c, in, &d, &version, e);
    world_unlock(c->w);
    if (rc || ldisk_dump(d->disk, version, file, e))
        return -1;
    json_object_set_new(out, "size",
                        json_integer((json_int_t)ldisk_size(d->disk)));
    json_object_set_new(out, "file", json_string(file));
    return 0;
}

int
verb_power(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    const char *state = json_str(in, "state", "");
    bool on = !strcmp(state, "on"), off = !strcmp(state, "off");
    struct vm *vm;

    (void)out;
    if (!on && !off)
        return err_set(e, ERR_USER, "state must be on or off");
    world_lock(c->w);
    vm = control_vm(c, in, e);
    if (vm && on && vm->power != VM_ON)
        vm_power_on(vm);
    else if (vm && off && vm->power != VM_OFF)
        vm_power_off(vm);
    world_unlock(c->w);
    return vm ? 0 : -1;
}

int
verb_guest(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    struct vm *vm;
    struct guest *g;
    int64_t max;

    (void)out;
    world_lock(c->w);
    vm = control_vm(c, in, e);
    if (vm) {
        g = &vm->guest;
        g->ignores_shutdown =
            json_flag(in, "ignores_shutdown", g->ignores_shutdown);
        g->shutdown_ms = (unsigned)json_num(in, "shutdown_ms", g->shutdown_ms);
        guest_stun(vm);
        max = json_num(in, "max_bytes", g->max_bytes);
        /* the buffer of the guest was made for what it has now */
        if (max >= 512 && max < g->max_bytes)
            g->max_bytes = (uint32_t)max;
        g->writes_per_s =
            (unsigned)json_num(in, "writes_per_s", g->writes_per_s);
        g->paused = json_flag(in, "paused", g->paused);
        pthread_cond_broadcast(&g->wake);
        guest_release(vm);
    }
    world_unlock(c->w);
    return vm ? 0 : -1;
}

static int
set_tools(struct vm *vm, const char *tools, struct err *e)
{
    static const char *const words[] = { "notInstalled", "notRunning",
                                         "running" };

    for (int i = 0; i < 3; i++) {
        if (!strcmp(words[i], tools)) {
            vm->tools = (enum vm_tools)i;
            return 0;
        }
    }
    return err_set(e, ERR_USER,
                   "tools must be running, notRunning or "
                   "notInstalled");
}

static int
set_vm(struct vm *vm, const json_t *in, struct err *e)
{
    const char *tools = json_str(in, "tools", NULL);
    const char *name = json_str(in, "name", NULL);
    int64_t wait = json_num(in, "consolidation_ms", -1);

    if (tools && set_tools(vm, tools, e))
        return -1;
    if (name) {
        free(vm->ent->name);
        vm->ent->name = xstrdup(name);
    }
    vm->cbt_supported = json_flag(in, "cbt_supported", vm->cbt_supported);
    if (json_object_get(in, "connection"))
        snprintf(vm->connection, sizeof vm->connection, "%s",
                 json_str(in, "connection", ""));
    if (json_object_get(in, "question"))
        snprintf(vm->question, sizeof vm->question, "%s",
                 json_str(in, "question", ""));
    if (wait >= 0)
        vm->consolidated_at = clock_ms() + wait;
    return 0;
}

int
verb_set(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    struct world *w = c->w;
    struct vm *vm = NULL;
    int rc = 0;

    (void)out;
    world_lock(w);
    w->task_ms = (int)json_num(in, "task_ms", w->task_ms);
    w->area_limit = (unsigned)json_num(in, "area_limit", w->area_limit);
    w->session_idle_s = (int)json_num(in, "session_idle_s", w->session_idle_s);
    w->consolidate_ms = (int)json_num(in, "consolidate_ms", w->consolidate_ms);
    if (json_object_get(in, "vm")) {
        vm = control_vm(c, in, e);
        rc = vm ? set_vm(vm, in, e) : -1;
    }
    world_touch(w);
    world_unlock(w);
    return rc;
}

int
verb_disk(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    int64_t size = json_num(in, "size", 0);
    struct vm_disk *d = NULL;
    struct vm *vm;
    int rc = -1;

    (void)out;
    world_lock(c->w);
    vm = control_vm(c, in, e);
    if (vm)
        d = control_disk(vm, in, e);
    if (d) {
        rc = 0;
        if (json_object_get(in, "mode"))
            snprintf(d->mode, sizeof d->mode, "%s", json_str(in, "mode", ""));
        d->shared = json_flag(in, "sharing", d->shared);
        if (size > 0)
            rc = ldisk_grow(d->disk, (uint64_t)size, e);
        vm->changes++;
        world_touch(c->w);
    }
    world_unlock(c->w);
    return rc;
}

int
verb_latency(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    int64_t us = json_num(in, "us", 0);

    (void)out;
    if (us < 0 || us > 60000000)
        return err_set(e, ERR_USER, "us must be 0 to 60000000");
    lab_nfc_set_latency(c->n, (uint32_t)us);
    return 0;
}

int
verb_link(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    int64_t mbps = json_num(in, "mbps", -1);

    (void)out;
    if (mbps > 1000000)
        return err_set(e, ERR_USER, "mbps must be at most 1000000");
    if (mbps >= 0)
        lab_nfc_set_link(c->n, (uint64_t)mbps << 20);
    if (json_flag(in, "cut", false))
        lab_nfc_cut(c->n);
    return 0;
}

int
verb_session(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    if (!json_flag(in, "drop", false))
        return err_set(e, ERR_USER, "session knows only drop=true");
    vcenter_drop_sessions(c->v);
    (void)out;
    return 0;
}

int
verb_fault(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    (void)out;
    if (json_flag(in, "clear", false)) {
        vcenter_clear_faults(c->v);
        return 0;
    }
    return vcenter_add_fault(c->v, in, e);
}

int
verb_vddk(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    int op = lab_fault_op_parse(json_str(in, "op", ""));
    int64_t nth = json_num(in, "nth", 1);
    struct lab_fault f = { .match = json_str(in, "match", ""),
                           .code = (unsigned)json_num(in, "code", 1),
                           .every = (uint64_t)json_num(in, "every", 1),
                           .count = (uint64_t)json_num(in, "count", 1) };
    int id;

    if (json_flag(in, "clear", false)) {
        lab_nfc_fault_clear(c->n, -1);
        return 0;
    }
    if (op < 0 || nth < 1)
        return err_set(e, ERR_USER, "no such op, or nth is less than 1");
    f.op = (enum lab_fault_op)op;
    f.after = (uint64_t)nth - 1;
    id = lab_nfc_fault(c->n, &f, e);
    if (id < 0)
        return -1;
    json_object_set_new(out, "id", json_integer(id));
    return 0;
}

int
verb_reset_cbt(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    bool one = json_object_get(in, "disk") != NULL;
    struct vm *vm;
    int rc = -1;

    (void)out;
    world_lock(c->w);
    vm = control_vm(c, in, e);
    if (vm && (!one || control_disk(vm, in, e)))
        rc = 0;
    for (size_t i = 0; !rc && i < vm->disks.n; i++) {
        struct vm_disk *d = vm->disks.p[i];

        if (ldisk_tracked(d->disk) &&
            (!one || d->key == (int)json_num(in, "disk", 0)))
            ldisk_track(d->disk, true);
    }
    world_unlock(c->w);
    return rc;
}

/* A snapshot by somebody else: another backup, an operator. */
int
verb_snapshot(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    struct wfault f = { .type = "" };
    struct snap *s = NULL;
    struct vm *vm;

    world_lock(c->w);
    vm = control_vm(c, in, e);
    if (vm && vm->task) {
        err_set(e, ERR_BUSY, "VM %s is busy with a task", vm->ent->name);
    } else if (vm) {
        s = snap_create(vm, json_str(in, "name", "foreign"), "", false, &f);
        if (s)
            json_object_set_new(out, "moref", json_string(s->id));
        else
            err_set(e, ERR_REMOTE, "%s: %s", f.type, f.text);
    }
    world_unlock(c->w);
    return s ? 0 : -1;
}

int
verb_quit(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    (void)c;
    (void)in;
    (void)out;
    if (kill(getpid(), SIGTERM))
        return err_set(e, ERR_BUG, "cannot signal myself");
    return 0;
}
