/* fuzz_seeds DIR: what the fuzz targets begin with, DIR/TARGET/NAME.  Made
 * here, so that they follow the code and no binary is kept. */
#include "base/fs.h"
#include "data/data.h"
#include "disk/disk.h"
#include "job/job.h"

#include <fcntl.h>
#include <string.h>

static const char *dir;

static void
die(const struct err *e)
{
    fprintf(stderr, "fuzz_seeds: %s\n", e->msg);
    exit(1);
}

static void
save(const char *target, const char *name, const struct str *s)
{
    defer_free char *folder = xasprintf("%s/%s", dir, target);
    defer_free char *path = xasprintf("%s/%s", folder, name);
    struct err e = ERR_INIT;

    if (fs_mkdirs(folder, 0700, &e) ||
        fs_replace(path, str_text(s), s->n, 0600, &e))
        die(&e);
}

/* maps -------------------------------------------------------------------- */

/* begin, apply, holes_zero, begin again, damage, apply, reopen, damage */
static const uint8_t ops[][8] = {
    { 0, 0, 0, 7, 0, 0, 100, 1 }, { 1, 0, 0, 90, 1, 9, 0, 0 },
    { 2, 0, 0, 0, 0, 0, 0, 0 },   { 0, 1, 0, 8, 0, 0, 50, 0 },
    { 4, 0, 9, 9, 1, 0, 0, 0 },   { 1, 0, 0, 90, 3, 9, 1, 0 },
    { 5, 0, 0, 99, 4, 0, 0, 0 },  { 4, 0, 3, 3, 1, 1, 0, 0 },
};

static void
add_ops(struct str *s, uint8_t how)
{
    const uint8_t head[] = { how, 0, sizeof ops / sizeof *ops };

    str_addn(s, (const char *)head, sizeof head);
    str_addn(s, (const char *)ops, sizeof ops);
}

/* COMPACT, both sums, FRAME, REPAIR_PAGES of fuzz_map.c */
static void
compact_map(const char *name, uint64_t size)
{
    static const char texts[] = "\0disk\0\0\0target\0plan\0\0\0plan\0\0";
    static const uint8_t page[] = { 2, 0, 100, 1, 5, 120, 30, 5, 6 };
    defer(str_fini) struct str s = STR_INIT;

    add_ops(&s, 1 | 2 | 4 | 8 | 16);
    for (uint64_t i = 0; i < 2; i++) {
        const uint64_t fields[] = { 0, 0, size, 4 + i, 7, i ? 3 : 0 };

        str_addn(&s, (const char *)fields, sizeof fields);
        str_addn(&s, texts, sizeof texts - 1);
    }
    for (int i = 0; i < 3; i++)
        str_addn(&s, (const char *)page, sizeof page);
    save("map", name, &s);
}

static void
make_map(const char *path, struct err *e)
{
    defer(map_close_ptr) struct map *m = NULL;
    defer_extents struct extents x = { 0 };
    struct map_change c[700];

    extents_add(&x, 0, 1000ull * DISK_BLOCK);
    for (unsigned i = 0; i < 700; i++)
        c[i] = (struct map_change){ i, { i, MAP_COPIED } };
    if (map_open(&m, path, "disk", x.p[0].length, "target", e) ||
        map_begin(m, "base", 1, &x, true, e) || map_apply(m, c, 700, e) ||
        map_begin(m, "delta", 2, &x, true, e) || map_apply(m, c, 99, e))
        die(e);
}

static void
real_map(void)
{
    defer_free char *path = xasprintf("%s/map.tmp", dir);
    defer(str_fini) struct str s = STR_INIT;
    struct err e = ERR_INIT;

    if (fs_remove(path, &e))
        die(&e);
    make_map(path, &e);
    add_ops(&s, 0);
    if (fs_read(path, 1 << 20, &s, &e) || fs_remove(path, &e))
        die(&e);
    save("map", "real", &s);
}

/* requests ---------------------------------------------------------------- */

static const struct {
    const char *name, *lines;
} requests[] = {
    { "vddk",
      "source.kind vddk\nsource.libdir /opt/vddk\nsource.server vc.lab\n"
      "source.port 443\nsource.user root\nsource.password s3cr3t\n"
      "source.thumbprint 00:11\nsource.vm vm-12\nsource.snapshot snapshot-1\n"
      "source.path [ds1] a/a.vmdk\nsource.transports nbd\n"
      "source.config /etc/vddk.conf\nplan allocated\n" },
    { "file", "source.file /tmp/disk\nsource.kind file\nplan list\n"
              "uncopied yes\nextent 0 512\nextent 65536 1000000\n"
              "extent 512 1\nextent 1073676288 65536\n" },
    { "nbd", "source.kind nbd\nsource.uri nbd://h/\nplan compare\n"
             "readers 8\nrequest 65536\nrate 1000000\ngap 0\ntimeout 5\n" },
};

static void
verify(void)
{
    defer(str_fini) struct str s = STR_INIT;

    str_add(&s, "v2c-copy 1\ntarget.uri nbd://t/\ntarget.id t\ndisk.id d\n"
                "disk.size 1073741824\nmap disk.map\nsample 5\nseed 7\n"
                "again yes\nplan list\nextent 0 65536\nend\n");
    save("request", "verify", &s);
}

static void
request(const char *name, const char *lines)
{
    defer(str_fini) struct str s = STR_INIT;

    str_addf(&s,
             "v2c-copy 1\ntarget.uri nbd://t/\ntarget.zeroed yes\n"
             "target.id t\ndisk.id d\ndisk.size 1073741824\nmap disk.map\n"
             "plan.id p1\n%send\n",
             lines);
    save("request", name, &s);
}

/* answers ----------------------------------------------------------------- */

/* Size 5 of fuzz_alloc.c (64 GiB), the probe and two windows of it. */
static void
answers(const char *name, uint8_t second)
{
    const char bytes[] = { 5, 1, 0,  1, 0, (char)second, 1, 2,
                           0, 3, 90, 0, 1, 64,           0 };
    defer(str_fini) struct str s = STR_INIT;

    str_addn(&s, bytes, sizeof bytes);
    save("alloc", name, &s);
}

/* records ----------------------------------------------------------------- */

static void
record(void)
{
    defer(record_free_ptr) struct record *r = record_new();
    struct disk_record d = { .name = xstrdup("0"), .key = 2000 };
    defer(str_fini) struct str s = STR_INIT;
    defer_json json_t *j = NULL;
    char *text;

    record_set(&r->vm_name, "db01");
    record_set(&d.change_id, "52 de c0 d9/3");
    d.capacity = 1 << 30;
    d.progress = 12.5;
    vec_push(&r->disks, d);
    record_phase(r, "shutdown");
    record_phase(r, NULL);
    j = record_json(r);
    text = json_dumps(j, 0);
    str_add(&s, text);
    free(text);
    save("record", "one", &s);
}

int
main(int argc, char **argv)
{
    struct err e = ERR_INIT;

    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds DIR\n");
        return 2;
    }
    dir = argv[1];
    if (fs_mkdirs(dir, 0700, &e))
        die(&e);
    compact_map("512", 512);
    compact_map("63k", 63 << 10);
    compact_map("64k512", (64 << 10) + 512);
    compact_map("1g", 1ull << 30);
    compact_map("2t512", (2ull << 40) + 512);
    compact_map("64t", DISK_SIZE_MAX);
    real_map();
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        request(requests[i].name, requests[i].lines);
    verify();
    answers("sound", 2);
    answers("anything", 64 + 2);
    answers("none", 255);
    record();
    return 0;
}
