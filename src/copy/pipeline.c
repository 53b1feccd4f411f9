/* The life of a block: read, hashed, written from the same buffer, stable. */
#include "copy/copy.h"
#include "copy/pace.h"
#include "copy/plan.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/source.h"
#include "copy/target.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define READ_TRIES   6    /* of one read */
#define PAUSE_MS     250  /* before the second try; doubles */
#define WARN_GAP_MS  1000 /* one warning for the errors of a burst */
#define PROGRESS_MS  500
#define POLL_MS      200  /* at most between two looks at the clock */
#define STALL_MS     1000 /* between two looks for what never came back */
#define SHORT_GAP_MS 1000 /* likewise of a source short of buffers */
#define ROOM_MIN_MS  1000 /* between two tries of a full target; doubles */
#define ROOM_MAX_MS  8000

enum slot_state {
    SLOT_FREE,
    SLOT_READING,
    SLOT_PAUSING, /* until due_ms, then read again */
    SLOT_WRITING,
    SLOT_FULL, /* read; to be written once the target has room */
};

struct slot {
    enum slot_state state;
    uint8_t *buf; /* of the arena; NULL: none */
    uint64_t offset;
    uint32_t n;
    unsigned tries; /* of the read */
    int64_t due_ms;
    int64_t since_ms;      /* when the state it is in began */
    struct pace_read pace; /* of the read in flight */
    unsigned in_flight;    /* requests to the target, and one while they are
                            * being issued */
    int errnum;            /* of the first that failed */
    struct slot *next;     /* free one */
};

/* What is known of a block in flight; one per block of the arena. */
struct block {
    struct map_entry entry;
    enum block_fate fate;
};

struct pipeline {
    const struct request *req;
    struct source *src;
    struct target *tgt;
    struct map *map;
    struct plan *plan;
    struct counters *counters;
    struct ledger *ledger;
    struct pace pace;
    struct arena arena;
    struct block blocks[ARENA_BLOCKS];
    struct slot slots[COPY_SLOTS_MAX];
    struct slot *free;
    unsigned busy;      /* slots not free */
    unsigned pausing;   /* of these, SLOT_PAUSING */
    int64_t warned_ms;  /* last time; 0: never */
    bool no_more;       /* the plan has no more to hand out */
    bool away;          /* the source is to come back first */
    int64_t full_ms;    /* since when the target is full; 0: it is not */
    int64_t room_ms;    /* when one write is tried again */
    int64_t room_gap;   /* between two tries */
    struct slot *probe; /* that one, under way */
    bool room;          /* it worked */
    bool stopped;       /* we were asked to */
    bool stuck;
    struct gate gate;
    int64_t progress_ms, stall_ms, short_ms; /* last time of each */
    int64_t answer_ms;                       /* the target's last */
    struct err err; /* the first; class ERR_NONE: none */
};

static void
fail(struct pipeline *p, const struct err *e)
{
    if (p->err.class == ERR_NONE)
        p->err = *e;
}

static bool
winding_down(const struct pipeline *p)
{
    return p->stopped || p->err.class != ERR_NONE;
}

static void
enter(struct pipeline *p, struct slot *s, enum slot_state state)
{
    p->pausing -= s->state == SLOT_PAUSING;
    p->pausing += state == SLOT_PAUSING;
    s->state = state;
    s->since_ms = clock_ms();
}

static void
free_slot(struct pipeline *p, struct slot *s)
{
    arena_give(&p->arena, s->buf, (unsigned)disk_blocks(s->n));
    s->buf = NULL;
    enter(p, s, SLOT_FREE);
    s->next = p->free;
    p->free = s;
    p->busy--;
}

static struct block *
blocks_of(struct pipeline *p, const struct slot *s)
{
    return &p->blocks[(size_t)(s->buf - p->arena.mem) / DISK_BLOCK];
}

