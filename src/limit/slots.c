/* Who may start: a queue with as many doors as there are hosts and datastores,
 * in the table. */
#include "limit/table.h"
#include "base/clock.h"

#include <assert.h>
#include <string.h>

#define ASK_LOCK_MS  50   /* asking is repeated anyway */
#define MUST_LOCK_MS 5000 /* the table is held for less than a millisecond */

/* The table and its lock, for the time of one call. */
struct view {
    struct slots *s;
    struct rows rows;
    int64_t now;
};

static int
view_open(struct view *v, struct slots *s, int64_t now, int64_t wait_ms,
          struct err *e)
{
    *v = (struct view){ .s = s, .now = now };
    if (table_lock(s, wait_ms, e))
        return -1;
    if (!table_load(s, &v->rows, e))
        return 0;
    vec_fini(&v->rows);
    table_unlock(s);
    return -1;
}

static void
view_close(struct view *v)
{
    vec_fini(&v->rows);
    table_unlock(v->s);
}

/* What is in force: after a shortage it grows by itself.  A time to come is
 * one of before a reboot. */
static int
in_force(const struct place *p, int64_t now)
{
    int most = p->limit ? p->limit : SLOT_LIMIT_MAX;
    int64_t since = now - p->lowered_ms;

    if (!p->lowered || since < 0 || p->lowered + since / SLOT_RAISE_MS >= most)
        return p->limit;
    return p->lowered + (int)(since / SLOT_RAISE_MS);
}

static bool
at(const struct row *copier, const struct place *p)
{
    return copier->kind == ROW_COPIER &&
           !strcmp(copier->copier.names[p->kind], p->name);
}

static int
count(const struct view *v, const struct place *p, bool taken)
{
    int n = 0;

    for (size_t i = 1; i < v->rows.n; i++)
        n += at(&v->rows.p[i], p) && v->rows.p[i].copier.taken == taken;
    return n;
}

/* asking ------------------------------------------------------------------ */

/* A place that somebody asks for, with what is spoken for. */
struct door {
    const struct place *place;
    int limit, spoken;
};

struct doors VEC(struct door);

static void
doors_fini(struct doors *d)
{
    vec_fini(d);
}

static void
doors_make(const struct view *v, struct doors *out)
{
    for (size_t i = 1; i < v->rows.n; i++) {
        const struct place *p = &v->rows.p[i].place;

        if (v->rows.p[i].kind == ROW_PLACE && in_force(p, v->now))
            vec_push(out, (struct door){ p, in_force(p, v->now),
                                         count(v, p, true) });
    }
}

/* The first that has no room; NULL: all have. */
static struct door *
shut(const struct doors *d, const struct row *r)
{
    for (size_t i = 0; i < d->n; i++)
        if (at(r, d->p[i].place) &&
            d->p[i].spoken >= d->p[i].limit * (r->copier.urgent ? 2 : 1))
            return &d->p[i];
    return NULL;
}

static void
reserve(const struct doors *d, const struct row *r)
{
    for (size_t i = 0; i < d->n; i++)
        d->p[i].spoken += at(r, d->p[i].place);
}

static bool
before(const struct row *a, const struct row *b)
{
    const struct copier_row *x = &a->copier, *y = &b->copier;

    if (!x->urgent != !y->urgent)
        return x->urgent;
    return x->since_ms != y->since_ms ? x->since_ms < y->since_ms : a < b;
}

/* The next in the queue after `last`, of those who still ask; NULL at mine. */
static const struct row *
next_before(const struct view *v, const struct row *mine,
            const struct row *last)
{
    const struct row *next = NULL;

    for (size_t i = 1; i < v->rows.n; i++) {
        const struct row *r = &v->rows.p[i];

        if (r->kind != ROW_COPIER || r->copier.taken || !before(r, mine) ||
            v->now - r->copier.beat_ms > SLOT_STALE_MS ||
            (last && !before(last, r)))
            continue;
        if (!next || before(r, next))
            next = r;
    }
    return next;
}

