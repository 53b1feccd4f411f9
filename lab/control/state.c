/* The verb "world": all of the state that tests may look at. */
#include <string.h>

#include "lab/control/inside.h"

static json_t *
disk_state(struct vm *vm, struct vm_disk *d)
{
    char path[512], id[LDISK_CHANGE_MAX];
    json_t *versions = json_array();

    for (size_t i = 0; i < d->versions.n; i++) {
        vm_disk_path(vm, d, d->versions.p[i], path, sizeof path);
        ldisk_change_id(d->disk, d->versions.p[i], id);
        json_array_append_new(versions, json_pack("{s:i, s:s, s:s}", "version",
                                                  (int)d->versions.p[i], "path",
                                                  path, "change_id", id));
    }
    vm_disk_path(vm, d, LDISK_NOW, path, sizeof path);
    return json_pack(
        "{s:i, s:s, s:I, s:s, s:s, s:s, s:b, s:o, s:i}", "key", d->key, "label",
        d->label, "size", (json_int_t)ldisk_size(d->disk), "path", path, "mode",
        d->mode, "uuid", d->uuid, "tracked", ldisk_tracked(d->disk), "versions",
        versions, "orphans", (int)d->orphans.n);
}

static json_t *
snap_state(const struct snap *s)
{
    json_t *disks = json_array();

    for (size_t i = 0; i < s->disks.n; i++)
        if (s->disks.p[i].frozen)
            json_array_append_new(
                disks, json_pack("{s:i, s:i}", "key", s->disks.p[i].disk->key,
                                 "version", (int)s->disks.p[i].version));
    return json_pack("{s:s, s:s, s:s, s:s*, s:b, s:o}", "moref", s->id, "name",
                     s->name, "description", s->description, "parent",
                     s->parent ? s->parent->id : NULL, "quiesced", s->quiesced,
                     "disks", disks);
}

static json_t *
guest_state(struct vm *vm)
{
    struct guest *g = &vm->guest;
    json_t *o;

    guest_stun(vm);
    o = json_pack("{s:b, s:b, s:i, s:I, s:I, s:I, s:s}", "running", g->run,
                  "paused", g->paused, "writes_per_s", (int)g->writes_per_s,
                  "writes", (json_int_t)g->writes, "bytes",
                  (json_int_t)g->bytes, "zero_writes",
                  (json_int_t)g->zero_writes, "failed", g->failed);
    guest_release(vm);
    return o;
}

static json_t *
vm_state(struct vm *vm)
{
    json_t *disks = json_array(), *snaps = json_array();
    struct str path = STR_INIT;
    json_t *o;

    for (size_t i = 0; i < vm->disks.n; i++)
        json_array_append_new(disks, disk_state(vm, vm->disks.p[i]));
    for (size_t i = 0; i < vm->snaps.n; i++)
        json_array_append_new(snaps, snap_state(vm->snaps.p[i]));
    ent_path(vm->ent, &path);
    o = json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:b, s:s*, s:o, s:o, s:o}", "name",
        vm->ent->name, "moref", vm->ent->id, "path", str_text(&path), "power",
        vm_power_name(vm->power), "cbt", vm->cbt_flag, "cbt_active",
        vm->cbt_active, "consolidation_needed", vm_consolidation_needed(vm),
        "tools_running", vm->tools == TOOLS_RUNNING, "task",
        vm->task ? vm->task->method : NULL, "disks", disks, "snapshots", snaps,
        "guest", guest_state(vm));
    str_fini(&path);
    return o;
}

static json_t *
task_counts(const struct world *w)
{
    static const enum task_state states[] = { TASK_QUEUED, TASK_RUNNING,
                                              TASK_SUCCESS, TASK_ERROR };
    json_t *o = json_object();

    json_object_set_new(o, "started",
                        json_integer((json_int_t)w->tasks_started));
    for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
        int n = 0;

        for (size_t i = 0; i < w->tasks.n; i++)
            n += w->tasks.p[i]->state == states[s];
        json_object_set_new(o, task_state_name(states[s]), json_integer(n));
    }
    return o;
}

int
verb_world(struct control *c, const json_t *in, json_t *out, struct err *e)
{
    json_t *vms = json_array(), *violations = json_array();
    struct lab_nfc_stats s;

    (void)in;
    (void)e;
    lab_nfc_stats(c->n, &s);
    json_object_set_new(out, "sessions", json_integer(vcenter_sessions(c->v)));
    json_object_set_new(out, "requests", vcenter_requests(c->v));
    json_object_set_new(
        out, "handles",
        json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:I}", "open",
                  (int)s.open_now, "open_max", (int)s.open_max, "opens",
                  (json_int_t)s.opens, "reads", (json_int_t)s.reads, "queries",
                  (json_int_t)s.queries, "bytes", (json_int_t)s.bytes,
                  "in_flight_max", (json_int_t)s.in_flight_max));
    world_lock(c->w);
    for (size_t i = 0; i < c->w->vms.n; i++)
        json_array_append_new(vms, vm_state(c->w->vms.p[i]));
    for (unsigned i = 0; i < c->w->n_violations; i++)
        json_array_append_new(
            violations, json_pack("{s:s, s:s}", "vm", c->w->violations[i].vm,
                                  "what", c->w->violations[i].what));
    json_object_set_new(out, "tasks", task_counts(c->w));
    world_unlock(c->w);
    json_object_set_new(out, "vms", vms);
    json_object_set_new(out, "violations", violations);
    return 0;
}
