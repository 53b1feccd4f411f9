/* What `limit` shows: gathered as JSON, printed as that or for people. */
#include "cli/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

char *
limits_disk_path(const char *dir, const struct disk_record *d)
{
    return xasprintf("%s/" LIMIT_DISK_RATE, dir, d->key);
}

/* rate and rate_configured, in bytes per second; a file that is not there
 * limits nothing. */
static int
add_rate(json_t *o, const char *path, struct err *e)
{
    defer(bucket_close_ptr) struct bucket *b = NULL;

    if (bucket_open(path, false, &b, e)) {
        if (e->class != ERR_NOTFOUND)
            return -1;
        err_clear(e);
    }
    json_object_set_new(o, "rate",
                        json_integer(b ? (json_int_t)bucket_rate(b) : 0));
    json_object_set_new(o, "rate_configured",
                        json_integer(b ? (json_int_t)bucket_configured(b) : 0));
    return 0;
}

static json_t *
use_json(const struct slot_use *u)
{
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "name", u->name, "slots",
                     u->limit, "slots_configured", u->configured, "lowered_to",
                     u->lowered, "in_use", u->in_use, "waiting", u->waiting);
}

static int
add_places(json_t *o, const char *dir, const struct slot_list *l,
           enum slot_kind kind, const char *key, struct err *e)
{
    json_t *all = json_array();

    json_object_set_new(o, key, all);
    for (size_t i = 0; i < l->uses.n; i++) {
        const struct slot_use *u = &l->uses.p[i];
        defer_free char *path = bucket_path(dir, LIMIT_HOST, u->name);
        json_t *place;

        if (u->kind != kind)
            continue;
        place = use_json(u);
        json_array_append_new(all, place);
        if (kind == SLOT_HOST && add_rate(place, path, e))
            return -1;
    }
    return 0;
}

static void
add_holders(json_t *o, const struct slot_list *l)
{
    json_t *all = json_array();

    json_object_set_new(o, "copiers", all);
    for (size_t i = 0; i < l->holders.n; i++) {
        const struct slot_holder *h = &l->holders.p[i];

        json_array_append_new(
            all, json_pack("{s:s, s:s, s:s, s:b, s:I}", "who", h->who, "host",
                           h->names[SLOT_HOST], "datastore",
                           h->names[SLOT_DATASTORE], "waiting", !h->taken,
                           "seconds", (json_int_t)h->seconds));
    }
}

static int
add_vm(json_t *all, const struct found *f, struct err *e)
{
    defer_free char *path = xasprintf("%s/" LIMIT_VM_RATE, f->dir);
    json_t *vm = json_object(), *disks = json_object();

    json_array_append_new(all, vm);
    json_object_set_new(vm, "vm_name", json_string(f->record->vm_name));
    json_object_set_new(vm, "vm_moref", json_string(f->record->vm_moref));
    json_object_set_new(vm, "disks", disks);
    if (add_rate(vm, path, e))
        return -1;
    for (size_t i = 0; i < f->record->disks.n; i++) {
        const struct disk_record *d = &f->record->disks.p[i];
        defer_free char *file = limits_disk_path(f->dir, d);
        json_t *disk = json_object();

        json_object_set_new(disks, d->name, disk);
        if (add_rate(disk, file, e))
            return -1;
    }
    return 0;
}

/* Those that somebody has in hand. */
static int
add_vms(json_t *o, const char *control, struct err *e)
{
    defer(founds_fini) struct founds f = { 0 };
    json_t *all = json_array();

    json_object_set_new(o, "vms", all);
    if (store_find(control, NULL, NULL, &f, e))
        return -1;
    for (size_t i = 0; i < f.n; i++)
        if (f.p[i].running && add_vm(all, &f.p[i], e))
            return -1;
    return 0;
}

