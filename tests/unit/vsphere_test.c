/* vsphere: session, faults, finding and reading a VM. */
#include "vsphere_world.h"

/* session -------------------------------------------------------------- */

static void
session_sends_version_cookie_and_locale(void **state)
{
    defer_setting struct setting s = { 0 };
    char power[16], tools[40];
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, NULL);
    assert_true(vs_is_vcenter(s.vs));
    assert_string_equal(vs_about(s.vs), "VMware vCenter Server 8.0.2");
    assert_string_equal(vs_thumbprint(s.vs), CERT_SHA1);
    assert_int_equal(vs_get_power(s.vs, "vm-57", power, tools, &e), 0);
    assert_string_equal(power, "poweredOn");
    assert_string_equal(tools, "guestToolsRunning");
    assert_int_equal(seen("|urn:vim25/8.0.1.0|<?xml"), 3);
    assert_int_equal(seen("vmware_soap_session=\"c0ffee\"|"), 1);
    assert_int_equal(
        seen("<_this type=\"SessionManager\">SessionManager</_this><userName>"
             "DOM\\me</userName><password>pa&lt;ss&amp;word</password>"
             "<locale>en_US</locale></Login>"),
        1);
    assert_int_equal(seen("<operationID xmlns=\"urn:vim25\">mig-1<"), 3);
}

static void
session_logs_out(void **state)
{
    defer_setting struct setting s = { 0 };

    (void)state;
    open_world(&s, NULL);
    vs_close(take(s.vs));
    assert_int_equal(seen("<Logout"), 1);
}

static void
version_is_the_newest_we_know(void **state)
{
    static const struct {
        const char *xml, *version; /* NULL: none */
    } cases[] = {
        { "<n><namespace><name>urn:vim25</name><version>6.5</version>"
          "</namespace></n>",
          "6.5" },
        { "<n><namespace><name>urn:vim25</name><version>9.1.0.0</version>"
          "<priorVersions><version>8.0.0.1</version><version>6.9.1</version>"
          "<version>x</version></priorVersions></namespace></n>",
          "8.0.0.1" },
        { "<n><namespace><name>urn:vim25</name><version>9.0</version>"
          "</namespace></n>",
          NULL },
        { "<n><namespace><name>urn:other</name><version>7.0</version>"
          "</namespace></n>",
          NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = ERR_INIT;
        defer(xml_free_ptr) struct xml *x =
            xml_parse(cases[i].xml, strlen(cases[i].xml), &e);
        char out[32] = "";

        assert_non_null(x);
        assert_int_equal(session_version(x, out, sizeof out),
                         cases[i].version != NULL);
        if (cases[i].version)
            assert_string_equal(out, cases[i].version);
    }
}

static void
session_logs_in_again_once(void **state)
{
    defer_setting struct setting s = { 0 };
    char power[16], tools[40];
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, (const struct rule[]){
                       { "RetrievePropertiesEx", NULL,
                         FAULT("NotAuthenticated", "The session is not "
                                                   "authenticated."),
                         1 },
                       { 0 } });
    assert_int_equal(vs_get_power(s.vs, "vm-57", power, tools, &e), 0);
    assert_int_equal(seen("<Login"), 2);
    /* No old cookie goes with a login. */
    assert_int_equal(seen("c0ffee\"|urn:vim25/8.0.1.0|<?xml"), 2);
}

static void
session_gives_up_when_login_does_not_help(void **state)
{
    defer_setting struct setting s = { 0 };
    char power[16], tools[40];
    struct err e = ERR_INIT;

    (void)state;
    open_world(
        &s, (const struct rule[]){ { "RetrievePropertiesEx", NULL,
                                     FAULT("NotAuthenticated", ""), FOREVER },
                                   { 0 } });
    assert_int_equal(vs_get_power(s.vs, "vm-57", power, tools, &e), -1);
    assert_int_equal(e.class, ERR_AUTH);
    assert_int_equal(seen("<Login"), 2);
}