static int
doubt(uint64_t at, const char *what, struct err *e)
{
    report_doubt(at);
    return err_set(e, ERR_DAMAGED,
                   "the block at %llu is %s: the whole disk has to be compared",
                   (unsigned long long)at, what);
}

/* Read through between two others.  The plan says that it did not change, and
 * the map knows what it was; or, in what is allocated, that it is zero. */
static int
judge_gap(const struct pipeline *p, uint64_t at, const struct map_entry *old,
          const struct map_entry *new, struct err *e)
{
    if ((old->flags & (MAP_COPIED | MAP_DIRTY)) == MAP_COPIED &&
        old->hash != new->hash)
        return doubt(
            at, "not what was copied, and no change of it was reported", e);
    if (p->plan->mode == PLAN_ALLOCATED && !old->flags &&
        !(MAP_ZERO & new->flags))
        return doubt(at, "not zero, and is said not to be allocated", e);
    return 0;
}

/* What is to become of block i of a slot that was read?  *skip: it needs no
 * request; with BLOCK_ZEROED: the target has zeroes there. */
static int
judge(struct pipeline *p, struct slot *s, unsigned i, bool *skip, struct err *e)
{
    uint64_t block = s->offset / DISK_BLOCK + i;
    uint32_t n = disk_block_bytes(p->req->disk_size, block);
    const uint8_t *data = s->buf + (size_t)i * DISK_BLOCK;
    struct block *b = &blocks_of(p, s)[i];
    bool zero = disk_is_zero(data, n);
    struct map_entry old;

    b->entry.hash = zero ? disk_zero_hash(n) : disk_hash(data, n);
    b->entry.flags = MAP_COPIED | (zero ? MAP_ZERO : 0);
    if (map_get(p->map, block, &old, e))
        return -1;
    if (b->fate == BLOCK_GAP) {
        *skip = true;
        return judge_gap(p, block * DISK_BLOCK, &old, &b->entry, e);
    }
    b->fate = zero ? BLOCK_ZEROED : BLOCK_WRITTEN;
    *skip = zero && p->plan->skip_zero && !old.flags;
    if (p->plan->trust_hash && (old.flags & MAP_COPIED) &&
        old.hash == b->entry.hash) {
        b->fate = BLOCK_SAME;
        *skip = true;
    }
    return 0;
}

/* The target is full, or still is. */
static void
hold(struct pipeline *p, struct slot *s, bool probed)
{
    const struct counters *c = p->counters;
    int64_t now = clock_ms();

    if (!p->full_ms) {
        p->full_ms = now;
        p->room_gap = ROOM_MIN_MS;
        p->room_ms = now + p->room_gap;
        p->room = false;
        report_paused(c->total - c->done);
    } else if (probed) {
        p->room_gap =
            p->room_gap * 2 < ROOM_MAX_MS ? p->room_gap * 2 : ROOM_MAX_MS;
        p->room_ms = now + p->room_gap;
    }
    enter(p, s, SLOT_FULL);
}

static void
finish_slot(struct pipeline *p, struct slot *s)
{
    uint64_t block = s->offset / DISK_BLOCK;
    uint64_t n = disk_blocks(s->n);
    const struct block *b = blocks_of(p, s);
    bool probed = s == p->probe;
    struct err e = ERR_INIT;

    if (probed)
        p->probe = NULL;
    if (s->errnum == ENOSPC || s->errnum == EDQUOT) {
        if (winding_down(p))
            free_slot(p, s); /* the map knows that it is not there */
        else
            hold(p, s, probed);
        return;
    }
    p->room |= probed && !s->errnum;
    if (s->errnum) {
        err_errno(&e, s->errnum, "writing the target at %llu",
                  (unsigned long long)s->offset);
        fail(p, &e);
    }
    for (uint64_t i = 0; !s->errnum && i < n; i++)
        if (b[i].fate != BLOCK_GAP)
            ledger_add(p->ledger, block + i, b[i].entry,
                       disk_block_bytes(p->req->disk_size, block + i),
                       b[i].fate);
    free_slot(p, s);
}

