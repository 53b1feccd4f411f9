/* How the copier finds its pace: simulated sources and time, so that figures
 * come out the same on every machine. */
#include "copy/pace.h"
#include "copy/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define CLIENTS_MAX 4u
#define MS          1000000ll
#define SECOND      (1000 * MS)
#define LINK        1250000000ull /* bytes/s */

struct reading {
    int64_t due; /* 0: free */
    bool good;
    struct pace_read read;
};

struct client {
    struct pace pace;
    struct reading readings[COPY_SLOTS_MAX];
    uint64_t bytes; /* that came since measuring began */
    uint64_t most;  /* bytes in flight, since measuring began */
    uint64_t refused;
};

/* A source as the lab's: one link for all, then a latency that spreads. */
struct sim {
    unsigned clients;
    int64_t latency;  /* ns */
    uint64_t link;    /* bytes/s */
    unsigned slow;    /* percent of the reads that take 40 times as long */
    uint64_t buffers; /* bytes that a client may have in flight; 0: any */
    uint32_t request; /* bytes of one; 0: as the pace likes */
    unsigned at_once; /* each one of so many is; 0: none */
    uint64_t reads;
    int64_t now, link_free;
    uint64_t chance;
    struct client client[CLIENTS_MAX];
};

static uint64_t
scatter(struct sim *s, uint64_t below)
{
    s->chance = s->chance * 6364136223846793005ull + 1442695040888963407ull;
    return below ? (s->chance >> 33) % below : 0;
}

static void
start(struct sim *s, struct client *c)
{
    uint32_t n = s->request ? s->request : pace_request(&c->pace);
    uint64_t quarter = (uint64_t)s->latency / 4;
    int64_t spread = (int64_t)scatter(s, quarter) - (int64_t)quarter / 2;
    struct reading *r = c->readings;

    if (scatter(s, 100) < s->slow)
        spread += 39 * s->latency;
    while (r->due)
        r++;
    assert_in_range(n, DISK_BLOCK, PACE_REQUEST_MAX);
    pace_began(&c->pace, &r->read, n, s->now);
    r->good = !s->buffers || c->pace.in_flight <= s->buffers;
    r->due = s->now + s->latency + spread + 1;
    if (r->good) {
        if (s->link_free < s->now)
            s->link_free = s->now;
        s->link_free += (int64_t)(n * 1000000000ull / s->link);
        r->due = s->link_free + s->latency + spread + 1;
    }
    if (s->at_once && r->good && ++s->reads % s->at_once == 0)
        r->due = s->now + MS / 10;
    if (c->pace.in_flight > c->most)
        c->most = c->pace.in_flight;
    assert_true(c->pace.in_flight <= COPY_BUFFERS + PACE_REQUEST_MAX);
}

static void
end(struct sim *s, struct client *c, struct reading *r)
{
    s->now = r->due;
    r->due = 0;
    pace_ended(&c->pace, &r->read, r->good, s->now);
    if (r->good) {
        c->bytes += r->read.n;
    } else {
        pace_shrink(&c->pace, &r->read, s->now);
        c->refused++;
    }
}

/* The bytes of all clients within so much time. */
static uint64_t
simulate(struct sim *s, int64_t ns)
{
    int64_t until = s->now + ns;
    uint64_t bytes = 0;

    if (!s->now) {
        s->now = 1;
        for (unsigned i = 0; i < s->clients; i++)
            pace_init(&s->client[i].pace, COPY_SLOTS_MAX, PACE_REQUEST_MAX, 1);
    }
    for (unsigned i = 0; i < s->clients; i++)
        s->client[i].bytes = s->client[i].most = s->client[i].refused = 0;
    while (s->now < until) {
        struct client *first = NULL;
        struct reading *next = NULL;

        for (unsigned i = 0; i < s->clients; i++) {
            struct client *c = &s->client[i];

            while (pace_room(&c->pace))
                start(s, c);
            for (unsigned k = 0; k < COPY_SLOTS_MAX; k++)
                if (c->readings[k].due &&
                    (!next || c->readings[k].due < next->due))
                    first = c, next = &c->readings[k];
        }
        end(s, first, next);
    }
    for (unsigned i = 0; i < s->clients; i++)
        bytes += s->client[i].bytes;
    return bytes;
}

