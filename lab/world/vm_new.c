/* A VM of the world file made real.  Its keys and their defaults: docs/lab.md.
 */
#include "lab/world/world.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "lab/world/conf.h"

struct vm_conf {
    const char *name, *folder, *datacenter, *host, *datastore, *guest_id,
        *guest_name, *version;
    int64_t cpus, memory_mb;
    int firmware, power, tools;
    bool secure_boot, cbt, cbt_supported, template, encrypted;
    const json_t *snapshots, *nics, *disks, *guest;
};

struct guest_conf {
    int64_t writes_per_s, max_bytes, shutdown_ms, zero_share;
    bool ignores_shutdown;
};

struct nic_conf {
    const char *network, *mac;
    int type;
};

struct disk_conf {
    int64_t size, bus, unit, guest_from, guest_to;
    int controller, content, mode, shared_bus, rdm;
    bool sharing, thin;
};

static const char *const firmwares[] = { "bios", "efi", NULL };
static const char *const powers[] = { "poweredOff", "poweredOn", "suspended",
                                      NULL };
static const char *const tools[] = { "notInstalled", "notRunning", "running",
                                     NULL };
static const char *const contents[] = { "zero", "random", "sparse", "ext4",
                                        NULL };
static const char *const modes[] = { "persistent",
                                     "nonpersistent",
                                     "undoable",
                                     "independent_persistent",
                                     "independent_nonpersistent",
                                     "append",
                                     NULL };
static const char *const buses[] = { "noSharing", "virtualSharing",
                                     "physicalSharing", NULL };
static const char *const rdms[] = { "none", "virtual", "physical", NULL };
static const char *const controllers[] = { "pvscsi",   "lsilogic", "lsisas",
                                           "buslogic", "sata",     "nvme",
                                           "ide",      NULL };

static const char *const cards[] = { "VirtualVmxnet3",
                                     "VirtualE1000",
                                     "VirtualE1000e",
                                     "VirtualVmxnet2",
                                     "VirtualPCNet32",
                                     "VirtualSriovEthernetCard",
                                     NULL };

/* In the order of `controllers`. */
static const struct {
    const char *type;
    enum vm_bus bus;
} controller_types[] = {
    { "ParaVirtualSCSIController", BUS_SCSI },
    { "VirtualLsiLogicController", BUS_SCSI },
    { "VirtualLsiLogicSASController", BUS_SCSI },
    { "VirtualBusLogicController", BUS_SCSI },
    { "VirtualAHCIController", BUS_SATA },
    { "VirtualNVMEController", BUS_NVME },
    { "VirtualIDEController", BUS_IDE },
};

/* In the order of enum vm_bus. */
static const struct {
    int controller, disk, units, buses;
} bus_keys[] = {
    { 1000, 2000, 16, 4 },
    { 15000, 16000, 30, 4 },
    { 31000, 32000, 15, 4 },
    { 200, 3000, 2, 2 },
};

#define KEY(type, name, kind)                    \
    {                                            \
#name, kind, offsetof(struct type, name) \
    }
#define NUM(type, name, min, max)                              \
    {                                                          \
#name, CONF_NUM, offsetof(struct type, name), min, max \
    }
#define WORD(type, name, words)                                      \
    {                                                                \
#name, CONF_CHOICE, offsetof(struct type, name), 0, 0, words \
    }
#define COUNT(a) (sizeof(a) / sizeof *(a))

static const struct conf_key vm_keys[] = {
    KEY(vm_conf, name, CONF_TEXT),       KEY(vm_conf, folder, CONF_TEXT),
    KEY(vm_conf, datacenter, CONF_TEXT), KEY(vm_conf, host, CONF_TEXT),
    KEY(vm_conf, datastore, CONF_TEXT),  KEY(vm_conf, guest_id, CONF_TEXT),
    KEY(vm_conf, guest_name, CONF_TEXT), KEY(vm_conf, version, CONF_TEXT),
    NUM(vm_conf, cpus, 1, 128),          NUM(vm_conf, memory_mb, 4, 1 << 24),
    WORD(vm_conf, firmware, firmwares),  WORD(vm_conf, power, powers),
    WORD(vm_conf, tools, tools),         KEY(vm_conf, secure_boot, CONF_FLAG),
    KEY(vm_conf, cbt, CONF_FLAG),        KEY(vm_conf, cbt_supported, CONF_FLAG),
    KEY(vm_conf, template, CONF_FLAG),   KEY(vm_conf, encrypted, CONF_FLAG),
    KEY(vm_conf, snapshots, CONF_ARRAY), KEY(vm_conf, nics, CONF_ARRAY),
    KEY(vm_conf, disks, CONF_ARRAY),     KEY(vm_conf, guest, CONF_OBJECT),
};

