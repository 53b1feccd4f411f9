/* Runs the copiers of a round, several disks at a time. */
#include "migrate/copier.h"
#include "base/clock.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

#define LINE_BYTES_MAX  65536 /* of a copier's line */
#define TRIES_MAX       6     /* of a disk, without progress in between */
#define PAUSE_MIN_MS    500
#define STOP_TIMEOUT_MS 60000 /* to drain, flush and say so */
#define EXIT_TIMEOUT_MS 60000 /* between its last line and its end */
#define POLL_MS         200
/* It says something every five seconds at least; what takes longer than it
 * should in VDDK or on the way it finds out by itself. */
#define SILENCE_MS 60000
#define FULL_MS    20000 /* until a copier whose flush found no room goes on */

struct pool {
    struct machine *m;
    struct copier *c;
    size_t n;
    int64_t stop_at; /* clock_ms() when stopping began */
    bool stopping;   /* let the running ones end, start none */
    struct err why;  /* the first error */
};

/* For as long as it takes: what is there is in the map. */
static void
wait_for_room(struct pool *p, struct copier *c, const struct err *e)
{
    c->state = PAUSING;
    c->again = clock_ms() + FULL_MS;
    log_warn("%s; trying again in %d s", e->msg, FULL_MS / 1000);
    copier_full(p->m, c, e->msg);
}

/* The copier ended: let its server close the image, and see what it means. */
static void
ended(struct pool *p, struct copier *c)
{
    struct err e = ERR_INIT, closing = ERR_INIT;
    int status = 0;

    log_disk(c->job->d->name);
    if (!proc_wait(&c->proc, EXIT_TIMEOUT_MS, &status)) {
        log_warn("the copier does not end; killing it");
        kill(c->proc.pid, SIGKILL);
        proc_wait(&c->proc, -1, &status);
    }
    proc_close(&c->proc);
    slot_release(&c->claim);
    copier_judge(c, status, &e);
    /* somebody else stopped it: that is no wish of ours */
    if (e.class == ERR_STOPPED && !p->stopping)
        e.class = ERR_NET;
    /* an image that was not closed well is not proof of anything */
    if (cloud_unserve(&c->replica, &closing) && !e.class)
        e = closing;
    if (!e.class)
        c->job->kind->done(p->m, c, &e);
    if (!e.class)
        return;
    c->state = FINISHED;
    /* stopped as asked, or cut down on the way: no error of the disk's */
    if (p->stopping &&
        (e.class == ERR_STOPPED || e.class == ERR_NOSPACE || err_retryable(&e)))
        return;
    /* what the map holds contradicts what tracking says */
    if (c->doubt && !round_plan_doubt(p->m, c->job, e.msg, &closing)) {
        c->state = PAUSING;
        c->again = clock_ms();
        return;
    }
    if (e.class == ERR_NOSPACE && !p->stopping) {
        wait_for_room(p, c, &e);
        return;
    }
    /* its path, its snapshot: the step looks at the VM again */
    if (e.class == ERR_NOTFOUND) {
        e.class = ERR_BUSY;
        err_wrap(&e, "reading the VM's configuration again");
    } else if (err_retryable(&e) && ++c->tries < TRIES_MAX && !p->stopping) {
        c->state = PAUSING;
        c->again = clock_ms() + (PAUSE_MIN_MS << c->tries);
        log_warn("%s; continuing from the map", e.msg);
        return;
    }
    if (!p->why.class) {
        p->why = e;
        err_wrap(&p->why, "disk %s", c->job->d->name);
    }
}

static void
stop_all(struct pool *p)
{
    for (size_t i = 0; i < p->n && !p->stopping; i++)
        if (p->c[i].state == RUNNING && p->c[i].proc.pid)
            kill(p->c[i].proc.pid, SIGTERM);
    if (!p->stopping)
        p->stop_at = clock_ms();
    p->stopping = true;
}

/* One that hangs, in a library or in a dead file system, is killed; then its
 * pipe ends, and the map tells how far it was. */
static void
kill_hung(struct pool *p)
{
    int64_t now = clock_ms();

    for (size_t i = 0; i < p->n; i++) {
        struct copier *c = &p->c[i];

        if (c->state != RUNNING || !c->proc.pid ||
            (now - c->heard < SILENCE_MS &&
             !(p->stopping && now - p->stop_at > STOP_TIMEOUT_MS)))
            continue;
        log_disk(c->job->d->name);
        log_warn("the copier hangs; killing it");
        c->heard = now;
        kill(c->proc.pid, SIGKILL);
    }
    log_disk(NULL);
}

