/* Virtual hardware: controllers, disks with their chain of files, NICs. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lab/vcenter/inside.h"

#define PCI_KEY 100

static void
describe(struct val *d, const char *label, const char *summary)
{
    struct val *i = val_object("Description");

    val_str(i, "label", label);
    val_str(i, "summary", summary);
    val_put(d, "deviceInfo", i);
}

static void
fixed_controller(struct val *hw, const char *type, int key, int bus,
                 const char *label)
{
    struct val *d = val_object(type);

    val_int(d, "key", key);
    describe(d, label, label);
    val_int(d, "busNumber", bus);
    val_put(hw, "device", d);
}

static void
disk_controller(struct val *hw, const struct vm *vm, const struct vm_disk *of)
{
    struct val *c = val_object(of->controller);
    char label[64];

    snprintf(label, sizeof label, "%s controller %d",
             of->bus == BUS_SCSI   ? "SCSI"
             : of->bus == BUS_SATA ? "SATA"
             : of->bus == BUS_NVME ? "NVME"
                                   : "IDE",
             of->bus_no);
    val_int(c, "key", of->controller_key);
    describe(c, label, label);
    if (of->bus != BUS_IDE) {
        val_int(c, "controllerKey", PCI_KEY);
        val_int(c, "unitNumber", 3 + of->bus_no);
    }
    val_int(c, "busNumber", of->bus_no);
    for (size_t i = 0; i < vm->disks.n; i++)
        if (vm->disks.p[i]->controller_key == of->controller_key)
            val_put(c, "device", val_integer(vm->disks.p[i]->key));
    if (of->bus == BUS_SCSI) {
        val_bool(c, "hotAddRemove", true);
        val_str(c, "sharedBus", of->shared_bus);
        val_int(c, "scsiCtlrUnitNumber", 7);
    }
    val_put(hw, "device", c);
}

static void
controllers(struct val *hw, const struct vm *vm)
{
    fixed_controller(hw, "VirtualIDEController", 200, 0, "IDE 0");
    fixed_controller(hw, "VirtualIDEController", 201, 1, "IDE 1");
    for (size_t i = 0; i < vm->disks.n; i++) {
        const struct vm_disk *d = vm->disks.p[i];
        size_t j = 0;

        while (vm->disks.p[j]->controller_key != d->controller_key)
            j++;
        if (j == i && d->bus != BUS_IDE)
            disk_controller(hw, vm, d);
    }
}

/* The number of versions of the disk below (older than) this one. */
static size_t
versions_below(const struct vm_disk *d, unsigned version)
{
    size_t n = 0;

    for (size_t i = 0; i < d->versions.n; i++)
        n += version == LDISK_NOW || d->versions.p[i] < version;
    return n;
}

static struct val *
backing(const struct vm *vm, const struct vm_disk *d, unsigned version,
        const char *mode, bool with_id)
{
    bool rdm = d->rdm != RDM_NONE;
    struct val *b = val_object(rdm ? "VirtualDiskRawDiskMappingVer1BackingInfo"
                                   : "VirtualDiskFlatVer2BackingInfo");
    size_t below = versions_below(d, version);
    char path[512], change[LDISK_CHANGE_MAX] = "";

    vm_disk_path(vm, d, version, path, sizeof path);
    val_str(b, "fileName", path);
    val_link(b, "datastore", "Datastore", vm->datastore->id);
    val_str(b, "diskMode", mode);
    if (rdm) {
        val_str(b, "lunUuid", d->uuid);
        val_str(b, "deviceName", "vml.0200000000lab");
        val_str(b, "compatibilityMode",
                d->rdm == RDM_PHYSICAL ? "physicalMode" : "virtualMode");
    } else {
        val_bool(b, "split", false);
        val_bool(b, "writeThrough", false);
        val_bool(b, "thinProvisioned", d->thin);
        val_bool(b, "digestEnabled", false);
    }
    val_str(b, "uuid", d->uuid);
    val_str(b, "contentId", "fffffffe");
    if (with_id && version != LDISK_NOW)
        ldisk_change_id(d->disk, version, change);
    if (change[0])
        val_str(b, "changeId", change);
    if (below) {
        val_put(b, "parent",
                backing(vm, d, d->versions.p[below - 1], mode, false));
        val_str(b, "deltaDiskFormat", "redoLogFormat");
    }
    val_str(b, "sharing", d->shared ? "sharingMultiWriter" : "sharingNone");
    return b;
}

