/* The lab's VDDK library on the inside.  It keeps the rules of the real one
 * and is strict about them: who breaks one is ended with a line on stderr. */
#ifndef LAB_VDDK_VDDK_H
#define LAB_VDDK_VDDK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/vec.h"
#include "copy/vddk_abi.h"
#include "lab/disk/layers.h"
#include "lab/nfc/wire.h"

#define VDDK_EXPORT __attribute__((visibility("default")))
#define VDDK_DECLARE(name, result, args) \
    VDDK_EXPORT result VixDiskLib_##name args;
VDDK_FUNCTIONS(VDDK_DECLARE)

/* lib.c: the library as a whole ------------------------------------------ */

struct lib {
    _Atomic int state; /* 0: before InitEx, 1: up, 2: after Exit */
    pid_t pid;         /* of who called InitEx */
    vddk_log_fn *log, *warn, *panic;
    char *dir;        /* LIBDIR/lab */
    bool any_thread;  /* configuration: calls may come from any thread */
    bool big_buffers; /* configuration: more NFC buffers than are allowed */
    struct wire_shared *shared;
    _Atomic(const char *) serial; /* the call of which only one may run */
    pthread_mutex_t lock;         /* guards what follows */
    unsigned connected;
    struct conn *conns; /* also those that are closed, to know them again */
    struct handle *handles;
};

extern struct lib lib;

/* An error as the real library gives them: with detail in the upper bits. */
vddk_error vddk_fail(unsigned code);
void vddk_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void vddk_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* chatter.c: the thread whose log lines come at any time ----------------- */

int chatter_start(void);
void chatter_stop(void);
/* Something to talk about; text is copied. */
void chatter_about(const char *text);

/* rules.c: what a caller must not do ------------------------------------- */

/* "lab vddk: ..." to stderr, then abort. */
void rule_broken(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), noreturn));
/* Every call: up, not forked, not within a callback. */
void rule_enter(const char *fn);
/* Calls of which only one may run in the process. */
void rule_serial(const char *fn);
void rule_serial_end(void);
void rule_thread(const char *fn, const struct conn *c);
/* A callback is about to run, or has returned. */
void rule_callback(bool runs);

/* What is handed to the caller.  Freed things stay recognisable a while. */
enum gift { GIFT_PARAMS, GIFT_INFO, GIFT_BLOCKS, GIFT_TEXT, GIFTS };
void *gift_new(enum gift kind, size_t n);
/* NULL is no error. */
void gift_free(enum gift kind, void *p);
void gift_bury(void);

/* conn.c: connections and open disks ------------------------------------- */

struct conn {
    uint32_t magic;
    struct conn *next;
    pthread_t thread;
    char *strings[WIRE_STRINGS]; /* those of Open are NULL */
    uint32_t port, nfc_port;
    bool read_only;
    const char *transport;
    unsigned open; /* handles */
};

struct job {
    int64_t due;       /* ns */
    uint64_t start, n; /* bytes */
    uint8_t *buf;
    vddk_done_fn *done;
    void *data;
    unsigned code; /* the result it will have anyway */
    bool corrupt;
};

#define POOL_THREADS 4

struct pool {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work, timer, idle;
    pthread_t threads[POOL_THREADS];
    struct VEC(struct job) heap;     /* the one due first is p[0] */
    bool running, stopping, timed;   /* timed: one thread watches the clock */
    uint64_t pending, pending_bytes; /* accepted, callback not returned */
};

struct handle {
    uint32_t magic;
    struct handle *next;
    struct conn *conn;
    char *path;
    int socket;                     /* while it is open the version is held */
    struct layer chain[LAYERS_MAX]; /* the top first */
    size_t bitmap_bytes[LAYERS_MAX];
    size_t layers;
    uint64_t size; /* bytes */
    char uuid[LAB_NFC_UUID_MAX];
    uint32_t cuts;                /* of the lab when it was opened */
    uint64_t submitted;           /* reads, for those answered at once */
    _Atomic(const char *) inside; /* the call that runs */
    struct pool pool;
};

#define CONN_MAGIC   0x6e6e6f63u
#define HANDLE_MAGIC 0x656c6468u
#define CLOSED_MAGIC 0x64736c63u

/* Begins a call on a handle; ends it. */
struct handle *handle_enter(const char *fn, vddk_handle p);
void handle_leave(struct handle **h);
#define defer_leave defer(handle_leave)
/* Fails when a rule for that op strikes. */
bool handle_fault(const struct handle *h, enum lab_fault_op op, unsigned *code);
void conn_bury(void);

/* open.c: what goes over the socket -------------------------------------- */

/* Asks the lab for the disk; a code. */
unsigned handle_open(struct handle *h, uint32_t flags);
void handle_close(struct handle *h);

/* read.c ------------------------------------------------------------------ */

void pool_init(struct pool *p);
/* All accepted reads must be done. */
void pool_fini(struct pool *p);
/* When the answer to a request made now is there, in ns. */
int64_t answer_due(uint64_t bytes);
void sleep_until(int64_t ns);

#endif
