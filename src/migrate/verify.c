/* The replicas are read back, as far as the policy says: whatever can be
 * while the source still runs, the rest once the last round is copied. */
#include "migrate/copier.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/random.h>

#define MENDS_MAX 3 /* of what differs, before the storage is given up */

/* One sample for the whole migration: a block that was chosen and written
 * again is read again, and the same command goes on with the same. */
static int
choose_seed(struct machine *m, struct err *e)
{
    uint32_t seed = 0;

    if (m->r->verify_seed)
        return 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return err_errno(e, errno, "choosing a sample");
    m->r->verify_seed = (int64_t)seed + 1;
    return machine_save(m, e);
}

/* Storage that was wrong once is not trusted by a sample. */
static int64_t
sample_of(const struct machine *m, const struct disk_record *d)
{
    const __typeof__(m->o->spec->migration) *s = &m->o->spec->migration;

    return s->verify == VERIFY_FULL || d->different ? 100 : s->verify_sample;
}

/* Reads all replicas back.  jobs says what came of it. */
static int
read_back(struct machine *m, struct copy_jobs *jobs,
          bool (*enough)(struct machine *m), struct err *e)
{
    if (choose_seed(m, e))
        return -1;
    for (size_t i = 0; i < m->r->disks.n; i++) {
        struct disk_record *d = &m->r->disks.p[i];

        vec_push(jobs, (struct copy_job){
                           .kind = &kind_verify,
                           .d = d,
                           .replica = round_replica(m, d->key),
                           .sample = sample_of(m, d),
                       });
    }
    return copiers_run(m, jobs, enough, e);
}

static void
jobs_fini(struct copy_jobs *jobs)
{
    vec_fini(jobs);
}

/* What differed before and does no longer was mended. */
static void
note_mended(struct machine *m, const struct copy_job *j)
{
    struct disk_record *d = j->d;

    if (!j->ended || j->different || j->unproven || d->mended == d->different)
        return;
    log_disk(d->name);
    log_info("mended: %" PRId64 " KiB that differed are as they should be",
             (d->different - d->mended) >> 10);
    log_disk(NULL);
    machine_event(m, "mended",
                  json_pack("{s:s, s:I}", "disk", d->name, "bytes",
                            (json_int_t)(d->different - d->mended)));
    d->mended = d->different;
}

/* A difference that a verifier has found and marked, before it was cut off,
 * is for the next one a block that is owed. */
static bool
is_bad(const struct copy_job *j)
{
    return j->different || (j->unproven && j->d->mended < j->d->different);
}

/* One look at all replicas.  *bad: the first disk that differs, or NULL. */
static int
look(struct machine *m, bool (*enough)(struct machine *m),
     const struct disk_record **bad, struct err *e)
{
    defer(jobs_fini) struct copy_jobs jobs = { 0 };

    *bad = NULL;
    if (read_back(m, &jobs, enough, e))
        return -1;
    for (size_t i = 0; i < jobs.n; i++) {
        note_mended(m, &jobs.p[i]);
        if (is_bad(&jobs.p[i]) && !*bad)
            *bad = jobs.p[i].d;
    }
    return machine_save(m, e);
}

/* Looks, mends by `mend`, looks again. */
static int
until_good(struct machine *m, int (*mend)(struct machine *m, struct err *e),
           struct err *e)
{
    const struct disk_record *bad;

    for (int tries = 0;; tries++) {
        if (look(m, NULL, &bad, e))
            return -1;
        if (!bad)
            return 0;
        if (tries == MENDS_MAX)
            return err_set(e, ERR_DAMAGED,
                           "disk %s: %s does not keep what is written to it: "
                           "it still differs after %d times; check that "
                           "storage, or move the replica to another",
                           bad->name, bad->target, MENDS_MAX);
        log_warn("disk %s: what differs is copied again", bad->name);
        if (mend(m, e))
            return -1;
    }
}

/* By a round like any other: it copies whatever the map owes. */
static int
mend_by_round(struct machine *m, struct err *e)
{
    if (!*m->r->active_snapshot && limits_wait(m, e))
        return -1;
    return round_begin(m, e) || round_copy(m, e) || round_end(m, e) ? -1 : 0;
}

/* From the last snapshot, which holds what the source will stay at. */
static int
mend_from_last(struct machine *m, struct err *e)
{
    m->r->round++;
    return round_begin(m, e) || round_copy(m, e) ? -1 : 0;
}

int
verify_before(struct machine *m, struct err *e)
{
    if (m->o->spec->migration.verify == VERIFY_NONE)
        return 0;
    return until_good(m, mend_by_round, e);
}

int
verify_last(struct machine *m, struct err *e)
{
    return until_good(m, mend_from_last, e);
}

int
verify_meanwhile(struct machine *m, bool (*enough)(struct machine *m),
                 struct err *e)
{
    const struct disk_record *bad;

    if (m->o->spec->migration.verify == VERIFY_NONE)
        return 0;
    return look(m, enough, &bad, e);
}
