/* The copier's parts: allocation by VDDK's rules, completions, plans; and the
 * pipeline, with a source that misbehaves as told, which needs nbdkit. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "copy/copy.h"
#include "copy/plan.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/source.h"
#include "copy/target.h"
#include "copy_world.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define CHUNK  65536ull
#define WINDOW (32ull << 30)
#define SIZE   (64u * DISK_BLOCK + 512)

static char dir[] = "/tmp/copy_test.XXXXXX";

/* allocation --------------------------------------------------------------- */

/* A disk that has what `has` says, and judges each question. */
struct asked {
    struct extents has;
    uint64_t size;
    unsigned count;
    unsigned fail_at; /* which question fails, 1-based; 0: none */
    bool nonsense;    /* answers but the first are outside of the question */
};

static int
answer(void *ctx, uint64_t start, uint64_t sectors, struct extents *out,
       struct err *e)
{
    struct asked *a = ctx;
    uint64_t n = sectors * 512, at = start * 512;
    defer_extents struct extents window = { 0 };
    defer_extents struct extents got = { 0 };

    assert_true(at % CHUNK == 0 && n % CHUNK == 0 && n && n <= WINDOW);
    assert_true(at + n <= a->size);
    if (++a->count == a->fail_at)
        return err_set(e, ERR_REMOTE, "no answer");
    extents_add(&window, at, n);
    extents_intersect(&a->has, &window, &got);
    for (size_t i = 0; i < got.n; i++)
        vec_push(out, got.p[i]);
    if (a->nonsense && a->count > 1)
        vec_push(out, (struct extent){ at + n, CHUNK });
    return 0;
}

static void
ask_all(struct asked *a, struct extents *out)
{
    struct err e = ERR_INIT;

    out->n = 0;
    a->count = 0;
    assert_int_equal(vddk_allocated(a->size, answer, a, out, &e), 0);
}

static void
allocation_goes_by_windows(void **state)
{
    struct asked a = { .size = 2 * WINDOW + 5 * CHUNK + 512 };
    defer_extents struct extents out = { 0 };

    (void)state;
    extents_add(&a.has, 0, CHUNK);
    extents_add(&a.has, 20 * CHUNK, CHUNK);
    extents_add(&a.has, 300 * CHUNK, CHUNK);
    extents_add(&a.has, WINDOW - CHUNK, 2 * CHUNK);
    ask_all(&a, &out);
    assert_int_equal(a.count, 4); /* the probe, and three windows */
    assert_int_equal(out.n, 5);
    assert_int_equal(out.p[1].start, 20 * CHUNK);
    assert_int_equal(out.p[3].start, WINDOW - CHUNK);
    assert_int_equal(out.p[3].length, 2 * CHUNK);
    /* The tail may not be asked about, and counts as data. */
    assert_int_equal(out.p[4].start, 2 * WINDOW + 5 * CHUNK);
    assert_int_equal(out.p[4].length, 512);
    extents_fini(&a.has);
}

static void
small_holes_are_read_through(void **state)
{
    struct asked a = { .size = 1000 * CHUNK };
    defer_extents struct extents out = { 0 };

    (void)state;
    extents_add(&a.has, 0, CHUNK);
    extents_add(&a.has, 16 * CHUNK, CHUNK);
    extents_add(&a.has, 33 * CHUNK, CHUNK);
    ask_all(&a, &out);
    assert_int_equal(out.n, 2);
    assert_int_equal(out.p[0].length, 17 * CHUNK);
    extents_fini(&a.has);
}

static void
no_probe_means_all(void **state)
{
    struct asked a = { .size = 3 * CHUNK + 512, .fail_at = 1 };
    defer_extents struct extents out = { 0 };

    (void)state;
    ask_all(&a, &out);
    assert_int_equal(a.count, 1);
    assert_int_equal(out.n, 1);
    assert_int_equal(out.p[0].length, a.size);
}

static void
a_window_without_sense_is_read(void **state)
{
    struct asked a = { .size = 2 * WINDOW, .fail_at = 3 };
    defer_extents struct extents out = { 0 };

    (void)state;
    ask_all(&a, &out);
    assert_int_equal(out.n, 1);
    assert_int_equal(out.p[0].start, WINDOW);
    assert_int_equal(out.p[0].length, WINDOW);
    a.fail_at = 0;
    a.nonsense = true;
    ask_all(&a, &out);
    assert_int_equal(out.n, 1);
    assert_int_equal(out.p[0].length, 2 * WINDOW);
}

