/* Reads the target back: is it what the map, and the source, say? */
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

#define READ_TRIES    6    /* of one read */
#define PAUSE_MS      250  /* before the second try; doubles */
#define WARN_GAP_MS   1000 /* one warning for the errors of a burst */
#define PROGRESS_MS   500
#define POLL_MS       200 /* at most between two looks at the clock */
#define BAD_MARK_MS   100 /* until a difference is in the map */
#define PROOFS_MAX    (64u << 10)
#define RANGES_A_TURN 1024u      /* that need no read, between two polls */
#define SKIP_MAX      (1u << 30) /* bytes of one of those */
#define AREAS_KEPT    1024u      /* different ones; the lowest stay */
#define AREAS_SAID    16u

enum slot_state {
    SLOT_FREE,
    SLOT_READING,
    SLOT_PAUSING, /* until due_ms, then read again */
};

struct slot {
    enum slot_state state;
    uint64_t offset;
    uint32_t n;
    uint8_t *ours;    /* of the target; NULL: it says that it is zero there */
    uint8_t *theirs;  /* of the source; NULL: not asked, or known to be zero */
    unsigned waiting; /* reads in flight */
    unsigned tries;
    bool shrink, lost; /* of the reads that came back */
    bool source_lost;  /* the same: its connection was, and comes back */
    struct err err;    /* of the first that failed; NONE: none did */
    int64_t since_ms, due_ms;
    struct pace_read pace;
};

struct proofs VEC(struct map_proof);

/* Blocks to be looked at in one way. */
struct range {
    uint64_t start, length; /* bytes */
    bool ours, theirs;      /* to be read: from the target, from the source */
    bool implied;           /* no entry of their own in the map */
};

struct verify {
    const struct request *req;
    struct source *src; /* NULL: none */
    struct reader *tgt;
    struct map *map;
    struct proof *sums;
    struct walk walk;
    struct extents data; /* of the source: what may be other than zero; tidy */
    size_t data_at;
    struct pace pace;
    struct arena arena;
    struct slot slots[COPY_SLOTS_MAX];
    unsigned busy, pausing;
    struct proofs proofs;                  /* not in the map yet */
    struct proof waiting;                  /* what they will add to the sums */
    struct extents target_bad, source_bad; /* for the report; tidy */
    bool bad_waits;       /* a difference is among the proofs */
    bool no_more, asking; /* of the walk; it waits for the target */
    bool away;            /* the source; it may come back */
    bool stopped, stuck;
    struct gate gate;
    int64_t progress_ms, marked_ms, warned_ms, asked_ms;
    struct err err; /* the first; class ERR_NONE: none */
};

static void
fail(struct verify *v, const struct err *e)
{
    if (v->err.class == ERR_NONE)
        v->err = *e;
}

static bool
winding_down(const struct verify *v)
{
    return v->stopped || v->err.class != ERR_NONE;
}

/* what was found ---------------------------------------------------------- */

static void
add_bad(struct extents *x, uint64_t start, uint32_t n)
{
    extents_add(x, start, n);
    extents_sort(x);
    if (x->n > AREAS_KEPT)
        x->n = AREAS_KEPT;
}

static void
found_bad(struct verify *v, uint64_t at, uint32_t n, bool target, bool source)
{
    if (!v->sums->different && !v->waiting.different)
        report_warn("the %s differs at %llu; going on",
                    target ? "target" : "source", (unsigned long long)at);
    if (target)
        add_bad(&v->target_bad, at, n);
    if (source)
        add_bad(&v->source_bad, at, n);
    v->bad_waits = true;
    v->waiting.different += n;
}

static int
judge(struct verify *v, const struct slot *s, uint64_t i, struct err *e)
{
    uint64_t block = s->offset / DISK_BLOCK + i, at = block * DISK_BLOCK;
    uint32_t n = disk_block_bytes(v->req->disk_size, block);
    const uint8_t *a = s->ours ? s->ours + i * DISK_BLOCK : NULL;
    const uint8_t *b = s->theirs ? s->theirs + i * DISK_BLOCK : NULL;
    bool target_good, source_good = true;
    struct map_entry x;

    if (map_get(v->map, block, &x, e))
        return -1;
    target_good = !a || disk_hash(a, n) == x.hash;
    if (b && a && target_good)
        source_good = !memcmp(a, b, n);
    else if (b)
        source_good = a ? disk_hash(b, n) == x.hash : disk_is_zero(b, n);
    vec_push(&v->proofs,
             (struct map_proof){ block, target_good && source_good });
    if (target_good && source_good)
        v->waiting.verified += n;
    else
        found_bad(v, at, n, !target_good, !source_good);
    return 0;
}

