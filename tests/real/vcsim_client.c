/* Walks through src/vsphere against a server and prints a line per act:
 *   vcsim_client HOST PORT USER THUMBPRINT VM   (password in V2C_PASSWORD) */
#include "base/log.h"
#include "base/str.h"
#include "vsphere/vsphere.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int
find(struct vs *vs, const char *how, const struct vs_query *q,
     char vm[VS_ID_MAX], struct err *e)
{
    if (vs_find_vm(vs, q, vm, e))
        return err_wrap(e, "by %s", how);
    printf("found by %s: %s\n", how, vm);
    return 0;
}

static int
read_vm(struct vs *vs, const char *id, struct vs_vm *vm, struct err *e)
{
    if (vs_get_vm(vs, id, vm, e))
        return -1;
    printf("vm: %s path %s power %s cbt %d snapshots %zu boot %d\n", vm->name,
           vm->path, vm->power, vm->cbt_enabled, vm->snapshots.n,
           vm->boot_disk_key);
    return 0;
}

static int
describe(struct vs *vs, const char *id, struct err *e)
{
    defer(vs_vm_fini) struct vs_vm vm = { 0 };
    char found[VS_ID_MAX];

    if (read_vm(vs, id, &vm, e))
        return -1;
    for (size_t i = 0; i < vm.disks.n; i++)
        printf("disk: %d %s %s %" PRIu64 " '%s' %s %s\n", vm.disks.p[i].key,
               vm.disks.p[i].address, vm.disks.p[i].controller,
               vm.disks.p[i].capacity, vm.disks.p[i].path,
               vm.disks.p[i].backing, vm.disks.p[i].mode);
    for (size_t i = 0; i < vm.nics.n; i++)
        printf("nic: %s %s '%s'\n", vm.nics.p[i].type, vm.nics.p[i].mac,
               vm.nics.p[i].network);
    return find(vs, "moref", &(struct vs_query){ .moref = vm.id }, found, e) ||
           find(vs, "instance uuid",
                &(struct vs_query){ .uuid = vm.instance_uuid }, found, e) ||
           find(vs, "bios uuid", &(struct vs_query){ .uuid = vm.uuid }, found,
                e) ||
           find(vs, "path", &(struct vs_query){ .path = vm.path }, found, e);
}

static int
snapshots(struct vs *vs, const char *id, struct err *e)
{
    char snap[VS_ID_MAX];
    defer(vs_vm_fini) struct vs_vm with = { 0 }, without = { 0 };
    defer(vs_disks_fini) struct vs_disks disks = { 0 };

    if (vs_enable_cbt(vs, id, e) ||
        vs_snapshot_create(vs, id, "v2c-test", "by a test", false, snap, e))
        return -1;
    printf("snapshot: created\n");
    if (read_vm(vs, id, &with, e) || vs_snapshot_disks(vs, snap, &disks, e))
        return -1;
    printf("snapshot: %s is %s, %zu disks\n",
           with.snapshots.n ? with.snapshots.p[0].name : "none",
           with.snapshots.n && !strcmp(with.snapshots.p[0].id, snap) ? "ours"
                                                                     : "other",
           disks.n);
    if (vs_snapshot_remove(vs, id, snap, e))
        return -1;
    printf("snapshot: removed\n");
    if (vs_snapshot_remove(vs, id, snap, e))
        return -1;
    printf("snapshot: removed again\n");
    return read_vm(vs, id, &without, e);
}

static int
power(struct vs *vs, const char *id, struct err *e)
{
    char state[16], tools[40];

    for (int i = 0; i < 2; i++) {
        if (vs_power_off(vs, id, e) || vs_get_power(vs, id, state, tools, e))
            return -1;
        printf("power: %s\n", state);
    }
    for (int i = 0; i < 2; i++) {
        if (vs_power_on(vs, id, e) || vs_get_power(vs, id, state, tools, e))
            return -1;
        printf("power: %s\n", state);
    }
    return 0;
}

static void
refusals(struct vs *vs)
{
    static const struct vs_query queries[] = {
        { .name = "twin" },      { .name = "nobody" },
        { .moref = "vm-99999" }, { .path = "DC0/vm/nobody" },
        { .path = "DC0" },
    };

    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        struct err e = ERR_INIT;
        char vm[VS_ID_MAX];

        if (vs_find_vm(vs, &queries[i], vm, &e))
            printf("refused: %s: %s\n", err_class_name(e.class), e.msg);
        else
            printf("not refused: %s\n", vm);
    }
}

static int
walk(struct vs *vs, const char *name, struct err *e)
{
    char id[VS_ID_MAX], other[VS_ID_MAX];

    printf("opened: %s, vCenter %d, %s\n", vs_about(vs), vs_is_vcenter(vs),
           vs_thumbprint(vs));
    if (find(vs, "name", &(struct vs_query){ .name = name }, id, e) ||
        find(vs, "odd name", &(struct vs_query){ .name = "odd/name" }, other,
             e) ||
        describe(vs, id, e) || describe(vs, other, e) || snapshots(vs, id, e) ||
        power(vs, id, e) || vs_keepalive(vs, e))
        return -1;
    refusals(vs);
    printf("done\n");
    return 0;
}

int
main(int argc, char **argv)
{
    struct err e = ERR_INIT;
    uint64_t port;

    if (argc != 6 || num_u64(argv[2], 1, UINT16_MAX, &port, "port", &e)) {
        fprintf(stderr, "usage: %s HOST PORT USER THUMBPRINT VM\n", argv[0]);
        return 2;
    }
    log_set_level(LOG_DEBUG);
    struct secret *password = secret_new(getenv("V2C_PASSWORD"));
    const struct vs_opts o = { .host = argv[1],
                               .port = (uint16_t)port,
                               .user = argv[3],
                               .password = password,
                               .thumbprint = argv[4],
                               .operation_id = "v2c-test" };
    struct vs *vs = vs_open(&o, &e);
    int rc = vs ? walk(vs, argv[5], &e) : -1;

    if (rc)
        printf("failed: %s: %s\n", err_class_name(e.class), e.msg);
    vs_close(vs);
    secret_free(password);
    return rc ? 1 : 0;
}