static void
release(struct pipeline *p, struct slot *s)
{
    assert(s->in_flight);
    if (!--s->in_flight)
        finish_slot(p, s);
}

static void
on_written(void *ctx, unsigned slot, int errnum)
{
    struct pipeline *p = ctx;
    struct slot *s = &p->slots[slot];

    p->answer_ms = clock_ms();
    if (errnum && !s->errnum)
        s->errnum = errnum;
    release(p, s);
}

/* One request for the blocks from..to of one fate. */
static int
write_run(struct pipeline *p, struct slot *s, uint64_t from, uint64_t to,
          struct err *e)
{
    uint64_t start = from * DISK_BLOCK, end = to * DISK_BLOCK;
    unsigned no = (unsigned)(s - p->slots);
    int (*request)(struct target *, unsigned, void *, uint64_t, uint32_t,
                   struct err *) =
        blocks_of(p, s)[from].fate == BLOCK_ZEROED ? target_zero : target_write;

    if (end > s->n)
        end = s->n;
    s->in_flight++;
    if (request(p->tgt, no, s->buf + start, s->offset + start,
                (uint32_t)(end - start), e)) {
        s->in_flight--;
        return -1;
    }
    return 0;
}

static int
write_blocks(struct pipeline *p, struct slot *s, struct err *e)
{
    uint64_t n = disk_blocks(s->n), from = 0;
    uint64_t most = target_most(p->tgt) / DISK_BLOCK;
    const struct block *b = blocks_of(p, s);
    bool skip, open = false;

    for (unsigned i = 0; i < n; i++) {
        if (judge(p, s, i, &skip, e))
            return -1;
        if (open && (skip || b[i].fate != b[from].fate || i - from == most)) {
            if (write_run(p, s, from, i, e))
                return -1;
            open = false;
        }
        if (!open && !skip) {
            from = i;
            open = true;
        }
    }
    return open ? write_run(p, s, from, n, e) : 0;
}

static void
write_slot(struct pipeline *p, struct slot *s)
{
    struct err e = ERR_INIT;

    enter(p, s, SLOT_WRITING);
    s->in_flight = 1;
    s->errnum = 0;
    if (write_blocks(p, s, &e)) {
        fail(p, &e);
        s->errnum = e.code ? e.code : EIO;
    }
    release(p, s);
}

/* One write finds out whether there is room again; then all go on. */
static void
look_for_room(struct pipeline *p, int64_t now)
{
    if (!p->full_ms || p->probe || (!p->room && now < p->room_ms))
        return;
    if (p->room)
        report_resumed(now - p->full_ms);
    p->full_ms = p->room ? 0 : p->full_ms;
    for (unsigned i = 0; i < COPY_SLOTS_MAX && !p->probe; i++) {
        if (p->slots[i].state != SLOT_FULL)
            continue;
        p->probe = p->room ? NULL : &p->slots[i];
        write_slot(p, &p->slots[i]);
        if (!p->room)
            return;
    }
}

/* reading ---------------------------------------------------------------- */

static void
start_read(struct pipeline *p, struct slot *s)
{
    enter(p, s, SLOT_READING);
    s->tries++;
    gate_spend(&p->gate, s->n);
    pace_began(&p->pace, &s->pace, s->n, clock_ns());
    p->src->ops->read(p->src, (unsigned)(s - p->slots), s->buf, s->offset,
                      s->n);
}

static void
shrink(struct pipeline *p, struct slot *s, int64_t now)
{
    bool less = pace_shrink(&p->pace, &s->pace, clock_ns());

    /* also when it cannot be less: then it matters most */
    if (!p->short_ms || now - p->short_ms >= SHORT_GAP_MS) {
        p->short_ms = now;
        report_short(p->pace.cap);
    }
    if (!less)
        return;
    s->tries = 0; /* with less in flight it may well work */
    report_warn("the source is short of buffers: %llu KiB in flight from now",
                (unsigned long long)p->pace.cap >> 10);
}