static void
session_never_repeats_a_refused_login(void **state)
{
    defer_setting struct setting s = { 0 };
    char power[16], tools[40];
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, (const struct rule[]){
                       { "Login", NULL, "<returnval></returnval>", 1 },
                       { "Login", NULL, FAULT("InvalidLogin", "Cannot log in"),
                         FOREVER },
                       { "RetrievePropertiesEx", NULL,
                         FAULT("NotAuthenticated", ""), FOREVER },
                       { 0 } });
    for (int i = 0; i < 3; i++) {
        assert_int_equal(vs_get_power(s.vs, "vm-57", power, tools, &e), -1);
        assert_int_equal(e.class, ERR_AUTH);
    }
    assert_int_equal(seen("<Login"), 2);
}

static void
session_open_fails_with_a_reason(void **state)
{
    static const struct {
        struct rule rule;
        enum err_class class;
        const char *words;
    } cases[] = {
        { { "Login", NULL, FAULT("InvalidLogin", "Cannot log in"), FOREVER },
          ERR_AUTH,
          "InvalidLogin" },
        { { "Login", NULL, "http:503:", FOREVER }, ERR_NET, "503" },
        { { "Login", NULL, "http:404:", FOREVER }, ERR_USER, "404" },
        { { "Login", NULL, "raw:<html><p>", FOREVER }, ERR_NET, "no SOAP" },
        { { "Login", NULL, "raw:<html/>", FOREVER },
          ERR_REMOTE,
          "LoginResponse" },
        { { "RetrieveServiceContent", NULL, "<returnval/>", FOREVER },
          ERR_REMOTE,
          "rootFolder" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        defer_setting struct setting s = { 0 };
        struct rule rules[2] = { cases[i].rule };
        struct err e = ERR_INIT;

        start(&s, rules);
        assert_null(connect_with(&s, NULL, &e));
        assert_int_equal(e.class, cases[i].class);
        assert_non_null(strstr(e.msg, cases[i].words));
        assert_null(strstr(e.msg, "pa<ss"));
    }
}

/* faults --------------------------------------------------------------- */

static void
faults_are_read_in_all_spellings(void **state)
{
    static const struct {
        const char *inner;
        enum err_class class;
        const char *fault, *words;
    } cases[] = {
        { FAULT("TaskInProgress", "busy"), ERR_BUSY, "TaskInProgress", "busy" },
        { "fault:<faultstring>x</faultstring><detail><vim25:ConcurrentAccess"
          "Fault xsi:type=\"vim25:ConcurrentAccess\"/></detail>",
          ERR_BUSY, "ConcurrentAccess", "x" },
        { "fault:<faultstring/><detail><NoPermissionFault xmlns:XMLSchema-"
          "instance=\"http://www.w3.org/2001/XMLSchema-instance\" XMLSchema-"
          "instance:type=\"NoPermission\"><object type=\"Folder\">g</object>"
          "<privilegeId>VirtualMachine.State.CreateSnapshot</privilegeId>"
          "</NoPermissionFault></detail>",
          ERR_AUTH, "NoPermission",
          "(privilege VirtualMachine.State.CreateSnapshot)" },
        { "fault:<faultstring>f</faultstring><detail><FileFaultFault>"
          "<faultMessage><key>vim.hostd.k</key><message>why</message>"
          "</faultMessage><file>[ds] a</file></FileFaultFault></detail>",
          ERR_REMOTE, "FileFault", "(file [ds] a) [vim.hostd.k: why]" },
        { "fault:<faultstring>f</faultstring><detail><FileFault/></detail>",
          ERR_REMOTE, "FileFault", "f" },
        { "fault:<faultstring>f</faultstring><detail><NoDiskSpaceFault>"
          "<datastore>ds1</datastore></NoDiskSpaceFault></detail>",
          ERR_NOSPACE, "NoDiskSpace", "(datastore ds1)" },
        { "fault:<faultstring>f</faultstring><detail><BrandNewFault/></detail>",
          ERR_REMOTE, "BrandNew", "f" },
        { "fault:<faultcode>ClientFaultCode</faultcode><faultstring>Unable to "
          "resolve</faultstring>",
          ERR_REMOTE, "", "Unable to resolve" },
        { FAULT("HostNotConnected", ""), ERR_NET, "HostNotConnected", "" },
        { FAULT("RestrictedVersion", "Current license"), ERR_REMOTE,
          "RestrictedVersion", "free ESXi licence" },
    };
    defer_setting struct setting s = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    open_world(
        &s, (const struct rule[]){ { "ShutdownGuest", NULL, "", 0 }, { 0 } });
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_first_rule(
            &(struct rule){ "ShutdownGuest", NULL, cases[i].inner, 1 });
        assert_int_equal(vs_shutdown_guest(s.vs, "vm-57", &e), -1);
        assert_int_equal(e.class, cases[i].class);
        assert_string_equal(e.fault, cases[i].fault);
        assert_non_null(strstr(e.msg, cases[i].words));
        assert_non_null(strstr(e.msg, "ShutdownGuest on vm-57"));
    }
}

