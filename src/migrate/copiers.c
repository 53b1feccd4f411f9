/* Runs the copiers of a round: several disks at a time, each behind its own
 * NBD server, each watched by its lines and its exit code, which must agree
 * with each other and with the map. */
#include "migrate/machine.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define LINE_BYTES_MAX  65536 /* of a copier's line */
#define TRIES_MAX       6     /* of a disk, without progress in between */
#define PAUSE_MIN_MS    500
#define STOP_TIMEOUT_MS 60000 /* to drain, flush and say so */
#define EXIT_TIMEOUT_MS 60000 /* between its last line and its end */
/* Without a line it hangs: while it opens the disk and asks what is allocated
 * it says nothing, after that it does twice a second. */
#define OPEN_SILENCE_MS (3600 * 1000)
#define COPY_SILENCE_MS (600 * 1000)
#define POLL_MS         200

/* The copier's exit codes. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_REQUEST = 2, EXIT_STOPPED = 3 };

enum state { WAITING, RUNNING, PAUSING, FINISHED };

struct copier {
    struct copy_job *job;
    enum state state;
    struct cloud_export replica;
    struct proc proc;
    struct str line; /* read so far, without its end */
    int64_t heard;   /* clock_ms() of its last line */
    int64_t silence; /* how long it may be silent */
    int64_t again;   /* PAUSING: clock_ms() when to go on */
    int tries;
    int64_t best;                   /* most of `done` seen */
    int64_t read0, written0, zero0; /* counters of the disk before this run */
    int64_t ms, bytes; /* of the last progress line, for the rate */
    char result[16];   /* of the end line; "": it has not come */
    struct err said;   /* what the end line said was wrong */
};

struct pool {
    struct machine *m;
    struct copier *c;
    size_t n;
    int64_t stop_at; /* clock_ms() when stopping began */
    bool stopping;   /* let the running ones end, start none */
    struct err why;  /* the first error */
};

static void
request_text(const struct machine *m, const struct copier *c,
             const char *identity, struct str *q)
{
    const struct copy_job *j = c->job;
    const struct plan *p = &j->plan;
    struct source_disk source = {
        .server = m->server,
        .port = m->port,
        .thumbprint = vs_thumbprint(m->vs),
        .vm = m->moref,
        .snapshot = m->r->active_snapshot,
        .path = j->frozen->path,
    };

    str_add(q, "v2c-copy 1\n");
    m->o->source->describe(m->o->config, &source, q);
    str_addf(q, "target.uri %s\n", c->replica.uri);
    str_addf(q, "target.zeroed %s\n", j->d->blank ? "yes" : "no");
    str_addf(q, "target.id %s\n", identity);
    str_addf(q, "disk.id %s\n", *j->d->uuid ? j->d->uuid : j->d->address);
    str_addf(q, "disk.size %" PRId64 "\n", j->d->capacity);
    str_addf(q, "map disk-%" PRId64 ".map\n", j->d->key);
    str_addf(q, "plan.id %s\n", p->id);
    str_addf(q, "plan %s\n", p->mode);
    if (p->uncopied && !strcmp(p->mode, "list"))
        str_add(q, "uncopied yes\n");
    if (m->o->spec->migration.readers > 0)
        str_addf(q, "readers %" PRId64 "\n", m->o->spec->migration.readers);
    for (size_t i = 0; i < p->areas.n; i++)
        str_addf(q, "extent %" PRIu64 " %" PRIu64 "\n", p->areas.p[i].start,
                 p->areas.p[i].length);
    str_add(q, "end\n");
}

static int
spawn(struct machine *m, struct copier *c, struct err *e)
{
    defer_free char *log = xasprintf("%s/disk-%" PRId64 ".log",
                                     store_dir(m->store), c->job->d->key);
    defer_free char *library = m->o->source->environment(m->o->config);
    const char *const argv[] = { m->o->copier, "copy", NULL };
    const char *const env[] = { library, NULL };
    defer_close int fd =
        open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct proc_opts opts = {
        .argv = argv,
        .env = env,
        .in = PROC_PIPE,
        .out = PROC_PIPE,
        .err = fd,
        .cwd = store_dir(m->store),
        .death_signal = SIGTERM,
    };

    if (fd < 0)
        return err_errno(e, errno, "opening %s", log);
    return proc_start(&opts, &c->proc, e);
}