static void
pause_slot(struct pipeline *p, struct slot *s, int64_t now)
{
    enter(p, s, SLOT_PAUSING);
    s->due_ms = now + ((int64_t)PAUSE_MS << (s->tries ? s->tries - 1 : 0));
}

/* What has become too much for one read goes on as several. */
static void
split(struct pipeline *p, struct slot *s, int64_t now)
{
    uint32_t most = pace_request(&p->pace);

    while (s->n > most && p->free) {
        struct slot *rest = p->free;

        p->free = rest->next;
        p->busy++;
        rest->buf = s->buf + most;
        rest->offset = s->offset + most;
        rest->n = s->n - most;
        rest->tries = s->tries;
        s->n = most;
        pause_slot(p, rest, now);
        s = rest;
    }
}

static void
read_again(struct pipeline *p, struct slot *s, const struct err *e, int64_t now)
{
    if (s->tries >= READ_TRIES)
        fail(p, e);
    if (winding_down(p)) {
        free_slot(p, s);
        return;
    }
    if (!p->warned_ms || now - p->warned_ms >= WARN_GAP_MS) {
        p->warned_ms = now;
        report_warn("%s; trying again", e->msg);
    }
    pause_slot(p, s, now);
    split(p, s, now);
}

/* It is started again as if nothing had been, once the source is back. */
static void
read_lost(struct pipeline *p, struct slot *s, int64_t now)
{
    if (winding_down(p)) {
        free_slot(p, s);
        return;
    }
    p->away = true;
    s->tries--;
    enter(p, s, SLOT_PAUSING);
    s->due_ms = now;
}

static void
came_back(struct pipeline *p, struct read_result *r)
{
    struct slot *s = &p->slots[r->slot];
    int64_t now = clock_ms();

    assert(s->state == SLOT_READING);
    pace_ended(&p->pace, &s->pace, r->verdict == READ_OK, clock_ns());
    if (r->verdict != READ_OK)
        err_wrap(&r->err, "reading the source at %llu",
                 (unsigned long long)s->offset);
    switch (r->verdict) {
    case READ_OK:
        p->counters->read += s->n;
        if (p->err.class != ERR_NONE || (p->full_ms && p->stopped))
            free_slot(p, s);
        else if (p->full_ms)
            enter(p, s, SLOT_FULL);
        else
            write_slot(p, s);
        break;
    case READ_SHRINK: shrink(p, s, now); /* fall through */
    case READ_RETRY: read_again(p, s, &r->err, now); break;
    case READ_LOST: read_lost(p, s, now); break;
    case READ_FAILED:
        fail(p, &r->err);
        free_slot(p, s);
        break;
    }
}

/* Is the source there, and is there a use for what it gives? */
static bool
may_read_at_all(struct pipeline *p)
{
    struct err e = ERR_INIT;
    int rc = p->src->ops->mend ? p->src->ops->mend(p->src, &e) : 1;

    if (rc < 0)
        fail(p, &e);
    p->away = rc <= 0;
    return !p->away && !p->full_ms;
}

/* It waits with its next read where a limit is reached. */
static bool
may_read(struct pipeline *p, struct slot *s, int64_t now)
{
    if (gate_pass(&p->gate, s->n, clock_ns()))
        return true;
    if (s->state != SLOT_PAUSING)
        enter(p, s, SLOT_PAUSING);
    s->due_ms = now;
    return false;
}

/* One whose pause is over. */
static struct slot *
find_due(struct pipeline *p, int64_t now)
{
    for (unsigned i = 0; p->pausing && i < COPY_SLOTS_MAX; i++)
        if (p->slots[i].state == SLOT_PAUSING && p->slots[i].due_ms <= now)
            return &p->slots[i];
    return NULL;
}

