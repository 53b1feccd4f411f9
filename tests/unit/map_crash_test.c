/* The block map at a power cut, at every instant: each write and sync that the
 * map makes is recorded, and whatever a disk may hold afterwards - any of the
 * writes that were not synced yet, each whole or with any of its sectors - has
 * to be opened as a map that promises nothing untrue. */
#include "base/fs.h"
#include "base/str.h"
#include "disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define PAGE     4096u
#define SECTORS  (PAGE / 512)
#define FILE_MAX (8u * PAGE)
#define BLOCKS   (2u * MAP_PAGE_BLOCKS + 100)
#define SIZE     ((uint64_t)(BLOCKS - 1) * DISK_BLOCK + 512)
#define PENDING  8u /* writes without a sync */
#define LAST     (BLOCKS - 1)

static char dir[] = "/tmp/map_crash_test.XXXXXX";
static char *path, *image;

/* what a disk may hold ---------------------------------------------------- */

struct write {
    size_t at, n;
    uint8_t data[PAGE];
};

struct writes {
    struct write p[PENDING];
    unsigned n;
};

/* Real syncs take their time and would prove nothing: there are none. */
static bool recording;
static unsigned fail_sync; /* which sync from now on fails, 1-based */
static uint8_t stable[FILE_MAX];
static size_t stable_n;
static struct writes pending;  /* since the last sync */
static struct writes doubtful; /* their sync failed: the kernel forgets it */
static enum { NO_NAME, NAME_PENDING, NAMED } name;
static bool opened;          /* the map was, so it is there for good */
static unsigned long images; /* that were looked at */

static void look(void);

ssize_t __real_pwrite64(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t at);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

/* Sectors by mask: bit i stands for the i-th. */
static size_t
apply(uint8_t *file, size_t n, const struct write *w, unsigned mask)
{
    for (unsigned i = 0; i < SECTORS; i++) {
        if (!(mask >> i & 1))
            continue;
        memcpy(file + w->at + 512 * i, w->data + 512 * i, 512);
        if (n < w->at + 512 * (i + 1))
            n = w->at + 512 * (i + 1);
    }
    return n;
}

ssize_t
__wrap_pwrite64(int fd, const void *p, size_t n, off_t at)
{
    struct write *w = &pending.p[pending.n];

    if (recording) {
        assert_true(pending.n < PENDING);
        assert_true(n == PAGE && at % PAGE == 0 && at + PAGE <= FILE_MAX);
        w->at = (size_t)at;
        w->n = n;
        memcpy(w->data, p, n);
        pending.n++;
        look();
    }
    return __real_pwrite64(fd, p, n, at);
}

/* A page that is written again leaves no doubt behind. */
static void
settle(const struct write *w)
{
    unsigned k = 0;

    for (unsigned i = 0; i < doubtful.n; i++)
        if (doubtful.p[i].at != w->at)
            doubtful.p[k++] = doubtful.p[i];
    doubtful.n = k;
}

int
__wrap_fdatasync(int fd)
{
    (void)fd;
    if (!recording)
        return 0;
    if (fail_sync && !--fail_sync) {
        for (unsigned i = 0; i < pending.n; i++)
            doubtful.p[doubtful.n++] = pending.p[i];
        pending.n = 0;
        look();
        errno = EIO;
        return -1;
    }
    for (unsigned i = 0; i < pending.n; i++) {
        stable_n = apply(stable, stable_n, &pending.p[i], 255);
        settle(&pending.p[i]);
    }
    pending.n = 0;
    look();
    return 0;
}

/* Of the directory. */
int
__wrap_fsync(int fd)
{
    (void)fd;
    if (!recording)
        return 0;
    if (name == NAME_PENDING)
        name = NAMED;
    look();
    return 0;
}

int
__wrap_rename(const char *from, const char *to)
{
    if (recording) {
        look();
        name = NAME_PENDING;
        look();
    }
    return __real_rename(from, to);
}

/* what the map has promised ------------------------------------------------ */

struct head {
    const char *plan;
    bool holes_zero;
};

static struct {
    struct head head, next; /* next: of the operation under way */
    struct map_entry now[BLOCKS];
    struct map_entry to[BLOCKS];                /* by the operation under way */
    struct map_entry before[BLOCKS];            /* one that failed */
    bool touched[BLOCKS / MAP_PAGE_BLOCKS + 1]; /* pages of it */
    bool doubt[BLOCKS / MAP_PAGE_BLOCKS + 1];   /* of one that failed */
    bool marks; /* it is a begin: its name may not come before its marks */
} promise;

static struct map_entry
effective(struct map_entry x, bool holes_zero, unsigned block)
{
    if (x.flags || !holes_zero)
        return x;
    return (struct map_entry){ disk_zero_hash(block == LAST ? 512 : DISK_BLOCK),
                               MAP_COPIED | MAP_ZERO };
}

static bool
same(struct map_entry a, struct map_entry b)
{
    return a.flags == b.flags && a.hash == b.hash;
}

