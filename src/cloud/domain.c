/* A libvirt domain that has the source's hardware, so that a guest which was
 * not converted finds the devices it has drivers for. */
#include "cloud/cloud.h"

#include <inttypes.h>
#include <string.h>

/* vSphere's SCSI controllers and what QEMU has for them.  Disks of all others
 * come to SATA: libvirt has no emulated NVMe disk, q35 no IDE, and every guest
 * has an AHCI driver. */
static const struct {
    const char *vsphere, *model;
} scsi_models[] = {
    { "ParaVirtualSCSIController", "vmpvscsi" },
    { "VirtualLsiLogicController", "lsilogic" },
    { "VirtualLsiLogicSASController", "lsisas1068" },
    { "VirtualBusLogicController", "lsilogic" },
};

static const struct {
    const char *vsphere, *model;
} nic_models[] = {
    { "VirtualVmxnet3", "vmxnet3" },
    { "VirtualVmxnet2", "vmxnet3" },
    { "VirtualVmxnet", "vmxnet3" },
    { "VirtualE1000", "e1000" },
    { "VirtualE1000e", "e1000e" },
    { "VirtualPCNet32", "pcnet" },
    { "VirtualSriovEthernetCard", "vmxnet3" },
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* NULL: no SCSI controller. */
static const char *
scsi_model(const char *vsphere)
{
    for (size_t i = 0; i < COUNT(scsi_models); i++)
        if (!strcmp(scsi_models[i].vsphere, vsphere))
            return scsi_models[i].model;
    return NULL;
}

static const char *
nic_model(const char *vsphere)
{
    for (size_t i = 0; i < COUNT(nic_models); i++)
        if (!strcmp(nic_models[i].vsphere, vsphere))
            return nic_models[i].model;
    return "e1000e";
}

static void
add_text(struct str *out, const char *before, const char *text,
         const char *after)
{
    str_add(out, before);
    str_add_xml(out, text);
    str_add(out, after);
}

static void
add_os(struct str *out, const struct cloud_vm *vm)
{
    if (vm->efi) {
        str_add(out, "  <os firmware='efi'>\n");
        str_add(out, "    <type arch='x86_64' machine='q35'>hvm</type>\n");
        str_addf(out,
                 "    <firmware><feature enabled='%s' "
                 "name='secure-boot'/></firmware>\n",
                 vm->secure_boot ? "yes" : "no");
        if (vm->secure_boot)
            str_add(out, "    <loader secure='yes'/>\n");
    } else {
        str_add(out, "  <os>\n");
        str_add(out, "    <type arch='x86_64' machine='q35'>hvm</type>\n");
    }
    str_add(out, "  </os>\n  <features><acpi/><apic/>");
    str_addf(out, "%s</features>\n",
             vm->secure_boot ? "<smm state='on'/>" : "");
}

/* "sda" ... "sdz", "sdaa" ... */
static void
add_device(struct str *out, size_t i)
{
    str_add(out, "sd");
    if (i >= 26)
        str_addc(out, (char)('a' + i / 26 - 1));
    str_addc(out, (char)('a' + i % 26));
}

static void
add_disk(struct str *out, const struct cloud_vm *vm, size_t i,
         enum disk_format format)
{
    const struct cloud_disk *d = &vm->disks.p[i];
    const char *model = scsi_model(d->model);
    int unit = 0;

    for (size_t j = 0; j < i; j++)
        if (!scsi_model(vm->disks.p[j].model) == !model &&
            (!model || vm->disks.p[j].controller == d->controller))
            unit++;
    str_addf(out,
             "    <disk type='file' device='disk'>\n"
             "      <driver name='qemu' type='%s' discard='unmap'/>\n",
             format_names[format]);
    add_text(out, "      <source file='", d->path, "'/>\n");
    str_add(out, "      <target dev='");
    add_device(out, i);
    str_addf(out, "' bus='%s'/>\n", model ? "scsi" : "sata");
    if (d->boot)
        str_add(out, "      <boot order='1'/>\n");
    str_addf(out,
             "      <address type='drive' controller='%d' bus='0' target='0' "
             "unit='%d'/>\n    </disk>\n",
             model ? d->controller : unit / 6, model ? unit : unit % 6);
}

static void
add_controllers(struct str *out, const struct cloud_vm *vm)
{
    for (size_t i = 0; i < vm->disks.n; i++) {
        const struct cloud_disk *d = &vm->disks.p[i];
        const char *model = scsi_model(d->model);
        bool seen = !model;

        for (size_t j = 0; j < i && !seen; j++)
            seen = scsi_model(vm->disks.p[j].model) &&
                   vm->disks.p[j].controller == d->controller;
        if (!seen)
            str_addf(out,
                     "    <controller type='scsi' index='%d' model='%s'/>\n",
                     d->controller, model);
    }
}

static void
add_nic(struct str *out, const struct cloud_nic *nic)
{
    str_add(out, "    <interface type='network'>\n");
    add_text(out, "      <mac address='", nic->mac, "'/>\n");
    add_text(out, "      <source network='", nic->network, "'/>\n");
    str_addf(out, "      <model type='%s'/>\n    </interface>\n",
             nic_model(nic->type));
}

void
domain_xml(struct str *out, const struct cloud_vm *vm, enum disk_format format)
{
    int cores = vm->cores_per_socket > 0 ? vm->cores_per_socket : 1;

    str_add(out, "<domain type='kvm'>\n");
    add_text(out, "  <name>", vm->name, "</name>\n");
    add_text(out, "  <uuid>", vm->uuid, "</uuid>\n");
    str_addf(out, "  <memory unit='MiB'>%" PRIu64 "</memory>\n", vm->memory_mb);
    str_addf(out, "  <vcpu>%d</vcpu>\n", vm->cpus);
    if (vm->cpus % cores == 0)
        str_addf(out,
                 "  <cpu mode='host-model'><topology sockets='%d' dies='1' "
                 "cores='%d' threads='1'/></cpu>\n",
                 vm->cpus / cores, cores);
    add_os(out, vm);
    str_add(out, "  <devices>\n");
    add_controllers(out, vm);
    for (size_t i = 0; i < vm->disks.n; i++)
        add_disk(out, vm, i, format);
    for (size_t i = 0; i < vm->nics.n; i++)
        add_nic(out, &vm->nics.p[i]);
    str_add(out, "    <serial type='pty'/>\n    <video><model type='vga'/>"
                 "</video>\n    <graphics type='vnc'/>\n  </devices>\n"
                 "</domain>\n");
}