/* Takes the next blocks of the plan and buffers for them; NULL: not now. */
static struct slot *
next_slot(struct pipeline *p, struct err *e)
{
    bool wanted[PACE_REQUEST_MAX / DISK_BLOCK];
    uint32_t most = pace_request(&p->pace);
    uint32_t gap = p->req->gap;
    struct slot *s = p->free;
    struct extent next;
    unsigned blocks = most / DISK_BLOCK;
    int rc;

    if (!s)
        return NULL;
    s->buf = arena_take(&p->arena, blocks);
    if (!s->buf)
        return NULL;
    if (gap == COPY_GAP_AUTO)
        gap = pace_gap(&p->pace);
    rc = plan_next(p->plan, p->map, most, gap, &next, wanted, e);
    s->n = rc > 0 ? (uint32_t)next.length : 0;
    /* what it does not need goes back */
    if (disk_blocks(s->n) < blocks)
        arena_give(&p->arena, s->buf + disk_blocks(s->n) * DISK_BLOCK,
                   blocks - (unsigned)disk_blocks(s->n));
    if (rc <= 0) {
        if (rc < 0)
            fail(p, e);
        p->no_more = true;
        return NULL;
    }
    for (unsigned i = 0; i < disk_blocks(s->n); i++)
        blocks_of(p, s)[i].fate = wanted[i] ? BLOCK_WRITTEN : BLOCK_GAP;
    p->free = s->next;
    p->busy++;
    s->offset = next.start;
    s->tries = 0;
    return s;
}

static void
start_reads(struct pipeline *p, int64_t now)
{
    struct err e = ERR_INIT;
    struct slot *s;

    p->gate.ready = 0;
    if (!may_read_at_all(p))
        return;
    while (pace_room(&p->pace) && (s = find_due(p, now)))
        if (may_read(p, s, now))
            start_read(p, s);
        else
            return;
    while (!p->no_more && !ledger_full(p->ledger) && pace_room(&p->pace) &&
           (s = next_slot(p, &e)))
        if (may_read(p, s, now))
            start_read(p, s);
        else
            return;
}

/* the loop ---------------------------------------------------------------- */

/* Reads and writes that wait for their next try are given up. */
static void
drop_waiting(struct pipeline *p)
{
    if (!p->pausing && !p->full_ms)
        return;
    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        if (p->slots[i].state == SLOT_PAUSING || p->slots[i].state == SLOT_FULL)
            free_slot(p, &p->slots[i]);
}

static int
wait_ms(const struct pipeline *p, int64_t now)
{
    int64_t ms = POLL_MS, held = gate_wait_ms(&p->gate, clock_ns());

    if (p->away || p->full_ms)
        return (int)ms; /* no read is started anyway */
    if (held >= 0)      /* nothing is read before */
        return held < ms ? (int)held : (int)ms;
    if (!pace_room(&p->pace)) /* nor before something comes back */
        return (int)ms;
    for (unsigned i = 0; p->pausing && i < COPY_SLOTS_MAX; i++)
        if (p->slots[i].state == SLOT_PAUSING && p->slots[i].due_ms - now < ms)
            ms = p->slots[i].due_ms - now;
    return ms < 1 ? 1 : (int)ms;
}

static void
wait_and_collect(struct pipeline *p, int64_t now)
{
    struct pollfd fds[3 + TARGET_CONNS] = { 0 };
    struct read_result r = { 0 };
    nfds_t n;

    fds[0] = (struct pollfd){ stop_fd(), POLLIN, 0 };
    if (p->stopped)
        fds[0].fd = -1;
    p->src->ops->poll(p->src, &fds[1]);
    ledger_poll(p->ledger, &fds[2]);
    n = 3 + target_poll(p->tgt, &fds[3]);
    if (poll(fds, n, wait_ms(p, now)) < 0)
        return; /* EINTR: nothing is ready */
    p->src->ops->ready(p->src, fds[1].revents);
    while (p->src->ops->reap(p->src, &r))
        came_back(p, &r);
    target_ready(p->tgt, &fds[3]);
}