/* What is left when those before have what they could take now, and what they
 * have waited for too long. */
static struct door *
shut_for(const struct view *v, const struct doors *d, const struct row *mine)
{
    const struct row *r = NULL;

    while ((r = next_before(v, mine, r)))
        if (!shut(d, r) || v->now - r->copier.since_ms >= SLOT_PATIENCE_MS)
            reserve(d, r);
    return shut(d, mine);
}

static void
tell(const struct view *v, const struct door *d, struct slot_wait *wait)
{
    wait->kind = d->place->kind;
    wait->limit = d->limit;
    wait->in_use = count(v, d->place, true);
    memcpy(wait->name, d->place->name, sizeof wait->name);
}

static int
queue(struct view *v, struct slot_claim *slot, const struct slot_wish *wish,
      struct err *e)
{
    struct row *r;

    if (slot->fd < 0) {
        if (table_claim(v->s, &v->rows, &slot->row, &slot->fd, e))
            return -1;
        slot->since_ms = v->now;
    }
    while (v->rows.n <= slot->row)
        vec_push(&v->rows, (struct row){ 0 });
    r = &v->rows.p[slot->row];
    r->kind = ROW_COPIER;
    r->copier.taken = false;
    r->copier.since_ms = slot->since_ms;
    r->copier.beat_ms = v->now;
    r->copier.urgent = wish->urgent;
    for (int i = 0; i < SLOT_KINDS; i++)
        table_name(r->copier.names[i], wish->names[i]);
    table_name(r->copier.who, wish->who);
    return 0;
}

static int
ask(struct view *v, struct slot_claim *slot, const struct slot_wish *wish,
    struct slot_wait *wait, struct err *e)
{
    defer(doors_fini) struct doors d = { 0 };
    struct door *closed;
    struct row *r;

    if (queue(v, slot, wish, e))
        return -1;
    r = &v->rows.p[slot->row];
    doors_make(v, &d);
    closed = shut_for(v, &d, r);
    if (closed)
        tell(v, closed, wait);
    else {
        r->copier.taken = true;
        r->copier.since_ms = v->now;
    }
    if (table_write(v->s, slot->row, r, e))
        return -1;
    slot->taken = !closed;
    return slot->taken;
}

int
slot_take(struct slots *s, struct slot_claim *slot,
          const struct slot_wish *wish, int64_t now, struct slot_wait *wait,
          struct err *e)
{
    struct view v;
    int rc;

    assert(!slot->taken);
    *wait = (struct slot_wait){ 0 };
    if (view_open(&v, s, now, ASK_LOCK_MS, e)) {
        if (e->class != ERR_BUSY)
            return -1;
        err_clear(e);
        return 0;
    }
    rc = ask(&v, slot, wish, wait, e);
    view_close(&v);
    return rc;
}

void
slot_release(struct slot_claim *slot)
{
    if (slot->fd >= 0)
        close(slot->fd);
    *slot = (struct slot_claim)SLOT_INIT;
}

/* limits ------------------------------------------------------------------ */

static int
within(int limit)
{
    return limit < 0 ? 0 : limit > SLOT_LIMIT_MAX ? SLOT_LIMIT_MAX : limit;
}

/* What set and configure do to a place.  true: it has changed. */
typedef bool change_fn(struct place *p, int limit);

static bool
configure(struct place *p, int limit)
{
    if (p->configured == within(limit))
        return false;
    p->limit = p->configured = within(limit);
    p->lowered = 0;
    return true;
}

static bool
set(struct place *p, int limit)
{
    p->limit = limit == SLOT_DEFAULT ? p->configured : within(limit);
    p->lowered = 0;
    return true;
}

