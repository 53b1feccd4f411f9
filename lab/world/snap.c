/* Snapshots: freezing all disks of a VM at once, removal, consolidation. */
#include "lab/world/world.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define SNAP_LEVELS_MAX 32

void
snap_free(struct snap *s)
{
    if (!s)
        return;
    free(s->name);
    free(s->description);
    free(s->vm_name);
    vec_fini(&s->disks);
    free(s);
}

struct snap *
world_snap(const struct world *w, const char *id)
{
    for (size_t v = 0; v < w->vms.n; v++)
        for (size_t i = 0; i < w->vms.p[v]->snaps.n; i++)
            if (!strcmp(w->vms.p[v]->snaps.p[i]->id, id))
                return w->vms.p[v]->snaps.p[i];
    return NULL;
}

struct snap_disk *
snap_disk(const struct snap *s, int key)
{
    for (size_t i = 0; i < s->disks.n; i++)
        if (s->disks.p[i].disk->key == key)
            return &s->disks.p[i];
    return NULL;
}

static int
may_snapshot(const struct vm *vm, bool quiesce, struct wfault *f)
{
    unsigned levels = 0;

    for (const struct snap *s = vm->current; s; s = s->parent)
        levels++;
    if (levels >= SNAP_LEVELS_MAX)
        return wfault_set(f, "TooManySnapshotLevels",
                          "Snapshot hierarchy is too deep.");
    for (size_t i = 0; i < vm->disks.n; i++) {
        const struct vm_disk *d = vm->disks.p[i];

        if (d->shared || strcmp(d->shared_bus, "noSharing"))
            return wfault_set(f, "SnapshotIncompatibleDeviceInVm",
                              "Taking the snapshot is not supported: disk %d "
                              "is shared.",
                              d->key);
    }
    if (quiesce && vm->power == VM_ON && vm->tools != TOOLS_RUNNING)
        return wfault_set(f, "ToolsUnavailable",
                          "Cannot complete operation because VMware Tools is "
                          "not running in this virtual machine.");
    return 0;
}

/* All disks at one moment: the guest is stunned. */
static int
freeze(struct vm *vm, struct snap *s, struct wfault *f)
{
    struct err e = ERR_INIT;
    int rc = 0;

    guest_stun(vm);
    for (size_t i = 0; !rc && i < vm->disks.n; i++) {
        struct vm_disk *d = vm->disks.p[i];
        struct snap_disk sd = { .disk = d, .size = ldisk_size(d->disk) };

        snprintf(sd.mode, sizeof sd.mode, "%s", d->mode);
        sd.frozen = vm_disk_freezes(d);
        if (sd.frozen) {
            rc = ldisk_snapshot(d->disk, &sd.version, &e);
            if (!rc)
                vec_push(&d->versions, sd.version);
        }
        if (!rc)
            vec_push(&s->disks, sd);
    }
    guest_release(vm);
    return rc ? wfault_system(f, e.msg) : 0;
}

static void
orphan_all(struct snap *s)
{
    for (size_t i = 0; i < s->disks.n; i++)
        if (s->disks.p[i].frozen)
            vec_push(&s->disks.p[i].disk->orphans, s->disks.p[i].version);
}

struct snap *
snap_create(struct vm *vm, const char *name, const char *description,
            bool quiesce, struct wfault *f)
{
    struct snap *s;

    if (may_snapshot(vm, quiesce, f))
        return NULL;
    if (vm_consolidation_needed(vm))
        world_violation(vm->w, vm, "snapshot while consolidation is needed");
    s = xcalloc(1, sizeof *s);
    s->vm = vm;
    if (freeze(vm, s, f)) {
        orphan_all(s);
        snap_free(s);
        return NULL;
    }
    s->num = ++vm->snap_count;
    if (vm->w->esxi)
        snprintf(s->id, sizeof s->id, "%.15s-snapshot-%d", vm->ent->id, s->num);
    else
        snprintf(s->id, sizeof s->id, "snapshot-%u", vm->w->next_id++);
    s->name = xstrdup(name);
    s->description = xstrdup(description);
    s->vm_name = xstrdup(vm->ent->name);
    s->created = clock_wall_ms();
    s->power = vm->power;
    s->quiesced = quiesce;
    s->cbt_flag = vm->cbt_flag;
    s->parent = vm->current;
    vec_push(&vm->snaps, s);
    vm->current = s;
    vm->changes++;
    world_touch(vm->w);
    return s;
}

static bool
is_below(const struct snap *s, const struct snap *top)
{
    while (s && s != top)
        s = s->parent;
    return s != NULL;
}

/* Out of the tree; its versions are nobody's from now on. */
static void
detach(struct vm *vm, struct snap *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < vm->snaps.n; i++) {
        struct snap *o = vm->snaps.p[i];

        if (o == s)
            continue;
        if (o->parent == s)
            o->parent = s->parent;
        vm->snaps.p[kept++] = o;
    }
    vm->snaps.n = kept;
    if (vm->current == s)
        vm->current = s->parent;
    orphan_all(s);
    snap_free(s);
}

int
snap_remove(struct snap *s, bool children, bool consolidate, struct wfault *f)
{
    struct vm *vm = s->vm;
    struct world *w = vm->w;

    world_lock(w);
    for (size_t i = vm->snaps.n; children && i-- > 0;) {
        struct snap *o = vm->snaps.p[i];

        if (o != s && is_below(o, s))
            detach(vm, o);
    }
    detach(vm, s);
    vm->changes++;
    world_touch(w);
    world_unlock(w);
    return consolidate ? snap_consolidate(vm, f) : 0;
}

static void
forget(struct versions *v, unsigned version)
{
    size_t kept = 0;

    for (size_t i = 0; i < v->n; i++)
        if (v->p[i] != version)
            v->p[kept++] = v->p[i];
    v->n = kept;
}

/* The task has the VM: nobody else touches the lists, but readers need the
 * lock to see them change. */
static void
drop_orphans(struct vm *vm, struct vm_disk *d, struct err *e)
{
    for (size_t i = 0; i < d->orphans.n;) {
        unsigned version = d->orphans.p[i];

        if (ldisk_drop(d->disk, version, e)) {
            i++;
            continue;
        }
        world_lock(vm->w);
        forget(&d->orphans, version);
        forget(&d->versions, version);
        world_unlock(vm->w);
    }
}

static int
consolidation_fault(struct vm *vm, const struct err *e, struct wfault *f)
{
    char path[512] = "";

    for (size_t i = 0; i < vm->disks.n; i++)
        if (vm->disks.p[i]->orphans.n)
            vm_disk_path(vm, vm->disks.p[i], vm->disks.p[i]->orphans.p[0], path,
                         sizeof path);
    if (e->class == ERR_BUSY) {
        wfault_set(f, "FileLocked",
                   "Unable to access file %.150s since it is locked", path);
        wfault_field(f, "file", NULL, path);
        return -1;
    }
    return wfault_system(f, e->msg);
}

int
snap_consolidate(struct vm *vm, struct wfault *f)
{
    struct world *w = vm->w;
    struct err e = ERR_INIT;
    int rc = 0;

    for (size_t i = 0; i < vm->disks.n; i++)
        drop_orphans(vm, vm->disks.p[i], &e);
    world_lock(w);
    if (e.class != ERR_NONE) {
        rc = consolidation_fault(vm, &e, f);
    } else {
        vm->consolidated_at = clock_ms() + w->consolidate_ms;
        vm_apply_cbt(vm);
    }
    vm->changes++;
    world_touch(w);
    world_unlock(w);
    return rc;
}
