/* Where a disk is read from: one ops table per kind, what the kinds share. */
#ifndef COPY_SOURCE_H
#define COPY_SOURCE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "disk/disk.h"

#define COPY_HOLE_MIN (1u << 20) /* bytes; smaller ones are read through */

struct request;

/* source_*.c: one ops table per family ------------------------------------ */

enum read_verdict {
    READ_OK,
    READ_RETRY,  /* may work after a pause */
    READ_SHRINK, /* the same, with fewer reads in flight */
    READ_FAILED,
    READ_LOST, /* by no fault of its own: the connection was lost.  To be
                * started again once `mend` says that the source is back */
};

struct read_result {
    unsigned slot;
    enum read_verdict verdict;
    struct err err; /* unless READ_OK */
};

struct source {
    const struct source_ops *ops;
};

/* All but what done_post needs is called by one and the same thread. */
struct source_ops {
    const char *kind; /* value of source.kind */
    /* On failure all is undone. */
    int (*open)(struct source **s, const struct request *r, struct err *e);
    /* Once every read has come back. */
    void (*close)(struct source *s);
    uint64_t (*size)(const struct source *s); /* bytes */
    /* How the data comes, for people. */
    const char *(*transport)(const struct source *s);
    /* Adds what may hold something else than zeroes: a superset, not
     * necessarily tidy.  Before the first read.  ERR_STOPPED if stopped. */
    int (*allocated)(struct source *s, struct extents *out, struct err *e);
    /* Starts a read that stays within size, one per slot at a time.  It
     * always comes back by reap. */
    void (*read)(struct source *s, unsigned slot, void *buf, uint64_t offset,
                 uint32_t n);
    void (*poll)(const struct source *s, struct pollfd *p);
    /* After poll(2): does what there is to do. */
    void (*ready)(struct source *s, short revents);
    /* The next read that came back; false: none. */
    bool (*reap)(struct source *s, struct read_result *out);
    /* Before reads are started: gets a lost connection back, a step at a time
     * and not before all reads came back.  1: the source can be read; 0: not
     * yet; -1: it is given up.  NULL: this source has none to lose. */
    int (*mend)(struct source *s, struct err *e);
};

/* done.c: completions from other threads --------------------------------- */

struct done;
struct done_item {
    unsigned slot;
    uint64_t code; /* the source's own */
};

struct done *done_new(struct err *e);
void done_free(struct done *d);
/* Any thread.  At most one item per slot waits. */
void done_post(struct done *d, unsigned slot, uint64_t code);
int done_fd(const struct done *d);
/* false: nothing waits. */
bool done_take(struct done *d, struct done_item *out);

/* comeback.c: how long and how often a lost connection is tried ------------ */

struct comeback {
    int64_t patience_ms; /* from the loss to the last try */
    int64_t since_ms;    /* clock_ms() of the loss; 0: none */
    int64_t due_ms;      /* of the next try */
    unsigned tries;      /* since the loss */
};

/* It was lost, or a try has failed, by e: says so and sets the time of the
 * next try, with growing pauses.  -1: patience is over, e says so as well. */
int comeback_after(struct comeback *c, struct err *e);
/* A request was answered well: the next loss is a new one. */
void comeback_worked(struct comeback *c);
bool comeback_due(const struct comeback *c);
/* Until it is due.  ERR_STOPPED if stopped meanwhile. */
int comeback_wait(const struct comeback *c, struct err *e);

/* vddk_error.c, vddk_alloc.c ---------------------------------------------- */

enum vddk_action {
    VDDK_GIVE_UP,   /* the class says what others may do about it */
    VDDK_AGAIN,     /* the same call on the same handle, after a pause */
    VDDK_FEWER,     /* the same, with fewer reads in flight */
    VDDK_ANEW,      /* close, connect and open anew, with growing pauses */
    VDDK_ANEW_ONCE, /* the same, but a second time in a row it is given up */
};

/* What a code of VDDK means, and what is done about it. */
struct vddk_meaning {
    enum err_class class;
    enum vddk_action at_open; /* and while connecting */
    enum vddk_action at_read; /* and while asking what is allocated */
    const char *hint;         /* way out; "" */
};
struct vddk_meaning vddk_meaning(unsigned code);

/* The answer to a question of sectors, pushed in bytes; ERR_REMOTE if it is too
 * long or far outside of the question. */
struct vddk_block_list;
int vddk_blocks(const struct vddk_block_list *list, uint64_t start,
                uint64_t sectors, struct extents *out, struct err *e);
/* One QueryAllocatedBlocks of sectors: pushes the answer as it is, in bytes.
 * -1: there is none; -2: nothing more can be asked, we stop or the source is
 * gone. */
typedef int vddk_query(void *ctx, uint64_t start, uint64_t sectors,
                       struct extents *out, struct err *e);
/* Asks for a disk of `size` bytes window by window; where an answer is missing
 * or makes no sense, the window counts as allocated, with a warning. */
int vddk_allocated(uint64_t size, vddk_query *query, void *ctx,
                   struct extents *out, struct err *e);

#endif
