/* The command line: one cmd_<verb>.c per verb, options as tables. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <signal.h>
#include <stdint.h>

#include "base/err.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/vec.h"
#include "job/job.h"
#include "store/store.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_STOPPED = 130 };

/* opts.c: options in the form of the first engine: -x and --x, =v or v ---- */

enum opt_kind {
    OPT_FLAG,  /* bool */
    OPT_TEXT,  /* const char *: borrowed from argv */
    OPT_INT,   /* int64_t, 0..max */
    OPT_TEXTS, /* struct texts: may be given again and again */
};

struct texts VEC(const char *);

struct opt {
    const char *name; /* NULL ends a table */
    enum opt_kind kind;
    size_t offset;
    const char *value; /* its name in the help */
    const char *help;
    int64_t max;
};

struct command {
    const char *name, *summary;
    const struct opt *opts;
    bool hidden;      /* not in the overview: started by programs */
    const char *rest; /* option that takes the arguments after the options */
    const char *rest_help; /* what these are: "[FILE ...]" */
    int (*run)(int argc, char **argv);
};

/* CLI_OK: go on; CLI_USAGE: an error was printed; -1: help was printed. */
int opts_parse(const struct command *c, int argc, char **argv, void *out);
/* The table of verbs, ended by a NULL name; prints help. */
int cli_main(const struct command *commands, int argc, char **argv);

/* pick.c: records that specs speak of ------------------------------------ */

struct pick {
    const char *config; /* path or NULL */
    const char *control_dir;
    struct texts specs, vms, vm_ids;
};

/* One VM of a spec, with its record if there is one. */
struct picked {
    char *vm;            /* as the spec names it */
    struct found *found; /* NULL: not started; points into founds */
};

struct picks {
    struct config *config;
    struct specs specs;
    struct founds founds;
    struct VEC(struct picked) vms;
};

int picks_read(const struct pick *p, struct picks *out, struct err *e);
void picks_fini(struct picks *p);

/* workers.c: one worker process a VM ------------------------------------- */

enum worker_state { WORKER_WAITING, WORKER_RUNNING, WORKER_ENDED };

struct worker {
    const struct spec *spec;
    size_t index; /* of the spec among those of its file */
    enum worker_state state;
    struct proc proc;
    struct str out, err; /* read so far, without a line's end */
    json_t *record;      /* the last one it told; NULL: none yet */
    char *dir;           /* its directory; NULL: not known yet */
    struct err error;    /* of its end */
    int restarts;
    int64_t began; /* clock_ms() of its last start */
};

struct workers {
    struct worker *w;
    size_t n;
    size_t parallel;
    const char *config;       /* path for --config, or NULL */
    const char *const *extra; /* more arguments, NULL-ended */
    char *self;               /* our program, as it was when we began */
    bool pipe_log;            /* their log comes through us */
    bool stopping;
    /* One whole line of a worker's log. */
    void (*log)(void *ctx, const char *line);
    void (*tick)(void *ctx, const struct workers *all);
    void *ctx;
};

/* Runs them all; `stop` counts the signals we got. */
void workers_run(struct workers *all, const volatile sig_atomic_t *stop);

/* draw.c: what a person sees of them -------------------------------------- */

struct draw;
struct draw *draw_new(bool terminal);
void draw_free(struct draw *d);
void draw_log(void *draw, const char *line);
void draw_tick(void *draw, const struct workers *all);
void draw_end(struct draw *d, const struct workers *all);

extern const struct command cmd_run, cmd_status, cmd_finalize, cmd_limit;

#endif