/* When the oldest in that state began; `now` if there is none. */
static int64_t
oldest(const struct pipeline *p, enum slot_state state, int64_t now)
{
    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        if (p->slots[i].state == state && p->slots[i].since_ms < now)
            now = p->slots[i].since_ms;
    return now;
}

static void
stall(struct pipeline *p, const char *who)
{
    struct err e = ERR_INIT;

    p->stuck = true;
    err_set(&e, ERR_NET,
            "no answer from the %s for %lld s; it goes on from there when "
            "started again",
            who, (long long)(p->req->timeout_ms / 1000));
    fail(p, &e);
}

/* One read may hang while others come back.  A target answers in turn: while
 * it does so at all, it is but slow. */
static void
look_for_stall(struct pipeline *p, int64_t now)
{
    if (now - p->stall_ms < STALL_MS)
        return;
    p->stall_ms = now;
    if (oldest(p, SLOT_WRITING, now) == now && !ledger_runs(p->ledger))
        p->answer_ms = now; /* nothing was asked */
    if (now - oldest(p, SLOT_READING, now) >= p->req->timeout_ms)
        stall(p, "source");
    else if (now - p->answer_ms >= p->req->timeout_ms)
        stall(p, "target");
}

static void
loop(struct pipeline *p)
{
    for (;;) {
        int64_t now = clock_ms();
        struct err e = ERR_INIT;
        bool end;
        int rc;

        p->stopped = p->stopped || stop_asked();
        if (winding_down(p))
            drop_waiting(p);
        else {
            look_for_room(p, now);
            start_reads(p, now);
        }
        end = !p->busy && (p->no_more || winding_down(p));
        rc = ledger_step(p->ledger, end, &e);
        if (rc < 0)
            fail(p, &e);
        if (rc > 0)
            p->answer_ms = now;
        if (end && ledger_empty(p->ledger))
            return;
        look_for_stall(p, now);
        if (p->stuck)
            return;
        if (now - p->progress_ms >= PROGRESS_MS) {
            p->progress_ms = now;
            report_progress(p->counters);
        }
        wait_and_collect(p, now);
    }
}

static int
outcome(struct pipeline *p, struct err *e)
{
    struct counters *c = p->counters;

    if (p->err.class != ERR_NONE) {
        *e = p->err;
        return -1;
    }
    if (p->stopped && c->done < c->total)
        return err_set(e, ERR_STOPPED, "stopped");
    if (c->done != c->total)
        return err_set(e, ERR_BUG, "%llu bytes of %llu were copied",
                       (unsigned long long)c->done,
                       (unsigned long long)c->total);
    return 0;
}

int
pipeline_run(const struct request *r, struct source *s, struct target *t,
             struct map *m, struct plan *plan, struct counters *c, bool *stuck,
             struct err *e)
{
    struct pipeline *p = xcalloc(1, sizeof *p);
    int rc = -1;

    p->req = r;
    p->src = s;
    p->tgt = t;
    p->map = m;
    p->plan = plan;
    p->counters = c;
    p->progress_ms = p->stall_ms = p->answer_ms = clock_ms();
    pace_init(&p->pace, r->slots, r->bytes, clock_ns());
    for (unsigned i = COPY_SLOTS_MAX; i--;) {
        p->slots[i].next = p->free;
        p->free = &p->slots[i];
    }
    *stuck = false;
    p->ledger = ledger_new(m, t, c, e);
    if (p->ledger && !throttle_open(&p->gate, r, e) &&
        !arena_init(&p->arena, e)) {
        target_tell(t, on_written, p);
        loop(p);
        rc = outcome(p, e);
        *stuck = p->stuck;
    }
    if (*stuck)
        return rc; /* somebody may still write to the buffers */
    ledger_free(p->ledger);
    gate_fini(&p->gate);
    arena_fini(&p->arena);
    free(p);
    return rc;
}
