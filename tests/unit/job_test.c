/* job: specs, configuration, records. */
#include "job/job.h"
#include "base/fs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static char dir[] = "/tmp/v2c-job-XXXXXX";

static char *
put(const char *name, const char *text)
{
    char *path = xasprintf("%s/%s", dir, name);
    struct err e = ERR_INIT;

    assert_int_equal(fs_replace(path, text, strlen(text), 0600, &e), 0);
    return path;
}

static void
assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in '%s'", part, text);
}

static void
config_has_defaults(void **state)
{
    defer_free char *path = put("c.yaml", "vcenter:\n  host: vc:8443\n");
    struct err e = ERR_INIT;
    struct config *c = config_read(path, &e);

    (void)state;
    assert_non_null(c);
    assert_string_equal(c->vcenter.host, "vc:8443");
    assert_string_equal(c->migration.control_dir, "/var/lib/vm-migrator");
    assert_int_equal(c->migration.parallel_disks, 4);
    assert_int_equal(c->migration.parallel_vms, 3);
    assert_int_equal(c->migration.shutdown_mode, SHUTDOWN_AUTO);
    assert_int_equal(c->migration.snapshot_quiesce, QUIESCE_AUTO);
    assert_int_equal(c->limits.disks_per_host, 8);
    assert_int_equal(c->limits.disks_per_datastore, 15);
    assert_int_equal(c->limits.rate, 0);
    assert_int_equal(c->migration.verify, VERIFY_SAMPLE);
    assert_int_equal(c->migration.verify_sample, 5);
    config_free(c);
}

static const struct {
    const char *text, *said;
} bad_configs[] = {
    { "vcenter:\n  hots: x\n",
      "c.yaml:2: unknown key 'hots'; did you mean 'host'?" },
    { "migration:\n  parallel_disks: many\n",
      "c.yaml:2: parallel_disks: value: 'many' is not a number" },
    { "migration:\n  parallel_disks: 65\n", "65 is not between 0 and 64" },
    { "migration:\n  shutdown_mode: kill\n",
      "c.yaml:2: shutdown_mode: 'kill' is none of auto, force, manual" },
    { "vcenter:\n  insecure: perhaps\n", "neither true nor false" },
    { "limits:\n  rate: 200M\n", "c.yaml:2: rate: '200M' is no rate; give" },
    { "limits:\n  disks_per_host: -1\n", "-1 is not between 0 and 1000" },
    { "vcenter: []\n", "c.yaml:1: a map of keys is expected here" },
    { "vcenter:\n  insecure: true\n  thumbprint: AA\n", "contradicts" },
    { "zzzzzzzzzzzz: 1\n", "known here: vcenter, migration" },
    { "vcenter:\n  password: \"one\\nsesame\"\n",
      "vcenter.password has a line break" },
    { "vcenter:\n  user: \"u\\nsource.port 1\"\n",
      "vcenter.user has a line break" },
    { "migration:\n  vddk_path: \"/v\\tddk\"\n",
      "migration.vddk_path has a line break" },
};

static void
config_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_configs / sizeof *bad_configs; i++) {
        defer_free char *path = put("c.yaml", bad_configs[i].text);
        struct err e = ERR_INIT;

        assert_null(config_read(path, &e));
        assert_int_equal(e.class, ERR_USER);
        assert_has(e.msg, bad_configs[i].said);
        assert_null(strstr(e.msg, "sesame"));
    }
}

static struct config *
some_config(const char *text)
{
    defer_free char *path = put("c.yaml", text);
    struct err e = ERR_INIT;
    struct config *c = config_read(path, &e);

    assert_non_null(c);
    return c;
}

/* What is written for the record is a spec again, and the same one. */
static void
spec_reads_itself(const struct spec *s, const struct config *c)
{
    defer_json json_t *j = spec_json(s), *again = NULL;
    defer_free char *text = json_dumps(j, 0);
    defer_free char *path = put("again.yaml", text);
    struct specs back = { 0 };
    struct err e = ERR_INIT;

    assert_int_equal(spec_read(path, c, &back, &e), 0);
    again = spec_json(back.p[0]);
    assert_true(json_equal(j, again));
    assert_int_equal(back.p[0]->migration.finalize_at,
                     s->migration.finalize_at);
    assert_int_equal(back.p[0]->migration.rate, s->migration.rate);
    specs_fini(&back);
}

