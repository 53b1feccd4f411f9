/* limit: rates and slots that processes share. */
#include "limit/limit.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define S    1000000000ll /* nanoseconds */
#define MIB  (1ull << 20)
#define MANY 6 /* processes */

static char dir[] = "/tmp/v2c-limit-XXXXXX";

static void
sound(int rc, const struct err *e)
{
    if (rc < 0)
        fail_msg("%s", e->msg);
}

/* A file or directory that no other test uses; freed by the caller. */
static char *
new_path(void)
{
    static int n;

    return xasprintf("%s/%d", dir, n++);
}

static void *
shared_memory(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                   -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

/* rates ------------------------------------------------------------------- */

static const struct {
    const char *text;
    uint64_t rate; /* 0: refused */
    const char *again;
} rates[] = {
    { "200MB", 200000000, "200MB" },
    { "200 MB/s", 200000000, "200MB" },
    { "64KiB", 65536, "64KiB" },
    { "1.5Gbit", 187500000, "187.5MB" },
    { "10Gbit/s", 1250000000, "1.25GB" },
    { "1.001MB", 1001000, "1.001MB" },
    { "70001B", 70001, "70.001kB" },
    { "0.125GiB", 128ull << 20, "128MiB" },
    { "1024GiB", RATE_MAX, "1024GiB" },
    { "1000kbit", 125000, "125kB" },
    { .text = "200" },
    { .text = "200000" },
    { .text = "200M" },
    { .text = "200mb" },
    { .text = "200Mb" },
    { .text = "200KB" },
    { .text = "200MBps" },
    { .text = "200MB/m" },
    { .text = "200  MB" },
    { .text = "200MB " },
    { .text = "-1MB" },
    { .text = "+1MB" },
    { .text = "1.MB" },
    { .text = ".5MB" },
    { .text = "1.2345MB" },
    { .text = "MB" },
    { .text = "" },
    { .text = "0MB" },
    { .text = "65535B" },
    { .text = "1024.001GiB" },
    { .text = "999999999999GiB" },
    { .text = "9999999999999B" },
};

static void
rates_are_read_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        char text[RATE_TEXT_MAX];
        struct err e = ERR_INIT;
        uint64_t rate = 1;
        int rc = rate_parse(rates[i].text, &rate, &e);

        if (rc != (rates[i].rate ? 0 : -1) || rate != rates[i].rate)
            fail_msg("%s: %d %llu %s", rates[i].text, rc,
                     (unsigned long long)rate, e.msg);
        if (rc) {
            assert_int_equal(e.class, ERR_USER);
            continue;
        }
        rate_text(rate, text);
        assert_string_equal(text, rates[i].again);
        assert_int_equal(rate_parse(text, &rate, &e), 0);
        assert_int_equal(rate, rates[i].rate);
    }
}

static void
no_limit_has_two_names(void **state)
{
    char text[RATE_TEXT_MAX];
    struct err e = ERR_INIT;
    uint64_t rate = 1;

    (void)state;
    assert_int_equal(rate_parse("none", &rate, &e), 0);
    assert_int_equal(rate, 0);
    assert_int_equal(rate_parse("0", &rate, &e), 0);
    assert_int_equal(rate, 0);
    rate_text(0, text);
    assert_string_equal(text, "none");
}

/* buckets ----------------------------------------------------------------- */

static struct bucket *
open_bucket(const char *path)
{
    struct err e = ERR_INIT;
    struct bucket *b = NULL;

    sound(bucket_open(path, true, &b, &e), &e);
    return b;
}

/* Bytes given from `from` on for `ns`, by somebody who asks each step_ns. */
static uint64_t
given(struct bucket *b, uint64_t n, int64_t from, int64_t ns, int64_t step_ns)
{
    uint64_t sum = 0;
    int64_t ready;

    for (int64_t t = from; t < from + ns; t += step_ns)
        while (bucket_take(b, n, t, &ready))
            sum += n;
    return sum;
}

static uint64_t
most(uint64_t rate, int64_t ns, uint64_t n)
{
    return rate * (uint64_t)((ns + BURST_NS) / 1000000) / 1000 + n;
}