static int
gather(const char *control, json_t *o, struct err *e)
{
    defer_free char *dir = xasprintf("%s/" LIMIT_DIR, control);
    defer_free char *machine = xasprintf("%s/" LIMIT_MACHINE_RATE, dir);
    defer(slots_close_ptr) struct slots *s = NULL;
    defer(slot_list_fini) struct slot_list l = { 0 };
    json_t *m = json_object();

    json_object_set_new(o, "machine", m);
    if (add_rate(m, machine, e))
        return -1;
    /* looking must not make a control directory of a mistyped name */
    if (fs_exists(dir) &&
        (slots_open(dir, &s, e) || slots_list(s, clock_ms(), &l, e)))
        return -1;
    add_holders(o, &l);
    return add_places(o, dir, &l, SLOT_HOST, "hosts", e) ||
                   add_places(o, dir, &l, SLOT_DATASTORE, "datastores", e) ||
                   add_vms(o, control, e)
               ? -1
               : 0;
}

/* for people -------------------------------------------------------------- */

static void
print_rate(const json_t *o)
{
    int64_t rate = json_num(o, "rate", 0);
    int64_t standard = json_num(o, "rate_configured", 0);
    char text[RATE_TEXT_MAX];

    rate_text((uint64_t)rate, text);
    printf("rate %s%s", text, rate ? "/s" : "");
    if (rate == standard)
        return;
    rate_text((uint64_t)standard, text);
    printf(" (by hand; configured: %s)", text);
}

static void
print_slots(const json_t *o)
{
    int64_t limit = json_num(o, "slots", 0);
    int64_t standard = json_num(o, "slots_configured", 0);
    int64_t lowered = json_num(o, "lowered_to", 0);

    printf("%" PRId64 " in use", json_num(o, "in_use", 0));
    if (lowered || limit)
        printf(" of %" PRId64, lowered ? lowered : limit);
    if (lowered)
        printf(" (short of buffers; set: %" PRId64 ")", limit);
    else if (limit != standard)
        printf(" (by hand; configured: %" PRId64 ")", standard);
    printf(", %" PRId64 " waiting", json_num(o, "waiting", 0));
}

static void
print_places(const json_t *all, const char *kind)
{
    const json_t *o;
    size_t i;

    json_array_foreach(all, i, o)
    {
        printf("%s %s: ", kind, json_str(o, "name", ""));
        print_slots(o);
        if (json_object_get(o, "rate")) {
            fputs(", ", stdout);
            print_rate(o);
        }
        putchar('\n');
    }
}

static void
print_vms(json_t *all)
{
    const char *name;
    json_t *o, *disk;
    size_t i;

    json_array_foreach(all, i, o)
    {
        printf("vm %s: ", json_str(o, "vm_name", ""));
        print_rate(o);
        putchar('\n');
        json_object_foreach(json_object_get(o, "disks"), name, disk)
        {
            printf("  disk %s: ", name);
            print_rate(disk);
            putchar('\n');
        }
    }
}

static void
print_copiers(const json_t *all)
{
    const json_t *o;
    size_t i;

    json_array_foreach(all, i, o) printf(
        "copier %s: %s %s, %s for %" PRId64 " s\n", json_str(o, "who", ""),
        json_str(o, "host", ""), json_str(o, "datastore", ""),
        json_flag(o, "waiting", false) ? "waiting" : "running",
        json_num(o, "seconds", 0));
}

int
limits_show(const char *control, bool as_json, struct err *e)
{
    defer_json json_t *o = json_object();

    if (gather(control, o, e))
        return -1;
    if (as_json) {
        json_dumpf(o, stdout, JSON_INDENT(2));
        putchar('\n');
        return 0;
    }
    fputs("machine: ", stdout);
    print_rate(json_object_get(o, "machine"));
    putchar('\n');
    print_places(json_object_get(o, "hosts"), "host");
    print_places(json_object_get(o, "datastores"), "datastore");
    print_vms(json_object_get(o, "vms"));
    print_copiers(json_object_get(o, "copiers"));
    return 0;
}
