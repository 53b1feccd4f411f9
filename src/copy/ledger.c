/* From acknowledged to stable: what the target has acknowledged waits here
 * for the flush that follows; only then it goes into the map. */
#include "copy/copy.h"

#include "base/clock.h"
#include "base/vec.h"

struct changes VEC(struct map_change);

/* What a set of blocks will add to the counters. */
struct sums {
    uint64_t done, written, zero, same; /* bytes */
};

struct ledger {
    struct map *map;
    struct target *target;
    struct counters *counters;
    struct changes open;    /* acknowledged since the last flush was begun */
    struct changes flushed; /* acknowledged before it was begun */
    struct sums open_sums, flushed_sums;
    int64_t begun_ms; /* when the last checkpoint was begun */
    bool runs;        /* a checkpoint is under way */
    bool failed;      /* a flush failed: what it covered may be lost, and a
                       * later one that works proves nothing */
};

struct ledger *
ledger_new(struct map *m, struct target *t, struct counters *c)
{
    struct ledger *l = xcalloc(1, sizeof *l);

    l->map = m;
    l->target = t;
    l->counters = c;
    l->begun_ms = clock_ms();
    return l;
}

void
ledger_free(struct ledger *l)
{
    vec_fini(&l->open);
    vec_fini(&l->flushed);
    free(l);
}

void
ledger_add(struct ledger *l, uint64_t block, struct map_entry entry,
           uint32_t bytes, enum block_fate fate)
{
    struct sums *s = &l->open_sums;

    if (l->failed)
        return;
    vec_push(&l->open, (struct map_change){ block, entry });
    s->done += bytes;
    s->written += fate == BLOCK_WRITTEN ? bytes : 0;
    s->zero += fate == BLOCK_ZEROED ? bytes : 0;
    s->same += fate == BLOCK_SAME ? bytes : 0;
}

bool
ledger_full(const struct ledger *l)
{
    return l->open.n >= LEDGER_MAX;
}

bool
ledger_empty(const struct ledger *l)
{
    return !l->open.n && !l->runs;
}

bool
ledger_runs(const struct ledger *l)
{
    return l->runs;
}

static int
begin(struct ledger *l, struct err *e)
{
    struct changes empty = l->flushed;

    empty.n = 0;
    l->flushed = l->open;
    l->open = empty;
    l->flushed_sums = l->open_sums;
    l->open_sums = (struct sums){ 0 };
    l->begun_ms = clock_ms();
    l->runs = true;
    return target_flush(l->target, e);
}

static int
end(struct ledger *l, struct err *e)
{
    struct counters *c = l->counters;

    l->runs = false;
    if (map_apply(l->map, l->flushed.p, l->flushed.n, e))
        return -1;
    c->done += l->flushed_sums.done;
    c->written += l->flushed_sums.written;
    c->zero += l->flushed_sums.zero;
    c->same += l->flushed_sums.same;
    return 1;
}

static int
step(struct ledger *l, bool now, struct err *e)
{
    if (l->runs) {
        switch (target_flushed(l->target, e)) {
        case FLUSH_RUNS: return 0;
        case FLUSH_DONE: return end(l, e);
        default: return -1;
        }
    }
    if (l->open.n &&
        (now || ledger_full(l) || clock_ms() - l->begun_ms >= CHECKPOINT_MS))
        return begin(l, e);
    return 0;
}

int
ledger_step(struct ledger *l, bool now, struct err *e)
{
    int rc;

    if (l->failed)
        return err_set(e, ERR_IO, "the target could not be flushed before");
    rc = step(l, now, e);
    if (rc < 0) {
        l->failed = true;
        l->runs = false;
        l->open.n = 0;
    }
    return rc;
}
