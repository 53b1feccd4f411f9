/* v2c-engine limit: what is shared by all migrations of this machine, and
 * changing it while they run. */
#include "cli/cli.h"
#include "cli/limits.h"

#include <stdio.h>
#include <string.h>

struct args {
    const char *config, *control_dir, *vm, *vm_id, *disk, *host, *datastore;
    const char *slots;
    struct texts rates;
    bool machine, json;
};

static const struct opt opts[] = {
    { "machine", OPT_FLAG, offsetof(struct args, machine), NULL,
      "limit all that this machine reads, to RATE" },
    { "host", OPT_TEXT, offsetof(struct args, host), "ESX",
      "limit an ESXi host, to RATE or by --slots" },
    { "datastore", OPT_TEXT, offsetof(struct args, datastore), "NAME",
      "limit a datastore, by --slots" },
    { "vm", OPT_TEXT, offsetof(struct args, vm), "NAME",
      "limit a VM, to RATE" },
    { "vm-id", OPT_TEXT, offsetof(struct args, vm_id), "MOREF",
      "likewise, by its moref" },
    { "disk", OPT_TEXT, offsetof(struct args, disk), "DISK",
      "with --vm: this disk of it alone" },
    { "slots", OPT_TEXT, offsetof(struct args, slots), "N",
      "disks read at a time; 0: no limit; default: as configured" },
    { "config", OPT_TEXT, offsetof(struct args, config), "FILE",
      "configuration (config.yaml)" },
    { "control-dir", OPT_TEXT, offsetof(struct args, control_dir), "DIR",
      "instead of migration.control_dir" },
    { "json", OPT_FLAG, offsetof(struct args, json), NULL,
      "show it as an object" },
    { "rate", OPT_TEXTS, offsetof(struct args, rates), "RATE",
      "per second: 200MB, 64MiB, 1.5Gbit; none; default" },
    { NULL },
};

static int
check(const struct args *a, struct err *e)
{
    int n = a->machine + !!a->host + !!a->datastore + (a->vm || a->vm_id);

    if (n > 1)
        return err_set(e, ERR_USER,
                       "give only one of --machine, --host, --datastore and "
                       "--vm");
    if (a->disk && !a->vm && !a->vm_id)
        return err_set(e, ERR_USER, "--disk needs --vm");
    if (a->rates.n > 1 || (a->rates.n && a->slots))
        return err_set(e, ERR_USER, "give one rate, or --slots");
    if (!n && (a->rates.n || a->slots))
        return err_set(e, ERR_USER,
                       "of what? give --machine, --host, --datastore or --vm");
    if (n && !a->rates.n && !a->slots)
        return err_set(e, ERR_USER, "give a rate or --slots");
    if (a->rates.n && a->datastore)
        return err_set(e, ERR_USER, "a datastore has --slots, but no rate");
    if (a->slots && !a->host && !a->datastore)
        return err_set(e, ERR_USER, "--slots go with --host or --datastore");
    return 0;
}

/* A name that nothing goes by would be a limit that never holds. */
static int
check_known(struct slots *s, enum slot_kind kind, const char *name,
            struct err *e)
{
    defer(slot_list_fini) struct slot_list l = { 0 };
    defer(str_fini) struct str known = STR_INIT;

    if (slots_list(s, clock_ms(), &l, e))
        return -1;
    for (size_t i = 0; i < l.uses.n; i++) {
        if (l.uses.p[i].kind != kind)
            continue;
        if (!strcmp(l.uses.p[i].name, name))
            return 0;
        str_addf(&known, "%s%s", known.n ? ", " : "", l.uses.p[i].name);
    }
    return err_set(e, ERR_NOTFOUND, "nothing was copied from '%s' so far; %s%s",
                   name, known.n ? "known: " : "nor from anywhere else",
                   str_text(&known));
}

static int
change_slots(const struct args *a, const char *dir, struct err *e)
{
    defer(slots_close_ptr) struct slots *s = NULL;
    enum slot_kind kind = a->host ? SLOT_HOST : SLOT_DATASTORE;
    const char *name = a->host ? a->host : a->datastore;
    int64_t n = SLOT_DEFAULT;

    if (strcmp(a->slots, "default") &&
        num_i64(a->slots, 0, SLOT_LIMIT_MAX, &n, "--slots", e))
        return -1;
    if (slots_open(dir, &s, e) || check_known(s, kind, name, e) ||
        slots_set(s, kind, name, (int)n, e))
        return -1;
    printf("[limit] %s %s slots=%s\n", a->host ? "host" : "datastore", name,
           a->slots);
    return 0;
}

