/* From acknowledged to stable: what the target has acknowledged waits here
 * for the flush that follows; only then it goes into the map, and counts once
 * the map is stable.  The disk of the map may be slow: a thread waits for it,
 * and the copy goes on meanwhile. */
#include "copy/plan.h"
#include "copy/report.h"
#include "copy/target.h"

#include "base/clock.h"
#include "base/vec.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

struct changes VEC(struct map_change);

/* What a set of blocks will add to the counters. */
struct sums {
    uint64_t done, written, zero, same; /* bytes */
};

enum stage {
    IDLE,
    FLUSHING, /* the target */
    SYNCING,  /* the map */
};

struct ledger {
    struct map *map;
    struct target *target;
    struct counters *counters;
    struct changes open;    /* acknowledged since the last flush was begun */
    struct changes flushed; /* acknowledged before it was begun */
    struct sums open_sums, flushed_sums;
    int64_t begun_ms; /* when the last checkpoint was begun */
    enum stage stage; /* of the checkpoint that is under way */
    bool failed;      /* a flush failed: what it covered may be lost, and a
                       * later one that works proves nothing */
    pthread_t syncer; /* while SYNCING */
    int synced_fd;    /* eventfd: it has ended */
    int sync_rc;      /* its result, with sync_err; read after the join */
    struct err sync_err;
};

struct ledger *
ledger_new(struct map *m, struct target *t, struct counters *c, struct err *e)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct ledger *l;

    if (fd < 0) {
        err_errno(e, errno, "making an eventfd");
        return NULL;
    }
    l = xcalloc(1, sizeof *l);
    l->synced_fd = fd;
    l->map = m;
    l->target = t;
    l->counters = c;
    l->begun_ms = clock_ms();
    return l;
}

void
ledger_free(struct ledger *l)
{
    if (!l)
        return;
    if (l->stage == SYNCING)
        pthread_join(l->syncer, NULL);
    close(l->synced_fd);
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
    return !l->open.n && l->stage == IDLE;
}

bool
ledger_runs(const struct ledger *l)
{
    return l->stage != IDLE;
}

void
ledger_poll(const struct ledger *l, struct pollfd *p)
{
    *p = (struct pollfd){ .fd = l->stage == SYNCING ? l->synced_fd : -1,
                          .events = POLLIN };
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
    l->stage = FLUSHING;
    return target_flush(l->target, e);
}

static void *
sync_map(void *arg)
{
    struct ledger *l = arg;

    l->sync_rc = map_sync(l->map, &l->sync_err);
    if (eventfd_write(l->synced_fd, 1))
        abort();
    return NULL;
}

/* The target has flushed: into the map with it. */
static int
enter(struct ledger *l, struct err *e)
{
    int rc;

    l->stage = IDLE;
    if (map_apply(l->map, l->flushed.p, l->flushed.n, e))
        return -1;
    err_clear(&l->sync_err);
    rc = pthread_create(&l->syncer, NULL, sync_map, l);
    if (rc)
        return err_errno(e, rc, "starting a thread");
    l->stage = SYNCING;
    return 1;
}

/* The map is stable: it counts. */
static int
end(struct ledger *l, struct err *e)
{
    struct counters *c = l->counters;
    eventfd_t n;

    if (eventfd_read(l->synced_fd, &n))
        return 0;
    pthread_join(l->syncer, NULL);
    l->stage = IDLE;
    if (l->sync_rc) {
        *e = l->sync_err;
        return -1;
    }
    c->done += l->flushed_sums.done;
    c->written += l->flushed_sums.written;
    c->zero += l->flushed_sums.zero;
    c->same += l->flushed_sums.same;
    return 1;
}

static int
step(struct ledger *l, bool now, struct err *e)
{
    if (l->stage == SYNCING)
        return end(l, e);
    if (l->stage == FLUSHING) {
        switch (target_flushed(l->target, e)) {
        case FLUSH_RUNS: return 0;
        case FLUSH_DONE: return enter(l, e);
        default: l->stage = IDLE; return -1;
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
        l->stage = IDLE;
        l->open.n = 0;
    }
    return rc;
}