static void
property_that_may_not_be_read_is_an_error(void **state)
{
    static const char hidden[] =
        ONE("VirtualMachine", "vm-57",
            "<missingSet><path>guest.toolsRunningStatus</path><fault>"
            "<fault xsi:type=\"NoPermission\"><privilegeId>System.Read"
            "</privilegeId></fault><localizedMessage/></fault></missingSet>");
    defer_setting struct setting s = { 0 };
    char power[16], tools[40];
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, (const struct rule[]){
                       { "RetrievePropertiesEx", NULL, hidden, 1 }, { 0 } });
    assert_int_equal(vs_get_power(s.vs, "vm-57", power, tools, &e), -1);
    assert_int_equal(e.class, ERR_AUTH);
    assert_non_null(strstr(e.msg, "guest.toolsRunningStatus"));
    assert_non_null(strstr(e.msg, "System.Read"));
}

/* inventory ------------------------------------------------------------ */

#define VM_NAMED(id, name) OBJECT("VirtualMachine", id, PROP("name", name))
#define ANY_VM(id, name, template)                           \
    ONE("VirtualMachine", id,                                \
        PROP("name", name) PROP("config.template", template) \
            REF_PROP("parent", "Folder", "group-v3"))

static const struct rule pages[] = {
    { "RetrievePropertiesEx", "<selectSet xsi:type=\"TraversalSpec\">",
      "<returnval><token>t1</token>" VM_NAMED("vm-1", "db")
          VM_NAMED("vm-2", "twin") "</returnval>",
      FOREVER },
    { "ContinueRetrievePropertiesEx", "<token>t1</token>",
      "<returnval><token>t2</token>" VM_NAMED("vm-3", "a%2fb%25")
          VM_NAMED("vm-4", "twin") "</returnval>",
      FOREVER },
    { "ContinueRetrievePropertiesEx", "<token>t2</token>",
      "<returnval>" VM_NAMED("vm-5", "gold") VM_NAMED("vm-6", "mix")
          VM_NAMED("vm-7", "mix") "</returnval>",
      FOREVER },
    { "RetrievePropertiesEx", ">vm-2<", ANY_VM("vm-2", "twin", "false"),
      FOREVER },
    { "RetrievePropertiesEx", ">vm-3<", ANY_VM("vm-3", "a%2fb%25", "false"),
      FOREVER },
    { "RetrievePropertiesEx", ">vm-4<", ANY_VM("vm-4", "twin", "false"),
      FOREVER },
    { "RetrievePropertiesEx", ">vm-5<", ANY_VM("vm-5", "gold", "true"),
      FOREVER },
    { "RetrievePropertiesEx", ">vm-6<", ANY_VM("vm-6", "mix", "true"),
      FOREVER },
    { "RetrievePropertiesEx", ">vm-7<", ANY_VM("vm-7", "mix", "false"),
      FOREVER },
    { 0 },
};

