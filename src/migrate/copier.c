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

#define TELL_WAIT_MS 30000  /* between two lines about a call that lasts */
#define TELL_FULL_MS 300000 /* about a full target */
#define TELL_DOWN_MS 60000  /* the same, while the source is down */

/* The copier's exit codes. */
enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_REQUEST = 2,
    EXIT_STOPPED = 3,
    EXIT_DIFFERS = 4,
};

void
copier_request(const struct machine *m, const struct copier *c,
               const char *identity, struct str *q)
{
    const struct disk_record *d = c->job->d;

    str_addf(q, "target.uri %s\n", c->replica.uri);
    str_addf(q, "target.id %s\n", identity);
    str_addf(q, "disk.id %s\n", *d->uuid ? d->uuid : d->address);
    str_addf(q, "disk.size %" PRId64 "\n", d->capacity);
    str_addf(q, "map disk-%" PRId64 ".map\n", d->key);
    if (m->o->spec->migration.readers > 0)
        str_addf(q, "readers %" PRId64 "\n", m->o->spec->migration.readers);
    if (m->o->spec->migration.copier_timeout > 0)
        str_addf(q, "timeout %" PRId64 "\n",
                 m->o->spec->migration.copier_timeout);
}

static void
copy_request(const struct machine *m, const struct copier *c,
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

    m->o->source->describe(m->o->config, &source, q);
    limits_describe(m, j->d, q);
    copier_request(m, c, identity, q);
    /* who does not trust the zeroes that are asked for, trusts no others */
    str_addf(q, "target.zeroed %s\n",
             j->d->blank && c->replica.zeroes != ZEROES_WRITE ? "yes" : "no");
    str_addf(q, "target.zeroes %s\n", zeroes_names[c->replica.zeroes]);
    str_addf(q, "plan.id %s\n", p->id);
    str_addf(q, "plan %s\n", p->mode);
    if (p->uncopied && !strcmp(p->mode, "list"))
        str_add(q, "uncopied yes\n");
    if (p->listed)
        str_add(q, "listed yes\n");
    for (size_t i = 0; i < p->areas.n; i++)
        str_addf(q, "extent %" PRIu64 " %" PRIu64 "\n", p->areas.p[i].start,
                 p->areas.p[i].length);
}

static int
spawn(struct machine *m, struct copier *c, struct err *e)
{
    defer_free char *log = xasprintf("%s/disk-%" PRId64 ".log",
                                     store_dir(m->store), c->job->d->key);
    defer_free char *library = m->o->source->environment(m->o->config);
    const char *const argv[] = { m->o->copier, c->job->kind->verb, NULL };
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
        /* should we be killed, it keeps its slot; a verifier has none */
        .hold = c->claim.taken ? c->claim.fd : 0,
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

    record_set(&d->stage, c->job->kind->read_back ? steps[STEP_verifying].name
                                                  : steps[m->r->stage].name);
    c->read0 = d->bytes_read;
    c->written0 = d->bytes_written;
    c->zero0 = d->bytes_zero;
    c->ms = c->bytes = 0;
    c->heard = clock_ms();
    c->doubt = false;
    *c->result = '\0';
    identity = m->o->cloud->identity(m->cloud, c->job->replica, e);
    if (!identity)
        return -1;
    if (m->o->cloud->serve_disk(m->cloud, c->job->replica, store_dir(m->store),
                                socket, c->job->kind->read_back, &c->replica,
                                e))
        return -1;
    c->state = RUNNING;
    if (spawn(m, c, e))
        return -1;
    str_add(&q, "v2c-copy 1\n");
    c->job->kind->request(m, c, identity, &q);
    str_add(&q, "end\n");
    /* EPIPE: it died; its exit code tells more than our write could */
    (void)!fs_write_all(c->proc.in, str_text(&q), q.n);
    explicit_bzero(q.p, q.n);
    close(c->proc.in);
    c->proc.in = -1;
    return 0;
}

static void
full_event(struct machine *m, const struct copier *c, const char *name)
{
    const struct disk_record *d = c->job->d;

    machine_event(m, name,
                  json_pack("{s:s, s:s, s:I, s:I}", "disk", d->name, "why",
                            "nospace", "left",
                            (json_int_t)(d->round_total - d->round_done), "ms",
                            (json_int_t)(clock_ms() - c->full)));
}

/* The source may be down meanwhile, and somebody waits for it. */
static void
say_full(struct machine *m, struct copier *c)
{
    c->told = clock_ms();
    if (steps[m->r->stage].down)
        log_warn("%s; the source has been down for %" PRId64 " s",
                 c->job->d->paused, record_downtime(m->r) / 1000);
    else
        log_warn("%s; it goes on by itself once there is room",
                 c->job->d->paused);
}

void
copier_full(struct machine *m, struct copier *c, const char *why)
{
    struct disk_record *d = c->job->d;

    record_set(&d->paused, why);
    d->speed = 0;
    if (c->full)
        return;
    c->full = clock_ms();
    full_event(m, c, "paused");
    say_full(m, c);
}

void
copier_still_full(struct machine *m, struct copier *c)
{
    int64_t gap = steps[m->r->stage].down ? TELL_DOWN_MS : TELL_FULL_MS;

    if (c->full && clock_ms() - c->told >= gap)
        say_full(m, c);
}

static void
room_again(struct machine *m, struct copier *c)
{
    if (!c->full)
        return;
    full_event(m, c, "resumed");
    log_info("the target has room again");
    c->full = 0;
    record_set(&c->job->d->paused, "");
}