/* Puts into the map what was found, and then counts it. */
static void
mark(struct verify *v, int64_t now)
{
    struct err e = ERR_INIT;
    int rc;

    v->marked_ms = now;
    v->bad_waits = false;
    hang_begin("writing the block map");
    rc = map_prove(v->map, v->proofs.p, v->proofs.n, &e);
    hang_end();
    if (rc) {
        fail(v, &e);
        return;
    }
    v->proofs.n = 0;
    v->sums->verified += v->waiting.verified;
    v->sums->zero += v->waiting.zero;
    v->sums->different += v->waiting.different;
    v->waiting = (struct proof){ 0 };
}

static bool
mark_due(const struct verify *v, int64_t now)
{
    return v->proofs.n >= PROOFS_MAX ||
           now - v->marked_ms >= (v->bad_waits ? BAD_MARK_MS : CHECKPOINT_MS);
}

/* The target says that these are zero, as does the map: nothing to read. */
static void
skip(struct verify *v, const struct range *x)
{
    uint64_t block = x->start / DISK_BLOCK, n = disk_blocks(x->length);

    v->waiting.zero += x->length;
    for (uint64_t i = 0; !x->implied && i < n; i++)
        vec_push(&v->proofs, (struct map_proof){ block + i, true });
}

/* reading ----------------------------------------------------------------- */

static void
free_slot(struct verify *v, struct slot *s)
{
    unsigned blocks = (unsigned)disk_blocks(s->n);

    if (s->ours)
        arena_give(&v->arena, s->ours, blocks);
    if (s->theirs)
        arena_give(&v->arena, s->theirs, blocks);
    v->pausing -= s->state == SLOT_PAUSING;
    v->busy--;
    s->state = SLOT_FREE;
}

static void
finish_slot(struct verify *v, struct slot *s)
{
    struct err e = ERR_INIT;

    for (uint64_t i = 0; i < disk_blocks(s->n); i++)
        if (judge(v, s, i, &e)) {
            fail(v, &e);
            break;
        }
    free_slot(v, s);
}

static void
read_again(struct verify *v, struct slot *s, int64_t now)
{
    if (s->shrink && pace_shrink(&v->pace, &s->pace, clock_ns()))
        s->tries = 0; /* with less in flight it may well work */
    if (s->lost || (s->tries >= READ_TRIES && !s->source_lost))
        fail(v, &s->err);
    if (winding_down(v)) {
        free_slot(v, s);
        return;
    }
    s->state = SLOT_PAUSING;
    s->due_ms = now;
    v->pausing++;
    if (s->source_lost) { /* it says itself how that goes */
        s->tries = 0;
        return;
    }
    if (!v->warned_ms || now - v->warned_ms >= WARN_GAP_MS) {
        v->warned_ms = now;
        report_warn("%s; trying again", s->err.msg);
    }
    s->due_ms += (int64_t)PAUSE_MS << (s->tries ? s->tries - 1 : 0);
}

/* One of its reads came back; or all were issued. */
static void
release(struct verify *v, struct slot *s)
{
    bool good = s->err.class == ERR_NONE;

    assert(s->waiting && s->state == SLOT_READING);
    if (--s->waiting)
        return;
    pace_ended(&v->pace, &s->pace, good, clock_ns());
    if (!good)
        read_again(v, s, clock_ms());
    else if (v->err.class == ERR_NONE)
        finish_slot(v, s);
    else
        free_slot(v, s);
}

static void
went_wrong(struct slot *s, const struct err *e, bool lost)
{
    if (s->err.class == ERR_NONE)
        s->err = *e;
    s->lost |= lost;
}

static void
on_read(void *ctx, unsigned slot, int errnum)
{
    struct verify *v = ctx;
    struct slot *s = &v->slots[slot];
    struct err e = ERR_INIT;

    if (errnum) {
        err_errno(&e, errnum, "reading the target at %llu",
                  (unsigned long long)s->offset);
        went_wrong(s, &e, e.class == ERR_NET);
    } else {
        v->sums->read += s->n;
    }
    release(v, s);
}

static void
on_source(struct verify *v, struct read_result *r)
{
    struct slot *s = &v->slots[r->slot];

    if (r->verdict != READ_OK) {
        err_wrap(&r->err, "reading the source at %llu",
                 (unsigned long long)s->offset);
        s->shrink |= r->verdict == READ_SHRINK;
        s->source_lost |= r->verdict == READ_LOST;
        went_wrong(s, &r->err, r->verdict == READ_FAILED);
    }
    release(v, s);
}

