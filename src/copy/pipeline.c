/* The life of a block: read, hashed, written from the same buffer, stable. */
#include "copy/copy.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define READ_TRIES    6    /* of one read */
#define PAUSE_MS      250  /* before the second try; doubles */
#define SHRINK_GAP_MS 1000 /* errors of one burst halve the depth once */
#define GROW_AFTER    64   /* good reads before one more goes in flight */
#define WARN_GAP_MS   1000 /* one warning for the errors of a burst */
#define PROGRESS_MS   500
#define POLL_MS       200 /* at most between two looks at the clock */
#define BURST_MS      100 /* of the rate, that may be read at once */

enum slot_state {
    SLOT_FREE,
    SLOT_READING,
    SLOT_PAUSING, /* until due_ms, then read again */
    SLOT_WRITING,
};

struct slot {
    enum slot_state state;
    uint8_t *buf;
    uint64_t offset;
    uint32_t n;
    unsigned tries; /* of the read */
    int64_t due_ms;
    unsigned in_flight;        /* requests to the target, and one while they are
                                * being issued */
    int errnum;                /* of the first that failed */
    struct map_entry *entries; /* one per block, as are the fates */
    enum block_fate *fates;
};

struct pipeline {
    const struct request *req;
    struct source *src;
    struct target *tgt;
    struct map *map;
    struct plan *plan;
    struct counters *counters;
    struct ledger *ledger;
    struct slot slots[COPY_SLOTS_MAX];
    unsigned busy;                /* slots not free */
    unsigned reading;             /* slots being read */
    unsigned depth;               /* at most so many are read at once */
    unsigned good;                /* reads since depth changed */
    int64_t shrunk_ms, warned_ms; /* last time of each; 0: never */
    bool no_more;                 /* the plan has no more to hand out */
    bool stopped;                 /* we were asked to */
    bool stuck;
    int64_t budget; /* bytes that may be read now, by the rate */
    int64_t budget_ms, progress_ms, answer_ms; /* last time of each */
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
free_slot(struct pipeline *p, struct slot *s)
{
    s->state = SLOT_FREE;
    p->busy--;
}

/* writing ---------------------------------------------------------------- */

static bool
is_zero(const uint8_t *p, size_t n)
{
    return !*p && !memcmp(p, p + 1, n - 1);
}

/* Does the block need a request, and of which kind?  BLOCK_ZEROED with
 * *skip: the target has zeroes there. */
static int
judge(struct pipeline *p, struct slot *s, unsigned i, bool *skip, struct err *e)
{
    uint64_t block = s->offset / DISK_BLOCK + i;
    uint32_t n = disk_block_bytes(p->req->disk_size, block);
    const uint8_t *data = s->buf + (size_t)i * DISK_BLOCK;
    bool zero = is_zero(data, n);
    struct map_entry *new = &s->entries[i], old;

    new->hash = zero ? disk_zero_hash(n) : disk_hash(data, n);
    new->flags = MAP_COPIED | (zero ? MAP_ZERO : 0);
    if (map_get(p->map, block, &old, e))
        return -1;
    s->fates[i] = zero ? BLOCK_ZEROED : BLOCK_WRITTEN;
    *skip = zero && p->plan->skip_zero && !old.flags;
    if (p->plan->trust_hash && (old.flags & MAP_COPIED) &&
        old.hash == new->hash) {
        s->fates[i] = BLOCK_SAME;
        *skip = true;
    }
    return 0;
}

static void
finish_slot(struct pipeline *p, struct slot *s)
{
    uint64_t block = s->offset / DISK_BLOCK;
    uint64_t n = disk_blocks(s->n);
    struct err e = ERR_INIT;

    if (s->errnum) {
        err_errno(&e, s->errnum, "writing the target at %llu",
                  (unsigned long long)s->offset);
        fail(p, &e);
    }
    for (uint64_t i = 0; !s->errnum && i < n; i++)
        ledger_add(p->ledger, block + i, s->entries[i],
                   disk_block_bytes(p->req->disk_size, block + i), s->fates[i]);
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
        s->fates[from] == BLOCK_ZEROED ? target_zero : target_write;

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
    bool skip, open = false;

    for (unsigned i = 0; i < n; i++) {
        if (judge(p, s, i, &skip, e))
            return -1;
        if (open &&
            (skip || s->fates[i] != s->fates[from] || i - from == most)) {
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

    s->state = SLOT_WRITING;
    s->in_flight = 1;
    s->errnum = 0;
    if (write_blocks(p, s, &e)) {
        fail(p, &e);
        s->errnum = e.code ? e.code : EIO;
    }
    release(p, s);
}

/* reading ---------------------------------------------------------------- */

static void
start_read(struct pipeline *p, struct slot *s)
{
    s->state = SLOT_READING;
    p->reading++;
    s->tries++;
    p->budget -= s->n;
    p->src->ops->read(p->src, (unsigned)(s - p->slots), s->buf, s->offset,
                      s->n);
}

static void
shrink(struct pipeline *p, int64_t now)
{
    p->good = 0;
    if (p->depth == 1 || (p->shrunk_ms && now - p->shrunk_ms < SHRINK_GAP_MS))
        return;
    p->shrunk_ms = now;
    p->depth /= 2;
    report_warn("the source is short of buffers: %u reads at a time from now",
                p->depth);
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
    s->state = SLOT_PAUSING;
    s->due_ms = now + ((int64_t)PAUSE_MS << (s->tries - 1));
}

static void
came_back(struct pipeline *p, struct read_result *r)
{
    struct slot *s = &p->slots[r->slot];
    int64_t now = clock_ms();

    assert(s->state == SLOT_READING);
    p->reading--;
    p->answer_ms = now;
    if (r->verdict != READ_OK)
        err_wrap(&r->err, "reading the source at %llu",
                 (unsigned long long)s->offset);
    switch (r->verdict) {
    case READ_OK:
        p->counters->read += s->n;
        if (++p->good >= GROW_AFTER && p->depth < p->req->slots) {
            p->depth++;
            p->good = 0;
        }
        if (p->err.class == ERR_NONE)
            write_slot(p, s);
        else
            free_slot(p, s);
        break;
    case READ_SHRINK: shrink(p, now); /* fall through */
    case READ_RETRY: read_again(p, s, &r->err, now); break;
    case READ_FAILED:
        fail(p, &r->err);
        free_slot(p, s);
        break;
    }
}

static void
refill(struct pipeline *p, int64_t now)
{
    int64_t rate = (int64_t)p->req->rate, most = rate * BURST_MS / 1000;

    if (!rate) {
        p->budget = INT64_MAX / 2;
        return;
    }
    p->budget += rate / 1000 * (now - p->budget_ms) +
                 rate % 1000 * (now - p->budget_ms) / 1000;
    if (p->budget > most)
        p->budget = most;
    p->budget_ms = now;
}

static bool
may_read(const struct pipeline *p)
{
    return p->reading < p->depth && p->budget >= 0;
}

static struct slot *
find_slot(struct pipeline *p, enum slot_state state, int64_t now)
{
    for (unsigned i = 0; i < p->req->slots; i++)
        if (p->slots[i].state == state &&
            (state != SLOT_PAUSING || p->slots[i].due_ms <= now))
            return &p->slots[i];
    return NULL;
}

static void
start_reads(struct pipeline *p, int64_t now)
{
    struct err e = ERR_INIT;
    struct extent next;
    struct slot *s;

    refill(p, now);
    while (may_read(p) && (s = find_slot(p, SLOT_PAUSING, now)))
        start_read(p, s);
    while (!p->no_more && !ledger_full(p->ledger) && may_read(p) &&
           (s = find_slot(p, SLOT_FREE, now))) {
        int rc = plan_next(p->plan, p->map, p->req->bytes, &next, &e);

        if (rc < 0)
            fail(p, &e);
        if (rc <= 0) {
            p->no_more = true;
            return;
        }
        s->offset = next.start;
        s->n = (uint32_t)next.length;
        s->tries = 0;
        p->busy++;
        start_read(p, s);
    }
}

/* the loop ---------------------------------------------------------------- */

/* Reads that wait for their next try are given up. */
static void
drop_pausing(struct pipeline *p)
{
    for (unsigned i = 0; i < p->req->slots; i++)
        if (p->slots[i].state == SLOT_PAUSING)
            free_slot(p, &p->slots[i]);
}

static int
wait_ms(const struct pipeline *p, int64_t now)
{
    int64_t ms = POLL_MS;

    for (unsigned i = 0; i < p->req->slots; i++)
        if (p->slots[i].state == SLOT_PAUSING && p->slots[i].due_ms - now < ms)
            ms = p->slots[i].due_ms - now;
    if (p->budget < 0 && -p->budget * 1000 / (int64_t)p->req->rate + 1 < ms)
        ms = -p->budget * 1000 / (int64_t)p->req->rate + 1;
    return ms < 1 ? 1 : (int)ms;
}

static void
wait_and_collect(struct pipeline *p, int64_t now)
{
    struct pollfd fds[2 + TARGET_CONNS] = { 0 };
    struct read_result r = { 0 };
    nfds_t n;

    fds[0] = (struct pollfd){ stop_fd(), POLLIN, 0 };
    if (p->stopped)
        fds[0].fd = -1;
    p->src->ops->poll(p->src, &fds[1]);
    n = 2 + target_poll(p->tgt, &fds[2]);
    if (poll(fds, n, wait_ms(p, now)) < 0)
        return; /* EINTR: nothing is ready */
    p->src->ops->ready(p->src, fds[1].revents);
    while (p->src->ops->reap(p->src, &r))
        came_back(p, &r);
    target_ready(p->tgt, &fds[2]);
}

static void
look_for_stall(struct pipeline *p, int64_t now)
{
    struct err e = ERR_INIT;
    unsigned pausing = 0;

    for (unsigned i = 0; i < p->req->slots; i++)
        pausing += p->slots[i].state == SLOT_PAUSING;
    if (p->busy == pausing && !ledger_runs(p->ledger))
        p->answer_ms = now; /* nothing was asked */
    if (now - p->answer_ms < p->req->timeout_ms)
        return;
    p->stuck = true;
    err_set(&e, ERR_NET,
            "no answer from the %s for %lld s; it goes on from there when "
            "started again",
            p->reading ? "source" : "target",
            (long long)(p->req->timeout_ms / 1000));
    fail(p, &e);
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
            drop_pausing(p);
        else
            start_reads(p, now);
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

static void *
make_slots(struct pipeline *p, size_t n, struct err *e)
{
    unsigned blocks = p->req->bytes / DISK_BLOCK;
    uint8_t *mem = mmap(NULL, n, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED) {
        err_errno(e, errno, "taking %zu bytes for buffers", n);
        return NULL;
    }
    for (unsigned i = 0; i < p->req->slots; i++) {
        struct slot *s = &p->slots[i];

        s->buf = mem + (size_t)i * p->req->bytes;
        s->entries = xcalloc(blocks, sizeof *s->entries);
        s->fates = xcalloc(blocks, sizeof *s->fates);
    }
    return mem;
}

int
pipeline_run(const struct request *r, struct source *s, struct target *t,
             struct map *m, struct plan *plan, struct counters *c, bool *stuck,
             struct err *e)
{
    struct pipeline *p = xcalloc(1, sizeof *p);
    size_t n = (size_t)r->slots * r->bytes;
    void *mem;
    int rc = -1;

    p->req = r;
    p->src = s;
    p->tgt = t;
    p->map = m;
    p->plan = plan;
    p->counters = c;
    p->depth = r->slots;
    p->budget_ms = p->progress_ms = p->answer_ms = clock_ms();
    *stuck = false;
    mem = make_slots(p, n, e);
    if (mem) {
        p->ledger = ledger_new(m, t, c);
        target_tell(t, on_written, p);
        loop(p);
        rc = outcome(p, e);
        *stuck = p->stuck;
    }
    if (*stuck)
        return rc; /* somebody may still write to the buffers */
    ledger_free(p->ledger);
    for (unsigned i = 0; i < r->slots; i++) {
        free(p->slots[i].entries);
        free(p->slots[i].fates);
    }
    if (mem)
        munmap(mem, n);
    free(p);
    return rc;
}