static void
less_than_a_chunk_is_not_asked_about(void **state)
{
    struct asked a = { .size = 63 * 1024 };
    defer_extents struct extents out = { 0 };

    (void)state;
    ask_all(&a, &out);
    assert_int_equal(a.count, 0);
    assert_int_equal(extents_total(&out), a.size);
}

/* completions ---------------------------------------------------------------
 */

static void *
post_many(void *arg)
{
    struct done *d = arg;

    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        done_post(d, i, i + 1000ull);
    return NULL;
}

static void
completions_come_from_any_thread(void **state)
{
    struct err e = ERR_INIT;
    struct done *d = done_new(&e);
    struct done_item item;

    (void)state;
    assert_false(done_take(d, &item));
    for (int round = 0; round < 50; round++) {
        struct pollfd p = { done_fd(d), POLLIN, 0 };
        unsigned got = 0;
        pthread_t t;

        assert_int_equal(poll(&p, 1, 0), 0);
        assert_int_equal(pthread_create(&t, NULL, post_many, d), 0);
        while (got < COPY_SLOTS_MAX) {
            assert_int_equal(poll(&p, 1, COPY_WORLD_MS), 1);
            while (done_take(d, &item)) {
                assert_int_equal(item.slot, got);
                assert_int_equal(item.code, got + 1000);
                got++;
            }
        }
        pthread_join(t, NULL);
    }
    done_free(d);
}

/* a source that does as told -------------------------------------------------
 */

struct fake {
    struct source base;
    struct done *done;
    struct extents has;
    uint8_t *data;  /* SIZE bytes */
    unsigned reads; /* so far */
    unsigned in_flight;
    unsigned after_bad_max; /* most in flight once the bad ones are over */
    unsigned bad_from, bad_count; /* reads from..from+count-1 come back as */
    enum read_verdict bad;        /* this */
    uint32_t too_large;           /* bytes; such a read is refused; 0: none */
    unsigned stop_at;             /* the read that asks us to stop */
    bool lost;                    /* by READ_LOST */
    unsigned away;                /* looks at it until it is back */
    bool gone;                    /* it never is */
};

static uint64_t
fake_size(const struct source *s)
{
    (void)s;
    return SIZE;
}

static const char *
fake_transport(const struct source *s)
{
    (void)s;
    return "fake";
}

static int
fake_allocated(struct source *s, struct extents *out, struct err *e)
{
    const struct fake *f = (const struct fake *)s;

    (void)e;
    for (size_t i = 0; i < f->has.n; i++)
        extents_add(out, f->has.p[i].start, f->has.p[i].length);
    return 0;
}

static void
fake_read(struct source *s, unsigned slot, void *buf, uint64_t offset,
          uint32_t n)
{
    struct fake *f = (struct fake *)s;
    unsigned no = ++f->reads;
    bool bad = no >= f->bad_from && no < f->bad_from + f->bad_count;

    assert_true(offset + n <= SIZE);
    assert_false(f->lost);
    f->in_flight++;
    if (no >= f->bad_from + f->bad_count && f->in_flight > f->after_bad_max)
        f->after_bad_max = f->in_flight;
    if (no == f->stop_at)
        stop_ask();
    /* A read that fails leaves rubbish. */
    memset(buf, 0xee, n);
    if (!bad)
        memcpy(buf, f->data + offset, n);
    done_post(f->done, slot,
              bad                                 ? f->bad
              : f->too_large && n >= f->too_large ? READ_SHRINK
                                                  : READ_OK);
}

static void
fake_poll(const struct source *s, struct pollfd *p)
{
    p->fd = done_fd(((const struct fake *)s)->done);
    p->events = POLLIN;
}

static void
fake_ready(struct source *s, short revents)
{
    (void)s;
    (void)revents;
}

static bool
fake_reap(struct source *s, struct read_result *out)
{
    struct fake *f = (struct fake *)s;
    struct done_item item;

    if (!done_take(f->done, &item))
        return false;
    f->in_flight--;
    out->slot = item.slot;
    out->verdict = (enum read_verdict)item.code;
    f->lost |= item.code == READ_LOST;
    if (item.code != READ_OK)
        err_set(&out->err, ERR_NET, "as told");
    return true;
}

static int
fake_mend(struct source *s, struct err *e)
{
    struct fake *f = (struct fake *)s;

    if (!f->lost)
        return 1;
    if (f->in_flight)
        return 0;
    if (f->gone)
        return err_set(e, ERR_NET, "gone");
    if (f->away && f->away--)
        return 0;
    f->lost = false;
    return 1;
}