static void
start_read(struct verify *v, struct slot *s)
{
    unsigned no = (unsigned)(s - v->slots);
    struct err e = ERR_INIT;

    v->pausing -= s->state == SLOT_PAUSING;
    s->state = SLOT_READING;
    s->since_ms = clock_ms();
    s->tries++;
    s->waiting = 1;
    s->shrink = s->lost = s->source_lost = false;
    err_clear(&s->err);
    gate_spend(&v->gate, s->n);
    pace_began(&v->pace, &s->pace, s->n, clock_ns());
    if (s->ours) {
        s->waiting++;
        if (reader_read(v->tgt, no, s->ours, s->offset, s->n, &e)) {
            s->waiting--;
            went_wrong(s, &e, true);
        }
    }
    if (s->theirs) {
        s->waiting++;
        v->src->ops->read(v->src, no, s->theirs, s->offset, s->n);
    }
    release(v, s);
}

/* what to read ------------------------------------------------------------ */

/* May the source have anything but zeroes there?  Blocks in rising order. */
static bool
source_has(struct verify *v, uint64_t block)
{
    uint64_t start = block * DISK_BLOCK;

    while (v->data_at < v->data.n &&
           v->data.p[v->data_at].start + v->data.p[v->data_at].length <= start)
        v->data_at++;
    return v->data_at < v->data.n &&
           v->data.p[v->data_at].start < start + DISK_BLOCK;
}

/* How the block at the cursor is to be looked at.  False: not known yet. */
static bool
classify(struct verify *v, uint64_t block, const struct map_look *look,
         struct range *x)
{
    bool zero = look->flags & MAP_ZERO;
    enum reader_zero says = zero ? reader_zero(v->tgt, block) : ZERO_NO;

    if (says == ZERO_ASKED)
        return false;
    *x = (struct range){
        .start = block * DISK_BLOCK,
        .length = disk_block_bytes(v->req->disk_size, block),
        .ours = says == ZERO_NO,
        .theirs = v->src && (!zero || source_has(v, block)),
    };
    x->implied = look->implied && !x->ours && !x->theirs;
    return true;
}

static bool
continues(const struct range *x, const struct range *next, uint64_t most)
{
    if (!x->ours && !x->theirs)
        most = SKIP_MAX;
    return x->start + x->length == next->start && x->ours == next->ours &&
           x->theirs == next->theirs && x->implied == next->implied &&
           x->length + next->length <= most;
}

/* The next blocks to look at.  1: there are; 0: not now, or no more. */
static int
next_range(struct verify *v, uint64_t most, struct range *out, struct err *e)
{
    struct map_look look;
    struct range x;
    uint64_t block;
    int rc;

    *out = (struct range){ 0 };
    v->asking = false;
    while ((rc = walk_look(&v->walk, NULL, &block, &look, e)) > 0) {
        if (!classify(v, block, &look, &x)) {
            v->asking = true;
            return out->length > 0;
        }
        if (!out->length)
            *out = x;
        else if (continues(out, &x, most))
            out->length += x.length;
        else
            return 1;
        walk_step(&v->walk);
    }
    v->no_more = rc == 0;
    return rc < 0 ? -1 : out->length > 0;
}

/* Buffers for a range of the largest size. */
static bool
take_buffers(struct verify *v, struct slot *s, unsigned blocks)
{
    s->ours = arena_take(&v->arena, blocks);
    s->theirs = s->ours && v->src ? arena_take(&v->arena, blocks) : NULL;
    if (s->ours && (s->theirs || !v->src))
        return true;
    if (s->ours)
        arena_give(&v->arena, s->ours, blocks);
    return false;
}

/* What a buffer of so many blocks has too much goes back. */
static uint8_t *
trim(struct verify *v, uint8_t *buf, unsigned blocks, unsigned needed)
{
    if (buf && needed < blocks)
        arena_give(&v->arena, buf + (size_t)needed * DISK_BLOCK,
                   blocks - needed);
    return needed ? buf : NULL;
}

static struct slot *
find_slot(struct verify *v, enum slot_state state, int64_t now)
{
    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        if (v->slots[i].state == state &&
            (state != SLOT_PAUSING || v->slots[i].due_ms <= now))
            return &v->slots[i];
    return NULL;
}

static uint32_t
most_of(const struct verify *v)
{
    uint32_t most = pace_request(&v->pace);

    return most < reader_most(v->tgt) ? most : reader_most(v->tgt);
}

