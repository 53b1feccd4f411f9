/* What of the source decides whether and how it can be migrated. */
#include "migrate/machine.h"

#include <inttypes.h>
#include <string.h>

static int
refuse_disk(const struct vs_disk *d, const char *why, struct err *e)
{
    return err_set(e, ERR_USER,
                   "disk %d (%s, %s) %s; remove it from the VM or migrate the "
                   "VM another way",
                   d->key, d->label, d->address, why);
}

static int
check_disk(const struct vs_disk *d, struct err *e)
{
    if (str_starts(d->mode, "independent"))
        return refuse_disk(d,
                           "is independent: snapshots leave it out, so it "
                           "cannot be copied while the VM runs",
                           e);
    if (!strcmp(d->rdm, "physicalMode") ||
        !strcmp(d->backing, "VirtualDiskRawDiskVer2BackingInfo"))
        return refuse_disk(d, "is a raw device in physical mode", e);
    if (!strcmp(d->backing, "VirtualDiskLocalPMemBackingInfo"))
        return refuse_disk(d, "is persistent memory", e);
    if (!strcmp(d->sharing, "sharingMultiWriter") ||
        (*d->shared_bus && strcmp(d->shared_bus, "noSharing")))
        return refuse_disk(d, "is shared with other VMs", e);
    if (!d->capacity || d->capacity % DISK_SECTOR ||
        d->capacity > DISK_SIZE_MAX)
        return refuse_disk(d, "has a size that cannot be", e);
    return 0;
}

int
discover_check(const struct machine *m, struct err *e)
{
    const struct vs_vm *vm = &m->vm;

    if (strcmp(vm->connection, "connected"))
        return err_set(e, ERR_REMOTE,
                       "the VM is %s in vSphere; bring its host back first",
                       vm->connection);
    if (vm->question)
        return err_set(e, ERR_BUSY, "the VM waits for an answer in vSphere: %s",
                       vm->question);
    if (vm->fault_tolerant)
        return err_set(e, ERR_USER,
                       "the VM is fault tolerant; turn that off first");
    if (!vm->cbt_supported)
        return err_set(e, ERR_USER,
                       "changed block tracking is not supported by this VM "
                       "(hardware %s; 7 or later is needed)",
                       vm->version);
    if (!vm->disks.n)
        return err_set(e, ERR_USER, "the VM has no disks");
    for (size_t i = 0; i < vm->disks.n; i++)
        if (check_disk(&vm->disks.p[i], e))
            return -1;
    return 0;
}

/* The unit number, as the first engine named disks, where that is enough. */
static char *
disk_name(const struct vs_disks *all, const struct vs_disk *d)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->p[i].key != d->key && all->p[i].unit == d->unit)
            return xstrdup(d->address);
    return xasprintf("%d", d->unit);
}

static void
add_disks(struct machine *m)
{
    const struct vs_disks *all = &m->vm.disks;

    for (size_t i = 0; i < all->n; i++) {
        const struct vs_disk *s = &all->p[i];
        struct disk_record d = {
            .name = disk_name(all, s),
            .key = s->key,
            .unit = s->unit,
            .address = xstrdup(s->address),
            .label = xstrdup(s->label),
            .uuid = xstrdup(s->uuid),
            .capacity = (int64_t)s->capacity,
            .round = -1,
            .eta_seconds = -1,
        };

        record_set(&d.stage, "");
        record_set(&d.target, "");
        record_set(&d.source_path, s->path);
        record_set(&d.change_id, "");
        record_set(&d.marked_change_id, "");
        record_set(&d.plan, "");
        record_set(&d.doubt, "");
        record_set(&d.paused, "");
        record_set(&d.waiting, "");
        vec_push(&m->r->disks, d);
    }
}

static int
same_disk(const struct disk_record *d, const struct vs_disk *s, struct err *e)
{
    if (!s)
        return err_set(
            e, ERR_DAMAGED,
            "disk %" PRId64 " (%s) is no longer part of the VM; "
            "move the VM's directory below control_dir and the replicas away to start "
            "over",
            d->key, d->label);
    if ((uint64_t)d->capacity != s->capacity)
        return err_set(e, ERR_DAMAGED,
                       "disk %" PRId64 " (%s) was resized from %" PRId64
                       " to %" PRIu64 " bytes; move the VM's directory below "
                       "control_dir and the replica away to start over",
                       d->key, d->label, d->capacity, s->capacity);
    if (*d->uuid && strcmp(d->uuid, s->uuid))
        return err_set(e, ERR_DAMAGED,
                       "disk %" PRId64 " (%s) was replaced by another one; "
                       "move the VM's directory below control_dir and the "
                       "replica away to start over",
                       d->key, d->label);
    return 0;
}

