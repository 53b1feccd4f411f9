/* The one way to start a program: clean environment, no descriptor but the
 * three (and one to hold), dies with its parent. */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

struct proc_opts {
    const char *const *argv; /* argv[0] is looked up in PATH; NULL-ended */
    const char *const *env;  /* "NAME=value" added to the clean set; NULL-ended
                              * or NULL */
    const char *const *keep; /* names handed on from our own environment */
    int in, out, err;        /* 0: inherit; -1: /dev/null; PROC_PIPE: make a
                              * pipe; else a descriptor, which stays ours */
    const char *cwd;         /* NULL: ours */
    int death_signal;        /* sent to it when we die; 0: SIGTERM */
    int hold;                /* one more descriptor it inherits, so that a lock
                              * lasts as long as it lives; 0 or -1: none */
};

#define PROC_PIPE (-2)

struct proc {
    pid_t pid;        /* 0: none, or already waited for */
    int in, out, err; /* our ends of the pipes asked for, else -1 */
};

#define PROC_INIT     \
    {                 \
        0, -1, -1, -1 \
    }

/* The child sees PATH, HOME, LANG=C.UTF-8, TMPDIR and TZ of ours, and what
 * opts add.  A program that cannot be started is an error here, not an exit
 * code later.  The parent that counts for death_signal is this *thread*. */
int proc_start(const struct proc_opts *opts, struct proc *p, struct err *e);
/* Waits at most timeout_ms (-1: for ever) for the end.  1: it ended, *status
 * as of waitpid; 0: still running. */
int proc_wait(struct proc *p, int64_t timeout_ms, int *status);
/* Signals, waits, kills what has not gone after timeout_ms; closes pipes. */
void proc_stop(struct proc *p, int signal, int64_t timeout_ms);
/* Closes our ends of the pipes. */
void proc_close(struct proc *p);
/* "exit code 3", "signal 9 (Killed)" */
void proc_describe(int status, char *out, size_t n);

/* Path of the program that runs; beside it lie those it starts.  Caller
 * frees. */
char *proc_self(void);

/* Runs to the end (at most timeout_ms) and gathers stdout and stderr, each
 * up to the max of its builder.  Anything but exit code 0 is an error which
 * quotes the last line of stderr. */
int proc_run(const struct proc_opts *opts, int64_t timeout_ms, struct str *out,
             struct err *e);

#endif
