/* Which blocks a run takes, and from when on they count. */
#ifndef COPY_PLAN_H
#define COPY_PLAN_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "copy/request.h"
#include "disk/disk.h"

struct source;
struct target;
struct counters;
struct proof;

/* plan.c ------------------------------------------------------------------ */

struct plan {
    /* Tidy, whole blocks: the plan's, and what is dirty. */
    struct extents areas;
    enum plan_kind mode; /* what it amounts to */
    bool resumed;
    bool skip_zero;  /* zeroes need not be written where nothing was */
    bool trust_hash; /* a block with the map's hash need not be written */
    uint64_t todo;   /* bytes that are not done */
    size_t at;       /* cursor: extent, block */
    uint64_t block;
};

/* Finds out what to do and marks it in the map. */
int plan_make(struct plan *p, const struct request *r, struct source *s,
              struct map *m, struct err *e);
void plan_fini(struct plan *p);
/* Bytes of the plan that the map does not show as copied. */
int plan_left(const struct plan *p, struct map *m, uint64_t *left,
              struct err *e);
/* The next blocks to do, as one extent of at most `max` bytes that begins and
 * ends with such blocks; between them gaps of at most `gap` bytes.  wanted, of
 * max / DISK_BLOCK, tells which is which.  1: there are; 0: no more. */
int plan_next(struct plan *p, struct map *m, uint32_t max, uint32_t gap,
              struct extent *out, bool *wanted, struct err *e);

/* ledger.c: from acknowledged to stable ----------------------------------- */

#define LEDGER_MAX    (64u << 10) /* blocks: a checkpoint is due */
#define CHECKPOINT_MS 2000
struct ledger;

struct ledger *ledger_new(struct map *m, struct target *t, struct counters *c,
                          struct err *e);
void ledger_free(struct ledger *l);
/* All writes of this block were acknowledged, or it needed none. */
enum block_fate { BLOCK_WRITTEN, BLOCK_ZEROED, BLOCK_SAME, BLOCK_GAP };
void ledger_add(struct ledger *l, uint64_t block, struct map_entry entry,
                uint32_t bytes, enum block_fate fate);
/* No room until the checkpoint that runs has ended. */
bool ledger_full(const struct ledger *l);
/* Nothing waits to become stable. */
bool ledger_empty(const struct ledger *l);
/* A checkpoint waits for the target. */
bool ledger_runs(const struct ledger *l);
/* What a checkpoint waits for besides the target. */
void ledger_poll(const struct ledger *l, struct pollfd *p);
/* Starts a checkpoint if one is due (or `now`); takes the one that runs on
 * once the target has flushed, once the map is stable.  1: it went on. */
int ledger_step(struct ledger *l, bool now, struct err *e);

/* walk.c: which blocks a verify run takes --------------------------------- */

struct walk {
    const struct request *req;
    struct map *map;
    struct extents areas; /* tidy, whole blocks */
    size_t at;            /* cursor: area, block */
    uint64_t block;
    uint64_t stratum;   /* of the sample: the one that `chosen` is of */
    uint8_t chosen[13]; /* a bit per block of it */
};

void walk_begin(struct walk *w, const struct request *r, struct map *m);
void walk_fini(struct walk *w);
/* The block at the cursor, or after it, that is to be verified; stays there.
 * Blocks passed are counted in p, which may be NULL.  1: there is one; 0: no
 * more. */
int walk_look(struct walk *w, struct proof *p, uint64_t *block,
              struct map_look *look, struct err *e);
/* Past the block that walk_look found. */
void walk_step(struct walk *w);

#endif