static int
change(struct slots *s, enum slot_kind kind, const char *name, int limit,
       change_fn *fn, struct err *e)
{
    struct view v;
    struct row *r;
    int rc = -1;

    if (view_open(&v, s, 0, MUST_LOCK_MS, e))
        return -1;
    r = table_place(s, &v.rows, kind, name, true, e);
    if (r)
        rc = fn(&r->place, limit)
                 ? table_write(s, (unsigned)(r - v.rows.p), r, e)
                 : 0;
    view_close(&v);
    return rc;
}

int
slots_configure(struct slots *s, enum slot_kind kind, const char *name,
                int limit, struct err *e)
{
    return change(s, kind, name, limit, configure, e);
}

int
slots_set(struct slots *s, enum slot_kind kind, const char *name, int limit,
          struct err *e)
{
    return change(s, kind, name, limit, set, e);
}

/* One copier alone is short by its own doing: it reads less at a time then. */
static bool
lower(const struct view *v, struct place *p)
{
    int now = in_force(p, v->now), reading = count(v, p, true);
    int64_t since = v->now - p->lowered_ms;

    if (p->lowered && since >= 0 && since < SLOT_LOWER_MS)
        return false;
    if (now && now < reading)
        reading = now;
    if (reading < 2)
        return false;
    p->lowered = reading / 2;
    p->lowered_ms = v->now;
    return true;
}

int
slots_short(struct slots *s, const char *host, int64_t now_ms, int *limit,
            struct err *e)
{
    struct view v;
    struct row *r;
    int rc = -1;

    if (view_open(&v, s, now_ms, MUST_LOCK_MS, e))
        return -1;
    r = table_place(s, &v.rows, SLOT_HOST, host, true, e);
    if (r)
        rc = lower(&v, &r->place);
    if (rc > 0) {
        *limit = r->place.lowered;
        if (table_write(s, (unsigned)(r - v.rows.p), r, e))
            rc = -1;
    }
    view_close(&v);
    return rc;
}

/* for people -------------------------------------------------------------- */

static int
by_name(const void *a, const void *b)
{
    const struct slot_use *x = a, *y = b;

    return x->kind != y->kind ? (int)x->kind - (int)y->kind
                              : strcmp(x->name, y->name);
}

static int
by_age(const void *a, const void *b)
{
    const struct slot_holder *x = a, *y = b;

    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static void
list_place(const struct view *v, const struct place *p, struct slot_list *out)
{
    struct slot_use u = {
        .kind = p->kind,
        .limit = p->limit,
        .configured = p->configured,
        .lowered = in_force(p, v->now) != p->limit ? in_force(p, v->now) : 0,
        .in_use = count(v, p, true),
        .waiting = count(v, p, false),
    };

    memcpy(u.name, p->name, sizeof u.name);
    vec_push(&out->uses, u);
}

static void
list_copier(const struct view *v, const struct copier_row *c,
            struct slot_list *out)
{
    struct slot_holder h = {
        .taken = c->taken,
        .seconds = (v->now - c->since_ms) / 1000,
    };

    memcpy(h.names, c->names, sizeof h.names);
    memcpy(h.who, c->who, sizeof h.who);
    vec_push(&out->holders, h);
}

int
slots_list(struct slots *s, int64_t now_ms, struct slot_list *out,
           struct err *e)
{
    struct view v;

    *out = (struct slot_list){ 0 };
    if (view_open(&v, s, now_ms, MUST_LOCK_MS, e))
        return -1;
    for (size_t i = 1; i < v.rows.n; i++) {
        if (v.rows.p[i].kind == ROW_PLACE)
            list_place(&v, &v.rows.p[i].place, out);
        else if (v.rows.p[i].kind == ROW_COPIER)
            list_copier(&v, &v.rows.p[i].copier, out);
    }
    view_close(&v);
    if (out->uses.n)
        qsort(out->uses.p, out->uses.n, sizeof *out->uses.p, by_name);
    if (out->holders.n)
        qsort(out->holders.p, out->holders.n, sizeof *out->holders.p, by_age);
    return 0;
}

void
slot_list_fini(struct slot_list *l)
{
    vec_fini(&l->uses);
    vec_fini(&l->holders);
}