static const struct source_ops fake_ops = {
    .kind = "fake",
    .size = fake_size,
    .transport = fake_transport,
    .allocated = fake_allocated,
    .read = fake_read,
    .poll = fake_poll,
    .ready = fake_ready,
    .reap = fake_reap,
    .mend = fake_mend,
};

/* one disk, its map, a server -------------------------------------------------
 */

struct world {
    struct fake fake;
    struct request req;
    struct map *map;
    struct proc server;
    char *map_path, *socket, *uri;
};

static void
ask_for(struct world *w, enum plan_kind plan, const char *id)
{
    w->req.plan = plan;
    free(w->req.text[KEY_PLAN_ID]);
    w->req.text[KEY_PLAN_ID] = xstrdup(id);
}

static void
open_map(struct world *w)
{
    struct err e = ERR_INIT;

    map_close(w->map);
    w->map = NULL;
    if (map_open(&w->map, w->map_path, "disk", SIZE, "target", &e))
        fail_msg("%s", e.msg);
}

static int
setup(void **state)
{
    static unsigned count;
    struct world *w = xcalloc(1, sizeof *w);
    struct err e = ERR_INIT;

    w->fake.base.ops = &fake_ops;
    w->fake.done = done_new(&e);
    w->fake.data = xmalloc(SIZE);
    for (unsigned i = 0; i < SIZE; i++)
        w->fake.data[i] = (uint8_t)(1 + i % 251);
    w->server = (struct proc)PROC_INIT;
    w->map_path = xasprintf("%s/%u.map", dir, ++count);
    w->socket = xasprintf("%s/%u.sock", dir, count);
    w->uri = xasprintf("nbd+unix:///?socket=%s", w->socket);
    w->req = (struct request){ .disk_size = SIZE,
                               .slots = 8,
                               .bytes = DISK_BLOCK,
                               .zeroed = true,
                               .timeout_ms = COPY_WORLD_MS };
    ask_for(w, PLAN_ALL, "base");
    open_map(w);
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;

    proc_stop(&w->server, SIGKILL, COPY_WORLD_MS);
    map_close(w->map);
    request_fini(&w->req);
    extents_fini(&w->fake.has);
    done_free(w->fake.done);
    free(w->fake.data);
    free(w->map_path);
    free(w->socket);
    free(w->uri);
    free(w);
    return 0;
}

/* plans ----------------------------------------------------------------------
 */

/* Each step of a plan, as "start+length " in blocks. */
static void
steps(struct world *w, struct plan *p, struct str *out)
{
    bool wanted[(1u << 20) / DISK_BLOCK];
    struct err e = ERR_INIT;
    struct extent x;

    while (plan_next(p, w->map, 1u << 20, 0, &x, wanted, &e) == 1)
        str_addf(out, "%u+%u ", (unsigned)(x.start / DISK_BLOCK),
                 (unsigned)disk_blocks(x.length));
    assert_int_equal(e.class, ERR_NONE);
}

static void
assert_plan(struct world *w, const char *wanted, enum plan_kind mode,
            bool resumed, bool skip_zero)
{
    struct err e = ERR_INIT;
    struct str got = STR_INIT;
    struct plan p;

    if (plan_make(&p, &w->req, &w->fake.base, w->map, &e))
        fail_msg("%s", e.msg);
    steps(w, &p, &got);
    assert_string_equal(str_text(&got), wanted);
    assert_int_equal(p.mode, mode);
    assert_int_equal(p.resumed, resumed);
    assert_int_equal(p.skip_zero, skip_zero);
    str_fini(&got);
    plan_fini(&p);
}

static void
set_block(struct world *w, uint64_t block, uint8_t flags)
{
    struct map_change c = { block, { 1, flags } };
    struct err e = ERR_INIT;

    assert_int_equal(map_apply(w->map, &c, 1, &e), 0);
}

static void
allocated_is_for_the_first_plan_only(void **state)
{
    struct world *w = *state;

    extents_add(&w->fake.has, 2 * DISK_BLOCK + 7, 100);
    ask_for(w, PLAN_ALLOCATED, "base");
    assert_plan(w, "2+1 ", PLAN_ALLOCATED, false, true);
    open_map(w);
    assert_plan(w, "2+1 ", PLAN_ALLOCATED, true, true);
    w->req.zeroed = false;
    assert_plan(w, "0+16 16+16 32+16 48+16 64+1 ", PLAN_ALL, true, false);
    w->req.zeroed = true;
    ask_for(w, PLAN_ALLOCATED, "next");
    assert_plan(w, "0+16 16+16 32+16 48+16 64+1 ", PLAN_ALL, false, false);
    ask_for(w, PLAN_ALLOCATED, "base");
    assert_plan(w, "0+16 16+16 32+16 48+16 64+1 ", PLAN_ALL, false, false);
}