static void
names_are_searched_page_by_page(void **state)
{
    static const struct {
        const char *name, *vm; /* NULL: refused */
        enum err_class class;
        const char *words;
    } cases[] = {
        { "a/b%", "vm-3", ERR_NONE, "" },
        { "a%2fb%25", "vm-3", ERR_NONE, "" },
        { "mix", "vm-7", ERR_NONE, "" },
        { "gold", NULL, ERR_USER, "template" },
        { "nobody", NULL, ERR_NOTFOUND, "nobody" },
        { "twin", NULL, ERR_USER,
          "DC%2f1/vm/twin (vm-2), DC%2f1/vm/twin (vm-4)" },
    };
    defer_setting struct setting s = { 0 };

    (void)state;
    open_world(&s, pages);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct vs_query q = { .name = cases[i].name };
        struct err e = ERR_INIT;
        char vm[VS_ID_MAX];

        assert_int_equal(vs_find_vm(s.vs, &q, vm, &e), cases[i].vm ? 0 : -1);
        assert_int_equal(e.class, cases[i].class);
        assert_non_null(strstr(e.msg, cases[i].words));
        if (cases[i].vm)
            assert_string_equal(vm, cases[i].vm);
    }
    assert_int_equal(seen("<DestroyView"), 6);
}

static void
search_starts_again_in_a_new_session(void **state)
{
    struct rule rules[16] = {
        { "ContinueRetrievePropertiesEx", "<token>t2</token>",
          FAULT("NotAuthenticated", ""), 1 },
        { "ContinueRetrievePropertiesEx", "<token>t2</token>",
          FAULT("InvalidArgument", ""), 1 },
    };
    defer_setting struct setting s = { 0 };
    struct vs_query q = { .name = "a/b%" };
    struct err e = ERR_INIT;
    char vm[VS_ID_MAX];

    (void)state;
    memcpy(rules + 2, pages, sizeof pages);
    open_world(&s, rules);
    assert_int_equal(vs_find_vm(s.vs, &q, vm, &e), 0);
    assert_string_equal(vm, "vm-3");
    assert_int_equal(seen("<CreateContainerView"), 2);
}

static void
search_that_fails_otherwise_is_not_repeated(void **state)
{
    struct rule rules[16] = {
        { "ContinueRetrievePropertiesEx", "<token>t2</token>",
          FAULT("InvalidArgument", ""), 1 },
    };
    defer_setting struct setting s = { 0 };
    struct vs_query q = { .name = "a/b%" };
    struct err e = ERR_INIT;
    char vm[VS_ID_MAX];

    (void)state;
    memcpy(rules + 1, pages, sizeof pages);
    open_world(&s, rules);
    assert_int_equal(vs_find_vm(s.vs, &q, vm, &e), -1);
    assert_string_equal(e.fault, "InvalidArgument");
    assert_int_equal(seen("<CreateContainerView"), 1);
}

static void
other_ways_to_name_a_vm(void **state)
{
    static const struct {
        struct vs_query q;
        enum err_class class;
    } cases[] = {
        { { .moref = "vm-57" }, ERR_NONE },
        { { .moref = "vm-404" }, ERR_NOTFOUND },
        { { .uuid = "4210-INST" }, ERR_NONE },
        { { .uuid = "4210-bios" }, ERR_NONE },
        { { .uuid = "4210-none" }, ERR_NOTFOUND },
        { { .path = "/DC/vm/web" }, ERR_NONE },
        { { .path = "DC/vm/gone" }, ERR_NOTFOUND },
        { { .path = "DC/vm" }, ERR_USER },
        { { .path = "DC/vm", .name = "web" }, ERR_USER },
        { { 0 }, ERR_USER },
    };
    const struct rule rules[] = {
        { "RetrievePropertiesEx", ">vm-404<",
          FAULT("ManagedObjectNotFound", "gone"), FOREVER },
        { "FindByUuid",
          "<uuid>4210-inst</uuid><vmSearch>true</vmSearch>"
          "<instanceUuid>true</instanceUuid></FindByUuid>",
          "<returnval type=\"VirtualMachine\">vm-57</returnval>", FOREVER },
        { "FindByUuid", NULL, "", FOREVER },
        { "RetrievePropertiesEx", "<pathSet>config.uuid</pathSet></propSet>",
          "<returnval>" OBJECT("VirtualMachine", "vm-57",
                               PROP("config.uuid", "4210-bios"))
              OBJECT("VirtualMachine", "vm-58", "") "</returnval>",
          FOREVER },
        { "FindByInventoryPath", ">DC/vm/web<",
          "<returnval type=\"VirtualMachine\">vm-57</returnval>", FOREVER },
        { "FindByInventoryPath", ">DC/vm<",
          "<returnval type=\"Folder\">group-v3</returnval>", FOREVER },
        { "FindByInventoryPath", NULL, "", FOREVER },
        { 0 },
    };
    defer_setting struct setting s = { 0 };

    (void)state;
    open_world(&s, rules);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = ERR_INIT;
        char vm[VS_ID_MAX] = "";
        int rc = vs_find_vm(s.vs, &cases[i].q, vm, &e);

        assert_int_equal(e.class, cases[i].class);
        assert_int_equal(rc, cases[i].class == ERR_NONE ? 0 : -1);
        if (!rc)
            assert_string_equal(vm, "vm-57");
    }
}

