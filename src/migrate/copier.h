/* One copier: a disk's program, its replica's server, what it tells. */
#ifndef MIGRATE_COPIER_H
#define MIGRATE_COPIER_H

#include "migrate/machine.h"

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
/* It says "done": is it proven?  Then the record of the disk advances. */
int copier_done(struct machine *m, struct copier *c, struct err *e);

/* Its target is full: that is a state, not an error; it is seen in the record,
 * in the events and now and then in the log. */
void copier_full(struct machine *m, struct copier *c, const char *why);
void copier_still_full(struct machine *m, struct copier *c);
void copier_room(struct machine *m, struct copier *c);

#endif