static void
rate_is_kept(void **state)
{
    static const uint64_t all[] = { RATE_MIN, 1000000, 100 * MIB, RATE_MAX };
    static const uint64_t sizes[] = { 512, 65536, MIB, BUCKET_MAX };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            uint64_t rate = all[i], n = sizes[j], got;
            defer(bucket_close_ptr) struct bucket *b = bucket_private(rate);
            /* long enough for three takes; short where they are many */
            int64_t ns = (int64_t)(3 * n * 1000 / rate + 1) * 1000000;

            if (ns < S / 100)
                ns = S / 100;
            got = given(b, n, 5 * S, ns, ns / 1000);
            assert_in_range(got, n, most(rate, ns, n));
            assert_true(got + n >=
                        rate * (uint64_t)(ns / 1000000) / 1000 * 99 / 100);
        }
}

static void
idle_time_is_not_saved(void **state)
{
    defer(bucket_close_ptr) struct bucket *b = bucket_private(MIB);

    (void)state;
    given(b, 65536, S, S, S / 1000);
    assert_true(given(b, 65536, 1000 * S, S, S / 1000) <= most(MIB, S, 65536));
}

static void
ready_is_when_it_gives_again(void **state)
{
    defer(bucket_close_ptr) struct bucket *b = bucket_private(MIB);
    int64_t ready = 0, again;

    (void)state;
    while (bucket_take(b, 65536, S, &ready))
        ;
    assert_true(ready > S && ready <= S + S / 8);
    assert_false(bucket_take(b, 65536, ready - 1, &again));
    assert_true(bucket_take(b, 65536, ready, &again));
}

static void
change_counts_at_once(void **state)
{
    defer_free char *path = new_path();
    defer(bucket_close_ptr) struct bucket *mine = open_bucket(path);
    defer(bucket_close_ptr) struct bucket *other = open_bucket(path);
    int64_t ready;

    (void)state;
    assert_int_equal(bucket_rate(mine), 0);
    assert_true(bucket_take(mine, BUCKET_MAX, S, &ready));
    bucket_set(other, RATE_MIN);
    while (bucket_take(mine, BUCKET_MAX, S, &ready))
        ;
    /* a thousand seconds are owed; nobody pays them at the new rate */
    bucket_set(other, 100 * MIB);
    assert_true(bucket_take(mine, 65536, S, &ready));
    bucket_set(other, 0);
    assert_true(bucket_take(mine, BUCKET_MAX, S, &ready));
    assert_true(bucket_take(mine, BUCKET_MAX, S, &ready));
}

static void
hand_outlasts_an_unchanged_configuration(void **state)
{
    defer_free char *path = new_path();
    defer(bucket_close_ptr) struct bucket *b = open_bucket(path);

    (void)state;
    bucket_configure(b, 8 * MIB);
    assert_int_equal(bucket_rate(b), 8 * MIB);
    bucket_set(b, MIB);
    bucket_configure(b, 8 * MIB);
    assert_int_equal(bucket_rate(b), MIB);
    assert_int_equal(bucket_configured(b), 8 * MIB);
    bucket_configure(b, 9 * MIB);
    assert_int_equal(bucket_rate(b), 9 * MIB);
    bucket_set(b, 1);
    assert_int_equal(bucket_rate(b), RATE_MIN);
    bucket_set(b, UINT64_MAX);
    assert_int_equal(bucket_rate(b), RATE_MAX);
}

/* Whatever the numbers in the file are, nobody waits longer than the largest
 * take lasts, and nobody gets more than the rate. */
static void
garbage_numbers_are_bounded(void **state)
{
    static const int64_t numbers[] = { INT64_MAX, INT64_MIN, -1,
                                       INT64_MAX - BURST_NS, 1ll << 62 };

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        defer_free char *path = new_path();
        defer(bucket_close_ptr) struct bucket *b = open_bucket(path);
        defer_close int fd = open(path, O_RDWR | O_CLOEXEC);
        int64_t ready = 0, words[3] = { numbers[i], numbers[i], numbers[i] };

        assert_int_equal(fs_pwrite_all(fd, words, sizeof words, 16), 0);
        assert_in_range(bucket_rate(b), RATE_MIN, RATE_MAX);
        bucket_set(b, MIB);
        assert_true(bucket_take(b, 65536, 7 * S, &ready));
        assert_true(given(b, 65536, 7 * S, S, S / 1000) <= most(MIB, S, 65536));
    }
}

static int
try_open(const char *path, bool make)
{
    struct bucket *b = NULL;
    struct err e = ERR_INIT;
    int rc = bucket_open(path, make, &b, &e);

    bucket_close(b);
    return rc ? (int)e.class : 0;
}