static const struct vs_disk *
find_disk(const struct vs_disks *all, int64_t key)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->p[i].key == key)
            return &all->p[i];
    return NULL;
}

static int
check_spec_disks(const struct machine *m, struct err *e)
{
    const struct spec *s = m->o->spec;

    for (size_t i = 0; i < s->disks.n; i++) {
        defer(str_fini) struct str known = STR_INIT;
        bool found = false;

        for (size_t j = 0; j < m->r->disks.n; j++) {
            const struct disk_record *d = &m->r->disks.p[j];
            defer_free char *key = xasprintf("%" PRId64, d->key);
            const char *want = s->disks.p[i].key;

            found |= !strcmp(want, d->name) || !strcmp(want, d->address) ||
                     !strcmp(want, key);
            str_addf(&known, "%s%s", known.n ? ", " : "", d->name);
        }
        if (!found)
            return err_set(e, ERR_USER,
                           "%s:%d: disks: the VM has no disk '%s'; it has %s",
                           s->file, s->disks.p[i].line, s->disks.p[i].key,
                           str_text(&known));
    }
    return 0;
}

int
discover_disks(struct machine *m, struct err *e)
{
    if (!m->r->disks.n)
        add_disks(m);
    for (size_t i = 0; i < m->r->disks.n; i++) {
        struct disk_record *d = &m->r->disks.p[i];

        if (same_disk(d, find_disk(&m->vm.disks, d->key), e))
            return -1;
    }
    for (size_t i = 0; i < m->vm.disks.n; i++)
        if (!record_disk(m->r, m->vm.disks.p[i].key))
            return err_set(e, ERR_DAMAGED,
                           "disk %d (%s) was added to the VM after the "
                           "migration began; move the VM's directory below "
                           "control_dir and its replicas away to start over",
                           m->vm.disks.p[i].key, m->vm.disks.p[i].label);
    return check_spec_disks(m, e);
}

static const struct {
    const char *prefix, *bus;
} buses[] = {
    { "scsi", "scsi" },
    { "sata", "sata" },
    { "nvme", "nvme" },
    { "ide", "ide" },
};

static const char *
bus_of(const char *address)
{
    for (size_t i = 0; i < sizeof buses / sizeof *buses; i++)
        if (str_starts(address, buses[i].prefix))
            return buses[i].bus;
    return "scsi";
}

static void
target_disk(struct machine *m, bool boot)
{
    for (size_t i = 0; i < m->found.disks.n; i++) {
        const struct vs_disk *s = &m->found.disks.p[i];

        if ((s->key == m->found.boot_disk_key) != boot ||
            !record_disk(m->r, s->key)) /* added since: the round refuses */
            continue;
        vec_push(&m->target.disks, (struct cloud_disk){
                                       .name = record_disk(m->r, s->key)->name,
                                       .key = s->key,
                                       .size = s->capacity,
                                       .bus = bus_of(s->address),
                                       .model = s->controller,
                                       .controller = s->bus > 0 ? s->bus : 0,
                                       .boot = boot,
                                   });
    }
}

int
discover_target(struct machine *m, struct err *e)
{
    const struct vs_vm *vm = &m->found;
    struct cloud_vm *t = &m->target;

    t->disks.n = t->nics.n = 0; /* of a try before this one */
    vs_vm_fini(&m->found);
    memset(&m->found, 0, sizeof m->found);
    if (vs_get_vm(m->vs, m->moref, &m->found, e))
        return -1;
    t->name = m->r->vm_name;
    t->moref = m->r->vm_moref;
    t->uuid = vm->uuid;
    t->guest_id = vm->guest_id;
    t->efi = !strcmp(vm->firmware, "efi");
    t->secure_boot = vm->secure_boot;
    t->cpus = vm->cpus;
    t->cores_per_socket = vm->cores_per_socket;
    t->memory_mb = vm->memory_mb;
    target_disk(m, true);
    target_disk(m, false);
    for (size_t i = 0; i < vm->nics.n; i++)
        vec_push(&t->nics, (struct cloud_nic){
                               vm->nics.p[i].label, vm->nics.p[i].mac,
                               vm->nics.p[i].network, vm->nics.p[i].type });
    return 0;
}