static int
start(struct machine *m, struct copier *c, struct err *e)
{
    struct disk_record *d = c->job->d;
    defer_free char *socket = xasprintf("disk-%" PRId64 ".sock", d->key);
    defer_free char *identity = NULL;
    defer(str_fini) struct str q = STR_INIT;

    c->read0 = d->bytes_read;
    c->written0 = d->bytes_written;
    c->zero0 = d->bytes_zero;
    c->ms = c->bytes = 0;
    c->heard = clock_ms();
    c->silence = OPEN_SILENCE_MS;
    *c->result = '\0';
    identity = m->o->cloud->identity(m->cloud, c->job->replica, e);
    if (!identity)
        return -1;
    if (m->o->cloud->serve_disk(m->cloud, c->job->replica, store_dir(m->store),
                                socket, &c->replica, e))
        return -1;
    c->state = RUNNING;
    if (spawn(m, c, e))
        return -1;
    request_text(m, c, identity, &q);
    /* EPIPE: it died; its exit code tells more than our write could */
    (void)!fs_write_all(c->proc.in, str_text(&q), q.n);
    explicit_bzero(q.p, q.n);
    close(c->proc.in);
    c->proc.in = -1;
    return 0;
}

static void
take_counters(struct copier *c, const json_t *j)
{
    struct disk_record *d = c->job->d;
    int64_t ms = json_num(j, "ms", 0), read = json_num(j, "read", 0);
    int64_t done = json_num(j, "done", 0), total = json_num(j, "total", 0);

    d->bytes_read = c->read0 + read;
    d->bytes_written = c->written0 + json_num(j, "written", 0);
    d->bytes_zero = c->zero0 + json_num(j, "zero", 0);
    d->round_done = done;
    d->round_total = total;
    d->progress = total ? (double)done * 100 / (double)total : 0;
    if (done > c->best) {
        c->best = done;
        c->tries = 0;
    }
    if (ms > c->ms) {
        double now =
            (double)(read - c->bytes) / 1048.576 / (double)(ms - c->ms);

        d->speed = c->ms ? d->speed * 0.7 + now * 0.3 : now;
        d->eta_seconds =
            d->speed > 0.01
                ? (int64_t)((double)(total - done) / 1048576 / d->speed)
                : -1;
        c->ms = ms;
        c->bytes = read;
    }
}

static int
on_open(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    struct disk_record *d = c->job->d;

    log_info("%s, %s%s, %" PRId64 " of %" PRId64 " KiB to copy",
             json_str(j, "transport", "?"), json_str(j, "mode", "?"),
             json_flag(j, "resumed", false) ? " resumed" : "",
             json_num(j, "todo", 0) >> 10, json_num(j, "plan", 0) >> 10);
    /* The copier says "open" when its marks are stable: from here on the map
     * owes whatever changed before this snapshot. */
    if (!d->base_copied)
        record_set(&d->marked_change_id, c->job->frozen->change_id);
    return machine_save(m, e);
}

static int
on_line(struct machine *m, struct copier *c, const char *text, size_t n,
        struct err *e)
{
    defer_json json_t *j = json_parse(text, n, "the copier's line", e);
    const char *event = json_str(j, "event", "");

    if (!j)
        return -1;
    c->heard = clock_ms();
    if (!strcmp(event, "open")) {
        c->silence = COPY_SILENCE_MS;
        return on_open(m, c, j, e);
    }
    if (!strcmp(event, "warn"))
        log_warn("%s", json_str(j, "text", ""));
    else if (!strcmp(event, "progress"))
        take_counters(c, j);
    else if (!strcmp(event, "end")) {
        take_counters(c, j);
        snprintf(c->result, sizeof c->result, "%s",
                 json_str(j, "result", "failed"));
        err_clear(&c->said);
        if (strcmp(c->result, "done")) {
            err_set(&c->said, err_class_parse(json_str(j, "class", "bug")),
                    "%s", json_str(j, "error", c->result));
            c->said.code = (int)json_num(j, "code", 0);
        }
    }
    return 0;
}

/* 1: more may come; 0: the pipe ended. */
static int
read_lines(struct machine *m, struct copier *c, struct err *e)
{
    char buf[8192], *nl;
    ssize_t n = read(c->proc.out, buf, sizeof buf);

    if (n < 0)
        return errno == EINTR ? 1 : 0;
    if (n == 0)
        return 0;
    str_addn(&c->line, buf, (size_t)n);
    while (c->line.p && (nl = memchr(c->line.p, '\n', c->line.n))) {
        size_t used = (size_t)(nl - c->line.p) + 1;

        if (on_line(m, c, c->line.p, used - 1, e))
            return -1;
        memmove(c->line.p, c->line.p + used, c->line.n - used);
        c->line.n -= used;
    }
    if (c->line.failed)
        return err_set(e, ERR_BUG, "the copier's line has no end");
    return 1;
}

/* The map is the last word: a copier that says "done" over a map that has
 * anything left is a bug, and nothing advances. */