static void
damaged_file_is_made_anew(void **state)
{
    static const char *const contents[] = { "", "x", "v2c rate9, then more" };
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        defer_free char *path = new_path();
        char bytes[64] = { 0 };
        size_t n = strlen(contents[i]);

        memcpy(bytes, contents[i], n);
        sound(fs_replace(path, bytes, n > 10 ? 64 : n, 0600, &e), &e);
        assert_int_equal(try_open(path, false), ERR_DAMAGED);
        assert_int_equal(try_open(path, true), 0);
        assert_int_equal(try_open(path, false), 0);
    }
}

static void
what_is_no_file_of_ours_is_refused(void **state)
{
    defer_free char *path = new_path(), *link = new_path(), *none = new_path();

    (void)state;
    assert_int_equal(try_open(none, false), ERR_NOTFOUND);
    assert_int_equal(try_open(path, true), 0);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(try_open(link, true), ERR_USER);
    assert_int_equal(mkfifo(none, 0600), 0);
    assert_int_equal(try_open(none, true), ERR_USER);
}

static void
names_stay_apart(void **state)
{
    defer_free char *one = bucket_path("/d", "host", "a/b");
    defer_free char *two = bucket_path("/d", "host", "a_b");
    defer_free char *up = bucket_path("/d", "host", "..");
    char a[400], b[400];
    defer_free char *c = NULL, *d = NULL;

    (void)state;
    assert_string_equal(one, "/d/host-a%2Fb.rate");
    assert_string_equal(two, "/d/host-a_b.rate");
    assert_string_equal(up, "/d/host-...rate");
    memset(a, '/', sizeof a - 1);
    a[sizeof a - 1] = '\0';
    memcpy(b, a, sizeof b);
    b[398] = 'x';
    c = bucket_path("", "host", a);
    d = bucket_path("", "host", b);
    assert_string_not_equal(c, d);
    assert_true(strlen(c) < 255 && strlen(d) < 255);
}

static void
taker(const char *path, _Atomic uint64_t *sum, int64_t end)
{
    struct bucket *b = open_bucket(path);
    int64_t ready;

    while (clock_ns() < end)
        if (bucket_take(b, 8192, clock_ns(), &ready))
            atomic_fetch_add(sum, 8192);
    _exit(0);
}

/* However slow the machine is: what is given fits the time that has passed. */
static void
processes_share_a_rate(void **state)
{
    defer_free char *path = new_path();
    defer(bucket_close_ptr) struct bucket *b = open_bucket(path);
    _Atomic uint64_t *sum = shared_memory(sizeof *sum);
    int64_t start = clock_ns(), end = start + S / 2;

    (void)state;
    bucket_set(b, 4 * MIB);
    for (int i = 0; i < MANY; i++)
        if (!fork())
            taker(path, sum, end);
    for (int i = 0; i < MANY; i++)
        wait(NULL);
    assert_true(atomic_load(sum) >= 8192);
    assert_true(atomic_load(sum) <= most(4 * MIB, clock_ns() - start, 8192));
    munmap(sum, sizeof *sum);
}

static void
narrowest_bucket_governs(void **state)
{
    defer(gate_fini) struct gate g = { 0 };
    uint64_t sum = 0;

    (void)state;
    gate_add(&g, bucket_private(0));
    gate_add(&g, bucket_private(100 * MIB));
    gate_add(&g, bucket_private(MIB));
    for (int64_t t = S; t < 2 * S; t += S / 1000)
        while (gate_pass(&g, 65536, t)) {
            gate_spend(&g, 65536);
            sum += 65536;
        }
    assert_in_range(sum, 16 * 65536, most(MIB, S, 65536));
    assert_true(g.ready > 2 * S);
    assert_in_range(gate_wait_ms(&g, 2 * S - S / 1000), 1, 1000);
}

/* The wide bucket gives once for a read that the narrow one holds up. */
static void
nothing_is_taken_twice(void **state)
{
    defer_free char *path = new_path();
    defer(bucket_close_ptr) struct bucket *wide = open_bucket(path);
    defer(gate_fini) struct gate g = { 0 };

    (void)state;
    bucket_set(wide, MIB);
    gate_add(&g, open_bucket(path));
    gate_add(&g, bucket_private(RATE_MIN));
    for (int i = 0; i < 1000; i++)
        if (gate_pass(&g, 32768, S))
            gate_spend(&g, 32768);
    /* one read went through, one is held up */
    assert_true(given(wide, 32768, S, 1, 1) + 2 * 32768 >= MIB * BURST_NS / S);
    assert_true(gate_wait_ms(&g, S) > 0);
}

