/* Reading a VM: identity, hardware, state, snapshots. */
#include "vsphere/soap.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define SNAPSHOTS_MAX 1024
#define PATHS_MAX     48

/* Properties that are taken as they are. */
enum kind { COPY, ARRAY, FLAG };

static const struct field {
    const char *path;
    enum kind kind;
    size_t offset, size;
} fields[] = {
#define F(path, kind, member)                       \
    {                                               \
        path, kind, offsetof(struct vs_vm, member), \
            sizeof((struct vs_vm *)0)->member       \
    }
    F("name", COPY, name),
    F("config.uuid", COPY, uuid),
    F("config.instanceUuid", COPY, instance_uuid),
    F("config.version", COPY, version),
    F("config.guestId", COPY, guest_id),
    F("config.guestFullName", COPY, guest_name),
    F("config.firmware", ARRAY, firmware),
    F("config.template", FLAG, template),
    F("config.changeTrackingEnabled", FLAG, cbt_enabled),
    F("capability.changeTrackingSupported", FLAG, cbt_supported),
    F("runtime.host", ARRAY, host),
    F("runtime.powerState", ARRAY, power),
    F("runtime.connectionState", ARRAY, connection),
    F("runtime.consolidationNeeded", FLAG, consolidation_needed),
    F("guest.toolsRunningStatus", ARRAY, tools_running),
    F("guest.toolsStatus", ARRAY, tools_status),
#undef F
};

/* Properties that need more thought. */
static const char *const others[] = {
    "parent",       "parentVApp",    "config.hardware",    "config.extraConfig",
    "config.keyId", "config.ftInfo", "config.bootOptions", "runtime.question",
    "snapshot",     "network",
};

#define N(a) (sizeof(a) / sizeof *(a))
_Static_assert(N(fields) + N(others) < PATHS_MAX, "the list of paths is full");

static void
list_paths(const char *paths[PATHS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < N(fields); i++)
        paths[n++] = fields[i].path;
    for (size_t i = 0; i < N(others); i++)
        paths[n++] = others[i];
    paths[n] = NULL;
}

static void
take_fields(const struct xml *object, struct vs_vm *vm)
{
    for (size_t i = 0; i < N(fields); i++) {
        const struct field *f = &fields[i];
        char *at = (char *)vm + f->offset;
        const char *text = prop_text(object, f->path);

        switch (f->kind) {
        case COPY: *(char **)(void *)at = xstrdup(text); break;
        case ARRAY: snprintf(at, f->size, "%s", text); break;
        case FLAG: *(bool *)(void *)at = text_true(text); break;
        }
    }
}

static bool
has_device(const struct xml *hardware, const char *type)
{
    const struct xml *d = xml_kid(hardware, "device");

    for (; d; d = xml_next(d))
        if (d->type && !strcmp(d->type, type))
            return true;
    return false;
}

static void
choose_boot_disk(const struct xml *options, struct vs_vm *vm)
{
    const struct xml *o = xml_kid(options, "bootOrder");

    vm->boot_disk_key = vm->disks.n ? vm->disks.p[0].key : 0;
    for (; o; o = xml_next(o)) {
        struct err none = ERR_INIT;
        int64_t key;

        if (!o->type ||
            strcmp(o->type, "VirtualMachineBootOptionsBootableDiskDevice") ||
            num_at(o, "deviceKey", INT32_MIN, INT32_MAX, &key, &none))
            continue;
        for (size_t i = 0; i < vm->disks.n; i++)
            if (vm->disks.p[i].key == key) {
                vm->boot_disk_key = (int)key;
                return;
            }
    }
}

/* The reader of XML bounds the depth. */
static int
take_snapshots(const struct xml *tree, const char *parent, struct vs_vm *vm,
               struct err *e)
{
    for (; tree; tree = xml_next(tree)) {
        struct vs_snapshot s = { 0 };

        if (vm->snapshots.n == SNAPSHOTS_MAX)
            return err_set(e, ERR_REMOTE, "the VM has more than %d snapshots",
                           SNAPSHOTS_MAX);
        if (ref_copy(xml_kid(tree, "snapshot"), s.id, "snapshot", e))
            return -1;
        snprintf(s.parent, sizeof s.parent, "%s", parent);
        s.name = xstrdup(text_at(tree, "name"));
        s.description = xstrdup(text_at(tree, "description"));
        vec_push(&vm->snapshots, s);
        if (take_snapshots(xml_kid(tree, "childSnapshotList"), s.id, vm, e))
            return -1;
    }
    return 0;
}