static void
target_that_was_not_zeroed_never_is(void **state)
{
    struct world *w = *state;

    w->req.zeroed = false;
    ask_for(w, PLAN_ALLOCATED, "base");
    assert_plan(w, "0+16 16+16 32+16 48+16 64+1 ", PLAN_ALL, false, false);
    w->req.zeroed = true;
    assert_plan(w, "0+16 16+16 32+16 48+16 64+1 ", PLAN_ALL, true, false);
}

static void
resumed_plan_does_what_is_left(void **state)
{
    struct world *w = *state;

    assert_plan(w, "0+16 16+16 32+16 48+16 64+1 ", PLAN_ALL, false, true);
    for (unsigned i = 0; i < 64; i++)
        if (i != 5 && i != 6 && i != 40)
            set_block(w, i, MAP_COPIED);
    set_block(w, 50, MAP_COPIED | MAP_DIRTY);
    assert_plan(w, "5+2 40+1 50+1 64+1 ", PLAN_ALL, true, true);
}

static void
dirty_blocks_join_any_plan(void **state)
{
    struct world *w = *state;

    assert_plan(w, "0+16 16+16 32+16 48+16 64+1 ", PLAN_ALL, false, true);
    for (unsigned i = 0; i < 65; i++)
        set_block(w, i, MAP_COPIED);
    set_block(w, 9, MAP_COPIED | MAP_DIRTY);
    ask_for(w, PLAN_LIST, "delta");
    extents_add(&w->req.list, 20 * DISK_BLOCK, DISK_BLOCK);
    assert_plan(w, "9+1 20+1 ", PLAN_LIST, false, false);
}

/* pipeline --------------------------------------------------------------------
 */

static void
start_server(struct world *w)
{
    defer_free char *size = xasprintf("size=%u", SIZE);
    const char *argv[] = {
        "nbdkit", "-f", "-U", w->socket, "memory", size, NULL
    };

    copy_world_server(argv, w->socket, &w->server);
}

struct ran {
    struct counters c;
    struct err e;
    bool stuck;
    int rc;
};

static struct ran
run(struct world *w)
{
    struct ran r = { .c.start_ms = clock_ms() };
    struct target *t = NULL;
    struct plan p;

    if (target_open(&t, w->uri, SIZE, w->req.zeroes, &r.e) ||
        plan_make(&p, &w->req, &w->fake.base, w->map, &r.e))
        fail_msg("%s", r.e.msg);
    r.c.total = extents_total(&p.areas);
    r.c.done = r.c.total - p.todo;
    r.rc = pipeline_run(&w->req, &w->fake.base, t, w->map, &p, &r.c, &r.stuck,
                        &r.e);
    plan_fini(&p);
    target_close(t);
    return r;
}

static void
assert_equal_disks(struct world *w)
{
    struct nbd_handle *h = nbd_create();
    uint8_t *got = xmalloc(SIZE);

    assert_int_equal(nbd_connect_uri(h, w->uri), 0);
    assert_int_equal(nbd_pread(h, got, SIZE, 0, 0), 0);
    assert_memory_equal(got, w->fake.data, SIZE);
    nbd_close(h);
    free(got);
}

static void
reads_that_fail_are_tried_again(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->fake.bad = READ_RETRY;
    w->fake.bad_from = 3;
    w->fake.bad_count = 4;
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_int_equal(w->fake.reads, 65 + 4);
    assert_int_equal(r.c.done, SIZE);
    assert_int_equal(r.c.read, SIZE);
    assert_equal_disks(w);
}

static void
retries_have_an_end(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->req.slots = 1;
    w->fake.bad = READ_RETRY;
    w->fake.bad_from = 10;
    w->fake.bad_count = UINT32_MAX - 10;
    r = run(w);
    assert_int_equal(r.rc, -1);
    assert_int_equal(r.e.class, ERR_NET);
    assert_non_null(strstr(r.e.msg, "as told"));
    /* What came before is stable. */
    assert_int_equal(r.c.done, 9 * DISK_BLOCK);
    w->fake.bad_count = 0;
    open_map(w);
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_equal_disks(w);
}

