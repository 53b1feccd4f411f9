/* cloud: the local target, its images and its domain. */
#include "cloud/cloud.h"
#include "base/fs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1u << 20)

static char dir[] = "/tmp/v2c-cloud-XXXXXX";

static struct cloud_vm
some_vm(void)
{
    struct cloud_vm vm = {
        .name = "a <b> & 'c'",
        .moref = "vm-7",
        .uuid = "420a0b0c-0000-1111-2222-333344445555",
        .efi = true,
        .cpus = 4,
        .cores_per_socket = 2,
        .memory_mb = 2048,
    };

    vec_push(&vm.disks,
             (struct cloud_disk){ .name = "0",
                                  .key = 2000,
                                  .size = 3 * MIB,
                                  .model = "ParaVirtualSCSIController",
                                  .boot = true });
    vec_push(&vm.disks,
             (struct cloud_disk){ .name = "scsi1:0",
                                  .key = 2016,
                                  .size = MIB + 512,
                                  .controller = 1,
                                  .model = "VirtualLsiLogicController" });
    vec_push(&vm.disks,
             (struct cloud_disk){ .name = "nvme0:0",
                                  .key = 32000,
                                  .size = MIB,
                                  .model = "VirtualNVMEController" });
    vec_push(&vm.nics,
             (struct cloud_nic){ "Network adapter 1", "00:50:56:aa:bb:cc",
                                 "VM Network", "VirtualVmxnet3" });
    return vm;
}

static void
vm_fini(struct cloud_vm *vm)
{
    for (size_t i = 0; i < vm->disks.n; i++)
        free(vm->disks.p[i].path);
    vec_fini(&vm->disks);
    vec_fini(&vm->nics);
}

static void *
open_local(struct spec *s)
{
    struct err e = ERR_INIT;
    void *cloud;

    s->target.local.line = 1;
    s->target.local.path = dir;
    s->target.local.overcommit = true;
    cloud = cloud_local.open(NULL, s, &e);
    if (!cloud)
        fail_msg("%s", e.msg);
    return cloud;
}

static void
replica_is_made_once(void **state)
{
    struct cloud_vm vm = some_vm();
    struct cloud_disk *d = &vm.disks.p[1];
    struct spec s = { 0 };
    void *cloud = open_local(&s);
    struct err e = ERR_INIT;
    char *first, *again, *other;
    bool there;

    (void)state;
    assert_int_equal(cloud_local.find_disk(cloud, &vm, d, &there, &e), 0);
    assert_false(there);
    assert_non_null(strstr(d->path, "_vm-7_diskscsi1_0.qcow2"));
    assert_int_equal(cloud_local.create_disk(cloud, d, &e), 0);
    first = cloud_local.identity(cloud, d, &e);
    assert_int_equal(cloud_local.find_disk(cloud, &vm, d, &there, &e), 0);
    assert_true(there);
    again = cloud_local.identity(cloud, d, &e);
    assert_string_equal(first, again);
    /* another one at its place, maybe with the same inode, is another one */
    assert_int_equal(unlink(d->path), 0);
    assert_int_equal(cloud_local.create_disk(cloud, d, &e), 0);
    other = cloud_local.identity(cloud, d, &e);
    assert_string_not_equal(first, other);
    /* one of another size is not ours to write to */
    d->size = MIB;
    assert_int_equal(cloud_local.find_disk(cloud, &vm, d, &there, &e), -1);
    assert_int_equal(e.class, ERR_DAMAGED);
    free(first);
    free(again);
    free(other);
    vm_fini(&vm);
    cloud_local.close(cloud);
}

static void
replica_is_served_to_one(void **state)
{
    struct cloud_vm vm = some_vm();
    struct spec s = { 0 };
    void *cloud = open_local(&s);
    struct err e = ERR_INIT;
    struct cloud_export x;
    bool there;

    (void)state;
    assert_int_equal(
        cloud_local.find_disk(cloud, &vm, &vm.disks.p[0], &there, &e), 0);
    assert_int_equal(cloud_local.create_disk(cloud, &vm.disks.p[0], &e), 0);
    assert_int_equal(cloud_local.serve_disk(cloud, &vm.disks.p[0], dir,
                                            "a.sock", false, &x, &e),
                     0);
    assert_string_equal(x.uri, "nbd+unix:///?socket=a.sock");
    assert_true(x.server.pid > 0);
    assert_int_equal(cloud_unserve(&x, &e), 0);
    vm_fini(&vm);
    cloud_local.close(cloud);
}

static void
domain_has_the_hardware(void **state)
{
    struct cloud_vm vm = some_vm();
    struct err e = ERR_INIT;
    struct str text = STR_INIT;
    struct xml *x;

    (void)state;
    for (size_t i = 0; i < vm.disks.n; i++)
        vm.disks.p[i].path = xasprintf("/r/%zu & more", i);
    domain_xml(&text, &vm, FORMAT_QCOW2);
    x = xml_parse(str_text(&text), text.n, &e);
    assert_non_null(x);
    assert_string_equal(xml_text(x, "name"), "a <b> & 'c'");
    assert_string_equal(xml_text(x, "memory"), "2048");
    assert_string_equal(xml_text(x, "vcpu"), "4");
    assert_non_null(strstr(text.p, "firmware='efi'"));
    assert_non_null(strstr(text.p, "index='0' model='vmpvscsi'"));
    assert_non_null(strstr(text.p, "index='1' model='lsilogic'"));
    assert_non_null(strstr(text.p, "00:50:56:aa:bb:cc"));
    assert_non_null(strstr(text.p, "model type='vmxnet3'"));
    assert_non_null(strstr(text.p, "dev='sdc' bus='sata'"));
    xml_free(x);
    str_fini(&text);
    vm_fini(&vm);
}

static void
missing_directory_is_refused(void **state)
{
    struct spec s = { .file = "s.yaml" };
    struct err e = ERR_INIT;

    (void)state;
    s.target.local.path = "/nonexistent/x";
    assert_null(cloud_local.open(NULL, &s, &e));
    assert_int_equal(e.class, ERR_USER);
    assert_non_null(strstr(e.msg, "/nonexistent/x: No such file"));
}

static void
little_room_is_refused(void **state)
{
    struct cloud_vm vm = some_vm();
    struct spec s = { 0 };
    void *cloud = open_local(&s);
    struct err e = ERR_INIT;

    (void)state;
    vm.disks.p[0].size = 1ull << 60;
    assert_int_equal(cloud_local.check(cloud, &vm, &e), 0);
    s.target.local.overcommit = false;
    assert_int_equal(cloud_local.check(cloud, &vm, &e), -1);
    assert_int_equal(e.class, ERR_NOSPACE);
    vm_fini(&vm);
    cloud_local.close(cloud);
}

static int
make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int
remove_dir(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return fs_remove_tree(dir, &e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replica_is_made_once),
        cmocka_unit_test(replica_is_served_to_one),
        cmocka_unit_test(domain_has_the_hardware),
        cmocka_unit_test(missing_directory_is_refused),
        cmocka_unit_test(little_room_is_refused),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
