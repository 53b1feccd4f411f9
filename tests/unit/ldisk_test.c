/* lab disks: random writes, snapshots and drops against a model in memory. */
#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "lab/disk/disk.h"
#include "lab/disk/layers.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#define BLOCKS_MAX   64u
#define MODEL_MAX    ((size_t)BLOCKS_MAX * LDISK_BLOCK)
#define WRITE_MAX    (200u * 1024)
#define VERSIONS_MAX 200u
#define ALIVE_MAX    7u

static char dir[] = "/tmp/ldisk_test.XXXXXX";

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

static uint64_t chance_state;

static uint64_t
chance(uint64_t n)
{
    chance_state =
        chance_state * 6364136223846793005ull + 1442695040888963407ull;
    return (chance_state >> 33) % n;
}

#define ok(call)                              \
    do {                                      \
        if ((call) != 0)                      \
            fail_msg("%s: %s", #call, e.msg); \
    } while (0)

/* The model ------------------------------------------------------------- */

/* What the disk was at one moment. */
struct moment {
    bool alive;
    uint64_t size;
    char *bytes;
    unsigned writes[BLOCKS_MAX]; /* to each block until then */
    char change_id[LDISK_CHANGE_MAX];
};

struct model {
    struct ldisk *d;
    struct moment now;
    struct moment versions[VERSIONS_MAX]; /* by number */
    unsigned newest, alive;
};

static struct model *
model_new(const char *name, uint64_t size)
{
    struct model *m = xcalloc(1, sizeof *m);
    struct err e = ERR_INIT;

    m->d = ldisk_new(dir, name, size, &e);
    assert_non_null(m->d);
    m->now.size = size;
    m->now.bytes = xcalloc(1, MODEL_MAX);
    return m;
}

static void
model_free(struct model *m)
{
    ldisk_free(m->d);
    for (unsigned i = 0; i <= m->newest; i++)
        free(m->versions[i].bytes);
    free(m->now.bytes);
    free(m);
}

static void
count_writes(struct model *m, uint64_t off, uint64_t end)
{
    for (uint64_t b = off / LDISK_BLOCK; b * LDISK_BLOCK < end; b++)
        m->now.writes[b]++;
}

static void
do_write(struct model *m)
{
    uint64_t off = chance(m->now.size / 512) * 512, n = m->now.size - off;
    uint64_t max = chance(8) ? WRITE_MAX : 512;
    struct err e = ERR_INIT;

    if (n > max)
        n = (chance(max / 512) + 1) * 512;
    if (!chance(4))
        off -= off % LDISK_BLOCK;
    for (uint64_t i = 0; i < n; i++)
        m->now.bytes[off + i] = (char)(chance_state >> i % 32) ^ (char)i;
    ok(ldisk_write(m->d, m->now.bytes + off, n, off, &e));
    count_writes(m, off, off + n);
}

static void
do_grow(struct model *m)
{
    uint64_t size = m->now.size + (1 + chance(300)) * 512;
    struct err e = ERR_INIT;

    if (size > MODEL_MAX)
        return;
    ok(ldisk_grow(m->d, size, &e));
    count_writes(m, m->now.size, size);
    m->now.size = size;
}

static void
do_snapshot(struct model *m)
{
    struct err e = ERR_INIT;
    struct moment *v;
    unsigned number;

    if (m->alive == ALIVE_MAX || m->newest + 1 == VERSIONS_MAX)
        return;
    ok(ldisk_snapshot(m->d, &number, &e));
    assert_int_equal(number, m->newest + 1);
    m->newest = number;
    m->alive++;
    v = &m->versions[number];
    *v = m->now;
    v->alive = true;
    v->bytes = xmalloc(MODEL_MAX);
    memcpy(v->bytes, m->now.bytes, MODEL_MAX);
    ldisk_change_id(m->d, number, v->change_id);
}

/* A version that is alive, or 0. */
static unsigned
any_version(struct model *m)
{
    unsigned v = m->newest ? (unsigned)chance(m->newest) + 1 : 0;

    for (unsigned i = 0; i < m->newest; i++, v = v % m->newest + 1)
        if (m->versions[v].alive)
            return v;
    return 0;
}

static void
do_drop(struct model *m)
{
    unsigned v = any_version(m);
    struct err e = ERR_INIT;

    if (!v)
        return;
    ok(ldisk_drop(m->d, v, &e));
    m->versions[v].alive = false;
    m->alive--;
    assert_int_equal(ldisk_version_size(m->d, v), 0);
}

/* Checks ------------------------------------------------------------------ */

static const struct moment *
moment_of(struct model *m, unsigned version)
{
    return version ? &m->versions[version] : &m->now;
}

static void
check_content(struct model *m, unsigned version)
{
    const struct moment *v = moment_of(m, version);
    uint64_t off = chance(v->size / 512) * 512;
    defer_free char *buf = xmalloc(v->size);
    struct err e = ERR_INIT;

    assert_int_equal(ldisk_version_size(m->d, version), v->size);
    ok(ldisk_read(m->d, version, buf, v->size, 0, &e));
    assert_memory_equal(buf, v->bytes, v->size);
    ok(ldisk_read(m->d, version, buf, v->size - off, off, &e));
    assert_memory_equal(buf, v->bytes + off, v->size - off);
}

static bool
is_zero(const char *p, uint64_t n)
{
    while (n--)
        if (p[n])
            return false;
    return true;
}

/* Sets the flag of each block; areas must be whole ones, in order. */
static void
flag_blocks(const struct ldisk_areas *a, uint64_t size, bool flags[BLOCKS_MAX])
{
    uint64_t last = 0;

    for (size_t i = 0; i < a->n; i++) {
        uint64_t end = a->p[i].start + a->p[i].length;

        assert_true(a->p[i].length > 0 && a->p[i].start >= last);
        assert_true(a->p[i].start % LDISK_BLOCK == 0);
        assert_true(end == size || end % LDISK_BLOCK == 0);
        assert_true(end <= size);
        for (uint64_t b = a->p[i].start; b < end; b += LDISK_BLOCK)
            flags[b / LDISK_BLOCK] = true;
        last = end;
    }
}

static void
check_allocated(struct model *m, unsigned version)
{
    const struct moment *v = moment_of(m, version);
    bool flags[BLOCKS_MAX] = { false };
    struct ldisk_areas a = { 0 };
    struct err e = ERR_INIT;

    ok(ldisk_allocated(m->d, version, &a, &e));
    flag_blocks(&a, v->size, flags);
    for (uint64_t off = 0; off < v->size; off += LDISK_BLOCK) {
        uint64_t n = v->size - off < LDISK_BLOCK ? v->size - off : LDISK_BLOCK;

        if (!flags[off / LDISK_BLOCK])
            assert_true(is_zero(v->bytes + off, n));
    }
    vec_fini(&a);
}

/* All windows of the answer, as a client would gather them. */
static void
gather_changes(struct model *m, unsigned version, const char *change_id,
               struct ldisk_areas *out)
{
    uint64_t size = ldisk_version_size(m->d, version), off = 0, length;
    struct err e = ERR_INIT;

    while (off < size) {
        size_t before = out->n;
        unsigned max = 1 + (unsigned)chance(4);

        ok(ldisk_changes(m->d, version, change_id, off, max, out, &length, &e));
        assert_true(out->n - before <= max);
        assert_true(length > 0 && off + length <= size);
        assert_true(out->n - before == max || off + length == size);
        off += length;
    }
}

/* Exactly the blocks written between the two, which has in it all that
 * differ. */
static void
check_changes(struct model *m, unsigned from, unsigned to)
{
    const struct moment *a = &m->versions[from], *b = moment_of(m, to);
    bool flags[BLOCKS_MAX] = { false };
    struct ldisk_areas areas = { 0 };

    gather_changes(m, to, a->change_id, &areas);
    flag_blocks(&areas, b->size, flags);
    for (uint64_t off = 0; off < b->size; off += LDISK_BLOCK) {
        uint64_t i = off / LDISK_BLOCK;
        uint64_t n = b->size - off < LDISK_BLOCK ? b->size - off : LDISK_BLOCK;

        assert_int_equal(flags[i], a->writes[i] != b->writes[i]);
        if (!flags[i])
            assert_memory_equal(a->bytes + off, b->bytes + off, n);
    }
    vec_fini(&areas);
}

static void
check_dump(struct model *m, unsigned version)
{
    const struct moment *v = moment_of(m, version);
    defer_free char *path = xasprintf("%s/dump", dir);
    struct str s = STR_INIT;
    struct err e = ERR_INIT;

    ok(ldisk_dump(m->d, version, path, &e));
    ok(fs_read(path, MODEL_MAX, &s, &e));
    assert_int_equal(s.n, v->size);
    assert_memory_equal(s.p, v->bytes, v->size);
    str_fini(&s);
}

static void
check_all(struct model *m)
{
    check_content(m, LDISK_NOW);
    check_allocated(m, LDISK_NOW);
    for (unsigned v = 1; v <= m->newest; v++) {
        if (m->versions[v].alive) {
            check_content(m, v);
            check_allocated(m, v);
            check_changes(m, 1 + (unsigned)chance(v), v);
        }
        if (!chance(8))
            check_changes(m, v, LDISK_NOW);
    }
    check_dump(m, any_version(m));
}

static void
random_life(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 4; seed++) {
        defer_free char *name = xasprintf("random%u", seed);
        struct model *m;

        chance_state = seed;
        m = model_new(name, (1 + chance(5000)) * 512);
        ldisk_track(m->d, true);
        for (unsigned i = 0; i < 300; i++) {
            uint64_t what = chance(100);

            if (what < 70)
                do_write(m);
            else if (what < 82)
                do_snapshot(m);
            else if (what < 93)
                do_drop(m);
            else if (what < 95)
                do_grow(m);
            else
                check_all(m);
        }
        check_all(m);
        model_free(m);
    }
}

