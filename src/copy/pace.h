/* How much is read at a time: the pace, the buffers, the limits. */
#ifndef COPY_PACE_H
#define COPY_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "disk/disk.h"
#include "limit/limit.h"

#define COPY_BUFFERS (40u << 20) /* bytes, of all slots together */

struct request;

/* pace.c: how much to read at a time -------------------------------------- */

#define PACE_EPOCHS      8u
#define PACE_REQUEST_MAX (2u << 20) /* bytes */

/* Times are in nanoseconds of clock_ns(). */
struct pace {
    unsigned reads_max;
    uint32_t request_max;
    unsigned reads;              /* in flight */
    uint64_t in_flight;          /* bytes */
    uint64_t window;             /* bytes that should be in flight */
    uint64_t cap;                /* that may be: the source's buffers */
    unsigned good;               /* reads since cap changed */
    int64_t shrunk;              /* last time; 0: never */
    int64_t turn;                /* since when the rate is measured */
    uint64_t at_turn;            /* `delivered` then */
    uint64_t delivered;          /* bytes since the start */
    uint64_t rates[PACE_EPOCHS]; /* best of each, bytes/s; a ring */
    unsigned at;                 /* its newest */
    int64_t epoch;               /* when that one began */
    uint64_t latency;            /* with little in flight; 0: unknown */
    int64_t looked, looking;     /* at it: when last; since when, or 0 */
    int64_t look_ns;             /* how long */
    unsigned waited_for;         /* reads that began since then, in flight */
    uint64_t took, seen;         /* of those that came back: time, number */
};

struct pace_read {
    int64_t began;
    uint32_t n;
    bool look; /* it began while the latency was looked at */
};

void pace_init(struct pace *p, unsigned reads, uint32_t request, int64_t now);
/* May one more read begin? */
bool pace_room(const struct pace *p);
/* Bytes of one at most; a multiple of DISK_BLOCK. */
uint32_t pace_request(const struct pace *p);
/* Up to so many bytes are cheaper to read through than another request. */
uint32_t pace_gap(const struct pace *p);
void pace_began(struct pace *p, struct pace_read *r, uint32_t n, int64_t now);
/* good: the data came. */
void pace_ended(struct pace *p, const struct pace_read *r, bool good,
                int64_t now);
/* That read ended because the source is out of buffers.  False: it changes
 * nothing. */
bool pace_shrink(struct pace *p, const struct pace_read *r, int64_t now);

/* arena.c: buffers -------------------------------------------------------- */

#define ARENA_BLOCKS (COPY_BUFFERS / DISK_BLOCK)

struct arena {
    uint8_t *mem;
    unsigned used; /* blocks */
    bool taken[ARENA_BLOCKS];
};

int arena_init(struct arena *a, struct err *e);
void arena_fini(struct arena *a);
/* So many blocks in a row, page-aligned; NULL: not now. */
uint8_t *arena_take(struct arena *a, unsigned blocks);
void arena_give(struct arena *a, const uint8_t *p, unsigned blocks);

/* throttle.c -------------------------------------------------------------- */

/* Adds what limits this run: its own rate, and those it shares. */
int throttle_open(struct gate *g, const struct request *r, struct err *e);

#endif