static double
share(const struct sim *s, uint64_t bytes, int64_t ns)
{
    return (double)bytes * 1e9 / (double)ns / (double)s->link;
}

static void
the_link_is_full_at_any_latency(void **state)
{
    static const int64_t us[] = { 50, 200, 1000, 2000, 5000, 10000, 20000 };

    (void)state;
    for (size_t i = 0; i < sizeof us / sizeof *us; i++) {
        struct sim *s = xcalloc(1, sizeof *s);
        double whole;

        *s =
            (struct sim){ .clients = 1, .latency = us[i] * 1000, .link = LINK };
        /* From the first byte on: 10 s, 12.5 GB. */
        whole = share(s, simulate(s, 10 * SECOND), 10 * SECOND);
        print_message("%lld us: %.1f %%, %llu KiB in flight\n",
                      (long long)us[i], whole * 100,
                      (unsigned long long)s->client[0].most >> 10);
        assert_true(whole >= 0.97);
        /* What waits is memory, and time for whoever else reads. */
        assert_true(s->client[0].most <=
                    4 * LINK / 1000000 * (uint64_t)us[i] + (5u << 20));
        free(s);
    }
}

/* A host whose cache answers half of the reads at once. */
static void
a_few_quick_answers_do_not_mislead(void **state)
{
    struct sim *s = xcalloc(1, sizeof *s);

    (void)state;
    *s = (struct sim){
        .clients = 1, .latency = MS / 2, .slow = 50, .link = LINK
    };
    assert_true(share(s, simulate(s, 10 * SECOND), 10 * SECOND) >= 0.95);
    free(s);
}

static void
several_disks_share_it(void **state)
{
    struct sim *s = xcalloc(1, sizeof *s);
    uint64_t least = UINT64_MAX, bytes;

    (void)state;
    *s = (struct sim){ .clients = 4, .latency = 5 * MS, .link = LINK };
    bytes = simulate(s, 20 * SECOND);
    for (unsigned i = 0; i < s->clients; i++)
        if (s->client[i].bytes < least)
            least = s->client[i].bytes;
    assert_true(share(s, bytes, 20 * SECOND) >= 0.97);
    assert_true(least * 2 * s->clients >= bytes);
    free(s);
}

static void
it_follows_what_changes(void **state)
{
    static const struct {
        int64_t latency;
        uint64_t link;
    } turns[] = {
        { 2 * MS, LINK },       { 20 * MS, LINK }, { MS / 5, LINK },
        { 20 * MS, LINK / 10 }, { 10 * MS, LINK },
    };
    struct sim *s = xcalloc(1, sizeof *s);

    (void)state;
    s->clients = 1;
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        uint64_t bytes;

        s->latency = turns[i].latency;
        s->link = turns[i].link;
        simulate(s, 10 * SECOND);
        bytes = simulate(s, 10 * SECOND);
        assert_true(share(s, bytes, 10 * SECOND) >= 0.97);
    }
    free(s);
}

/* The host's buffers hold less than the link could take. */
static void
short_buffers_are_used_well(void **state)
{
    static const uint64_t kib[] = { 64, 320, 1024, 4096 };

    (void)state;
    for (size_t i = 0; i < sizeof kib / sizeof *kib; i++) {
        struct sim *s = xcalloc(1, sizeof *s);
        struct client *c = &s->client[0];
        uint64_t bytes, best;

        *s = (struct sim){ .clients = 1,
                           .latency = 10 * MS,
                           .link = LINK,
                           .buffers = kib[i] << 10 };
        simulate(s, 10 * SECOND);
        bytes = simulate(s, 20 * SECOND);
        best = s->buffers * 100 * 20; /* 100 turns a second */
        print_message(
            "%llu KiB: %.0f %%, %llu refused\n", (unsigned long long)kib[i],
            (double)bytes * 100 / (double)best, (unsigned long long)c->refused);
        assert_true(bytes * 5 >= best * 3);
        /* Few are in vain. */
        assert_true(c->refused * 20 <= bytes / DISK_BLOCK);
        free(s);
    }
}