void
copier_progress(struct machine *m, struct copier *c, const json_t *j)
{
    struct disk_record *d = c->job->d;
    int64_t ms = json_num(j, "ms", 0), read = json_num(j, "read", 0);

    c->done = json_num(j, "done", 0);
    c->total = json_num(j, "total", 0);
    d->progress = c->total ? (double)c->done * 100 / (double)c->total : 0;
    if (c->done > c->best) {
        if (c->best >= 0)
            room_again(m, c);
        c->best = c->done;
        c->tries = 0;
    }
    if (ms > c->ms) {
        double now =
            (double)(read - c->bytes) / 1048.576 / (double)(ms - c->ms);

        d->speed = c->ms ? d->speed * 0.7 + now * 0.3 : now;
        d->eta_seconds =
            d->speed > 0.01
                ? (int64_t)((double)(c->total - c->done) / 1048576 / d->speed)
                : -1;
        c->ms = ms;
        c->bytes = read;
    }
}

static void
copy_counters(struct machine *m, struct copier *c, const json_t *j)
{
    struct disk_record *d = c->job->d;

    d->bytes_read = c->read0 + json_num(j, "read", 0);
    d->bytes_written = c->written0 + json_num(j, "written", 0);
    d->bytes_zero = c->zero0 + json_num(j, "zero", 0);
    d->round_done = json_num(j, "done", 0);
    d->round_total = json_num(j, "total", 0);
    copier_progress(m, c, j);
}

static int
copy_open(struct machine *m, struct copier *c, const json_t *j, struct err *e)
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
on_open(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    return c->job->kind->open(m, c, j, e);
}

static int
on_end(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    (void)e;
    c->job->kind->counters(m, c, j);
    snprintf(c->result, sizeof c->result, "%s",
             json_str(j, "result", "failed"));
    err_clear(&c->said);
    if (strcmp(c->result, "done")) {
        err_set(&c->said, err_class_parse(json_str(j, "class", "bug")), "%s",
                json_str(j, "error", c->result));
        c->said.code = (int)json_num(j, "code", 0);
    }
    return 0;
}

static int
on_progress(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    (void)e;
    c->job->kind->counters(m, c, j);
    return 0;
}

static int
on_warn(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    (void)m, (void)c, (void)e;
    log_warn("%s", json_str(j, "text", ""));
    return 0;
}

static int
on_doubt(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    (void)j;
    /* at once: whoever dies now, the next run has to know */
    record_set(&c->job->d->doubt, "a block differs that was not reported");
    c->doubt = true;
    return machine_save(m, e);
}

static int
on_waiting(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    (void)m, (void)e;
    if (clock_ms() - c->told < TELL_WAIT_MS)
        return 0;
    c->told = clock_ms();
    log_info("%s: no answer for %" PRId64 " s yet", json_str(j, "for", "?"),
             json_num(j, "ms", 0) / 1000);
    return 0;
}

static int
on_reconnected(struct machine *m, struct copier *c, const json_t *j,
               struct err *e)
{
    int64_t ms = json_num(j, "ms", 0);

    (void)e;
    log_info("connected to the source again after %" PRId64 ".%" PRId64 " s",
             ms / 1000, ms / 100 % 10);
    machine_event(
        m, "reconnected",
        json_pack("{s:s, s:I}", "disk", c->job->d->name, "ms", (json_int_t)ms));
    return 0;
}

static int
on_paused(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    defer_free char *why =
        xasprintf("the target is full, up to %" PRId64 " MiB still to come",
                  (json_num(j, "left", 0) >> 20) + 1);

    copier_full(m, c, why);
    return machine_save(m, e);
}

static int
on_resumed(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    (void)j;
    room_again(m, c);
    return machine_save(m, e);
}

static int
on_short(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    (void)c, (void)e;
    limits_short(m, json_num(j, "in_flight", 0));
    return 0;
}

static const struct {
    const char *event;
    int (*handle)(struct machine *m, struct copier *c, const json_t *j,
                  struct err *e);
} events[] = {
    { "open", on_open },       { "progress", on_progress },
    { "warn", on_warn },       { "waiting", on_waiting },
    { "paused", on_paused },   { "reconnected", on_reconnected },
    { "resumed", on_resumed }, { "doubt", on_doubt },
    { "end", on_end },         { "short_of_buffers", on_short },
};

/* Whatever it says, it lives. */
static int
on_line(struct machine *m, struct copier *c, const char *text, size_t n,
        struct err *e)
{
    defer_json json_t *j = json_parse(text, n, "the copier's line", e);
    const char *event = json_str(j, "event", "");

    if (!j)
        return -1;
    c->heard = clock_ms();
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (!strcmp(events[i].event, event))
            return events[i].handle(m, c, j, e);
    if (c->job->kind->line)
        c->job->kind->line(m, c, event, j);
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

static int
copy_done(struct machine *m, struct copier *c, struct err *e)
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
    else if (c->job->kind->read_back && WIFEXITED(status) &&
             WEXITSTATUS(status) == EXIT_DIFFERS &&
             !strcmp(c->result, "differs"))
        err_clear(e); /* a result like another: c->different */
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

const struct copier_kind kind_copy = {
    .verb = "copy",
    .request = copy_request,
    .open = copy_open,
    .counters = copy_counters,
    .done = copy_done,
};