static bool
clean(struct map_entry x)
{
    return (x.flags & (MAP_COPIED | MAP_DIRTY)) == MAP_COPIED;
}

static bool
truthful(struct map_entry x, unsigned block, bool named, bool holes_zero)
{
    unsigned page = block / MAP_PAGE_BLOCKS;
    bool lossy = promise.touched[page] || promise.doubt[page];

    if (same(x, effective(promise.to[block], holes_zero, block)))
        return true;
    if (!(named && promise.marks) &&
        same(x, effective(promise.now[block], holes_zero, block)))
        return true;
    /* A zero made of a hole is not what was there before. */
    if (promise.doubt[page] && promise.before[block].flags &&
        same(x, promise.before[block]))
        return true;
    /* Torn, or as it was before it was touched: it will be copied again. */
    return lossy && !clean(x);
}

static void
check_map(struct map *m)
{
    const struct map_head *h = map_head(m);
    bool named = !strcmp(h->plan, promise.next.plan) &&
                 h->holes_zero == promise.next.holes_zero;
    struct err e = ERR_INIT;

    if (!named) {
        assert_string_equal(h->plan, promise.head.plan);
        assert_int_equal(h->holes_zero, promise.head.holes_zero);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct map_entry x;

        assert_int_equal(map_get(m, i, &x, &e), 0);
        if (!truthful(x, i, named, h->holes_zero))
            fail_msg("block %u: flags %u hash %llu; promised %u %llu", i,
                     x.flags, (unsigned long long)x.hash, promise.now[i].flags,
                     (unsigned long long)promise.now[i].hash);
    }
}

static void
fill(const char *file, const uint8_t *data, size_t n)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fs_write_all(fd, data, n), 0);
    close(fd);
}

static void
check_image(const uint8_t *data, size_t n, bool named)
{
    struct err e = ERR_INIT;
    defer_free char *tmp = xasprintf("%s.new", image);
    struct map *m = NULL;

    images++;
    assert_int_equal(fs_remove(image, &e), 0);
    fill(named ? image : tmp, data, n);
    if (map_open(&m, image, "disk", SIZE, "target", &e))
        fail_msg("%s", e.msg);
    if (named)
        check_map(m);
    else
        assert_string_equal(map_head(m)->plan, "");
    map_close(m);
}

/* `which` of the pending writes, the one of number `torn` by mask. */
static void
check_writes(bool doubts, unsigned which, unsigned torn, unsigned mask)
{
    static uint8_t file[FILE_MAX];
    size_t n = stable_n;

    memset(file, 0, sizeof file);
    memcpy(file, stable, stable_n);
    for (unsigned i = 0; doubts && i < doubtful.n; i++)
        n = apply(file, n, &doubtful.p[i], 255);
    for (unsigned i = 0; i < pending.n; i++)
        n = apply(file, n, &pending.p[i],
                  i == torn        ? mask
                  : which >> i & 1 ? 255
                                   : 0);
    if (name != NAMED) {
        assert_false(opened);
        check_image(file, n, false);
    }
    if (name != NO_NAME)
        check_image(file, n, true);
}

/* The power is cut here: all that may be found afterwards. */
static void
look(void)
{
    unsigned all = (1u << pending.n) - 1;

    recording = false;
    for (unsigned d = 0; d <= !!doubtful.n; d++) {
        for (unsigned which = 0; which <= all; which++)
            check_writes(d, which, PENDING, 0);
        for (unsigned i = 0; i < pending.n; i++)
            for (unsigned mask = 1; mask < 255; mask++) {
                check_writes(d, all, i, mask);
                if (pending.n > 1)
                    check_writes(d, 0, i, mask);
            }
    }
    recording = true;
}

/* operations ----------------------------------------------------------------
 */

static struct map *map;

static void
restart(void)
{
    struct err e = ERR_INIT;

    recording = true;
    map_close(map);
    if (map_open(&map, path, "disk", SIZE, "target", &e))
        fail_msg("%s", e.msg);
    opened = true;
    look();
    recording = false;
}

static void
prepare(void)
{
    promise.next = promise.head;
    promise.marks = false;
    memcpy(promise.to, promise.now, sizeof promise.to);
    memset(promise.touched, 0, sizeof promise.touched);
}

/* The operation is over: it holds, or it failed and anything of it may. */
static void
conclude(bool failed)
{
    bool doubt[sizeof promise.doubt];
    struct err e = ERR_INIT;

    memcpy(doubt, promise.doubt, sizeof doubt);
    for (unsigned i = 0; i < BLOCKS; i++) {
        unsigned page = i / MAP_PAGE_BLOCKS;

        if (!promise.touched[page])
            continue;
        /* The oldest is kept: none of those since was ever over. */
        if (!promise.doubt[page])
            promise.before[i] =
                effective(promise.now[i], promise.head.holes_zero, i);
        doubt[page] = failed;
    }
    memcpy(promise.doubt, doubt, sizeof doubt);
    memcpy(promise.now, promise.to, sizeof promise.now);
    if (failed) { /* the kernel shows what it could not keep */
        restart();
        promise.next = promise.head;
        for (unsigned i = 0; i < BLOCKS; i++) {
            struct map_entry x;

            assert_int_equal(map_get(map, i, &x, &e), 0);
            assert_true(
                same(x, effective(promise.now[i], promise.head.holes_zero, i)));
        }
    }
    promise.head = promise.next;
    promise.marks = false;
    memset(promise.touched, 0, sizeof promise.touched);
    look();
    recording = false;
}