/* Begins on the next range.  False: not now, or no more. */
static bool
start_next(struct verify *v, int64_t now)
{
    unsigned blocks = most_of(v) / DISK_BLOCK, n;
    struct slot *s = find_slot(v, SLOT_FREE, now);
    struct err e = ERR_INIT;
    struct range x;
    int rc;

    if (!s || !take_buffers(v, s, blocks))
        return false;
    rc = next_range(v, (uint64_t)blocks * DISK_BLOCK, &x, &e);
    if (rc < 0)
        fail(v, &e);
    n = (unsigned)disk_blocks(x.length);
    s->ours = trim(v, s->ours, blocks, x.ours ? n : 0);
    s->theirs = trim(v, s->theirs, blocks, x.theirs ? n : 0);
    if (rc <= 0)
        return false;
    if (!x.ours && !x.theirs) {
        skip(v, &x);
        return true;
    }
    s->offset = x.start;
    s->n = (uint32_t)x.length;
    s->tries = 0;
    v->busy++;
    start_read(v, s);
    return true;
}

static bool
may_read(const struct verify *v)
{
    return pace_room(&v->pace) && !winding_down(v);
}

/* Do the limits have room for n bytes? */
static bool
passes(struct verify *v, uint32_t n)
{
    return gate_pass(&v->gate, n, clock_ns());
}

/* Is the source there?  One whose connection was lost may come back. */
static bool
source_is_there(struct verify *v)
{
    struct err e = ERR_INIT;
    int rc = v->src && v->src->ops->mend ? v->src->ops->mend(v->src, &e) : 1;

    if (rc < 0)
        fail(v, &e);
    v->away = rc == 0;
    return rc > 0;
}

static void
start_reads(struct verify *v, int64_t now)
{
    struct slot *s;

    v->gate.ready = 0;
    v->asking = false; /* a limit, or the source, may be what it waits for */
    if (!source_is_there(v))
        return;
    while (v->pausing && may_read(v) && (s = find_slot(v, SLOT_PAUSING, now)))
        if (passes(v, s->n))
            start_read(v, s);
        else
            return;
    for (unsigned i = 0; i < RANGES_A_TURN && !v->no_more && may_read(v) &&
                         v->proofs.n < PROOFS_MAX && passes(v, most_of(v));
         i++)
        if (!start_next(v, now))
            break;
}

/* the loop ---------------------------------------------------------------- */

static void
drop_pausing(struct verify *v)
{
    for (unsigned i = 0; v->pausing && i < COPY_SLOTS_MAX; i++)
        if (v->slots[i].state == SLOT_PAUSING)
            free_slot(v, &v->slots[i]);
}

static int
wait_ms(const struct verify *v, int64_t now)
{
    int64_t ms = POLL_MS, held = gate_wait_ms(&v->gate, clock_ns());

    if (v->away)
        return POLL_MS;
    if (held >= 0) /* nothing is read before */
        return held < ms ? (int)held : (int)ms;
    for (unsigned i = 0; v->pausing && i < COPY_SLOTS_MAX; i++)
        if (v->slots[i].state == SLOT_PAUSING && v->slots[i].due_ms - now < ms)
            ms = v->slots[i].due_ms - now;
    /* nothing is in flight and there is more: it was only time to look up */
    if (!v->busy && !v->asking && !v->no_more && may_read(v))
        return 0;
    return ms < 1 ? 1 : (int)ms;
}

static void
wait_and_collect(struct verify *v, int64_t now)
{
    struct pollfd fds[2 + READER_CONNS] = { 0 };
    struct read_result r = { 0 };
    nfds_t n;

    fds[0] = (struct pollfd){ v->stopped ? -1 : stop_fd(), POLLIN, 0 };
    fds[1].fd = -1;
    if (v->src)
        v->src->ops->poll(v->src, &fds[1]);
    n = 2 + reader_poll(v->tgt, &fds[2]);
    if (poll(fds, n, wait_ms(v, now)) < 0)
        return; /* EINTR: nothing is ready */
    if (v->src) {
        v->src->ops->ready(v->src, fds[1].revents);
        while (v->src->ops->reap(v->src, &r))
            on_source(v, &r);
    }
    reader_ready(v->tgt, &fds[2]);
}

/* When the oldest read in flight began; `now` if there is none. */
static int64_t
oldest(const struct verify *v, int64_t now)
{
    for (unsigned i = 0; v->busy && i < COPY_SLOTS_MAX; i++)
        if (v->slots[i].state == SLOT_READING && v->slots[i].since_ms < now)
            now = v->slots[i].since_ms;
    return now;
}