/* vm ------------------------------------------------------------------- */

static void
check_disks(const struct vs_vm *vm)
{
    static const struct {
        int key;
        const char *address;
        uint64_t capacity;
    } order[] = { { 2000, "scsi0:0", 4194304 },
                  { 2001, "scsi0:1", 1049088 },
                  { 16000, "sata1:2", 512 },
                  { 32000, "nvme0:0", 10240 } };

    assert_int_equal(vm->disks.n, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(vm->disks.p[i].key, order[i].key);
        assert_string_equal(vm->disks.p[i].address, order[i].address);
        assert_true(vm->disks.p[i].capacity == order[i].capacity);
        assert_int_equal(vm->disks.p[i].ctk, i == 1);
    }
    assert_string_equal(vm->disks.p[1].change_id, CHANGE_ID "/7");
    assert_string_equal(vm->disks.p[1].path, "[ds1] vm/vm_1.vmdk");
    assert_string_equal(vm->disks.p[1].uuid, "6000C29b");
    assert_string_equal(vm->disks.p[1].label, "Hard disk 2");
    assert_string_equal(vm->disks.p[1].controller, "ParaVirtualSCSIController");
    assert_string_equal(vm->disks.p[1].shared_bus, "noSharing");
    assert_string_equal(vm->disks.p[1].sharing, "sharingNone");
    assert_string_equal(vm->disks.p[0].change_id, "");
    assert_string_equal(vm->disks.p[2].rdm, "physicalMode");
    assert_string_equal(vm->disks.p[3].mode, "independent_persistent");
    assert_string_equal(vm->disks.p[3].backing,
                        "VirtualDiskSeSparseBackingInfo");
}

static void
vm_is_read_whole(void **state)
{
    defer_setting struct setting s = { 0 };
    defer(vs_vm_fini) struct vs_vm vm = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, NULL);
    if (vs_get_vm(s.vs, "vm-57", &vm, &e))
        fail_msg("%s", e.msg);
    assert_string_equal(vm.name, "web/one & only");
    assert_string_equal(vm.path, "DC%2f1/vm/web%2fone & only");
    assert_string_equal(vm.host, "host-9");
    assert_string_equal(vm.uuid, "4210-bios");
    assert_string_equal(vm.firmware, "efi");
    assert_string_equal(vm.question, "moved or copied?");
    assert_string_equal(vm.guest_id, "");
    assert_true(vm.secure_boot && vm.vtpm && vm.cbt_supported &&
                vm.cbt_enabled);
    assert_false(vm.encrypted || vm.template || vm.fault_tolerant ||
                 vm.consolidation_needed);
    assert_int_equal(vm.cpus, 4);
    assert_int_equal(vm.cores_per_socket, 2);
    assert_int_equal(vm.memory_mb, 8192);
    check_disks(&vm);
    assert_int_equal(vm.boot_disk_key, 2001);
    assert_int_equal(vm.nics.n, 2);
    assert_string_equal(vm.nics.p[0].network, "prod/dmz");
    assert_string_equal(vm.nics.p[0].type, "VirtualVmxnet3");
    assert_string_equal(vm.nics.p[1].network, "VM Network");
    assert_string_equal(vm.nics.p[1].mac, "00:50:56:aa:bb:cd");
    assert_int_equal(vm.snapshots.n, 3);
    assert_string_equal(vm.snapshots.p[1].id, "snapshot-2");
    assert_string_equal(vm.snapshots.p[1].parent, "snapshot-1");
    assert_string_equal(vm.snapshots.p[2].parent, "");
}