static void
spec_forms_and_defaults(void **state)
{
    struct config *c = some_config(
        "cloudstack_defaults:\n  zoneid: z1\n"
        "migration:\n  shutdown_mode: force\n  parallel_disks: 7\n"
        "  verify: full\n  verify_sample: 20\n"
        "limits:\n  rate_per_vm: 100MB\n  rate_per_disk: 1.5MB/s\n");
    defer_free char *one =
        put("one.yaml", "vm:\n  name: A\n"
                        "migration:\n  finalize_at: 2026-11-21T22:00\n"
                        "  snapshot_quiesce: true\n");
    defer_free char *two =
        put("two.yaml", "vms:\n  - vm: {name: B}\n"
                        "  - vm: {moref: vm-7}\n"
                        "    migration: {rate: none, verify: none}\n");
    struct specs s = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(spec_read(one, c, &s, &e), 0);
    assert_int_equal(spec_read(two, c, &s, &e), 0);
    assert_int_equal(s.n, 3);
    assert_string_equal(spec_vm(s.p[0]), "A");
    assert_int_equal(s.p[0]->migration.finalize_at, 1795298400000);
    assert_int_equal(s.p[0]->migration.snapshot_quiesce, QUIESCE_TRUE);
    assert_int_equal(s.p[0]->migration.shutdown_mode, SHUTDOWN_FORCE);
    assert_int_equal(s.p[0]->migration.delta_interval, 300);
    assert_int_equal(s.p[0]->migration.parallel_disks, 7);
    assert_int_equal(s.p[0]->migration.verify, VERIFY_FULL);
    assert_int_equal(s.p[0]->migration.verify_sample, 20);
    assert_int_equal(s.p[2]->migration.verify, VERIFY_NONE);
    assert_string_equal(s.p[0]->target.cloudstack.zoneid, "z1");
    assert_string_equal(spec_vm(s.p[2]), "vm-7");
    assert_int_equal(s.p[0]->migration.rate, 100000000);
    assert_int_equal(s.p[2]->migration.rate, RATE_NONE);
    assert_int_equal(s.p[2]->migration.rate_per_disk, 1500000);
    spec_reads_itself(s.p[0], c);
    spec_reads_itself(s.p[2], c);
    specs_fini(&s);
    config_free(c);
}

static const struct {
    const char *text, *said;
} bad_specs[] = {
    { "vm: {}\n", "vm.name is missing" },
    { "vm: {name: A, moref: vm-1}\n", "give only one of" },
    { "vm: {name: A}\nmigration: {finalize_at: tomorrow}\n",
      "s.yaml:2: finalize_at: 'tomorrow' is not a time" },
    { "vm: {name: A}\ntarget: {local: {path: rel}}\n", "absolute path" },
    { "vm: {name: A}\ntarget: {local: {path: /x}, cloudstack: {zoneid: z}}\n",
      "only one of target.local" },
    { "vms: [{vm: {name: A}}]\nvm: {name: B}\n", "beside 'vms'" },
    { "vm: {name: A}\ndisks:\n  \"0\": {storage: x}\n",
      "s.yaml:3: unknown key 'storage'" },
    { "vm: {name: A}\ntarget: {local: {path: /x, format: vmdk}}\n",
      "'vmdk' is none of qcow2, raw" },
};

static void
spec_refuses(void **state)
{
    struct config *c = some_config("vcenter:\n  host: x\n");

    (void)state;
    for (size_t i = 0; i < sizeof bad_specs / sizeof *bad_specs; i++) {
        defer_free char *path = put("s.yaml", bad_specs[i].text);
        struct specs s = { 0 };
        struct err e = ERR_INIT;

        assert_int_equal(spec_read(path, c, &s, &e), -1);
        assert_has(e.msg, bad_specs[i].said);
        specs_fini(&s);
    }
    config_free(c);
}

static void
password_is_never_shown(void **state)
{
    struct config *c = some_config("vcenter:\n  password: hunter22\n");
    struct err e = ERR_INIT;

    (void)state;
    err_set(&e, ERR_NET, "talking to https://u:%s@host failed", "hunter22");
    assert_string_equal(e.msg, "talking to https://u:********@host failed");
    config_free(c);
}