/* However often: it is no fault of the reads. */
static void
reads_of_a_lost_connection_come_again(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->req.slots = 1;
    w->fake.bad = READ_LOST;
    w->fake.bad_from = 5;
    w->fake.bad_count = 12;
    w->fake.away = 3;
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_int_equal(w->fake.reads, 65 + 12);
    assert_equal_disks(w);
}

static void
a_source_that_does_not_come_back_ends_it(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->req.slots = 1;
    w->fake.bad = READ_LOST;
    w->fake.bad_from = 10;
    w->fake.bad_count = 1;
    w->fake.gone = true;
    r = run(w);
    assert_int_equal(r.rc, -1);
    assert_int_equal(r.e.class, ERR_NET);
    assert_string_equal(r.e.msg, "gone");
    assert_int_equal(r.c.done, 9 * DISK_BLOCK);
}

static void
short_buffers_halve_the_depth(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->fake.bad = READ_SHRINK;
    w->fake.bad_from = 1;
    w->fake.bad_count = 8;
    r = run(w);
    assert_int_equal(r.rc, 0);
    /* The burst of eight counted once; 64 good reads give one back. */
    assert_true(w->fake.after_bad_max == 4 || w->fake.after_bad_max == 5);
    assert_equal_disks(w);
}

static void
requests_too_large_are_cut(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->req.bytes = 16 * DISK_BLOCK;
    w->fake.too_large = 3 * DISK_BLOCK;
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.c.read, SIZE);
    assert_equal_disks(w);
}

static void
a_read_that_fails_for_good_ends_it(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->fake.bad = READ_FAILED;
    w->fake.bad_from = 20;
    w->fake.bad_count = 1;
    r = run(w);
    assert_int_equal(r.rc, -1);
    assert_true(r.c.done < SIZE);
    w->fake.bad_count = 0;
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_equal_disks(w);
}

static void
zeroes_are_skipped_on_a_new_target_only(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    memset(w->fake.data + 10 * DISK_BLOCK, 0, 5 * DISK_BLOCK);
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.c.zero, 5 * DISK_BLOCK);
    assert_int_equal(r.c.written, SIZE - 5 * DISK_BLOCK);
    assert_equal_disks(w);
    /* Not where the map says that something may have been written. */
    set_block(w, 30, MAP_DIRTY);
    memset(w->fake.data + 30 * DISK_BLOCK, 0, DISK_BLOCK);
    r = run(w);
    assert_int_equal(r.c.read, DISK_BLOCK);
    assert_equal_disks(w);
    memset(w->fake.data + 20 * DISK_BLOCK, 0, 2 * DISK_BLOCK);
    ask_for(w, PLAN_COMPARE, "delta");
    r = run(w);
    assert_int_equal(r.c.zero, 2 * DISK_BLOCK);
    assert_int_equal(r.c.same, SIZE - 2 * DISK_BLOCK);
    assert_equal_disks(w);
}

/* A delta of blocks 10, 12 and 20, with what lies between read through. */
static void
ask_for_gaps(struct world *w)
{
    struct ran r;

    start_server(w);
    w->req.bytes = 16 * DISK_BLOCK;
    w->req.gap = DISK_BLOCK;
    r = run(w);
    assert_int_equal(r.rc, 0);
    ask_for(w, PLAN_LIST, "delta");
    for (unsigned i = 0; i < 3; i++) {
        static const unsigned blocks[] = { 10, 12, 20 };
        uint64_t at = (uint64_t)blocks[i] * DISK_BLOCK;

        extents_add(&w->req.list, at, DISK_BLOCK);
        memset(w->fake.data + at, 0x77, DISK_BLOCK);
    }
    w->fake.reads = 0;
}

static void
small_gaps_are_read_through(void **state)
{
    struct world *w = *state;
    struct ran r;

    ask_for_gaps(w);
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_int_equal(w->fake.reads, 2);
    assert_int_equal(r.c.read, 4 * DISK_BLOCK);
    assert_int_equal(r.c.written, 3 * DISK_BLOCK);
    assert_int_equal(r.c.done, 3 * DISK_BLOCK);
    assert_equal_disks(w);
}

static void
gap_that_changed_is_a_doubt(void **state)
{
    struct world *w = *state;
    struct ran r;

    ask_for_gaps(w);
    w->fake.data[11 * DISK_BLOCK + 5] ^= 1;
    r = run(w);
    assert_int_equal(r.rc, -1);
    assert_int_equal(r.e.class, ERR_DAMAGED);
    /* Comparing finds it, and what this run has written. */
    ask_for(w, PLAN_COMPARE, "again");
    extents_fini(&w->req.list);
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_equal_disks(w);
}

