/* The one way to start a program. */
#include "base/proc.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define STDERR_KEPT 4096 /* bytes of a failed program's stderr we look at */

extern char **environ;

struct env VEC(char *);

static void
env_free(struct env *env)
{
    for (size_t i = 0; i < env->n; i++)
        free(env->p[i]);
    vec_fini(env);
}

static void
env_keep(struct env *env, const char *name)
{
    const char *value = getenv(name);

    if (value)
        vec_push(env, xasprintf("%s=%s", name, value));
}

static void
env_build(struct env *env, const struct proc_opts *o)
{
    static const char *const usual[] = { "PATH", "HOME", "TMPDIR", "TZ" };

    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        env_keep(env, usual[i]);
    vec_push(env, xstrdup("LANG=C.UTF-8"));
    for (size_t i = 0; o->keep && o->keep[i]; i++)
        env_keep(env, o->keep[i]);
    for (size_t i = 0; o->env && o->env[i]; i++)
        vec_push(env, xstrdup(o->env[i]));
    vec_push(env, NULL);
}

/* In the child: wire one of the three descriptors.  The sources were moved
 * above 2 by the parent, so no dup2 overwrites one that is still needed. */
static int
wire(int fd, int to)
{
    return fd == to ? 0 : dup2(fd, to) < 0 ? -1 : 0;
}

static void
child(const struct proc_opts *o, const int fds[3], char **env, int report,
      pid_t parent)
{
    sigset_t none;
    int errnum;

    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0 && wire(fds[i], i))
            goto fail;
    prctl(PR_SET_PDEATHSIG, o->death_signal ? o->death_signal : SIGTERM);
    if (getppid() != parent)
        _exit(127);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) ||
        (o->hold > 0 && fcntl(o->hold, F_SETFD, 0)))
        goto fail;
    if (o->cwd && chdir(o->cwd))
        goto fail;
    environ = env;
    execvp(o->argv[0], (char *const *)o->argv);
fail:
    errnum = errno;
    (void)!write(report, &errnum, sizeof errnum);
    _exit(127);
}

/* One of the three: *theirs is dup'ed in the child, *ours is kept. */
static int
prepare_fd(int want, bool to_child, int *theirs, int *ours)
{
    int fd, ends[2];

    *ours = -1;
    *theirs = -1;
    if (want == 0)
        return 0;
    if (want == -1)
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    else if (want != PROC_PIPE)
        fd = fcntl(want, F_DUPFD_CLOEXEC, 3);
    else {
        if (pipe2(ends, O_CLOEXEC))
            return -1;
        fd = ends[to_child ? 0 : 1];
        *ours = ends[to_child ? 1 : 0];
    }
    if (fd < 0)
        return -1;
    if (fd < 3) { /* we ourselves were started without the three */
        *theirs = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        close(fd);
        return *theirs < 0 ? -1 : 0;
    }
    *theirs = fd;
    return 0;
}

static int
fork_exec(const struct proc_opts *o, const int fds[3], struct proc *p,
          struct err *e)
{
    struct env env = { 0 };
    pid_t parent = getpid();
    int report[2], errnum = 0;
    ssize_t n;

    if (pipe2(report, O_CLOEXEC))
        return err_errno(e, errno, "starting %s", o->argv[0]);
    env_build(&env, o);
    p->pid = fork();
    if (p->pid == 0)
        child(o, fds, env.p, report[1], parent);
    if (p->pid < 0)
        errnum = errno;
    env_free(&env);
    close(report[1]);
    if (!errnum) {
        do
            n = read(report[0], &errnum, sizeof errnum);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
            errnum = 0;
    }
    close(report[0]);
    if (!errnum)
        return 0;
    if (p->pid > 0)
        waitpid(p->pid, NULL, 0);
    p->pid = 0;
    return err_errno(e, errnum, "starting %s", o->argv[0]);
}

