/* When to cut over, and how long to wait until the next round. */
#include "migrate/machine.h"
#include "base/clock.h"

int
finalize_wanted(struct machine *m, enum finalize *f, struct err *e)
{
    int64_t at = m->o->spec->migration.finalize_at;
    bool now = store_marked(m->store, MARK_FINALIZE_NOW);
    bool soon = store_marked(m->store, MARK_FINALIZE);

    if (now || soon) {
        /* the record first: a crash in between must not lose the wish */
        m->r->finalize_requested = true;
        m->extra_round_done |= now;
        if (machine_save(m, e) ||
            store_unmark(m->store, MARK_FINALIZE_NOW, e) ||
            store_unmark(m->store, MARK_FINALIZE, e))
            return -1;
        machine_event(m, now ? "finalize_now" : "finalize", NULL);
    }
    if (at && clock_wall_ms() >= at)
        now = true;
    *f = now || (m->r->finalize_requested && m->extra_round_done)
             ? FINALIZE_AT_ONCE
         : m->r->finalize_requested ? FINALIZE_SOON
                                    : FINALIZE_NO;
    return 0;
}

/* vmware-to-cloudstack's rule: close to finalize_at the rounds come more often,
 * and no wait reaches beyond it. */
static int64_t
interval_ms(const struct machine *m)
{
    const __typeof__(m->o->spec->migration) *s = &m->o->spec->migration;
    int64_t left = s->finalize_at - clock_wall_ms();
    int64_t wait = s->delta_interval * 1000;

    if (!s->finalize_at)
        return wait;
    if (left <= s->finalize_window * 1000)
        wait = s->finalize_delta_interval * 1000;
    return left < 0 ? 0 : left < wait ? left : wait;
}

/* The next round is due, or somebody wants something. */
static bool
wait_is_over(struct machine *m)
{
    return clock_ms() >= m->round_due ||
           store_marked(m->store, MARK_FINALIZE_NOW) ||
           store_marked(m->store, MARK_FINALIZE);
}

int
finalize_wait(struct machine *m, struct err *e)
{
    int64_t end = clock_ms() + interval_ms(m), left;
    enum finalize f;

    m->round_due = end;
    if (verify_meanwhile(m, wait_is_over, e))
        return -1;
    while ((left = end - clock_ms()) > 0) {
        if (finalize_wanted(m, &f, e))
            return -1;
        if (f != FINALIZE_NO)
            return 0;
        if (machine_pause(m, left < 300 ? left : 300, e))
            return -1;
    }
    return 0;
}
