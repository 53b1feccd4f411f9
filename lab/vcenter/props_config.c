/* VirtualMachineConfigInfo: of a VM now, or as a snapshot froze it. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lab/vcenter/inside.h"

static struct val *
hardware(const struct vm *vm, const struct snap *s)
{
    struct val *h = val_object("VirtualHardware");

    val_int(h, "numCPU", vm->cpus);
    val_int(h, "numCoresPerSocket", 1);
    val_int(h, "memoryMB", vm->memory_mb);
    val_bool(h, "virtualICH7MPresent", false);
    val_bool(h, "virtualSMCPresent", false);
    vm_devices(h, vm, s);
    return h;
}

static struct val *
files(const struct vm *vm)
{
    struct val *f = val_object("VirtualMachineFileInfo");
    char path[512];

    snprintf(path, sizeof path, "[%s] %s/", vm->datastore->name, vm->dir);
    val_str(f, "snapshotDirectory", path);
    val_str(f, "suspendDirectory", path);
    val_str(f, "logDirectory", path);
    snprintf(path, sizeof path, "[%s] %s/%s.vmx", vm->datastore->name, vm->dir,
             vm->dir);
    val_str(f, "vmPathName", path);
    return f;
}

static void
options(struct val *c, const struct vm *vm)
{
    struct val *o;

    for (size_t i = 0; i < vm->extra.n; i++) {
        o = val_object("OptionValue");
        val_str(o, "key", vm->extra.p[i].key);
        val_any(o, "value", "string", vm->extra.p[i].value);
        val_put(c, "extraConfig", o);
    }
}

static void
store_url(struct val *c, const struct vm *vm)
{
    struct val *u = val_object("VirtualMachineConfigInfoDatastoreUrlPair");
    char uuid[40], url[80];

    world_uuid(vm->w, "", vm->datastore->id, uuid);
    snprintf(url, sizeof url, "ds:///vmfs/volumes/%s/", uuid);
    val_str(u, "name", vm->datastore->name);
    val_str(u, "url", url);
    val_put(c, "datastoreUrl", u);
}

static void
encryption(struct val *c)
{
    struct val *k = val_object("CryptoKeyId"), *p = val_object("KeyProviderId");

    val_str(p, "id", "lab-kms");
    val_str(k, "keyId", "lab-key-1");
    val_put(k, "providerId", p);
    val_put(c, "keyId", k);
}

static struct val *
boot_options(const struct vm *vm)
{
    struct val *b = val_object("VirtualMachineBootOptions");

    val_int(b, "bootDelay", 0);
    val_bool(b, "enterBIOSSetup", false);
    val_bool(b, "efiSecureBootEnabled", vm->secure_boot);
    val_bool(b, "bootRetryEnabled", false);
    val_int(b, "bootRetryDelay", 10000);
    return b;
}

struct val *
vm_config(const struct vm *vm, const struct snap *s)
{
    struct val *c = val_object("VirtualMachineConfigInfo"), *power;
    char version[64];

    snprintf(version, sizeof version, "2026-01-01T00:00:00.%06uZ",
             s ? (unsigned)s->num : vm->changes);
    val_str(c, "changeVersion", version);
    val_time(c, "modified", 0);
    val_str(c, "name", s ? s->vm_name : vm->ent->name);
    val_str(c, "guestFullName", vm->guest_name);
    val_str(c, "version", vm->version);
    val_str(c, "uuid", vm->uuid);
    val_str(c, "instanceUuid", vm->instance_uuid);
    val_bool(c, "template", vm->template);
    val_str(c, "guestId", vm->guest_id);
    val_str(c, "alternateGuestName", "");
    val_str(c, "annotation", vm->annotation);
    val_put(c, "files", files(vm));
    val_put(c, "flags", val_object("VirtualMachineFlagInfo"));
    power = val_object("VirtualMachineDefaultPowerOpInfo");
    val_str(power, "powerOffType", "soft");
    val_put(c, "defaultPowerOps", power);
    val_put(c, "hardware", hardware(vm, s));
    options(c, vm);
    store_url(c, vm);
    val_put(c, "bootOptions", boot_options(vm));
    val_bool(c, "changeTrackingEnabled", s ? s->cbt_flag : vm->cbt_flag);
    val_str(c, "firmware", vm->firmware);
    if (vm->encrypted)
        encryption(c);
    return c;
}