/* slots ------------------------------------------------------------------- */

static struct slots *
open_slots(const char *path)
{
    struct err e = ERR_INIT;
    struct slots *s = NULL;

    sound(slots_open(path, &s, &e), &e);
    return s;
}

/* A table with that many slots on "esx1" and on "ds1"; 0: any. */
static struct slots *
new_slots(int host, int datastore)
{
    defer_free char *path = new_path();
    struct slots *s = open_slots(path);
    struct err e = ERR_INIT;

    sound(slots_configure(s, SLOT_HOST, "esx1", host, &e), &e);
    sound(slots_configure(s, SLOT_DATASTORE, "ds1", datastore, &e), &e);
    return s;
}

static struct slot_wait why;

static bool
take_at(struct slots *s, struct slot_claim *slot, const char *host,
        const char *ds, bool urgent, int64_t now)
{
    struct slot_wish w = { { host, ds }, "vm disk 0", urgent };
    struct err e = ERR_INIT;
    int rc = slot_take(s, slot, &w, now, &why, &e);

    sound(rc, &e);
    return rc;
}

static bool
take_one(struct slots *s, struct slot_claim *slot)
{
    return take_at(s, slot, "esx1", "ds1", false, 1000);
}

static struct slot_use
use_of(struct slots *s, enum slot_kind kind, int64_t now)
{
    struct slot_list l;
    struct slot_use u = { .in_use = -1 };
    struct err e = ERR_INIT;

    sound(slots_list(s, now, &l, &e), &e);
    for (size_t i = 0; i < l.uses.n; i++)
        if (l.uses.p[i].kind == kind)
            u = l.uses.p[i];
    slot_list_fini(&l);
    return u;
}

static void
release_all(struct slot_claim *slots, int n)
{
    for (int i = 0; i < n; i++)
        slot_release(&slots[i]);
}

#define NO_SLOTS(n)                \
    {                              \
        [0 ...(n) - 1] = SLOT_INIT \
    }

static void
no_more_than_the_limit(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(2, 0);
    struct slot_claim a[4] = NO_SLOTS(4);

    (void)state;
    assert_true(take_one(s, &a[0]));
    assert_true(take_one(s, &a[1]));
    assert_false(take_one(s, &a[2]));
    assert_string_equal(why.name, "esx1");
    assert_int_equal(why.in_use, 2);
    assert_int_equal(why.limit, 2);
    assert_true(take_at(s, &a[3], "esx2", "ds1", false, 1000));
    slot_release(&a[0]);
    assert_true(take_one(s, &a[2]));
    assert_int_equal(use_of(s, SLOT_HOST, 1000).in_use, 2);
    release_all(a, 4);
    assert_int_equal(use_of(s, SLOT_HOST, 1000).in_use, 0);
}

static void
all_or_nothing(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(8, 1);
    struct slot_claim a[3] = NO_SLOTS(3);

    (void)state;
    assert_true(take_one(s, &a[0]));
    assert_false(take_one(s, &a[1]));
    assert_string_equal(why.name, "ds1");
    assert_int_equal(why.kind, SLOT_DATASTORE);
    assert_int_equal(use_of(s, SLOT_HOST, 1000).in_use, 1);
    assert_int_equal(use_of(s, SLOT_HOST, 1000).waiting, 1);
    /* one that needs no slot of the full datastore passes */
    assert_true(take_at(s, &a[2], "esx1", "ds2", false, 1000));
    release_all(a, 3);
}

static void
oldest_first(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(1, 0);
    struct slot_claim a[4] = NO_SLOTS(4);

    (void)state;
    assert_true(take_at(s, &a[0], "esx1", "", false, 1000));
    assert_false(take_at(s, &a[1], "esx1", "", false, 2000));
    assert_false(take_at(s, &a[2], "esx1", "", false, 3000));
    slot_release(&a[0]);
    assert_false(take_at(s, &a[2], "esx1", "", false, 3100));
    assert_false(take_at(s, &a[3], "esx1", "", false, 3100));
    assert_true(take_at(s, &a[1], "esx1", "", false, 3200));
    release_all(a, 4);
}

