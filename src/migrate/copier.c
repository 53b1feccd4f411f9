/* One copier: its request, its lines, its end, which must agree with each
 * other and with the map. */
#include "migrate/copier.h"
#include "base/clock.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/wait.h>

/* Without a line it hangs: while it opens the disk and asks what is allocated
 * it says nothing, after that it does twice a second. */
#define OPEN_SILENCE_MS (3600 * 1000)
#define COPY_SILENCE_MS (600 * 1000)

/* The copier's exit codes. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_REQUEST = 2, EXIT_STOPPED = 3 };

static void
request_text(const struct machine *m, const struct copier *c,
             const char *identity, struct str *q)
{
    const struct copy_job *j = c->job;
    const struct round_plan *p = &j->plan;
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

int
copier_start(struct machine *m, struct copier *c, struct err *e)
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
    c->doubt = false;
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
    else if (!strcmp(event, "doubt"))
        c->doubt = true;
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

int
copier_read(struct machine *m, struct copier *c, struct err *e)
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
    const struct round_plan *p = &c->job->plan;
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

int
copier_done(struct machine *m, struct copier *c, struct err *e)
{
    struct disk_record *d = c->job->d;

    if (prove(m, c, e))
        return -1;
    record_set(&d->change_id, c->job->frozen->change_id);
    record_set(&d->plan, "");
    record_set(&d->doubt, "");
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

void
copier_judge(const struct copier *c, int status, struct err *e)
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