static void
record_survives_json(void **state)
{
    struct record *r = record_new(), *again;
    struct err e = ERR_INIT;
    json_t *j;

    (void)state;
    record_set(&r->vm_name, "a \"b\"");
    record_set(&r->vm_moref, "vm-1");
    r->stage = STEP_delta;
    r->round = 3;
    vec_push(&r->disks, (struct disk_record){ .name = xstrdup("scsi1:0"),
                                              .key = 2016,
                                              .change_id = xstrdup("52 aa/7"),
                                              .round = 2,
                                              .base_copied = true,
                                              .capacity = 1 << 20 });
    record_phase(r, "shutdown");
    j = record_json(r);
    again = record_parse(j, "test", &e);
    assert_non_null(again);
    assert_string_equal(again->vm_name, "a \"b\"");
    assert_int_equal(again->stage, STEP_delta);
    assert_int_equal(again->round, 3);
    assert_string_equal(record_disk(again, 2016)->change_id, "52 aa/7");
    assert_int_equal(record_disk(again, 2016)->round, 2);
    assert_int_equal(again->downtime.n, 1);
    assert_int_equal(again->downtime.p[0].ms, -1);
    record_free(again);
    record_free(r);
    json_decref(j);
}

static void
record_of_the_first_engine(void **state)
{
    static const char text[] =
        "{\"vm_name\":\"A\",\"vm_moref\":\"vm-9\",\"migration_id\":\"A_vm-9\","
        "\"stage\":\"delta\",\"active_snapshot\":\"snapshot-3\",\"disks\":"
        "{\"0\":{\"key\":2000,\"unit\":0,\"capacity\":1024,\"target_qcow2\":"
        "\"/x\",\"source_disk_path\":\"[d] a\",\"change_id\":\"52/4\","
        "\"base_copied\":true,\"delta_rounds\":3,\"speed_mbps\":1.5}},"
        "\"updated_at\":\"2026-05-04T10:00:00.123+02:00\"}";
    struct err e = ERR_INIT;
    json_t *j = json_parse(text, strlen(text), "seed", &e);
    struct record *r = record_parse(j, "seed", &e);

    (void)state;
    assert_non_null(r);
    assert_int_equal(r->disks.p[0].round, 3);
    assert_true(r->disks.p[0].base_copied);
    assert_string_equal(r->disks.p[0].change_id, "52/4");
    assert_string_equal(r->disks.p[0].plan, "");
    record_free(r);
    json_decref(j);
}

static const struct {
    const char *text, *said;
} bad_records[] = {
    { "{\"schema\": 2}", "newer release" },
    { "{\"stage\": \"nowhere\"}", "unknown stage 'nowhere'" },
    { "{\"vm_name\": 5}", "'vm_name' is of the wrong type" },
    { "{\"disks\": {\"0\": {\"key\": \"x\"}}}", "disk 0: 'key'" },
    { "{\"disks\": {\"0\": {\"capacity\": -1}}}", "out of bounds" },
};

static void
record_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_records / sizeof *bad_records; i++) {
        struct err e = ERR_INIT;
        json_t *j = json_parse(bad_records[i].text, strlen(bad_records[i].text),
                               "x", &e);

        assert_non_null(j);
        assert_null(record_parse(j, "state.json", &e));
        assert_has(e.msg, bad_records[i].said);
        json_decref(j);
    }
}

static void
directory_names_are_safe(void **state)
{
    static const char *const cases[][3] = {
        { "web01", "vm-1", "web01_vm-1" },
        { "a b/../c", "vm-1", "a_b_.._c_vm-1" },
        { "..", "vm-1", "_._vm-1" },
        { "\xc3\xbcml", "../x", "__ml__._x" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        defer_free char *name = job_dir_name(cases[i][0], cases[i][1]);

        assert_null(strchr(name, '/'));
        assert_int_not_equal(name[0], '.');
        assert_string_equal(name, cases[i][2]);
    }
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
        cmocka_unit_test(config_has_defaults),
        cmocka_unit_test(config_refuses),
        cmocka_unit_test(spec_forms_and_defaults),
        cmocka_unit_test(spec_refuses),
        cmocka_unit_test(password_is_never_shown),
        cmocka_unit_test(record_survives_json),
        cmocka_unit_test(record_of_the_first_engine),
        cmocka_unit_test(record_refuses),
        cmocka_unit_test(directory_names_are_safe),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