int
proc_start(const struct proc_opts *o, struct proc *p, struct err *e)
{
    int fds[3] = { -1, -1, -1 }, want[3] = { o->in, o->out, o->err };
    int *ours[3] = { &p->in, &p->out, &p->err };
    int rc = 0;

    *p = (struct proc)PROC_INIT;
    for (int i = 0; i < 3 && !rc; i++)
        if (prepare_fd(want[i], i == 0, &fds[i], ours[i]))
            rc = err_errno(e, errno, "starting %s", o->argv[0]);
    if (!rc)
        rc = fork_exec(o, fds, p, e);
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (rc)
        proc_close(p);
    return rc;
}

int
proc_wait(struct proc *p, int64_t timeout_ms, int *status)
{
    int64_t deadline = clock_ms() + timeout_ms;
    pid_t pid;

    if (!p->pid)
        return 1;
    for (;;) {
        pid = waitpid(p->pid, status, timeout_ms < 0 ? 0 : WNOHANG);
        if (pid < 0 && errno == ECHILD) { /* somebody else reaped it */
            *status = 255 << 8;
            pid = p->pid;
        }
        if (pid == p->pid) {
            p->pid = 0;
            return 1;
        }
        if (timeout_ms >= 0) {
            if (clock_ms() >= deadline)
                return 0;
            clock_pause(5);
        }
    }
}

void
proc_close(struct proc *p)
{
    int *fds[3] = { &p->in, &p->out, &p->err };

    for (int i = 0; i < 3; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

void
proc_stop(struct proc *p, int signal, int64_t timeout_ms)
{
    int status;

    if (p->pid) {
        kill(p->pid, signal);
        if (!proc_wait(p, timeout_ms, &status)) {
            kill(p->pid, SIGKILL);
            proc_wait(p, -1, &status);
        }
    }
    proc_close(p);
}

void
proc_describe(int status, char *out, size_t n)
{
    if (WIFSIGNALED(status))
        snprintf(out, n, "signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(out, n, "exit code %d", WEXITSTATUS(status));
}

char *
proc_self(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    return xstrndup(path, n > 0 ? (size_t)n : 0);
}

/* Reads both pipes until they end; past their caps the rest is dropped. */
static bool
gather(struct proc *p, struct str *out, struct str *err, int64_t deadline)
{
    struct pollfd f[2] = { { p->out, POLLIN, 0 }, { p->err, POLLIN, 0 } };
    struct str *to[2] = { out, err };
    char buf[4096];

    while (f[0].fd >= 0 || f[1].fd >= 0) {
        int64_t left = deadline - clock_ms();

        if (left <= 0)
            return false;
        if (poll(f, 2, left > 1000 ? 1000 : (int)left) < 0 && errno != EINTR)
            return false;
        for (int i = 0; i < 2; i++) {
            ssize_t n;

            if (f[i].fd < 0 || !f[i].revents)
                continue;
            n = read(f[i].fd, buf, sizeof buf);
            if (n > 0)
                str_addn(to[i], buf, (size_t)n);
            else if (n == 0 || errno != EINTR)
                f[i].fd = -1;
        }
    }
    return true;
}

static const char *
last_line(struct str *s)
{
    char *p;

    while (s->n && (s->p[s->n - 1] == '\n' || s->p[s->n - 1] == ' '))
        s->p[--s->n] = '\0';
    p = s->n ? strrchr(s->p, '\n') : NULL;
    return p ? p + 1 : str_text(s);
}

int
proc_run(const struct proc_opts *opts, int64_t timeout_ms, struct str *out,
         struct err *e)
{
    defer(str_fini) struct str said = { .max = STDERR_KEPT };
    int64_t deadline = clock_ms() + timeout_ms;
    struct proc_opts o = *opts;
    struct proc p;
    char how[64];
    int64_t left;
    int status = 0;

    o.in = -1;
    o.out = o.err = PROC_PIPE;
    if (proc_start(&o, &p, e))
        return -1;
    left = gather(&p, out, &said, deadline) ? deadline - clock_ms() : 0;
    if (!proc_wait(&p, left > 0 ? left : 0, &status)) {
        proc_stop(&p, SIGKILL, 1000);
        return err_set(e, ERR_IO, "%s: no end within %lld s", o.argv[0],
                       (long long)(timeout_ms / 1000));
    }
    proc_close(&p);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    proc_describe(status, how, sizeof how);
    return err_set(e, ERR_IO, "%s: %s: %s", o.argv[0], how, last_line(&said));
}
