/* vsphere: tasks, snapshots, power, changed areas. */
#include "vsphere_world.h"

/* tasks and snapshots -------------------------------------------------- */

static const struct rule created = { "CreateSnapshot_Task", NULL, TASK_STARTED,
                                     FOREVER };
#define SNAPSHOT_DONE                                                     \
    TASK("success", "<result xsi:type=\"ManagedObjectReference\" type=\"" \
                    "VirtualMachineSnapshot\">snapshot-5</result>")

static int
create(struct vs *vs, char snap[VS_ID_MAX], struct err *e)
{
    return vs_snapshot_create(vs, "vm-57", "v2c-base-<1>", "d", true, snap, e);
}

static void
snapshot_is_created(void **state)
{
    defer_setting struct setting s = { 0 };
    char snap[VS_ID_MAX];
    struct err e = ERR_INIT;

    (void)state;
    open_world(
        &s,
        (const struct rule[]){
            created,
            { "RetrievePropertiesEx", "type=\"Task\"", TASK("queued", ""), 1 },
            { "RetrievePropertiesEx", "type=\"Task\"",
              TASK("running", "<progress>7</progress>"), 2 },
            { "RetrievePropertiesEx", "type=\"Task\"", "http:503:", 2 },
            { "RetrievePropertiesEx", "type=\"Task\"", SNAPSHOT_DONE, FOREVER },
            { 0 } });
    assert_int_equal(create(s.vs, snap, &e), 0);
    assert_string_equal(snap, "snapshot-5");
    assert_int_equal(
        seen("<_this type=\"VirtualMachine\">vm-57</_this><name>v2c-base-&lt;1"
             "&gt;</name><description>d</description><memory>false</memory>"
             "<quiesce>true</quiesce></CreateSnapshot_Task>"),
        1);
}