static void
who_asks_no_more_is_passed(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(1, 0);
    struct slot_claim a[3] = NO_SLOTS(3);

    (void)state;
    assert_true(take_at(s, &a[0], "esx1", "", false, 1000));
    assert_false(take_at(s, &a[1], "esx1", "", false, 2000));
    slot_release(&a[0]);
    assert_false(take_at(s, &a[2], "esx1", "", false, 2000 + SLOT_STALE_MS));
    assert_true(take_at(s, &a[2], "esx1", "", false, 2001 + SLOT_STALE_MS));
    release_all(a, 3);
}

/* It waits for a datastore, and has waited long: the host's slot is kept. */
static void
patience_has_an_end(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(2, 1);
    struct slot_claim a[5] = NO_SLOTS(5);
    int64_t late = 2000 + SLOT_PATIENCE_MS;

    (void)state;
    assert_true(take_at(s, &a[0], "esx1", "ds1", false, 1000));
    assert_false(take_at(s, &a[1], "esx1", "ds1", false, 2000));
    assert_true(take_at(s, &a[2], "esx1", "ds2", false, 2000));
    slot_release(&a[2]);
    assert_false(take_at(s, &a[1], "esx1", "ds1", false, late - 1));
    assert_true(take_at(s, &a[2], "esx1", "ds2", false, late - 1));
    slot_release(&a[2]);
    assert_false(take_at(s, &a[1], "esx1", "ds1", false, late));
    assert_false(take_at(s, &a[3], "esx1", "ds2", false, late));
    slot_release(&a[0]);
    assert_true(take_at(s, &a[1], "esx1", "ds1", false, late));
    assert_true(take_at(s, &a[3], "esx1", "ds2", false, late));
    release_all(a, 5);
}

static void
urgent_first_and_beyond(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(1, 0);
    struct slot_claim a[5] = NO_SLOTS(5);

    (void)state;
    assert_true(take_at(s, &a[0], "esx1", "", false, 1000));
    assert_false(take_at(s, &a[1], "esx1", "", false, 1000));
    assert_true(take_at(s, &a[2], "esx1", "", true, 2000));
    assert_false(take_at(s, &a[3], "esx1", "", true, 2000));
    slot_release(&a[0]);
    slot_release(&a[2]);
    assert_false(take_at(s, &a[1], "esx1", "", false, 2100));
    assert_true(take_at(s, &a[3], "esx1", "", true, 2100));
    release_all(a, 5);
}

static void
limit_changes_for_the_next(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(2, 0);
    struct slot_claim a[3] = NO_SLOTS(3);
    struct err e = ERR_INIT;

    (void)state;
    assert_true(take_one(s, &a[0]));
    assert_true(take_one(s, &a[1]));
    sound(slots_set(s, SLOT_HOST, "esx1", 1, &e), &e);
    slot_release(&a[0]);
    /* one still reads: no room, although a slot has become free */
    assert_false(take_one(s, &a[2]));
    sound(slots_configure(s, SLOT_HOST, "esx1", 2, &e), &e);
    assert_false(take_one(s, &a[2]));
    sound(slots_set(s, SLOT_HOST, "esx1", SLOT_DEFAULT, &e), &e);
    assert_true(take_one(s, &a[2]));
    sound(slots_configure(s, SLOT_HOST, "esx1", 0, &e), &e);
    assert_true(take_one(s, &a[0]));
    release_all(a, 3);
}