static void
disk(struct val *hw, const struct vm *vm, const struct vm_disk *d,
     const struct snap_disk *frozen)
{
    struct val *v = val_object("VirtualDisk");
    uint64_t size = frozen ? frozen->size : ldisk_size(d->disk);
    char summary[64];

    snprintf(summary, sizeof summary, "%" PRIu64 " KB", size / 1024);
    val_int(v, "key", d->key);
    describe(v, d->label, summary);
    val_put(v, "backing",
            backing(vm, d, frozen ? frozen->version : LDISK_NOW,
                    frozen ? frozen->mode : d->mode, frozen != NULL));
    val_int(v, "controllerKey", d->controller_key);
    val_int(v, "unitNumber", d->unit);
    val_int(v, "capacityInKB", (int64_t)(size / 1024));
    val_int(v, "capacityInBytes", (int64_t)size);
    val_put(hw, "device", v);
}

static struct val *
nic_backing(const struct vm *vm, const struct vm_nic *n)
{
    struct val *b, *port;
    char uuid[40];

    if (n->network->kind == ENT_NETWORK) {
        b = val_object("VirtualEthernetCardNetworkBackingInfo");
        val_str(b, "deviceName", n->network->name);
        val_bool(b, "useAutoDetect", false);
        val_link(b, "network", "Network", n->network->id);
        return b;
    }
    world_uuid(vm->w, "50", "dvs", uuid);
    b = val_object("VirtualEthernetCardDistributedVirtualPortBackingInfo");
    port = val_object("DistributedVirtualSwitchPortConnection");
    val_str(port, "switchUuid", uuid);
    val_str(port, "portgroupKey", n->network->id);
    val_str(port, "portKey", "1");
    val_put(b, "port", port);
    return b;
}

static void
nic(struct val *hw, const struct vm *vm, const struct vm_nic *n)
{
    struct val *v = val_object(n->type),
               *c = val_object("VirtualDeviceConnectInfo");
    char label[32];

    snprintf(label, sizeof label, "Network adapter %d", n->key - 3999);
    val_int(v, "key", n->key);
    describe(v, label, n->network->name);
    val_put(v, "backing", nic_backing(vm, n));
    val_bool(c, "startConnected", true);
    val_bool(c, "allowGuestControl", true);
    val_bool(c, "connected", vm->power == VM_ON);
    val_str(c, "status", "ok");
    val_put(v, "connectable", c);
    val_int(v, "controllerKey", PCI_KEY);
    val_int(v, "unitNumber", n->key - 4000 + 7);
    val_str(v, "addressType", "assigned");
    val_str(v, "macAddress", n->mac);
    val_bool(v, "wakeOnLanEnabled", true);
    val_put(hw, "device", v);
}

/* The order of disks in a snapshot differs from that in the VM: clients must
 * match them by key. */
void
vm_devices(struct val *hw, const struct vm *vm, const struct snap *s)
{
    controllers(hw, vm);
    for (size_t i = 0; i < vm->disks.n && !s; i++)
        disk(hw, vm, vm->disks.p[i], NULL);
    for (size_t i = s ? s->disks.n : 0; i-- > 0;)
        disk(hw, vm, s->disks.p[i].disk, &s->disks.p[i]);
    for (size_t i = 0; i < vm->nics.n; i++)
        nic(hw, vm, &vm->nics.p[i]);
}