/* Single things ----------------------------------------------------------- */

static void
file_names_follow_the_chain(void **state)
{
    struct err e = ERR_INIT;
    struct ldisk *d = ldisk_new(dir, "web", LDISK_BLOCK, &e);
    unsigned a, b;
    char file[64];

    (void)state;
    ldisk_file(d, LDISK_NOW, file, sizeof file);
    assert_string_equal(file, "web.vmdk");
    ok(ldisk_snapshot(d, &a, &e));
    ok(ldisk_snapshot(d, &b, &e));
    ldisk_file(d, a, file, sizeof file);
    assert_string_equal(file, "web.vmdk");
    ldisk_file(d, b, file, sizeof file);
    assert_string_equal(file, "web-000001.vmdk");
    ldisk_file(d, LDISK_NOW, file, sizeof file);
    assert_string_equal(file, "web-000002.vmdk");
    ok(ldisk_drop(d, b, &e));
    ldisk_file(d, LDISK_NOW, file, sizeof file);
    assert_string_equal(file, "web-000001.vmdk");
    ldisk_file(d, b, file, sizeof file);
    assert_string_equal(file, "");
    ldisk_free(d);
}

/* Opens what ldisk_hold told, the way another process does. */
static size_t
open_chain(char *list, struct layer chain[LAYERS_MAX])
{
    size_t n = 0;

    for (char *p = list; *p; n++) {
        char *data = strsep(&p, "\n"), *map = strsep(&p, "\n");
        struct stat st;
        int fd;

        chain[n].fd = open(data, O_RDONLY | O_CLOEXEC);
        assert_true(chain[n].fd >= 0);
        assert_int_equal(fstat(chain[n].fd, &st), 0);
        chain[n].size = (uint64_t)st.st_size;
        chain[n].bits = NULL;
        if (!*map)
            continue;
        fd = open(map, O_RDONLY | O_CLOEXEC);
        chain[n].bits = mmap(NULL, layers_bitmap_bytes(chain[n].size),
                             PROT_READ, MAP_SHARED, fd, 0);
        assert_true(chain[n].bits != MAP_FAILED);
        close(fd);
    }
    return n;
}