static void
snapshot_waits_for_another_task(void **state)
{
    static const struct {
        struct rule busy;
        int rc, asked;
    } cases[] = {
        { { "CreateSnapshot_Task", NULL, FAULT("TaskInProgress", "other"), 2 },
          0,
          3 },
        { { "RetrievePropertiesEx", "type=\"Task\"",
            TASK_ERROR("TaskInProgress", "other"), 3 },
          0,
          4 },
        { { "CreateSnapshot_Task", NULL, FAULT("TaskInProgress", "other"),
            FOREVER },
          -1,
          6 },
        { { "CreateSnapshot_Task", NULL, FAULT("FileLocked", "other"), 1 },
          -1,
          1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rule rules[] = { cases[i].busy,
                                created,
                                { "RetrievePropertiesEx", "type=\"Task\"",
                                  SNAPSHOT_DONE, FOREVER },
                                { 0 } };
        defer_setting struct setting s = { 0 };
        char snap[VS_ID_MAX];
        struct err e = ERR_INIT;

        open_world(&s, rules);
        assert_int_equal(create(s.vs, snap, &e), cases[i].rc);
        assert_int_equal(seen("<CreateSnapshot_Task"), cases[i].asked);
        assert_int_equal(e.class, cases[i].rc ? ERR_BUSY : ERR_NONE);
    }
}

static void
task_ends_badly(void **state)
{
    static const struct {
        const char *inner;
        enum err_class class;
        const char *fault, *words;
    } cases[] = {
        { TASK_ERROR("ApplicationQuiesceFault", "VSS &lt;failed>"), ERR_REMOTE,
          "ApplicationQuiesceFault", "VSS <failed>" },
        { TASK("success", ""), ERR_REMOTE, "", "result" },
        { TASK("paused", ""), ERR_REMOTE, "", "paused" },
        { FAULT("ManagedObjectNotFound", "gone"), ERR_NET, "", "unknown" },
        { "http:503:", ERR_NET, "", "503" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rule rules[] = { created,
                                { "RetrievePropertiesEx", "type=\"Task\"",
                                  cases[i].inner, FOREVER },
                                { 0 } };
        defer_setting struct setting s = { 0 };
        char snap[VS_ID_MAX];
        struct err e = ERR_INIT;

        open_world(&s, rules);
        assert_int_equal(create(s.vs, snap, &e), -1);
        assert_int_equal(e.class, cases[i].class);
        assert_string_equal(e.fault, cases[i].fault);
        assert_non_null(strstr(e.msg, cases[i].words));
    }
}

static void
wait_ends_when_asked_to_stop(void **state)
{
    const struct rule rules[] = { { "ReconfigVM_Task", NULL, TASK_STARTED, 1 },
                                  { "RetrievePropertiesEx", "type=\"Task\"",
                                    TASK("running", ""), FOREVER },
                                  { 0 } };
    static volatile sig_atomic_t stop;
    defer_setting struct setting s = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    start(&s, rules);
    assert_non_null(connect_with(&s, &stop, &e));
    stop = 1;
    assert_int_equal(vs_enable_cbt(s.vs, "vm-57", &e), -1);
    assert_int_equal(e.class, ERR_STOPPED);
}

/* Else one would be left that nobody knows of. */
static void
snapshot_is_waited_for_even_then(void **state)
{
    const struct rule rules[] = {
        created,
        { "RetrievePropertiesEx", "type=\"Task\"", TASK("running", ""), 3 },
        { "RetrievePropertiesEx", "type=\"Task\"", SNAPSHOT_DONE, FOREVER },
        { 0 }
    };
    static volatile sig_atomic_t stop;
    defer_setting struct setting s = { 0 };
    char snap[VS_ID_MAX];
    struct err e = ERR_INIT;

    (void)state;
    start(&s, rules);
    assert_non_null(connect_with(&s, &stop, &e));
    stop = 1;
    assert_int_equal(create(s.vs, snap, &e), 0);
}

#define NEEDED(value) \
    ONE("VirtualMachine", "vm-57", PROP("runtime.consolidationNeeded", value))
#define ASK_NEEDED "<pathSet>runtime.consolidationNeeded</pathSet></propSet>"

static const struct {
    struct rule first, second;
    int rc, consolidated;
    enum err_class class;
} removals[] = {
    { { 0 }, { 0 }, 0, 0, ERR_NONE },
    { { "RetrievePropertiesEx", ASK_NEEDED, NEEDED("true"), 3 },
      { "RetrievePropertiesEx", ASK_NEEDED, ONE("VirtualMachine", "vm-57", ""),
        FOREVER },
      0,
      0,
      ERR_NONE },
    { { "RetrievePropertiesEx", ASK_NEEDED, NEEDED("true"), 31 },
      { 0 },
      0,
      1,
      ERR_NONE },
    { { "RetrievePropertiesEx", ASK_NEEDED, NEEDED("true"), FOREVER },
      { 0 },
      -1,
      5,
      ERR_BUSY },
    { { "RemoveSnapshot_Task", NULL, FAULT("ManagedObjectNotFound", ""),
        FOREVER },
      { 0 },
      0,
      0,
      ERR_NONE },
    { { "RemoveSnapshot_Task", NULL, FAULT("FileLocked", ""), 2 },
      { 0 },
      0,
      0,
      ERR_NONE },
    { { "RemoveSnapshot_Task", NULL, FAULT("NoPermission", ""), FOREVER },
      { 0 },
      -1,
      0,
      ERR_AUTH },
};

static void
snapshot_is_removed_and_consolidated(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof removals / sizeof *removals; i++) {
        struct rule rules[] = {
            { "RemoveSnapshot_Task", "no such text", "", 0 },
            { "RemoveSnapshot_Task", "no such text", "", 0 },
            { "RemoveSnapshot_Task",
              "snapshot-5</_this><removeChildren>false</removeChildren>"
              "<consolidate>true</consolidate></RemoveSnapshot_Task>",
              TASK_STARTED, FOREVER },
            { "ConsolidateVMDisks_Task", ">vm-57<", TASK_STARTED, FOREVER },
            { 0 }
        };
        defer_setting struct setting s = { 0 };
        struct err e = ERR_INIT;

        if (removals[i].first.method)
            rules[0] = removals[i].first;
        if (removals[i].second.method)
            rules[1] = removals[i].second;
        open_world(&s, rules);
        s.vs->haste = 1000;
        assert_int_equal(vs_snapshot_remove(s.vs, "vm-57", "snapshot-5", &e),
                         removals[i].rc);
        assert_int_equal(e.class, removals[i].class);
        assert_int_equal(seen("<ConsolidateVMDisks_Task"),
                         removals[i].consolidated);
    }
}

static void
cbt_is_enabled(void **state)
{
    const struct rule rules[] = {
        { "ReconfigVM_Task",
          "vm-57</_this><spec><changeTrackingEnabled>true"
          "</changeTrackingEnabled></spec></ReconfigVM_Task>",
          TASK_STARTED, 1 },
        { 0 }
    };
    defer_setting struct setting s = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, rules);
    assert_int_equal(vs_enable_cbt(s.vs, "vm-57", &e), 0);
}