static void
look_for_stall(struct verify *v, int64_t now)
{
    struct err e = ERR_INIT;

    if (!v->asking)
        v->asked_ms = now;
    if (now - oldest(v, now) < v->req->timeout_ms &&
        now - v->asked_ms < v->req->timeout_ms)
        return;
    v->stuck = true;
    err_set(&e, ERR_NET,
            "no answer from the target%s for %lld s; it goes on from there "
            "when started again",
            v->src ? " or the source" : "",
            (long long)(v->req->timeout_ms / 1000));
    fail(v, &e);
    mark(v, now); /* what came back is known */
}

static void
loop(struct verify *v)
{
    for (;;) {
        int64_t now = clock_ms();
        bool end;

        v->stopped = v->stopped || stop_asked();
        if (winding_down(v))
            drop_pausing(v);
        else
            start_reads(v, now);
        end = !v->busy && (v->no_more || winding_down(v));
        if (end || mark_due(v, now))
            mark(v, now);
        if (end)
            return;
        look_for_stall(v, now);
        if (v->stuck)
            return;
        if (now - v->progress_ms >= PROGRESS_MS) {
            v->progress_ms = now;
            report_verify_progress(v->sums);
        }
        wait_and_collect(v, now);
    }
}

/* the whole ---------------------------------------------------------------- */

/* What there is to do, and what cannot be done. */
static int
survey(const struct request *r, struct map *m, struct proof *p, struct err *e)
{
    struct map_look look;
    struct walk w;
    uint64_t block;
    int rc;

    hang_begin("reading the block map");
    walk_begin(&w, r, m);
    while ((rc = walk_look(&w, p, &block, &look, e)) > 0) {
        p->total += disk_block_bytes(r->disk_size, block);
        walk_step(&w);
    }
    walk_fini(&w);
    hang_end();
    if (p->unproven)
        report_warn("%llu KiB are not verified: they were never copied, or "
                    "have to be copied again",
                    (unsigned long long)(p->unproven + 1023) / 1024);
    return rc;
}

static void
say_areas(struct proof *p, const struct extents *x, const char *what)
{
    p->areas += x->n;
    for (size_t i = 0; i < x->n && i < AREAS_SAID; i++)
        report_differs(&x->p[i], what);
}

static int
outcome(const struct verify *v, struct err *e)
{
    const struct proof *p = v->sums;
    uint64_t done = p->verified + p->zero + p->different;

    if (v->err.class != ERR_NONE) {
        *e = v->err;
        return -1;
    }
    if (v->stopped && done < p->total)
        return err_set(e, ERR_STOPPED, "stopped");
    if (done != p->total)
        return err_set(e, ERR_BUG, "%llu bytes of %llu were verified",
                       (unsigned long long)done, (unsigned long long)p->total);
    return 0;
}

static int
open_both(struct verify *v, struct err *e)
{
    const struct request *r = v->req;

    if (v->src && v->src->ops->size(v->src) != r->disk_size)
        return err_set(e, ERR_DAMAGED,
                       "the source has %llu bytes, disk.size says %llu",
                       (unsigned long long)v->src->ops->size(v->src),
                       (unsigned long long)r->disk_size);
    if (v->src && v->src->ops->allocated(v->src, &v->data, e))
        return -1;
    extents_round(&v->data, r->disk_size);
    return reader_open(&v->tgt, request_text(r, KEY_TARGET_URI), r->disk_size,
                       on_read, v, e);
}

int
verify_run(const struct request *r, struct source *s, struct map *m,
           struct proof *p, bool *stuck, struct err *e)
{
    struct verify *v = xcalloc(1, sizeof *v);
    int64_t now = clock_ms();
    int rc = -1;

    v->req = r;
    v->src = s;
    v->map = m;
    v->sums = p;
    v->progress_ms = v->marked_ms = v->asked_ms = now;
    pace_init(&v->pace, r->slots, r->bytes, clock_ns());
    walk_begin(&v->walk, r, m);
    *stuck = false;
    if (!open_both(v, e) && !survey(r, m, p, e) &&
        !throttle_open(&v->gate, r, e) && !arena_init(&v->arena, e)) {
        report_verify_open(r, p);
        loop(v);
        say_areas(p, &v->target_bad, "target");
        say_areas(p, &v->source_bad, "source");
        rc = outcome(v, e);
        *stuck = v->stuck;
    }
    if (*stuck)
        return rc; /* somebody may still write to the buffers */
    reader_close(v->tgt);
    gate_fini(&v->gate);
    arena_fini(&v->arena);
    walk_fini(&v->walk);
    vec_fini(&v->proofs);
    extents_fini(&v->data);
    extents_fini(&v->target_bad);
    extents_fini(&v->source_bad);
    free(v);
    return rc;
}