static void
close_chain(struct layer *chain, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (chain[i].bits)
            munmap((void *)chain[i].bits, layers_bitmap_bytes(chain[i].size));
        close(chain[i].fd);
    }
}

static void
held_version_reads_the_same_while_others_go(void **state)
{
    struct model *m = model_new("held", 20 * LDISK_BLOCK + 512);
    defer_free char *buf = xmalloc(MODEL_MAX);
    struct layer chain[LAYERS_MAX];
    struct str list = STR_INIT;
    struct err e = ERR_INIT;
    defer_free char *gone = NULL;
    const struct moment *v;
    size_t n;

    (void)state;
    chance_state = 7;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < 10; k++)
            do_write(m);
        do_snapshot(m);
    }
    v = &m->versions[3];
    ok(ldisk_hold(m->d, 3, &list, &e));
    gone = xstrndup(list.p, strcspn(list.p, "\n"));
    assert_int_equal(ldisk_drop(m->d, 3, &e), -1);
    assert_int_equal(e.class, ERR_BUSY);
    /* its files stay until it was released, whatever is merged */
    ok(ldisk_drop(m->d, 2, &e));
    ok(ldisk_drop(m->d, 1, &e));
    for (unsigned k = 0; k < 10; k++)
        do_write(m);
    n = open_chain(list.p, chain);
    assert_int_equal(n, 3);
    assert_int_equal(layers_pread(chain, n, buf, v->size, 0), 0);
    assert_memory_equal(buf, v->bytes, v->size);
    close_chain(chain, n);
    assert_true(fs_exists(gone));
    ldisk_release(m->d, 3);
    assert_false(fs_exists(gone));
    ok(ldisk_drop(m->d, 3, &e));
    check_content(m, LDISK_NOW);
    str_fini(&list);
    model_free(m);
}