/* power ---------------------------------------------------------------- */

static void
power_that_is_as_wanted_is_success(void **state)
{
    const struct rule rules[] = {
        { "PowerOffVM_Task", NULL, TASK_STARTED, FOREVER },
        { "PowerOnVM_Task", NULL, TASK_STARTED, FOREVER },
        { "RetrievePropertiesEx", "type=\"Task\"",
          TASK_ERROR("InvalidPowerState", "no"), FOREVER },
        { 0 }
    };
    defer_setting struct setting s = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, rules); /* vm-57 is on */
    assert_int_equal(vs_power_on(s.vs, "vm-57", &e), 0);
    assert_int_equal(vs_power_off(s.vs, "vm-57", &e), -1);
    assert_string_equal(e.fault, "InvalidPowerState");
}

/* changed areas -------------------------------------------------------- */

struct areas {
    uint64_t start[16], length[16];
    size_t n, most; /* most: ends the walk with 7; 0: never */
};

static int
take_area(void *ctx, uint64_t start, uint64_t length)
{
    struct areas *a = ctx;

    assert_true(a->n < 16);
    a->start[a->n] = start;
    a->length[a->n++] = length;
    return a->n == a->most ? 7 : 0;
}

#define DISK_KEY  2001
#define DISK_SIZE 1049088 /* 1 MiB and a sector */
#define WINDOW(from, start, length, areas)                                   \
    {                                                                        \
        "QueryChangedDiskAreas", "<startOffset>" from "</startOffset>",      \
            "<returnval><startOffset>" start "</startOffset><length>" length \
            "</length>" areas "</returnval>",                                \
            FOREVER                                                          \
    }
#define AREA(start, length)                                \
    "<changedArea><start>" start "</start><length>" length \
    "</length></changedArea>"

static int
changed(struct vs *vs, struct areas *a, struct err *e)
{
    *a = (struct areas){ .most = a->most };
    return vs_changed_areas(vs, "vm-57", "snapshot-5", DISK_KEY, DISK_SIZE,
                            CHANGE_ID "/3", take_area, a, e);
}