static int
change_rate(const char *path, const char *text, const char *what, struct err *e)
{
    defer(bucket_close_ptr) struct bucket *b = NULL;
    bool standard = !strcmp(text, "default");
    char said[RATE_TEXT_MAX];
    uint64_t rate = 0;

    if ((!standard && rate_parse(text, &rate, e)) ||
        bucket_open(path, true, &b, e))
        return -1;
    bucket_set(b, standard ? bucket_configured(b) : rate);
    rate_text(bucket_rate(b), said);
    printf("[limit] %s rate=%s%s\n", what, said,
           bucket_rate(b) ? " per second" : "");
    return 0;
}

static const struct disk_record *
find_disk(const struct record *r, const char *disk, struct err *e)
{
    defer(str_fini) struct str known = STR_INIT;

    for (size_t i = 0; i < r->disks.n; i++) {
        const struct disk_record *d = &r->disks.p[i];
        defer_free char *key = xasprintf("%lld", (long long)d->key);

        if (!strcmp(disk, d->name) || !strcmp(disk, d->address) ||
            !strcmp(disk, key))
            return d;
        str_addf(&known, "%s%s", known.n ? ", " : "", d->name);
    }
    err_set(e, ERR_USER, "VM %s has no disk '%s'; it has %s", r->vm_name, disk,
            str_text(&known));
    return NULL;
}

static int
change_vm(const struct args *a, const char *control, struct err *e)
{
    defer(founds_fini) struct founds f = { 0 };
    defer_free char *path = NULL, *what = NULL;
    const char *name = a->vm ? a->vm : a->vm_id;
    const struct disk_record *d;
    const struct record *r;

    if (store_find(control, a->vm, a->vm_id, &f, e))
        return -1;
    if (!f.n)
        return err_set(e, ERR_NOTFOUND, "there is no migration of VM %s in %s",
                       name, control);
    if (f.n > 1)
        return err_set(e, ERR_USER,
                       "there are %zu migrations of %s; choose with --vm-id",
                       f.n, name);
    r = f.p[0].record;
    if (!a->disk) {
        path = xasprintf("%s/" LIMIT_VM_RATE, f.p[0].dir);
        what = xasprintf("vm %s", r->vm_name);
        return change_rate(path, a->rates.p[0], what, e);
    }
    d = find_disk(r, a->disk, e);
    if (!d)
        return -1;
    path = limits_disk_path(f.p[0].dir, d);
    what = xasprintf("vm %s disk %s", r->vm_name, d->name);
    return change_rate(path, a->rates.p[0], what, e);
}

static int
change_host(const struct args *a, const char *dir, struct err *e)
{
    defer(slots_close_ptr) struct slots *s = NULL;
    defer_free char *path = bucket_path(dir, LIMIT_HOST, a->host);
    defer_free char *what = xasprintf("host %s", a->host);

    if (slots_open(dir, &s, e) || check_known(s, SLOT_HOST, a->host, e))
        return -1;
    return change_rate(path, a->rates.p[0], what, e);
}

static int
change_machine(const struct args *a, const char *dir, struct err *e)
{
    defer_free char *path = xasprintf("%s/" LIMIT_MACHINE_RATE, dir);

    if (fs_mkdirs(dir, 0700, e))
        return -1;
    return change_rate(path, a->rates.p[0], "machine", e);
}

static int
limit(const struct args *a, struct err *e)
{
    defer(config_free_ptr) struct config *c = NULL;
    defer_free char *dir = NULL;
    const char *control = a->control_dir;

    if (check(a, e))
        return -1;
    if (!control) {
        c = config_read(a->config, e);
        if (!c)
            return -1;
        control = c->migration.control_dir;
    }
    dir = xasprintf("%s/" LIMIT_DIR, control);
    if (a->slots)
        return change_slots(a, dir, e);
    if (a->machine)
        return change_machine(a, dir, e);
    if (a->host)
        return change_host(a, dir, e);
    if (a->vm || a->vm_id)
        return change_vm(a, control, e);
    return limits_show(control, a->json, e);
}

static int
run(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = ERR_INIT;
    int rc = opts_parse(&cmd_limit, argc, argv, &a);

    if (rc == CLI_OK && limit(&a, &e)) {
        fprintf(stderr, "limit failed: %s\n", e.msg);
        rc = CLI_FAILED;
    }
    vec_fini(&a.rates);
    return rc < 0 ? CLI_OK : rc;
}

const struct command cmd_limit = {
    .name = "limit",
    .summary = "Show what all migrations here share, bandwidth and slots, or "
               "change it.",
    .opts = opts,
    .rest = "rate",
    .rest_help = "[RATE]",
    .run = run,
};