static void
freed_while_held_goes_with_its_last_reader(void **state)
{
    struct err e = ERR_INIT;
    struct ldisk *d = ldisk_new(dir, "late", LDISK_BLOCK, &e);
    struct str list = STR_INIT;

    (void)state;
    ok(ldisk_hold(d, LDISK_NOW, &list, &e));
    ldisk_free(d);
    assert_int_equal(ldisk_version_size(d, LDISK_NOW), LDISK_BLOCK);
    ldisk_release(d, LDISK_NOW);
    str_fini(&list);
}

static void
expect_no_changes(struct ldisk *d, unsigned version, const char *change_id,
                  uint64_t start, enum err_class class)
{
    struct ldisk_areas a = { 0 };
    struct err e = ERR_INIT;
    uint64_t length;

    assert_int_equal(
        ldisk_changes(d, version, change_id, start, 9, &a, &length, &e), -1);
    assert_int_equal(e.class, class);
    vec_fini(&a);
}

static void
change_ids_are_judged(void **state)
{
    char first[LDISK_CHANGE_MAX], second[LDISK_CHANGE_MAX],
        other[LDISK_CHANGE_MAX];
    struct err e = ERR_INIT;
    struct ldisk *d = ldisk_new(dir, "judged", 4 * LDISK_BLOCK, &e);
    unsigned before, v1, v2, v3;

    (void)state;
    ok(ldisk_snapshot(d, &before, &e));
    ldisk_change_id(d, before, first);
    assert_string_equal(first, "");
    expect_no_changes(d, before, "*", 0, ERR_NOTFOUND);
    ldisk_track(d, true);
    ok(ldisk_snapshot(d, &v1, &e));
    ok(ldisk_snapshot(d, &v2, &e));
    ldisk_change_id(d, v1, first);
    ldisk_change_id(d, v2, second);
    assert_int_equal(strlen(first), 49);
    assert_int_equal(first[23], '-');
    assert_memory_equal(first, second, 48);
    expect_no_changes(d, v2, "x", 0, ERR_USER);
    expect_no_changes(d, v2, "*/1", 0, ERR_USER);
    expect_no_changes(d, v2, first, 4 * LDISK_BLOCK, ERR_USER);
    expect_no_changes(d, v1, second, 0, ERR_DAMAGED);
    expect_no_changes(d, before, first, 0, ERR_NOTFOUND);
    ldisk_track(d, true); /* another epoch */
    ok(ldisk_snapshot(d, &v3, &e));
    ldisk_change_id(d, v3, other);
    assert_memory_not_equal(first, other, 47);
    expect_no_changes(d, v3, first, 0, ERR_DAMAGED);
    expect_no_changes(d, v2, first, 0, ERR_DAMAGED);
    expect_no_changes(d, v2, other, 0, ERR_DAMAGED);
    ldisk_track(d, false);
    expect_no_changes(d, v3, other, 0, ERR_NOTFOUND);
    ldisk_change_id(d, v3, other);
    assert_string_equal(other, "");
    ldisk_free(d);
}

