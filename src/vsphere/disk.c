/* Disks out of a hardware description, the VM's or a snapshot's. */
#include "vsphere/soap.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DISKS_MAX 256

/* Families in the order the firmware looks for disks. */
static const struct bus {
    const char *controller, *prefix;
    int rank;
} buses[] = {
    { "VirtualIDEController", "ide", 0 },
    { "ParaVirtualSCSIController", "scsi", 1 },
    { "VirtualLsiLogicController", "scsi", 1 },
    { "VirtualLsiLogicSASController", "scsi", 1 },
    { "VirtualBusLogicController", "scsi", 1 },
    { "VirtualSCSIController", "scsi", 1 },
    { "VirtualAHCIController", "sata", 2 },
    { "VirtualSATAController", "sata", 2 },
    { "VirtualNVMEController", "nvme", 3 },
};
#define RANK_UNKNOWN 4

static const struct bus *
bus_of(const char *controller)
{
    for (size_t i = 0; i < sizeof buses / sizeof *buses; i++)
        if (!strcmp(buses[i].controller, controller))
            return &buses[i];
    return NULL;
}

static const struct xml *
find_device(const struct xml *hardware, const char *key)
{
    const struct xml *d = xml_kid(hardware, "device");

    for (; d; d = xml_next(d))
        if (!strcmp(text_at(d, "key"), key))
            return d;
    return NULL;
}

static int
read_address(const struct xml *hardware, const struct xml *device,
             struct vs_disk *d, struct err *e)
{
    const char *key = text_at(device, "controllerKey");
    const struct xml *c = *key ? find_device(hardware, key) : NULL;
    const struct bus *bus;
    int64_t n;

    d->bus = d->unit = -1;
    if (!c)
        return 0;
    if (num_at(c, "key", INT32_MIN, INT32_MAX, &n, e))
        return -1;
    d->controller_key = (int)n;
    snprintf(d->controller, sizeof d->controller, "%s", c->type ? c->type : "");
    snprintf(d->shared_bus, sizeof d->shared_bus, "%s",
             text_at(c, "sharedBus"));
    if (xml_kid(c, "busNumber")) {
        if (num_at(c, "busNumber", 0, INT16_MAX, &n, e))
            return -1;
        d->bus = (int)n;
    }
    if (xml_kid(device, "unitNumber")) {
        if (num_at(device, "unitNumber", -1, INT16_MAX, &n, e))
            return -1;
        d->unit = (int)n;
    }
    bus = bus_of(d->controller);
    if (bus && d->bus >= 0 && d->unit >= 0)
        snprintf(d->address, sizeof d->address, "%s%d:%d", bus->prefix, d->bus,
                 d->unit);
    return 0;
}

static int
read_capacity(const struct xml *device, struct vs_disk *d, struct err *e)
{
    bool bytes = *text_at(device, "capacityInBytes");
    int64_t n;

    if (num_at(device, bytes ? "capacityInBytes" : "capacityInKB", 0,
               bytes ? INT64_MAX : INT64_MAX / 1024, &n, e))
        return -1;
    d->capacity = (uint64_t)n * (bytes ? 1 : 1024);
    return 0;
}

static void
read_backing(const struct xml *b, struct vs_disk *d)
{
    const char *path = text_at(b, "fileName");

    if (!*path)
        path = text_at(b, "descriptorFileName");
    d->path = xstrdup(path);
    d->uuid = xstrdup(text_at(b, "uuid"));
    d->change_id = xstrdup(text_at(b, "changeId"));
    snprintf(d->backing, sizeof d->backing, "%s", b && b->type ? b->type : "");
    snprintf(d->mode, sizeof d->mode, "%s", text_at(b, "diskMode"));
    snprintf(d->sharing, sizeof d->sharing, "%s", text_at(b, "sharing"));
    snprintf(d->rdm, sizeof d->rdm, "%s", text_at(b, "compatibilityMode"));
}

/* extraConfig "scsi0:0.ctkEnabled" = "TRUE" */
static bool
read_ctk(const struct xml *extra, const char *address)
{
    defer_free char *want = xasprintf("%s.ctkEnabled", address);
    const struct xml *o = xml_kid(extra, "OptionValue");

    for (; o; o = xml_next(o))
        if (!strcasecmp(text_at(o, "key"), want))
            return text_true(text_at(o, "value"));
    return false;
}

static int
read_disk(const struct xml *hardware, const struct xml *extra,
          const struct xml *device, struct vs_disk *d, struct err *e)
{
    int64_t key;

    read_backing(xml_kid(device, "backing"), d);
    d->label = xstrdup(text_at(device, "deviceInfo/label"));
    if (num_at(device, "key", INT32_MIN, INT32_MAX, &key, e) ||
        read_address(hardware, device, d, e) || read_capacity(device, d, e))
        return err_wrap(e, "disk '%.60s'", d->label);
    d->key = (int)key;
    d->ctk = *d->address && read_ctk(extra, d->address);
    return 0;
}

static int
by_place(const void *pa, const void *pb)
{
    const struct vs_disk *a = pa, *b = pb;
    const struct bus *ba = bus_of(a->controller), *bb = bus_of(b->controller);
    const int keys[][2] = {
        { ba ? ba->rank : RANK_UNKNOWN, bb ? bb->rank : RANK_UNKNOWN },
        { a->bus, b->bus },
        { a->unit, b->unit },
        { a->key, b->key },
    };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i][0] != keys[i][1])
            return keys[i][0] < keys[i][1] ? -1 : 1;
    return 0;
}

int
disks_read(const struct xml *hardware, const struct xml *extra,
           struct vs_disks *out, struct err *e)
{
    const struct xml *device = xml_kid(hardware, "device");

    for (; device; device = xml_next(device)) {
        struct vs_disk d = { 0 };

        if (!device->type || strcmp(device->type, "VirtualDisk"))
            continue;
        if (out->n == DISKS_MAX)
            return err_set(e, ERR_REMOTE, "the VM has more than %d disks",
                           DISKS_MAX);
        vec_push(out, d);
        if (read_disk(hardware, extra, device, &out->p[out->n - 1], e))
            return -1;
        for (size_t i = 0; i + 1 < out->n; i++)
            if (out->p[i].key == out->p[out->n - 1].key)
                return err_set(e, ERR_REMOTE, "two disks have the key %d",
                               out->p[i].key);
    }
    if (out->n)
        qsort(out->p, out->n, sizeof *out->p, by_place);
    return 0;
}

void
vs_disks_fini(struct vs_disks *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->p[i].label);
        free(d->p[i].path);
        free(d->p[i].uuid);
        free(d->p[i].change_id);
    }
    vec_fini(d);
}