static void
vm_without_hardware(void **state)
{
    static const struct {
        const char *connection;
        int rc;
    } cases[] = { { "connected", -1 }, { "inaccessible", 0 } };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        defer_free char *answer = xasprintf(
            "<returnval><objects><obj type=\"VirtualMachine\">vm-8</obj>"
            "<propSet><name>runtime.connectionState</name><val>%s</val>"
            "</propSet></objects></returnval>",
            cases[i].connection);
        struct rule rules[] = {
            { "RetrievePropertiesEx", ">vm-8<", answer, FOREVER }, { 0 }
        };
        defer_setting struct setting s = { 0 };
        struct vs_vm vm = { 0 };
        struct err e = ERR_INIT;

        open_world(&s, rules);
        assert_int_equal(vs_get_vm(s.vs, "vm-8", &vm, &e), cases[i].rc);
        assert_int_equal(vm.boot_disk_key, 0);
        assert_false(vm.cbt_supported);
        vs_vm_fini(&vm);
    }
}

static void
hardware_that_makes_no_sense_is_refused(void **state)
{
    static const char *const bad[] = {
        "<h>" DISK("2000", "a", "B", "", "1", "0", "") "</h>",
        "<h>" DISK("2000", "a", "B", "", "1", "0",
                   "<capacityInBytes>-1</capacityInBytes>") "</h>",
        "<h>" DISK("2000", "a", "B", "", "1", "0",
                   "<capacityInKB>9223372036854775807</capacityInKB>") "</h>",
        "<h>" DISK("x", "a", "B", "", "1", "0",
                   "<capacityInKB>1</capacityInKB>") "</h>",
        "<h>" DISK("2000", "a", "B", "", "1", "0",
                   "<capacityInKB>1</capacityInKB>")
            DISK("2000", "b", "B", "", "1", "1",
                 "<capacityInKB>1</capacityInKB>") "</h>",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct str text = STR_INIT;
        struct vs_disks disks = { 0 };
        struct err e = ERR_INIT;
        struct xml *x;

        str_add(&text, "<r xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-"
                       "instance\" xmlns:vim25=\"urn:vim25\">");
        str_addf(&text, "%s</r>", bad[i]);
        x = xml_parse(text.p, text.n, &e);
        assert_non_null(x);
        assert_int_equal(disks_read(xml_kid(x, "h"), NULL, &disks, &e), -1);
        assert_int_equal(e.class, ERR_REMOTE);
        vs_disks_fini(&disks);
        xml_free(x);
        str_fini(&text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_sends_version_cookie_and_locale),
        cmocka_unit_test(session_logs_out),
        cmocka_unit_test(version_is_the_newest_we_know),
        cmocka_unit_test(session_logs_in_again_once),
        cmocka_unit_test(session_gives_up_when_login_does_not_help),
        cmocka_unit_test(session_never_repeats_a_refused_login),
        cmocka_unit_test(session_open_fails_with_a_reason),
        cmocka_unit_test(faults_are_read_in_all_spellings),
        cmocka_unit_test(property_that_may_not_be_read_is_an_error),
        cmocka_unit_test(names_are_searched_page_by_page),
        cmocka_unit_test(search_starts_again_in_a_new_session),
        cmocka_unit_test(search_that_fails_otherwise_is_not_repeated),
        cmocka_unit_test(other_ways_to_name_a_vm),
        cmocka_unit_test(vm_is_read_whole),
        cmocka_unit_test(vm_without_hardware),
        cmocka_unit_test(hardware_that_makes_no_sense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
