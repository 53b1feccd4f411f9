/* How much to read at a time.  What is in flight follows the product of what
 * the source delivers and how long it takes to answer when little is asked: as
 * much again waits behind that, so that growth is found and nothing runs dry.
 * Time comes from the caller. */
#include "copy/pace.h"
#include "copy/request.h"

#include <assert.h>

#define GAIN         2u         /* in flight, of rate times latency */
#define FLOOR        (4u << 20) /* bytes in flight at least */
#define BEGIN        (4u << 20) /* and before anything is known */
#define REQUESTS     8u         /* the bytes in flight make so many */
#define REQUEST_MIN  (1u << 20) /* smaller ones cost more CPU time */
#define TURN_MIN_NS  10000000ll /* the rate is taken over two latencies ... */
#define TURN_MAX_NS  250000000ll
#define EPOCH_NS     250000000ll  /* the best rate of each is kept ... */
#define LOOK_NS      2000000000ll /* how often the latency is looked at anew */
#define LOOK_SHARE   3u           /* with so much less in flight meanwhile */
#define LOOK_TURNS   3            /* for so many latencies */
#define LOOK_MAX_NS  400000000ll
#define LOOK_READS   4u /* at least */
#define GROW_AFTER   64 /* good reads before the cap grows again */
#define GROW_SHARE   16u
#define REQUEST_NS   30000u     /* what a request costs by itself, at least */
#define GAP_RATE_MIN 100000000u /* bytes/s; what any link is good for */
#define GAP_MAX      (1u << 20)

void
pace_init(struct pace *p, unsigned reads, uint32_t request, int64_t now)
{
    *p = (struct pace){
        .reads_max = reads,
        .request_max = request,
        .cap = COPY_BUFFERS,
        .window = BEGIN,
        .turn = now,
        .epoch = now,
        .looking = now,
    };
}

static uint64_t
at_most(uint64_t n, uint64_t max)
{
    return n < max ? n : max;
}

static uint64_t
rate_of(const struct pace *p)
{
    uint64_t best = 0;

    for (unsigned i = 0; i < PACE_EPOCHS; i++)
        if (p->rates[i] > best)
            best = p->rates[i];
    return best;
}

static uint64_t
in_flight_max(const struct pace *p)
{
    uint64_t n = p->looking ? p->window / LOOK_SHARE : p->window;

    return at_most(n < DISK_BLOCK ? DISK_BLOCK : n, p->cap);
}

uint32_t
pace_request(const struct pace *p)
{
    uint64_t n = p->window / REQUESTS;

    if (n < REQUEST_MIN)
        n = REQUEST_MIN;
    /* of few buffers still several requests */
    n = at_most(n, p->cap / 4);
    if (n < DISK_BLOCK)
        n = DISK_BLOCK;
    n = at_most(n, at_most(p->request_max, PACE_REQUEST_MAX));
    return (uint32_t)(n - n % DISK_BLOCK);
}

uint32_t
pace_gap(const struct pace *p)
{
    uint64_t most = at_most(p->cap / DISK_BLOCK, p->reads_max);
    uint64_t cost = p->latency / most, rate = rate_of(p);

    if (cost < REQUEST_NS)
        cost = REQUEST_NS;
    if (rate < GAP_RATE_MIN)
        rate = GAP_RATE_MIN;
    /* rate below 2^40, cost below 2^40: by thousands, no overflow */
    return (uint32_t)at_most(rate / 1000 * (cost / 1000) / 1000, GAP_MAX);
}

bool
pace_room(const struct pace *p)
{
    return !p->reads ||
           (p->reads < p->reads_max && p->in_flight < in_flight_max(p));
}

void
pace_began(struct pace *p, struct pace_read *r, uint32_t n, int64_t now)
{
    *r = (struct pace_read){ now, n, p->looking != 0 };
    p->waited_for += r->look;
    p->reads++;
    p->in_flight += n;
}

/* The window follows. */
static void
settle(struct pace *p)
{
    uint64_t rate = at_most(rate_of(p), COPY_RATE_MAX);
    uint64_t want = rate / 1000 * (p->latency / 1000) / 1000 * GAIN;

    if (!p->latency)
        return;
    if (want < FLOOR)
        want = FLOOR;
    p->window = at_most(want, COPY_BUFFERS);
}

/* What came in so many latencies, by their time: single reads would tell of
 * bursts, and of answers out of a cache. */
static void
measure(struct pace *p, int64_t now)
{
    int64_t turn = (int64_t)at_most(2 * p->latency, TURN_MAX_NS);
    uint64_t took = (uint64_t)(now - p->turn), rate;

    if (now - p->turn < (turn < TURN_MIN_NS ? TURN_MIN_NS : turn))
        return;
    rate = (p->delivered - p->at_turn) * 1000000 / (took / 1000);
    p->turn = now;
    p->at_turn = p->delivered;
    if (now - p->epoch >= EPOCH_NS) {
        p->epoch = now;
        p->at = (p->at + 1) % PACE_EPOCHS;
        p->rates[p->at] = 0;
    }
    if (rate > p->rates[p->at])
        p->rates[p->at] = rate;
    settle(p);
}

/* With less in flight little waits behind anything else: what an answer takes
 * then, on average, is what the way and the host take.  All reads that began
 * in that time count, the slow ones as well: so they are waited for. */
static void
look(struct pace *p, const struct pace_read *r, uint64_t took, int64_t now)
{
    if (r->look) {
        p->waited_for--;
        p->took += took;
        p->seen += took > 0;
    }
    if (p->looking && p->seen >= LOOK_READS && now - p->looking >= p->look_ns) {
        p->looking = 0;
        p->looked = now;
    }
    if (p->looking)
        return;
    if (p->seen && !p->waited_for) {
        p->latency = p->took / p->seen;
        p->took = p->seen = 0;
    }
    if (!p->waited_for && now - p->looked >= LOOK_NS) {
        p->looking = now;
        p->look_ns = (int64_t)at_most(p->latency * LOOK_TURNS, LOOK_MAX_NS);
    }
}

/* The cap comes back. */
static void
grow(struct pace *p)
{
    uint64_t more = p->cap / GROW_SHARE;

    if (++p->good < GROW_AFTER || p->cap == COPY_BUFFERS)
        return;
    p->good = 0;
    p->cap =
        at_most(p->cap + (more > DISK_BLOCK ? more : DISK_BLOCK), COPY_BUFFERS);
}

void
pace_ended(struct pace *p, const struct pace_read *r, bool good, int64_t now)
{
    uint64_t took = now > r->began ? (uint64_t)(now - r->began) : 1;

    assert(p->reads && p->in_flight >= r->n);
    p->reads--;
    p->in_flight -= r->n;
    if (!good) {
        look(p, r, 0, now);
        return;
    }
    took = at_most(took, COPY_RATE_MAX);
    p->delivered += r->n;
    look(p, r, took, now);
    measure(p, now);
    grow(p);
}

bool
pace_shrink(struct pace *p, const struct pace_read *r, int64_t now)
{
    /* it has ended already */
    uint64_t half = (p->in_flight + r->n) / 2;

    p->good = 0;
    /* of a burst the first one tells */
    if (p->cap == DISK_BLOCK || (p->shrunk && r->began < p->shrunk))
        return false;
    p->shrunk = now;
    p->cap = at_most(half, p->cap - p->cap / 4);
    if (p->cap < DISK_BLOCK)
        p->cap = DISK_BLOCK;
    return true;
}