static const struct conf_key guest_keys[] = {
    NUM(guest_conf, writes_per_s, 0, 100000),
    NUM(guest_conf, max_bytes, 512, WORLD_WRITE_MAX),
    NUM(guest_conf, shutdown_ms, 0, 3600000),
    NUM(guest_conf, zero_share, 0, 100),
    KEY(guest_conf, ignores_shutdown, CONF_FLAG),
};

static const struct conf_key nic_keys[] = {
    KEY(nic_conf, network, CONF_TEXT),
    KEY(nic_conf, mac, CONF_TEXT),
    WORD(nic_conf, type, cards),
};

static const struct conf_key disk_keys[] = {
    NUM(disk_conf, size, 512, (int64_t)WORLD_DISK_SIZE_MAX),
    NUM(disk_conf, bus, 0, 3),
    NUM(disk_conf, unit, 0, 63),
    NUM(disk_conf, guest_from, 0, (int64_t)WORLD_DISK_SIZE_MAX),
    NUM(disk_conf, guest_to, 0, (int64_t)WORLD_DISK_SIZE_MAX),
    WORD(disk_conf, controller, controllers),
    WORD(disk_conf, content, contents),
    WORD(disk_conf, mode, modes),
    WORD(disk_conf, shared_bus, buses),
    WORD(disk_conf, rdm, rdms),
    KEY(disk_conf, sharing, CONF_FLAG),
    KEY(disk_conf, thin, CONF_FLAG),
};

static int
make_guest(struct vm *vm, const json_t *conf, struct err *e)
{
    struct guest_conf c = { .max_bytes = 131072,
                            .shutdown_ms = 200,
                            .zero_share = 10 };
    struct guest *g = &vm->guest;

    if (conf && conf_read(conf, guest_keys, COUNT(guest_keys), &c, "guest", e))
        return -1;
    g->writes_per_s = (unsigned)c.writes_per_s;
    g->max_bytes = (uint32_t)c.max_bytes;
    g->shutdown_ms = (unsigned)c.shutdown_ms;
    g->zero_share = (unsigned)c.zero_share;
    g->ignores_shutdown = c.ignores_shutdown;
    g->rng = world_random(&vm->w->rng);
    return 0;
}

static int
add_nic(struct vm *vm, const json_t *conf, struct err *e)
{
    struct nic_conf c = { .network = "VM Network" };
    struct vm_nic nic = { .key = 4000 + (int)vm->nics.n };
    uint64_t r = world_random(&vm->w->rng);

    if (conf_read(conf, nic_keys, COUNT(nic_keys), &c, "nic", e))
        return -1;
    if (vm->nics.n == WORLD_NICS_MAX)
        return err_set(e, ERR_USER, "world file: more than %d nics",
                       WORLD_NICS_MAX);
    snprintf(nic.type, sizeof nic.type, "%s", cards[c.type]);
    if (c.mac)
        snprintf(nic.mac, sizeof nic.mac, "%s", c.mac);
    else
        snprintf(nic.mac, sizeof nic.mac, "00:50:56:%02x:%02x:%02x",
                 (unsigned)(r & 0x3f), (unsigned)(r >> 8 & 0xff),
                 (unsigned)(r >> 16 & 0xff));
    nic.network = world_network(vm->w, vm->datacenter, c.network);
    vec_push(&vm->nics, nic);
    return 0;
}

static int
place_disk(const struct vm *vm, struct vm_disk *d, const struct disk_conf *c,
           struct err *e)
{
    int units;

