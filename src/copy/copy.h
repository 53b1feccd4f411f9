/* Room of the program v2c-copy: one disk from a source to an NBD target, or the
 * target read back.  One thread drives everything by poll(2); a source may have
 * others, the map is synced by one, and one ends calls that never return.
 *
 * request.h  what is asked for     source.h  where it is read
 * report.h   what is told          target.h  where it is written
 * plan.h     which blocks          pace.h    how much at a time */
#ifndef COPY_COPY_H
#define COPY_COPY_H

#include <stdbool.h>

#include "base/err.h"
#include "disk/disk.h"

struct source;
struct target;
struct plan;
struct counters;
struct proof;
struct request;
struct source_ops;

/* copy.c ------------------------------------------------------------------ */

/* Exit codes. */
enum {
    COPY_DONE = 0,
    COPY_FAILED = 1,
    COPY_BAD_REQUEST = 2,
    COPY_STOPPED = 3,
    COPY_DIFFERS = 4, /* verify: all was looked at, and something differs */
};

extern const struct source_ops source_file, source_nbd, source_vddk;

/* The program; sources ends with NULL. */
int copy_main(int argc, char **argv, const struct source_ops *const *sources);

/* pipeline.c -------------------------------------------------------------- */

/* Copies what the plan says.  Whatever happens, all that was acknowledged and
 * could be flushed is in the map and the counters when it returns.
 * ERR_STOPPED if it was asked to stop before the end.  *stuck: source or
 * target gave no answer in time and may still hold buffers: neither may be
 * closed, the process has to end. */
int pipeline_run(const struct request *r, struct source *s, struct target *t,
                 struct map *m, struct plan *p, struct counters *c, bool *stuck,
                 struct err *e);

/* verify.c ---------------------------------------------------------------- */

/* Reads back what the map calls copied, and compares it with the map, and with
 * the source where there is one.  What is equal is marked in the map as
 * verified, what differs as dirty; both are stable when it returns, whatever
 * happens.  Differences are no error: p->different.  *stuck as of
 * pipeline_run. */
int verify_run(const struct request *r, struct source *s, struct map *m,
               struct proof *p, bool *stuck, struct err *e);

#endif