static void
shortage_halves_and_time_heals(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(8, 0);
    struct slot_claim a[9] = NO_SLOTS(9);
    struct err e = ERR_INIT;
    int64_t t = 100000;
    int limit = 0;

    (void)state;
    assert_int_equal(slots_short(s, "esx1", t, &limit, &e), 0);
    for (int i = 0; i < 6; i++)
        assert_true(take_at(s, &a[i], "esx1", "", false, t));
    assert_int_equal(slots_short(s, "esx1", t, &limit, &e), 1);
    assert_int_equal(limit, 3);
    /* one burst lowers once; nobody who reads is disturbed */
    assert_int_equal(slots_short(s, "esx1", t + SLOT_LOWER_MS - 1, &limit, &e),
                     0);
    assert_int_equal(use_of(s, SLOT_HOST, t).in_use, 6);
    assert_false(take_at(s, &a[6], "esx1", "", false, t));
    t += SLOT_LOWER_MS;
    assert_int_equal(slots_short(s, "esx1", t, &limit, &e), 1);
    assert_int_equal(limit, 1);
    release_all(a, 7);
    assert_true(take_at(s, &a[0], "esx1", "", false, t));
    assert_int_equal(slots_short(s, "esx1", t + SLOT_LOWER_MS, &limit, &e), 0);
    assert_int_equal(use_of(s, SLOT_HOST, t + SLOT_RAISE_MS).lowered, 2);
    assert_false(take_at(s, &a[1], "esx1", "", false, t + SLOT_RAISE_MS - 1));
    assert_true(take_at(s, &a[1], "esx1", "", false, t + SLOT_RAISE_MS));
    assert_int_equal(use_of(s, SLOT_HOST, t + 7 * SLOT_RAISE_MS).lowered, 0);
    /* a time to come is one of before a reboot */
    assert_int_equal(use_of(s, SLOT_HOST, t - 1).lowered, 0);
    release_all(a, 9);
}

static void
garbage_table_holds_nobody_up(void **state)
{
    defer_free char *path = new_path(), *file = xasprintf("%s/slots", path);
    defer(slots_close_ptr) struct slots *s = NULL;
    char noise[9 * 1024 + 7];
    struct slot_claim a[2] = NO_SLOTS(2);
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 2654435761u >> 13);
    /* rows with a good head and wild numbers among them */
    for (size_t i = 1024; i + 1024 < sizeof noise; i += 1024) {
        memcpy(noise + i, "v2cslot", 8);
        memset(noise + i + 8, 0, 8);
        noise[i + 8] = (char)(i / 1024 % 4);
    }
    sound(fs_mkdirs(path, 0700, &e), &e);
    sound(fs_replace(file, noise, sizeof noise, 0600, &e), &e);
    s = open_slots(path);
    sound(slots_configure(s, SLOT_HOST, "esx1", 1, &e), &e);
    assert_true(take_one(s, &a[0]));
    assert_false(take_one(s, &a[1]));
    /* emptied below those who hold it: they keep their rows */
    assert_int_equal(truncate(file, 0), 0);
    assert_true(take_one(s, &a[1]));
    assert_int_not_equal(a[0].row, a[1].row);
    release_all(a, 2);
}

/* While somebody decides, nobody else does. */
static void
held_table_gives_nothing(void **state)
{
    defer_free char *path = new_path(), *file = xasprintf("%s/slots", path);
    defer(slots_close_ptr) struct slots *s = open_slots(path);
    defer_close int fd = open(file, O_RDWR | O_CLOEXEC);
    struct flock lock = { .l_type = F_WRLCK, .l_len = 1 };
    struct slot_claim a = SLOT_INIT;

    (void)state;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_false(take_one(s, &a));
    assert_string_equal(why.name, "");
    lock.l_type = F_UNLCK;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_true(take_one(s, &a));
    slot_release(&a);
}

/* The one that inherited the descriptor holds the slot: a copier whose worker
 * was killed. */
static void
slot_lasts_as_long_as_its_heir(void **state)
{
    defer(slots_close_ptr) struct slots *s = new_slots(1, 0);
    struct slot_claim a[2] = NO_SLOTS(2);
    const char *const argv[] = { "cat", NULL };
    struct proc_opts o = { .argv = argv, .in = PROC_PIPE, .out = -1 };
    struct proc p = PROC_INIT;
    struct err e = ERR_INIT;
    int status;

    (void)state;
    assert_true(take_one(s, &a[0]));
    o.hold = a[0].fd;
    sound(proc_start(&o, &p, &e), &e);
    slot_release(&a[0]);
    assert_false(take_one(s, &a[1]));
    proc_close(&p);
    assert_int_equal(proc_wait(&p, -1, &status), 1);
    assert_true(take_one(s, &a[1]));
    /* and one that has none starts as well */
    o.hold = a[0].fd;
    sound(proc_start(&o, &p, &e), &e);
    proc_stop(&p, SIGTERM, 1000);
    release_all(a, 2);
}

/* Processes that take and let go, while others of them are killed.  Each says
 * what it holds only while it surely does; `version` tells whether a count is
 * of one moment. */
struct crowd {
    _Atomic int holds[MANY], version, killing, exceeded, stop;
};

