/* One worker process a VM: started some at a time, watched, started again
 * when something killed them. */
#include "cli/cli.h"
#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#define LONG_MS      3600000 /* after that a death does not count as one more */
#define RESTARTS_MAX 5       /* of a worker that a signal killed */
#define LINE_MAX_N   262144  /* bytes of a worker's line */
#define POLL_MS      200

/* What a worker may see of our environment: the secrets it needs. */
static const char *const keep[] = {
    "VC_PASSWORD",
    "V2C_VCENTER_HOST",
    "V2C_VCENTER_USER",
    "V2C_VCENTER_PASSWORD",
    "V2C_CLOUDSTACK_ENDPOINT",
    "V2C_CLOUDSTACK_API_KEY",
    "V2C_CLOUDSTACK_SECRET_KEY",
    "V2C_VDDK_MAX_OPEN",
    "ASAN_OPTIONS",
    "UBSAN_OPTIONS",
    "TSAN_OPTIONS",
    NULL,
};

static int
start(struct workers *all, struct worker *w)
{
    defer_free char *index = xasprintf("%zu", w->index);
    struct VEC(const char *) argv = { 0 };
    struct proc_opts o = {
        .keep = keep,
        .in = -1,
        .out = PROC_PIPE,
        .err = all->pipe_log ? PROC_PIPE : 0,
        .death_signal = SIGTERM,
    };
    int rc;

    vec_push(&argv, all->self);
    vec_push(&argv, "worker");
    vec_push(&argv, "--spec");
    vec_push(&argv, w->spec->file);
    vec_push(&argv, "--index");
    vec_push(&argv, index);
    if (all->config) {
        vec_push(&argv, "--config");
        vec_push(&argv, all->config);
    }
    for (size_t i = 0; all->extra[i]; i++)
        vec_push(&argv, all->extra[i]);
    vec_push(&argv, NULL);
    o.argv = argv.p;
    w->began = clock_ms();
    rc = proc_start(&o, &w->proc, &w->error);
    vec_fini(&argv);
    w->state = rc ? WORKER_ENDED : WORKER_RUNNING;
    return rc;
}

/* A line of its stdout: its record, or how it ended. */
static void
on_line(struct worker *w, const char *text, size_t n)
{
    struct err bad;
    json_t *j = json_parse(text, n, "worker", &bad);
    const char *dir = json_str(j, "control_dir", NULL);

    if (!j) {
        err_set(&w->error, ERR_BUG, "its worker said something odd: %s",
                bad.msg);
        return;
    }
    if (!strcmp(json_str(j, "event", ""), "end")) {
        err_clear(&w->error);
        if (json_str(j, "error", NULL))
            err_set(&w->error, err_class_parse(json_str(j, "class", "bug")),
                    "%s", json_str(j, "error", ""));
        json_decref(j);
        return;
    }
    if (dir && !w->dir)
        w->dir = xstrdup(dir);
    json_decref(w->record);
    w->record = j;
}

static void
lines(struct workers *all, struct worker *w, struct str *s, bool log)
{
    char *nl;

    while (s->p && (nl = memchr(s->p, '\n', s->n))) {
        size_t used = (size_t)(nl - s->p) + 1;

        *nl = '\0';
        if (log)
            all->log(all->ctx, s->p);
        else
            on_line(w, s->p, used - 1);
        memmove(s->p, s->p + used, s->n - used);
        s->n -= used;
    }
}

/* False when the pipe ended. */
static bool
take_from(struct workers *all, struct worker *w, int fd, bool log)
{
    struct str *s = log ? &w->err : &w->out;
    char buf[8192];
    ssize_t n = read(fd, buf, sizeof buf);

    if (n < 0 && errno == EINTR)
        return true;
    if (n <= 0)
        return false;
    str_addn(s, buf, (size_t)n);
    lines(all, w, s, log);
    if (s->failed) { /* a line without an end: drop it, go on */
        str_fini(s);
        s->max = LINE_MAX_N;
    }
    return true;
}

static void
ended(struct workers *all, struct worker *w)
{
    char how[64], line[256];
    int status = 0;

    proc_wait(&w->proc, -1, &status);
    while (w->proc.err >= 0 && take_from(all, w, w->proc.err, true))
        ;
    proc_close(&w->proc);
    w->state = WORKER_ENDED;
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 0) == !w->error.class)
        return;
    proc_describe(status, how, sizeof how);
    if (clock_ms() - w->began > LONG_MS)
        w->restarts = 0;
    if (WIFSIGNALED(status) && !all->stopping && w->restarts++ < RESTARTS_MAX) {
        snprintf(line, sizeof line,
                 "the worker of %s ended with %s; "
                 "starting it again",
                 spec_vm(w->spec), how);
        all->log(all->ctx, line);
        w->state = WORKER_WAITING;
        return;
    }
    if (!w->error.class)
        err_set(&w->error, all->stopping ? ERR_STOPPED : ERR_BUG,
                "its worker ended with %s; see migration.log", how);
}

static void
start_some(struct workers *all)
{
    size_t running = 0;

    for (size_t i = 0; i < all->n; i++)
        running += all->w[i].state == WORKER_RUNNING;
    for (size_t i = 0; i < all->n; i++) {
        struct worker *w = &all->w[i];

        if (w->state != WORKER_WAITING || running >= all->parallel)
            continue;
        if (all->stopping) {
            w->state = WORKER_ENDED;
            err_set(&w->error, ERR_STOPPED, "not started");
        } else if (!start(all, w))
            running++;
    }
}

static void
signal_all(struct workers *all, int signal)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->w[i].state == WORKER_RUNNING && all->w[i].proc.pid)
            kill(all->w[i].proc.pid, signal);
}

/* False when all have ended. */
static bool
step(struct workers *all, struct pollfd *f)
{
    bool any = false;

    for (size_t i = 0; i < all->n; i++) {
        struct worker *w = &all->w[i];
        bool on = w->state == WORKER_RUNNING;

        any |= w->state != WORKER_ENDED;
        f[2 * i] = (struct pollfd){ on ? w->proc.out : -1, POLLIN, 0 };
        f[2 * i + 1] = (struct pollfd){ on ? w->proc.err : -1, POLLIN, 0 };
    }
    if (!any)
        return false;
    if (poll(f, 2 * all->n, POLL_MS) < 0)
        return true;
    for (size_t i = 0; i < all->n; i++) {
        struct worker *w = &all->w[i];

        if (f[2 * i + 1].fd >= 0 && f[2 * i + 1].revents &&
            !take_from(all, w, w->proc.err, true)) {
            close(w->proc.err);
            w->proc.err = -1;
        }
        if (f[2 * i].fd >= 0 && f[2 * i].revents &&
            !take_from(all, w, w->proc.out, false))
            ended(all, w);
    }
    return true;
}

void
workers_run(struct workers *all, const volatile sig_atomic_t *stop)
{
    struct pollfd *f = xcalloc(2 * all->n, sizeof *f);

    all->self = proc_self();
    for (size_t i = 0; i < all->n; i++)
        all->w[i].out.max = all->w[i].err.max = LINE_MAX_N;
    do {
        if (*stop && !all->stopping) {
            all->stopping = true;
            signal_all(all, SIGTERM);
        } else if (*stop > 1)
            signal_all(all, SIGKILL);
        start_some(all);
        all->tick(all->ctx, all);
    } while (step(all, f));
    free(f);
    free(all->self);
}