static void
gap_that_was_never_copied_tells_nothing(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->req.bytes = 16 * DISK_BLOCK;
    w->req.gap = DISK_BLOCK;
    ask_for(w, PLAN_LIST, "first");
    extents_add(&w->req.list, 10 * DISK_BLOCK, DISK_BLOCK);
    extents_add(&w->req.list, 12 * DISK_BLOCK, DISK_BLOCK);
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.c.written, 2 * DISK_BLOCK);
    assert_int_equal(r.c.read, 3 * DISK_BLOCK);
}

/* Blocks 10 and 12 are listed as allocated; all else is zero. */
static void
ask_for_allocated(struct world *w)
{
    start_server(w);
    w->req.bytes = 16 * DISK_BLOCK;
    w->req.gap = DISK_BLOCK;
    w->req.zeroed = w->req.listed = true;
    ask_for(w, PLAN_ALLOCATED, "first");
    memset(w->fake.data, 0, SIZE);
    for (unsigned block = 10; block <= 12; block += 2) {
        extents_add(&w->req.list, (uint64_t)block * DISK_BLOCK, DISK_BLOCK);
        memset(w->fake.data + (size_t)block * DISK_BLOCK, 0x77, DISK_BLOCK);
    }
}

/* What is not allocated will count as zero: it is not to be anything else. */
static void
gap_that_is_not_allocated_is_zero(void **state)
{
    struct world *w = *state;
    struct ran r;

    ask_for_allocated(w);
    memset(w->fake.data + 11 * DISK_BLOCK, 0x77, DISK_BLOCK);
    r = run(w);
    assert_int_equal(r.rc, -1);
    assert_int_equal(r.e.class, ERR_DAMAGED);
    w->req.listed = false;
    extents_fini(&w->req.list);
    ask_for(w, PLAN_COMPARE, "again");
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_equal_disks(w);
}

static void
gap_of_zeroes_is_no_doubt(void **state)
{
    struct world *w = *state;
    struct ran r;

    ask_for_allocated(w);
    r = run(w);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.c.read, 3 * DISK_BLOCK);
    assert_equal_disks(w);
}

/* Last, since being asked to stop lasts. */
static void
stopped_is_not_done(void **state)
{
    struct world *w = *state;
    struct ran r;

    start_server(w);
    w->fake.stop_at = 20;
    r = run(w);
    assert_int_equal(r.rc, -1);
    assert_int_equal(r.e.class, ERR_STOPPED);
    assert_true(r.c.done >= 12 * DISK_BLOCK && r.c.done < SIZE);
    assert_int_equal(r.c.done, r.c.read);
}

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_goes_by_windows),
        cmocka_unit_test(small_holes_are_read_through),
        cmocka_unit_test(no_probe_means_all),
        cmocka_unit_test(a_window_without_sense_is_read),
        cmocka_unit_test(less_than_a_chunk_is_not_asked_about),
        cmocka_unit_test(completions_come_from_any_thread),
        WORLD_TEST(allocated_is_for_the_first_plan_only),
        WORLD_TEST(target_that_was_not_zeroed_never_is),
        WORLD_TEST(resumed_plan_does_what_is_left),
        WORLD_TEST(dirty_blocks_join_any_plan),
        WORLD_TEST(reads_that_fail_are_tried_again),
        WORLD_TEST(retries_have_an_end),
        WORLD_TEST(reads_of_a_lost_connection_come_again),
        WORLD_TEST(a_source_that_does_not_come_back_ends_it),
        WORLD_TEST(short_buffers_halve_the_depth),
        WORLD_TEST(requests_too_large_are_cut),
        WORLD_TEST(small_gaps_are_read_through),
        WORLD_TEST(gap_that_changed_is_a_doubt),
        WORLD_TEST(gap_that_was_never_copied_tells_nothing),
        WORLD_TEST(gap_that_is_not_allocated_is_zero),
        WORLD_TEST(gap_of_zeroes_is_no_doubt),
        WORLD_TEST(a_read_that_fails_for_good_ends_it),
        WORLD_TEST(zeroes_are_skipped_on_a_new_target_only),
        WORLD_TEST(stopped_is_not_done),
    };
    struct err e = ERR_INIT;
    int rc;

    if (!mkdtemp(dir))
        return 1;
    report_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    return fs_remove_tree(dir, &e) ? 1 : rc;
}