/* The error is remembered, the copier ended by force: the map holds. */
static void
give_up(struct pool *p, struct copier *c, struct err *e)
{
    struct err ignored;

    if (!p->why.class) {
        p->why = *e;
        err_wrap(&p->why, "disk %s", c->job->d->name);
    }
    proc_stop(&c->proc, SIGTERM, STOP_TIMEOUT_MS);
    slot_release(&c->claim);
    cloud_unserve(&c->replica, &ignored);
    c->state = FINISHED;
}

static void
start_some(struct pool *p)
{
    size_t limit = (size_t)p->m->o->spec->migration.parallel_disks;
    size_t running = 0;

    for (size_t i = 0; i < p->n; i++)
        running += p->c[i].state == RUNNING;
    for (size_t i = 0; i < p->n && running < limit && !p->stopping; i++) {
        struct copier *c = &p->c[i];
        struct err e = ERR_INIT;
        int rc;

        if (c->state != WAITING &&
            (c->state != PAUSING || clock_ms() < c->again))
            continue;
        running++; /* or in the queue, in order to */
        log_disk(c->job->d->name);
        /* who reads back leaves the source alone */
        rc = c->job->kind->read_back ? 1 : limits_take(p->m, c, &e);
        if (rc < 0 || (rc > 0 && copier_start(p->m, c, &e))) {
            give_up(p, c, &e);
            stop_all(p);
        }
    }
    log_disk(NULL);
}

static void
tell_full(struct pool *p)
{
    for (size_t i = 0; i < p->n; i++) {
        log_disk(p->c[i].job->d->name);
        copier_still_full(p->m, &p->c[i]);
    }
    log_disk(NULL);
}

static void
summarize(const struct pool *p)
{
    int64_t done = 0, total = 0;
    double speed = 0;

    for (size_t i = 0; i < p->n; i++) {
        done += p->c[i].done;
        total += p->c[i].total;
        speed += p->c[i].job->d->speed;
    }
    p->m->r->progress = total ? (double)done * 100 / (double)total : 0;
    p->m->r->speed = speed;
}

/* Waits for lines of the running ones.  False when none runs or waits. */
static bool
step(struct pool *p, struct pollfd *fds)
{
    bool open = false;

    for (size_t i = 0; i < p->n; i++) {
        struct copier *c = &p->c[i];

        fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
        if (c->state == RUNNING)
            fds[i].fd = c->proc.out;
        open |= c->state == RUNNING || (c->state != FINISHED && !p->stopping);
    }
    if (!open)
        return false;
    poll(fds, p->n, POLL_MS);
    for (size_t i = 0; i < p->n; i++) {
        struct err e = ERR_INIT;
        int more;

        if (fds[i].fd < 0 || !fds[i].revents)
            continue;
        log_disk(p->c[i].job->d->name);
        more = copier_read(p->m, &p->c[i], &e);
        if (more == 0)
            ended(p, &p->c[i]);
        else if (more < 0)
            give_up(p, &p->c[i], &e);
    }
    log_disk(NULL);
    return true;
}

int
copiers_run(struct machine *m, struct copy_jobs *jobs,
            bool (*enough)(struct machine *m), struct err *e)
{
    struct pool p = { .m = m, .n = jobs->n };
    struct pollfd *fds = xcalloc(jobs->n, sizeof *fds);
    struct err tick;

    if ((!jobs->n || !jobs->p[0].kind->read_back) &&
        limits_prepare(m, jobs, e)) {
        free(fds);
        return -1;
    }
    p.c = xcalloc(jobs->n, sizeof *p.c);
    for (size_t i = 0; i < p.n; i++) {
        record_set(&jobs->p[i].d->paused, ""); /* left by a kill */
        p.c[i] = (struct copier){
            .job = &jobs->p[i],
            .proc = PROC_INIT,
            .replica = { .server = PROC_INIT },
            .line = { .max = LINE_BYTES_MAX },
            .best = -1,
            .claim = SLOT_INIT,
            .total = jobs->p[i].d->round_total,
        };
    }
    do {
        if (machine_stopping(m) || p.why.class || (enough && enough(m)))
            stop_all(&p);
        kill_hung(&p);
        start_some(&p);
        tell_full(&p);
        summarize(&p);
        if (machine_tick(m, &tick) && !p.why.class)
            p.why = tick;
    } while (step(&p, fds));
    for (size_t i = 0; i < p.n; i++) {
        slot_release(&p.c[i].claim);
        record_set(&p.c[i].job->d->waiting, "");
        record_set(&p.c[i].job->d->paused, "");
        str_fini(&p.c[i].line);
    }
    limits_release(m);
    free(p.c);
    free(fds);
    log_disk(NULL);
    if (p.why.class) {
        *e = p.why;
        return -1;
    }
    if (machine_stopping(m))
        return err_set(e, ERR_STOPPED, "stopped");
    return 0;
}