static int
take_numbers(const struct xml *hardware, struct vs_vm *vm, struct err *e)
{
    int64_t cpus, cores = 0, memory;

    if (num_at(hardware, "numCPU", 0, INT16_MAX, &cpus, e) ||
        num_at(hardware, "memoryMB", 0, INT32_MAX, &memory, e))
        return -1;
    if (xml_kid(hardware, "numCoresPerSocket") &&
        num_at(hardware, "numCoresPerSocket", 0, INT16_MAX, &cores, e))
        return -1;
    vm->cpus = (int)cpus;
    vm->cores_per_socket = cores ? (int)cores : 1;
    vm->memory_mb = (uint64_t)memory;
    return 0;
}

static int
take_hardware(struct vs *vs, const struct xml *object, struct vs_vm *vm,
              struct err *e)
{
    const struct xml *hardware = prop(object, "config.hardware");

    if (!hardware) {
        /* The host cannot read a VM's files: state is all there is. */
        if (strcmp(vm->connection, "connected"))
            return 0;
        return err_set(e, ERR_REMOTE, "config.hardware is missing");
    }
    vm->vtpm = has_device(hardware, "VirtualTPM");
    if (take_numbers(hardware, vm, e) ||
        disks_read(hardware, prop(object, "config.extraConfig"), &vm->disks,
                   e) ||
        nics_read(vs, hardware, prop(object, "network"), vm, e))
        return -1;
    choose_boot_disk(prop(object, "config.bootOptions"), vm);
    return 0;
}

static int
take_all(struct vs *vs, const struct xml *object, struct vs_vm *vm,
         struct err *e)
{
    const struct xml *question = prop(object, "runtime.question");

    take_fields(object, vm);
    vm->path = inventory_path(vs, object, e);
    if (!vm->path)
        return -1;
    name_decode(vm->name);
    vm->encrypted = prop(object, "config.keyId");
    vm->fault_tolerant = prop(object, "config.ftInfo");
    vm->secure_boot = text_true(
        text_at(prop(object, "config.bootOptions"), "efiSecureBootEnabled"));
    if (question)
        vm->question = xstrdup(text_at(question, "text"));
    if (take_hardware(vs, object, vm, e))
        return -1;
    return take_snapshots(xml_kid(prop(object, "snapshot"), "rootSnapshotList"),
                          "", vm, e);
}

int
vs_get_vm(struct vs *vs, const char *vm, struct vs_vm *out, struct err *e)
{
    const char *paths[PATHS_MAX];
    defer_answer struct answer a = { 0 };
    struct vs_vm got = { 0 };

    list_paths(paths);
    if (props_get(vs, "VirtualMachine", vm, paths, &a, e))
        return -1;
    if (ref_copy(xml_kid(a.val, "obj"), got.id, "VirtualMachine", e) ||
        take_all(vs, a.val, &got, e)) {
        vs_vm_fini(&got);
        return err_wrap(e, "reading VM %s", vm);
    }
    *out = got;
    return 0;
}

int
vs_get_power(struct vs *vs, const char *vm, char power[16],
             char tools_running[40], struct err *e)
{
    const char *const paths[] = { "runtime.powerState",
                                  "guest.toolsRunningStatus", NULL };
    defer_answer struct answer a = { 0 };

    if (props_get(vs, "VirtualMachine", vm, paths, &a, e))
        return -1;
    if (!*prop_text(a.val, paths[0]))
        return err_set(e, ERR_REMOTE, "reading VM %s: it has no power state",
                       vm);
    snprintf(power, 16, "%s", prop_text(a.val, paths[0]));
    snprintf(tools_running, 40, "%s", prop_text(a.val, paths[1]));
    return 0;
}

int
vs_host_name(struct vs *vs, const char *host, char **name, struct err *e)
{
    const char *const paths[] = { "name", NULL };
    defer_answer struct answer a = { 0 };

    if (props_get(vs, "HostSystem", host, paths, &a, e))
        return err_wrap(e, "reading the host %s", host);
    if (!*prop_text(a.val, paths[0]))
        return err_set(e, ERR_REMOTE, "the host %s has no name", host);
    *name = xstrdup(prop_text(a.val, paths[0]));
    name_decode(*name);
    return 0;
}

void
vs_vm_fini(struct vs_vm *vm)
{
    for (size_t i = 0; i < N(fields); i++)
        if (fields[i].kind == COPY)
            free(*(char **)(void *)((char *)vm + fields[i].offset));
    free(vm->path);
    free(vm->question);
    vs_disks_fini(&vm->disks);
    for (size_t i = 0; i < vm->nics.n; i++) {
        free(vm->nics.p[i].label);
        free(vm->nics.p[i].mac);
        free(vm->nics.p[i].network);
    }
    vec_fini(&vm->nics);
    for (size_t i = 0; i < vm->snapshots.n; i++) {
        free(vm->snapshots.p[i].name);
        free(vm->snapshots.p[i].description);
    }
    vec_fini(&vm->snapshots);
    *vm = (struct vs_vm){ 0 };
}