static void
all_before_the_first_round_counts_as_changed(void **state)
{
    struct err e = ERR_INIT;
    struct ldisk *d = ldisk_new(dir, "first", 9 * LDISK_BLOCK + 512, &e);
    char now[LDISK_CHANGE_MAX];
    struct ldisk_areas a = { 0 };
    uint64_t length;
    unsigned v;

    (void)state;
    ldisk_track(d, true);
    ldisk_change_id(d, LDISK_NOW, now);
    ok(ldisk_snapshot(d, &v, &e));
    ok(ldisk_changes(d, v, now, 1024, 9, &a, &length, &e));
    assert_int_equal(a.n, 1);
    assert_int_equal(a.p[0].start, 1024);
    assert_int_equal(a.p[0].length, 9 * LDISK_BLOCK - 512);
    assert_int_equal(length, 9 * LDISK_BLOCK - 512);
    vec_fini(&a);
    ldisk_free(d);
}

static void
two_tebibytes_and_a_sector(void **state)
{
    uint64_t size = (2ull << 40) + 512, length;
    struct err e = ERR_INIT;
    struct ldisk *d = ldisk_new(dir, "big", size, &e);
    char id[LDISK_CHANGE_MAX], sector[512] = "end", got[512];
    struct ldisk_areas a = { 0 };
    unsigned v1, v2;

    (void)state;
    ldisk_track(d, true);
    ok(ldisk_snapshot(d, &v1, &e));
    ldisk_change_id(d, v1, id);
    ok(ldisk_write(d, sector, 512, size - 512, &e));
    ok(ldisk_write(d, sector, 512, 1ull << 40, &e));
    assert_int_equal(ldisk_write(d, sector, 512, size, &e), -1);
    assert_int_equal(ldisk_write(d, sector, 100, 0, &e), -1);
    ok(ldisk_snapshot(d, &v2, &e));
    ok(ldisk_read(d, v2, got, 512, size - 512, &e));
    assert_memory_equal(got, sector, 512);
    ok(ldisk_changes(d, v2, id, 0, 2000, &a, &length, &e));
    assert_int_equal(length, size);
    assert_int_equal(a.n, 2);
    assert_int_equal(a.p[1].start, size - 512);
    assert_int_equal(a.p[1].length, 512);
    a.n = 0;
    ok(ldisk_allocated(d, v2, &a, &e));
    assert_int_equal(a.n, 2);
    assert_int_equal(a.p[0].start, 1ull << 40);
    assert_int_equal(a.p[0].length, LDISK_BLOCK);
    vec_fini(&a);
    ldisk_free(d);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_life),
        cmocka_unit_test(file_names_follow_the_chain),
        cmocka_unit_test(held_version_reads_the_same_while_others_go),
        cmocka_unit_test(freed_while_held_goes_with_its_last_reader),
        cmocka_unit_test(change_ids_are_judged),
        cmocka_unit_test(all_before_the_first_round_counts_as_changed),
        cmocka_unit_test(two_tebibytes_and_a_sector),
    };

    return cmocka_run_group_tests_name("ldisk", tests, make_dir, remove_dir);
}
