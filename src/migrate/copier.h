/* One copier: a disk's program, its replica's server, what it tells. */
#ifndef MIGRATE_COPIER_H
#define MIGRATE_COPIER_H

#include "migrate/machine.h"

struct copier;

/* Copying, or verifying. */
struct copier_kind {
    const char *verb; /* of the program */
    bool read_back;   /* the replica is only read */
    void (*request)(const struct machine *m, const struct copier *c,
                    const char *identity, struct str *q);
    /* Its `open` came. */
    int (*open)(struct machine *m, struct copier *c, const json_t *j,
                struct err *e);
    /* Numbers came, of progress or of the end. */
    void (*counters)(struct machine *m, struct copier *c, const json_t *j);
    /* A line that not all kinds have. */
    void (*line)(struct machine *m, struct copier *c, const char *event,
                 const json_t *j);
    /* It says that it is done, and its exit code agrees: is it proven? */
    int (*done)(struct machine *m, struct copier *c, struct err *e);
};

extern const struct copier_kind kind_copy, kind_verify;

enum copier_state { WAITING, RUNNING, PAUSING, FINISHED };

struct copier {
    struct copy_job *job;
    enum copier_state state;
    struct cloud_export replica;
    struct proc proc;
    struct str line; /* read so far, without its end */
    int64_t heard;   /* clock_ms() of its last line */
    int64_t again;   /* PAUSING: clock_ms() when to go on */
    int64_t full;    /* since when its target is full; 0: it is not */
    int64_t told;    /* when that, or another long wait, was last in the log */
    int tries;
    struct slot_claim claim;        /* held until its process has ended */
    int64_t asked;                  /* for a slot, clock_ms(); 0: not */
    char waits_for[SLOT_NAME_MAX];  /* host or datastore, as logged; "": none */
    int64_t best;                   /* most of `done` seen */
    int64_t done, total;            /* bytes, of the last line */
    int64_t proven, unproven;       /* bytes, of the end of a verifier */
    int64_t different;              /* bytes, that a verifier has found */
    int64_t different0;             /* of them, of runs before this one */
    int64_t read0, written0, zero0; /* counters of the disk before this run */
    int64_t ms, bytes; /* of the last progress line, for the rate */
    bool doubt;        /* what was said to have changed cannot be all */
    char result[16];   /* of the end line; "": it has not come */
    struct err said;   /* what the end line said was wrong */
};

/* limits.c: 1: it has a slot; 0: not yet, ask again soon. */
int limits_take(struct machine *m, struct copier *c, struct err *e);
/* Serves the replica and starts the copier with its request. */
int copier_start(struct machine *m, struct copier *c, struct err *e);
/* Takes what its pipe holds.  1: more may come; 0: the pipe ended. */
int copier_read(struct machine *m, struct copier *c, struct err *e);
/* What its exit status and its last line say together; clear: done. */
void copier_judge(const struct copier *c, int status, struct err *e);
/* Progress, speed and rest of the disk, for people. */
void copier_progress(struct machine *m, struct copier *c, const json_t *j);
/* The lines of a request that both kinds have, target and disk. */
void copier_request(const struct machine *m, const struct copier *c,
                    const char *identity, struct str *q);

/* Its target is full: that is a state, not an error; it is seen in the record,
 * in the events and now and then in the log. */
void copier_full(struct machine *m, struct copier *c, const char *why);
void copier_still_full(struct machine *m, struct copier *c);

#endif