    d->controller = controller_types[c->controller].type;
    d->bus = controller_types[c->controller].bus;
    d->bus_no = (int)c->bus;
    units = bus_keys[d->bus].units;
    d->unit = c->unit >= 0 ? (int)c->unit : 0;
    d->controller_key = bus_keys[d->bus].controller + d->bus_no;
    for (;;) {
        d->key = bus_keys[d->bus].disk + d->bus_no * units + d->unit;
        if (!vm_disk(vm, d->key) && !(d->bus == BUS_SCSI && d->unit == 7))
            break;
        if (c->unit >= 0)
            return err_set(e, ERR_USER, "world file: unit %d is taken",
                           d->unit);
        d->unit++;
    }
    if (d->unit >= units || d->bus_no >= bus_keys[d->bus].buses)
        return err_set(e, ERR_USER,
                       "world file: no unit %d:%d on that "
                       "controller",
                       d->bus_no, d->unit);
    return 0;
}

static int
make_disk(struct vm *vm, struct vm_disk *d, const struct disk_conf *c,
          struct err *e)
{
    defer_free char *dir = xasprintf("%s/disks/%s", vm->w->dir, vm->ent->id);
    defer_free char *name = vm->disks.n
                                ? xasprintf("%s_%zu", vm->dir, vm->disks.n)
                                : xstrdup(vm->dir);
    uint64_t fs_end = 0, seed = world_random(&vm->w->rng);

    if (fs_mkdirs(dir, 0700, e))
        return -1;
    d->disk = ldisk_new(dir, name, (uint64_t)c->size, e);
    if (!d->disk ||
        content_fill(vm->w, d->disk, contents[c->content], seed, &fs_end, e))
        return -1;
    d->guest_from = c->guest_from >= 0 ? (uint64_t)c->guest_from : fs_end;
    d->guest_to = c->guest_to >= 0 ? (uint64_t)c->guest_to : (uint64_t)c->size;
    if (d->guest_from % 512 || d->guest_to % 512 ||
        d->guest_to > (uint64_t)c->size)
        return err_set(e, ERR_USER,
                       "world file: guest_from and guest_to must be "
                       "multiples of 512 within the disk");
    return 0;
}

static int
add_disk(struct vm *vm, const json_t *conf, struct err *e)
{
    struct disk_conf c = {
        .unit = -1, .guest_from = -1, .guest_to = -1, .thin = true
    };
    struct vm_disk *d = xcalloc(1, sizeof *d);
    char uuid[40], what[64];

    snprintf(d->shared_bus, sizeof d->shared_bus, "noSharing");
    if (conf_read(conf, disk_keys, COUNT(disk_keys), &c, "disk", e) ||
        place_disk(vm, d, &c, e))
        goto failed;
    if (!c.size || c.size % 512) {
        err_set(e, ERR_USER,
                "world file: size of a disk must be a multiple of 512");
        goto failed;
    }
    if (vm->disks.n == WORLD_DISKS_MAX) {
        err_set(e, ERR_USER, "world file: more than %d disks", WORLD_DISKS_MAX);
        goto failed;
    }
    if (make_disk(vm, d, &c, e))
        goto failed;
    snprintf(d->label, sizeof d->label, "Hard disk %zu", vm->disks.n + 1);
    snprintf(d->mode, sizeof d->mode, "%s", modes[c.mode]);
    snprintf(d->shared_bus, sizeof d->shared_bus, "%s", buses[c.shared_bus]);
    d->shared = c.sharing;
    d->rdm = (enum vm_rdm)c.rdm;
    d->thin = c.thin;
    snprintf(what, sizeof what, "%s disk %d", vm->ent->id, d->key);
    world_uuid(vm->w, "6000c29", what, uuid);
    snprintf(d->uuid, sizeof d->uuid, "%.7s%s", "6000C29", uuid + 7);
    vec_push(&vm->disks, d);
    return 0;
failed:
    ldisk_free(d->disk);
    free(d);
    return -1;
}

static struct ent *
place(struct vm *vm, struct ent *parent, enum ent_kind kind, const char *name)
{
    struct ent *ent = ent_kid(parent, name);

    return ent && ent->kind == kind ? ent : ent_new(vm->w, kind, name, parent);
}

/* The name made fit for a directory; unique on the datastore. */
static char *
directory(const struct vm *vm, const char *name)
{
    defer_free char *base = xstrdup(name);

    for (char *p = base; *p; p++)
        if (strchr("/\\%:*?\"<>|[]", *p) || (unsigned char)*p < 0x20)
            *p = '_';
    for (size_t i = 0; i < vm->w->vms.n; i++)
        if (vm->w->vms.p[i]->datastore == vm->datastore &&
            !strcmp(vm->w->vms.p[i]->dir, base))
            return xasprintf("%s_%s", base, vm->ent->id);
    return take(base);
}

