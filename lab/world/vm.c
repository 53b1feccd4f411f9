/* One virtual machine: lookups, power, the state of change tracking. */
#include "lab/world/world.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

void
kvs_fini(struct kvs *kvs)
{
    for (size_t i = 0; i < kvs->n; i++) {
        free(kvs->p[i].key);
        free(kvs->p[i].value);
    }
    vec_fini(kvs);
}

static void
free_disk(struct vm_disk *d)
{
    ldisk_free(d->disk);
    vec_fini(&d->versions);
    vec_fini(&d->orphans);
    free(d);
}

void
vm_free(struct vm *vm)
{
    if (!vm)
        return;
    for (size_t i = 0; i < vm->snaps.n; i++)
        snap_free(vm->snaps.p[i]);
    vec_fini(&vm->snaps);
    for (size_t i = 0; i < vm->disks.n; i++)
        free_disk(vm->disks.p[i]);
    vec_fini(&vm->disks);
    vec_fini(&vm->nics);
    kvs_fini(&vm->extra);
    pthread_mutex_destroy(&vm->guest.stun);
    pthread_cond_destroy(&vm->guest.wake);
    free(vm->dir);
    free(vm->guest_id);
    free(vm->guest_name);
    free(vm->version);
    free(vm->firmware);
    free(vm->annotation);
    free(vm);
}

struct vm *
world_vm(const struct world *w, const char *name_or_id)
{
    for (size_t i = 0; i < w->vms.n; i++) {
        struct vm *vm = w->vms.p[i];

        if (!strcmp(vm->ent->id, name_or_id) ||
            !strcmp(vm->ent->name, name_or_id))
            return vm;
    }
    return NULL;
}

struct vm_disk *
vm_disk(const struct vm *vm, int key)
{
    for (size_t i = 0; i < vm->disks.n; i++)
        if (vm->disks.p[i]->key == key)
            return vm->disks.p[i];
    return NULL;
}

const char *
vm_power_name(enum vm_power p)
{
    static const char *const names[] = { "poweredOff", "poweredOn",
                                         "suspended" };

    return names[p];
}

void
vm_extra_set(struct vm *vm, const char *key, const char *value)
{
    size_t i = 0;

    while (i < vm->extra.n && strcmp(vm->extra.p[i].key, key))
        i++;
    if (i == vm->extra.n)
        vec_push(&vm->extra, (struct kv){ xstrdup(key), NULL });
    free(vm->extra.p[i].value);
    vm->extra.p[i].value = xstrdup(value);
}

bool
vm_disk_freezes(const struct vm_disk *d)
{
    return !str_starts(d->mode, "independent_") && d->rdm != RDM_PHYSICAL;
}

bool
vm_disk_tracks(const struct vm_disk *d)
{
    return vm_disk_freezes(d) && !d->shared &&
           !strcmp(d->shared_bus, "noSharing");
}

void
vm_disk_path(const struct vm *vm, const struct vm_disk *d, unsigned version,
             char *out, size_t n)
{
    char file[256];

    ldisk_file(d->disk, version, file, sizeof file);
    snprintf(out, n, "[%s] %s/%s", vm->datastore->name, vm->dir, file);
}

void
vm_apply_cbt(struct vm *vm)
{
    if (vm->cbt_active == vm->cbt_flag)
        return;
    vm->cbt_active = vm->cbt_flag;
    for (size_t i = 0; i < vm->disks.n; i++)
        if (vm_disk_tracks(vm->disks.p[i]))
            ldisk_track(vm->disks.p[i]->disk, vm->cbt_active);
}

void
vm_set_cbt(struct vm *vm, bool on)
{
    static const char *const bus[] = { "scsi", "sata", "nvme", "ide" };
    const char *value = on ? "TRUE" : "FALSE";
    char key[64];

    vm->cbt_flag = on;
    vm_extra_set(vm, "ctkEnabled", value);
    for (size_t i = 0; i < vm->disks.n; i++) {
        const struct vm_disk *d = vm->disks.p[i];

        if (!vm_disk_tracks(d))
            continue;
        snprintf(key, sizeof key, "%s%d:%d.ctkEnabled", bus[d->bus], d->bus_no,
                 d->unit);
        vm_extra_set(vm, key, value);
    }
}

bool
vm_consolidation_needed(const struct vm *vm)
{
    for (size_t i = 0; i < vm->disks.n; i++)
        if (vm->disks.p[i]->orphans.n)
            return true;
    return clock_ms() < vm->consolidated_at;
}

void
vm_power_on(struct vm *vm)
{
    vm->power = VM_ON;
    vm->booted = clock_wall_ms();
    if (vm->tools == TOOLS_STOPPED)
        vm->tools = TOOLS_RUNNING;
    vm_apply_cbt(vm);
    guest_run(vm, true);
    world_touch(vm->w);
}

void
vm_power_off(struct vm *vm)
{
    guest_run(vm, false);
    vm->power = VM_OFF;
    vm->shutting_down = false;
    if (vm->tools == TOOLS_RUNNING)
        vm->tools = TOOLS_STOPPED;
    world_touch(vm->w);
}

static void *
shutdown_main(void *arg)
{
    struct vm *vm = arg;
    unsigned ms;

    world_lock(vm->w);
    ms = vm->guest.shutdown_ms;
    world_unlock(vm->w);
    world_sleep(vm->w, ms);
    guest_last_writes(vm);
    world_lock(vm->w);
    if (vm->shutting_down)
        vm_power_off(vm);
    world_thread_done(vm->w);
    world_unlock(vm->w);
    return NULL;
}

int
vm_shutdown_guest(struct vm *vm, struct wfault *f)
{
    if (vm->power != VM_ON) {
        wfault_set(f, "InvalidPowerState",
                   "The attempted operation cannot be performed in the "
                   "current state (Powered off).");
        wfault_field(f, "requestedState", NULL, "poweredOn");
        wfault_field(f, "existingState", NULL, vm_power_name(vm->power));
        return -1;
    }
    if (vm->tools != TOOLS_RUNNING)
        return wfault_set(f, "ToolsUnavailable",
                          "Cannot complete operation because VMware Tools is "
                          "not running in this virtual machine.");
    if (vm->guest.ignores_shutdown || vm->shutting_down)
        return 0;
    vm->shutting_down = true;
    if (world_thread(vm->w, shutdown_main, vm)) {
        vm->shutting_down = false;
        return wfault_system(f, "no more threads");
    }
    return 0;
}