static int
prove(struct machine *m, const struct copier *c, struct err *e)
{
    defer_free char *path = plan_map_path(m, c->job->d);
    const struct plan *p = &c->job->plan;
    struct map_summary s;
    uint64_t first = 0;
    int covers;

    if (map_summary(path, &s, e))
        return -1;
    if (strcmp(s.head.plan, p->id))
        return err_set(e, ERR_BUG, "the map is of the plan '%s', not '%s'",
                       s.head.plan, p->id);
    if (s.dirty || s.torn || s.unknown)
        return err_set(e, ERR_BUG,
                       "the copier ended well, but %" PRIu64
                       " blocks of the map are not proven",
                       s.dirty + s.torn + s.unknown);
    covers = map_covers(path, &p->areas, &first, e);
    if (covers == 0)
        return err_set(e, ERR_BUG, "the block at %" PRIu64 " was not copied",
                       first);
    return covers < 0 ? -1 : 0;
}

static int
disk_done(struct machine *m, struct copier *c, struct err *e)
{
    struct disk_record *d = c->job->d;

    if (prove(m, c, e))
        return -1;
    record_set(&d->change_id, c->job->frozen->change_id);
    record_set(&d->plan, "");
    if (d->base_copied)
        d->delta_rounds++;
    d->base_copied = true;
    d->round = m->r->round;
    d->progress = 100;
    d->eta_seconds = 0;
    d->speed = 0;
    c->state = FINISHED;
    log_info("up to date: %" PRId64 " KiB", d->round_total >> 10);
    return machine_save(m, e);
}

/* What the exit code and the last line say together. */
static void
judge(struct copier *c, int status, struct err *e)
{
    char how[64];

    proc_describe(status, how, sizeof how);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE &&
        !strcmp(c->result, "done"))
        err_clear(e);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STOPPED &&
             !strcmp(c->result, "stopped"))
        err_set(e, ERR_STOPPED, "stopped");
    else if (WIFEXITED(status) && WEXITSTATUS(status) != EXIT_DONE &&
             !strcmp(c->result, "failed"))
        *e = c->said;
    else if (WIFSIGNALED(status)) /* crashed or was killed: the map knows */
        err_set(e, ERR_NET, "the copier ended with %s", how);
    else
        err_set(e, ERR_BUG, "the copier ended with %s and said '%s'", how,
                c->result);
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
    judge(c, status, &e);
    /* somebody else stopped it: that is no wish of ours */
    if (e.class == ERR_STOPPED && !p->stopping)
        e.class = ERR_NET;
    /* an image that was not closed well is not proof of anything */
    if (cloud_unserve(&c->replica, &closing) && !e.class)
        e = closing;
    if (!e.class)
        disk_done(p->m, c, &e);
    if (!e.class)
        return;
    c->state = FINISHED;
    /* stopped as asked, or cut down on the way: no error of the disk's */
    if (p->stopping && (e.class == ERR_STOPPED || err_retryable(&e)))
        return;
    if (err_retryable(&e) && ++c->tries < TRIES_MAX && !p->stopping) {
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
            (now - c->heard < c->silence &&
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

        if (c->state != WAITING &&
            (c->state != PAUSING || clock_ms() < c->again))
            continue;
        running++;
        log_disk(c->job->d->name);
        if (start(p->m, c, &e)) {
            give_up(p, c, &e);
            stop_all(p);
        }
    }
}

static void
summarize(struct machine *m)
{
    int64_t done = 0, total = 0;
    double speed = 0;

    for (size_t i = 0; i < m->r->disks.n; i++) {
        done += m->r->disks.p[i].round_done;
        total += m->r->disks.p[i].round_total;
        speed += m->r->disks.p[i].speed;
    }
    m->r->progress = total ? (double)done * 100 / (double)total : 0;
    m->r->speed = speed;
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
        more = read_lines(p->m, &p->c[i], &e);
        if (more == 0)
            ended(p, &p->c[i]);
        else if (more < 0)
            give_up(p, &p->c[i], &e);
    }
    log_disk(NULL);
    return true;
}

int
copiers_run(struct machine *m, struct copy_jobs *jobs, struct err *e)
{
    struct pool p = { .m = m, .n = jobs->n };
    struct pollfd *fds = xcalloc(jobs->n, sizeof *fds);
    struct err tick;

    p.c = xcalloc(jobs->n, sizeof *p.c);
    for (size_t i = 0; i < p.n; i++)
        p.c[i] = (struct copier){
            .job = &jobs->p[i],
            .proc = PROC_INIT,
            .replica = { .server = PROC_INIT },
            .line = { .max = LINE_BYTES_MAX },
            .best = -1,
        };
    do {
        if (machine_stopping(m) || p.why.class)
            stop_all(&p);
        kill_hung(&p);
        start_some(&p);
        summarize(m);
        if (machine_tick(m, &tick) && !p.why.class)
            p.why = tick;
    } while (step(&p, fds));
    for (size_t i = 0; i < p.n; i++)
        str_fini(&p.c[i].line);
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