static void
begin(const char *plan, unsigned from, unsigned n, bool failing)
{
    defer_extents struct extents x = { 0 };
    bool first = !*promise.head.plan;
    struct err e = ERR_INIT;
    int rc;

    prepare();
    extents_add(&x, (uint64_t)from * DISK_BLOCK, (uint64_t)n * DISK_BLOCK);
    extents_round(&x, SIZE);
    promise.next.plan = plan;
    promise.marks = true;
    for (unsigned i = from; !first && i < from + n; i++) {
        struct map_entry now =
            effective(promise.now[i], promise.head.holes_zero, i);

        promise.touched[i / MAP_PAGE_BLOCKS] = true;
        if (now.flags & MAP_DIRTY)
            promise.to[i] = (struct map_entry){ 0, MAP_DIRTY };
        else if (now.flags)
            promise.to[i] =
                (struct map_entry){ now.hash, now.flags | MAP_DIRTY };
    }
    fail_sync = failing;
    recording = true;
    rc = map_begin(map, plan, n, &x, true, &e);
    recording = false;
    assert_int_equal(rc, failing ? -1 : 0);
    conclude(failing);
}

static void
put(unsigned from, unsigned n, uint64_t hash, uint8_t flags, bool failing)
{
    struct map_change c[BLOCKS];
    struct err e = ERR_INIT;
    int rc;

    prepare();
    for (unsigned i = 0; i < n; i++) {
        c[i] = (struct map_change){ from + i, { hash, flags } };
        promise.to[from + i] = c[i].entry;
        promise.touched[(from + i) / MAP_PAGE_BLOCKS] = true;
    }
    fail_sync = failing;
    recording = true;
    rc = map_apply(map, c, n, &e) || map_sync(map, &e) ? -1 : 0;
    recording = false;
    assert_int_equal(rc, failing ? -1 : 0);
    conclude(failing);
}

static void
holes_zero(void)
{
    struct err e = ERR_INIT;

    prepare();
    promise.next.holes_zero = true;
    recording = true;
    assert_int_equal(map_holes_zero(map, &e), 0);
    recording = false;
    conclude(false);
}

static int
setup(void **state)
{
    (void)state;
    memset(&promise, 0, sizeof promise);
    promise.head.plan = promise.next.plan = "";
    memset(stable, 0, sizeof stable);
    stable_n = pending.n = doubtful.n = 0;
    name = NO_NAME;
    opened = false;
    images = 0;
    return 0;
}

static int
teardown(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    recording = false;
    map_close(take(map));
    fs_remove(path, &e);
    fs_remove(image, &e);
    return e.class;
}

static void
rounds_are_safe_at_every_instant(void **state)
{
    (void)state;
    restart();
    begin("base", 0, BLOCKS, false);
    put(0, 100, 1, MAP_COPIED, false);
    put(400, 100, 2, MAP_COPIED, false);
    holes_zero();
    begin("delta", 90, 400, false);
    put(90, 200, 3, MAP_COPIED, false);
    restart();
    /* what is left of it is dirty twice over */
    begin("more", 200, 300, false);
    put(200, 300, 4, MAP_COPIED, false);
    begin("compare", 0, BLOCKS, false);
    put(MAP_PAGE_BLOCKS - 1, 2, 5, MAP_COPIED, false);
    put(0, BLOCKS, 6, MAP_COPIED, false);
    assert_true(images > 5000);
}

/* A sync that failed says nothing of the next one: what it was for may be
 * gone although the kernel still shows it. */
static void
failed_sync_is_made_good(void **state)
{
    (void)state;
    restart();
    begin("base", 0, BLOCKS, false);
    put(0, 10, 1, MAP_COPIED, false);
    put(MAP_PAGE_BLOCKS, 10, 2, MAP_COPIED, true);
    holes_zero();
    begin("delta", 0, 20, true);
    begin("delta", 0, 20, true);
    begin("delta", 0, 20, false);
    put(0, 20, 3, MAP_COPIED, true);
    put(0, 20, 3, MAP_COPIED, false);
    assert_true(images > 1000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rounds_are_safe_at_every_instant, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(failed_sync_is_made_good, setup,
                                        teardown),
    };
    struct err e = ERR_INIT;
    int rc;

    if (!mkdtemp(dir))
        return 1;
    path = xasprintf("%s/disk.map", dir);
    image = xasprintf("%s/image.map", dir);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(path);
    free(image);
    return fs_remove_tree(dir, &e) ? 1 : rc;
}