static void
changes_are_gathered_window_by_window(void **state)
{
    const struct rule rules[] = {
        WINDOW("0", "0", "131072", AREA("0", "65536") AREA("65536", "512")),
        WINDOW("131072", "131072", "65536", ""),
        /* Rounded up past the end, as some servers do. */
        WINDOW("196608", "196608", "917504", AREA("1048576", "65536")),
        { 0 }
    };
    defer_setting struct setting s = { 0 };
    struct areas a = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, rules);
    if (changed(s.vs, &a, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(a.n, 3);
    assert_int_equal(a.start[1], 65536);
    assert_int_equal(a.length[1], 512);
    assert_int_equal(a.start[2], 1048576);
    assert_int_equal(a.length[2], 512);
    assert_int_equal(
        seen("<snapshot type=\"VirtualMachineSnapshot\">"
             "snapshot-5</snapshot><deviceKey>2001</deviceKey>"
             "<startOffset>131072</startOffset><changeId>" CHANGE_ID
             "/3</changeId></QueryChangedDiskAreas>"),
        1);
    a.most = 1;
    assert_int_equal(changed(s.vs, &a, &e), 7);
    assert_int_equal(a.n, 1);
    assert_int_equal(e.class, ERR_NONE);
}

static void
changes_that_do_not_add_up_are_refused(void **state)
{
    static const struct rule bad[] = {
        WINDOW("0", "0", "0", ""),
        WINDOW("0", "512", "1048576", ""),
        WINDOW("0", "0", "x", ""),
        WINDOW("0", "0", "-1", ""),
        WINDOW("0", "0", "", ""),
        WINDOW("0", "0", "18446744073709551615", ""),
        WINDOW("0", "0", "4194304", ""),
        WINDOW("0", "0", "1049088", AREA("0", "0")),
        WINDOW("0", "0", "1049088", AREA("0", "")),
        WINDOW("0", "0", "1049088", AREA("1048576", "1024")),
        WINDOW("0", "0", "65536", AREA("65536", "512")),
        WINDOW("0", "0", "1049088", AREA("512", "1024") AREA("1024", "512")),
        WINDOW("0", "0", "1049088", AREA("1024", "512") AREA("0", "512")),
        WINDOW("0", "0", "1049088", AREA("9223372036854775807", "1")),
        { "QueryChangedDiskAreas", NULL, "", FOREVER },
        { "QueryChangedDiskAreas", NULL, FAULT("FileFault", "ctk"), FOREVER },
        { "QueryChangedDiskAreas", NULL, FAULT("FileLocked", "ctk"), FOREVER },
        { "QueryChangedDiskAreas", NULL, FAULT("SystemError", "x"), FOREVER },
        { "QueryChangedDiskAreas", NULL, FAULT("InvalidArgument", "changeId"),
          FOREVER },
        { "QueryChangedDiskAreas", NULL, FAULT("MethodNotFound", ""), FOREVER },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct rule rules[] = { bad[i], { 0 } };
        defer_setting struct setting s = { 0 };
        struct areas a = { 0 };
        struct err e = ERR_INIT;

        open_world(&s, rules);
        assert_int_equal(changed(s.vs, &a, &e), -1);
        assert_int_equal(e.class, ERR_DAMAGED);
        assert_non_null(strstr(e.msg, "changed areas of disk 2001 of vm-57"));
    }
}

static void
changes_of_a_later_window_lie_within_it(void **state)
{
    const struct rule rules[] = { WINDOW("0", "0", "65536", ""),
                                  WINDOW("65536", "65536", "983552",
                                         AREA("65024", "1024")),
                                  { 0 } };
    defer_setting struct setting s = { 0 };
    struct areas a = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    open_world(&s, rules);
    assert_int_equal(changed(s.vs, &a, &e), -1);
    assert_int_equal(e.class, ERR_DAMAGED);
    assert_int_equal(a.n, 0);
}

static void
changes_ask_again_only_when_it_may_help(void **state)
{
#define CTK(key)                                                          \
    "fault:<faultstring/><detail><FileFaultFault xsi:type=\"FileFault\">" \
    "<faultMessage><key>" key                                             \
    "</key></faultMessage></FileFaultFault></detail>"
    static const struct {
        struct rule rule;
        enum err_class class;
        int asked;
    } cases[] = {
        { { "QueryChangedDiskAreas", NULL, CTK("com.vmware.other"), 2 },
          ERR_NONE,
          3 },
        { { "QueryChangedDiskAreas", NULL, CTK("com.vmware.other"), FOREVER },
          ERR_DAMAGED,
          3 },
        { { "QueryChangedDiskAreas", NULL,
            CTK("vim.hostd.vmsvc.cbt.cannotGetChanges"), FOREVER },
          ERR_DAMAGED,
          1 },
        { { "QueryChangedDiskAreas", NULL, FAULT("NotFound", ""), FOREVER },
          ERR_NOTFOUND,
          1 },
        { { "QueryChangedDiskAreas", NULL, FAULT("NoPermission", ""), FOREVER },
          ERR_AUTH,
          1 },
        { { "QueryChangedDiskAreas", NULL, "http:503:", FOREVER }, ERR_NET, 1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rule rules[] = { cases[i].rule,
                                WINDOW("0", "0", "1049088", ""),
                                { 0 } };
        defer_setting struct setting s = { 0 };
        struct areas a = { 0 };
        struct err e = ERR_INIT;

        open_world(&s, rules);
        assert_int_equal(changed(s.vs, &a, &e),
                         cases[i].class == ERR_NONE ? 0 : -1);
        assert_int_equal(e.class, cases[i].class);
        assert_int_equal(seen("<QueryChangedDiskAreas"), cases[i].asked);
    }
}

static void
changes_of_another_disk_or_epoch_are_refused(void **state)
{
    static const struct {
        int key;
        uint64_t capacity;
        const char *change_id, *words;
    } cases[] = {
        { DISK_KEY, DISK_SIZE, "52 00/3", "another epoch" },
        { DISK_KEY, DISK_SIZE, "garbage", "another epoch" },
        { DISK_KEY, DISK_SIZE, "", "no changeId" },
        { DISK_KEY, DISK_SIZE, NULL, "no changeId" },
        { DISK_KEY, DISK_SIZE + 512, CHANGE_ID "/3", "bytes" },
        { 2000, 4194304, CHANGE_ID "/3", "no changeId" },
        { 2009, DISK_SIZE, CHANGE_ID "/3", "no such disk" },
    };
    defer_setting struct setting s = { 0 };

    (void)state;
    open_world(&s, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct areas a = { 0 };
        struct err e = ERR_INIT;

        assert_int_equal(vs_changed_areas(s.vs, "vm-57", "snapshot-5",
                                          cases[i].key, cases[i].capacity,
                                          cases[i].change_id, take_area, &a,
                                          &e),
                         -1);
        assert_int_equal(e.class, ERR_DAMAGED);
        assert_non_null(strstr(e.msg, cases[i].words));
    }
    assert_int_equal(seen("<QueryChangedDiskAreas"), 0);
}

static void
epochs_are_compared(void **state)
{
    (void)state;
    assert_true(vs_same_epoch("52 f3/2", "52 f3/19"));
    assert_false(vs_same_epoch("52 f3/2", "52 f4/2"));
    assert_false(vs_same_epoch("52 f3/2", "52 f/2"));
    assert_false(vs_same_epoch("52 f3", "52 f3"));
    assert_false(vs_same_epoch("/2", "/2"));
    assert_false(vs_same_epoch("", ""));
    assert_false(vs_same_epoch(NULL, "52 f3/2"));
    assert_false(vs_same_epoch("*", "*"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_is_created),
        cmocka_unit_test(snapshot_waits_for_another_task),
        cmocka_unit_test(task_ends_badly),
        cmocka_unit_test(wait_ends_when_asked_to_stop),
        cmocka_unit_test(snapshot_is_waited_for_even_then),
        cmocka_unit_test(snapshot_is_removed_and_consolidated),
        cmocka_unit_test(cbt_is_enabled),
        cmocka_unit_test(power_that_is_as_wanted_is_success),
        cmocka_unit_test(changes_are_gathered_window_by_window),
        cmocka_unit_test(changes_that_do_not_add_up_are_refused),
        cmocka_unit_test(changes_of_a_later_window_lie_within_it),
        cmocka_unit_test(changes_ask_again_only_when_it_may_help),
        cmocka_unit_test(changes_of_another_disk_or_epoch_are_refused),
        cmocka_unit_test(epochs_are_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