static void
settle(struct vm *vm, const struct vm_conf *c)
{
    struct world *w = vm->w;
    struct ent *dc = world_datacenter(
        w, c->datacenter ? c->datacenter : (w->esxi ? "ha-datacenter" : "DC0"));
    struct ent *cluster = ent_first(ent_kid(dc, "host"), ENT_CLUSTER);

    vm->datacenter = dc;
    vm->pool = ent_first(cluster, ENT_POOL);
    vm->host = place(vm, cluster, ENT_HOST, c->host);
    vm->datastore =
        place(vm, ent_kid(dc, "datastore"), ENT_DATASTORE, c->datastore);
    vm->ent = ent_new(w, ENT_VM, c->name, world_folder(w, dc, c->folder));
    vm->ent->vm = vm;
    vm->dir = directory(vm, c->name);
    world_uuid(w, "4237", vm->ent->id, vm->uuid);
    world_uuid(w, "5037", vm->ent->id, vm->instance_uuid);
    vm->guest_id = xstrdup(c->guest_id);
    vm->guest_name = xstrdup(c->guest_name);
    vm->version = xstrdup(c->version);
    vm->firmware = xstrdup(firmwares[c->firmware]);
    vm->annotation = xstrdup("");
    vm->cpus = (unsigned)c->cpus;
    vm->memory_mb = (unsigned)c->memory_mb;
    vm->secure_boot = c->secure_boot;
    vm->template = c->template;
    vm->encrypted = c->encrypted;
    vm->cbt_supported = c->cbt_supported;
    vm->power = c->template ? VM_OFF : (enum vm_power)c->power;
    vm->tools = (enum vm_tools)c->tools;
    if (vm->power != VM_ON && vm->tools == TOOLS_RUNNING)
        vm->tools = TOOLS_STOPPED;
    vm->booted = clock_wall_ms();
    snprintf(vm->connection, sizeof vm->connection, "connected");
}

static int
furnish(struct vm *vm, const struct vm_conf *c, struct err *e)
{
    struct wfault f;
    size_t i;
    json_t *v;

    json_array_foreach(c->nics, i, v) if (add_nic(vm, v, e)) return -1;
    json_array_foreach(c->disks, i, v) if (add_disk(vm, v, e)) return -1;
    if (c->cbt) {
        vm_set_cbt(vm, true);
        vm_apply_cbt(vm);
    }
    json_array_foreach(c->snapshots, i, v)
    {
        if (!json_is_string(v))
            return err_set(e, ERR_USER, "world file: snapshots must be names");
        if (!snap_create(vm, json_string_value(v), "", false, &f))
            return err_set(e, ERR_USER, "world file: snapshot: %s", f.text);
    }
    return 0;
}

struct vm *
vm_new(struct world *w, const json_t *config, struct err *e)
{
    struct vm_conf c = { .folder = "",
                         .host = w->esxi ? "localhost.lab" : "esx1.lab",
                         .datastore = "datastore1",
                         .guest_id = "debian11_64Guest",
                         .guest_name = "Debian GNU/Linux 11 (64-bit)",
                         .version = "vmx-19",
                         .cpus = 2,
                         .memory_mb = 1024,
                         .power = VM_ON,
                         .tools = TOOLS_RUNNING,
                         .cbt_supported = true };
    struct vm *vm;
    pthread_condattr_t attr;

    if (conf_read(config, vm_keys, COUNT(vm_keys), &c, "VM", e))
        return NULL;
    if (!c.name || !*c.name) {
        err_set(e, ERR_USER, "world file: a VM needs a name");
        return NULL;
    }
    vm = xcalloc(1, sizeof *vm);
    vm->w = w;
    pthread_mutex_init(&vm->guest.stun, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&vm->guest.wake, &attr);
    pthread_condattr_destroy(&attr);
    settle(vm, &c);
    if (make_guest(vm, c.guest, e) || furnish(vm, &c, e)) {
        err_wrap(e, "VM %s", c.name);
        vm_free(vm);
        return NULL;
    }
    return vm;
}