/* A host that has more buffers again is used again. */
static void
the_cap_grows_again(void **state)
{
    struct sim *s = xcalloc(1, sizeof *s);

    (void)state;
    *s = (struct sim){
        .clients = 1, .latency = 2 * MS, .link = LINK, .buffers = 1u << 20
    };
    simulate(s, 2 * SECOND);
    s->buffers = 0;
    simulate(s, 20 * SECOND);
    assert_true(share(s, simulate(s, 10 * SECOND), 10 * SECOND) >= 0.97);
    free(s);
}

static void
scattered_blocks_fill_the_link(void **state)
{
    struct sim *s = xcalloc(1, sizeof *s);

    (void)state;
    *s = (struct sim){
        .clients = 1, .latency = 2 * MS, .link = LINK, .request = DISK_BLOCK
    };
    assert_true(share(s, simulate(s, SECOND), SECOND) >= 0.9);
    free(s);
}

/* A cache on the way, a library that answers within the call. */
static void
some_answers_come_at_once(void **state)
{
    static const unsigned shares[] = { 64, 16 };

    (void)state;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        struct sim *s = xcalloc(1, sizeof *s);
        double whole;

        *s = (struct sim){
            .clients = 1, .latency = 5 * MS, .link = LINK, .at_once = shares[i]
        };
        whole = share(s, simulate(s, 10 * SECOND), 10 * SECOND);
        print_message("one of %u: %.1f %%, %llu KiB in flight\n", shares[i],
                      whole * 100, (unsigned long long)s->client[0].most >> 10);
        assert_true(whole >= 0.97);
        assert_true(s->client[0].most <= 25u << 20);
        free(s);
    }
}

static void
gaps_are_read_where_requests_are_dear(void **state)
{
    struct sim *s = xcalloc(1, sizeof *s);
    struct pace *p = &s->client[0].pace;

    (void)state;
    *s = (struct sim){ .clients = 1, .latency = MS / 5, .link = LINK };
    simulate(s, SECOND);
    /* Many requests, a fast link: not even a block. */
    assert_true(pace_gap(p) < DISK_BLOCK);
    s->latency = 20 * MS;
    s->buffers = 4 * DISK_BLOCK;
    simulate(s, 20 * SECOND);
    /* Four at a time, 5 ms each. */
    assert_true(pace_gap(p) >= 4 * DISK_BLOCK);
    assert_true(pace_gap(p) <= 1u << 20);
    free(s);
}

static void
at_least_one_is_read(void **state)
{
    struct pace p;
    struct pace_read r;

    (void)state;
    pace_init(&p, 1, DISK_BLOCK, 1);
    for (int64_t now = 1; now < 100 * SECOND; now += 2 * SECOND) {
        assert_true(pace_room(&p));
        assert_int_equal(pace_request(&p), DISK_BLOCK);
        pace_began(&p, &r, DISK_BLOCK, now);
        assert_false(pace_room(&p));
        pace_ended(&p, &r, false, now + MS);
        pace_shrink(&p, &r, now + MS);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_link_is_full_at_any_latency),
        cmocka_unit_test(a_few_quick_answers_do_not_mislead),
        cmocka_unit_test(several_disks_share_it),
        cmocka_unit_test(it_follows_what_changes),
        cmocka_unit_test(short_buffers_are_used_well),
        cmocka_unit_test(the_cap_grows_again),
        cmocka_unit_test(scattered_blocks_fill_the_link),
        cmocka_unit_test(some_answers_come_at_once),
        cmocka_unit_test(gaps_are_read_where_requests_are_dear),
        cmocka_unit_test(at_least_one_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