static void
count_holders(struct crowd *c, int limit)
{
    int version, n;

    do {
        version = atomic_load(&c->version);
        n = 0;
        for (int i = 0; i < MANY; i++)
            n += atomic_load(&c->holds[i]);
    } while (atomic_load(&c->killing) || version != atomic_load(&c->version));
    if (n > limit)
        atomic_store(&c->exceeded, n);
}

static void
claims(struct crowd *c, int me, int holds)
{
    atomic_store(&c->holds[me], holds);
    atomic_fetch_add(&c->version, 1);
}

static void
member(const char *path, struct crowd *c, int me, int limit)
{
    struct slots *s = open_slots(path);
    struct slot_claim slot = SLOT_INIT;

    while (!atomic_load(&c->stop)) {
        if (!take_at(s, &slot, "esx1", "", false, clock_ms()))
            continue;
        claims(c, me, 1);
        count_holders(c, limit);
        claims(c, me, 0);
        slot_release(&slot);
    }
    _exit(0);
}

static pid_t
start_member(const char *path, struct crowd *c, int me, int limit)
{
    pid_t pid = fork();

    if (!pid)
        member(path, c, me, limit);
    return pid;
}

static void
killed_ones_free_their_slots(void **state)
{
    enum { LIMIT = 2, KILLS = 150 };
    defer_free char *path = new_path();
    defer(slots_close_ptr) struct slots *s = open_slots(path);
    struct crowd *c = shared_memory(sizeof *c);
    struct slot_claim a[LIMIT] = NO_SLOTS(LIMIT);
    struct err e = ERR_INIT;
    pid_t pids[MANY];

    (void)state;
    sound(slots_configure(s, SLOT_HOST, "esx1", LIMIT, &e), &e);
    for (int i = 0; i < MANY; i++)
        pids[i] = start_member(path, c, i, LIMIT);
    for (int i = 0; i < KILLS; i++) {
        int who = i % MANY, before = atomic_load(&c->version);

        /* each time somebody has taken or let go since */
        while (atomic_load(&c->version) < before + i % 7 + 1)
            clock_pause(1);
        atomic_store(&c->killing, 1);
        kill(pids[who], SIGKILL);
        waitpid(pids[who], NULL, 0);
        claims(c, who, 0);
        atomic_store(&c->killing, 0);
        pids[who] = start_member(path, c, who, LIMIT);
    }
    atomic_store(&c->stop, 1);
    for (int i = 0; i < MANY; i++)
        waitpid(pids[i], NULL, 0);
    assert_int_equal(atomic_load(&c->exceeded), 0);
    assert_true(take_at(s, &a[0], "esx1", "", false, clock_ms()));
    assert_true(take_at(s, &a[1], "esx1", "", false, clock_ms()));
    release_all(a, LIMIT);
    munmap(c, sizeof *c);
}

static int
setup(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int
teardown(void **state)
{
    struct err e;

    (void)state;
    return fs_remove_tree(dir, &e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_read_strictly),
        cmocka_unit_test(no_limit_has_two_names),
        cmocka_unit_test(rate_is_kept),
        cmocka_unit_test(idle_time_is_not_saved),
        cmocka_unit_test(ready_is_when_it_gives_again),
        cmocka_unit_test(change_counts_at_once),
        cmocka_unit_test(hand_outlasts_an_unchanged_configuration),
        cmocka_unit_test(garbage_numbers_are_bounded),
        cmocka_unit_test(damaged_file_is_made_anew),
        cmocka_unit_test(what_is_no_file_of_ours_is_refused),
        cmocka_unit_test(names_stay_apart),
        cmocka_unit_test(processes_share_a_rate),
        cmocka_unit_test(narrowest_bucket_governs),
        cmocka_unit_test(nothing_is_taken_twice),
        cmocka_unit_test(no_more_than_the_limit),
        cmocka_unit_test(all_or_nothing),
        cmocka_unit_test(oldest_first),
        cmocka_unit_test(who_asks_no_more_is_passed),
        cmocka_unit_test(patience_has_an_end),
        cmocka_unit_test(urgent_first_and_beyond),
        cmocka_unit_test(limit_changes_for_the_next),
        cmocka_unit_test(shortage_halves_and_time_heals),
        cmocka_unit_test(garbage_table_holds_nobody_up),
        cmocka_unit_test(held_table_gives_nothing),
        cmocka_unit_test(slot_lasts_as_long_as_its_heir),
        cmocka_unit_test(killed_ones_free_their_slots),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
