/* Room of the program v2c-copy: one disk from a source to an NBD target.
 * One thread drives everything by poll(2); a source may have others. */
#ifndef COPY_COPY_H
#define COPY_COPY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/secret.h"
#include "base/str.h"
#include "disk/disk.h"
#include "limit/limit.h"

#define COPY_SLOTS_MAX       256u        /* requests in flight */
#define COPY_REQUEST_MAX     (16u << 20) /* bytes */
#define COPY_BUFFERS         (40u << 20) /* bytes, of all slots together */
#define COPY_GAP_AUTO        UINT32_MAX
#define COPY_LINE_MAX        8192u       /* bytes of a line of the request */
#define COPY_EXTENTS_MAX     (64u << 20) /* after merging neighbours */
#define COPY_RATE_MAX        RATE_MAX    /* bytes/s */
#define COPY_TIMEOUT_DEFAULT 300u        /* seconds */
#define COPY_TIMEOUT_MAX     86400u
#define COPY_HOLE_MIN        (1u << 20) /* bytes; smaller ones are read through */
#define COPY_CONNECT_MS      30000      /* to an NBD server */

/* request.c ------------------------------------------------------------- */

enum plan_kind { PLAN_ALLOCATED, PLAN_ALL, PLAN_LIST, PLAN_COMPARE };

/* K(name in enum key, key, when it is needed, what it is).  When: REQUIRED,
 * OPTIONAL; COPY, MAY_COPY, MAY_VERIFY: by that verb alone; EITHER: COPY, and
 * admitted by verify; or a source's kind that requires (VDDK) or admits
 * (MAY_VDDK) it. */
#define REQUEST_KEYS(K)                                                      \
    K(SOURCE_KIND, "source.kind", EITHER, "vddk, nbd or file")               \
    K(LIBDIR, "source.libdir", VDDK, "directory that holds VDDK's lib64")    \
    K(SERVER, "source.server", VDDK, "vCenter or ESXi host name")            \
    K(PORT, "source.port", MAY_VDDK, "its port (443)")                       \
    K(USER, "source.user", VDDK, "account there")                            \
    K(PASSWORD, "source.password", VDDK, "its password")                     \
    K(THUMBPRINT, "source.thumbprint", VDDK, "SHA-1 of its certificate")     \
    K(VM, "source.vm", VDDK, "managed object id of the VM, as vm-12")        \
    K(SNAPSHOT, "source.snapshot", MAY_VDDK, "that of the snapshot to read") \
    K(PATH, "source.path", VDDK, "\"[datastore] dir/disk.vmdk\"")            \
    K(TRANSPORTS, "source.transports", MAY_VDDK, "in order (nbdssl:nbd)")    \
    K(CONFIG, "source.config", MAY_VDDK, "VDDK's configuration file")        \
    K(SOURCE_URI, "source.uri", NBD, "NBD URI to read from")                 \
    K(FILE, "source.file", FILE, "raw file or block device to read")         \
    K(TARGET_URI, "target.uri", REQUIRED, "NBD URI of the target")           \
    K(TARGET_ZEROED, "target.zeroed", COPY,                                  \
      "yes: a new target reads as zeroes; no")                               \
    K(TARGET_ZEROES, "target.zeroes", MAY_COPY,                              \
      "how they are written: punch, keep or write (punch)")                  \
    K(TARGET_ID, "target.id", REQUIRED, "text that tells this target")       \
    K(DISK_ID, "disk.id", REQUIRED, "text that tells this disk")             \
    K(DISK_SIZE, "disk.size", REQUIRED, "bytes")                             \
    K(MAP, "map", REQUIRED, "path of the block map")                         \
    K(PLAN_ID, "plan.id", COPY, "the same again resumes the plan")           \
    K(PLAN, "plan", EITHER,                                                  \
      "allocated, all, list or compare; of verify: all or list (all)")       \
    K(LISTED, "listed", MAY_COPY,                                            \
      "yes: what is allocated is listed, and not asked for; no (no)")        \
    K(UNCOPIED, "uncopied", MAY_COPY,                                        \
      "yes: list, and every block never copied; no (no)")                    \
    K(SAMPLE, "sample", MAY_VERIFY, "percent of the blocks (100)")           \
    K(SEED, "seed", MAY_VERIFY, "which ones (at random)")                    \
    K(AGAIN, "again", MAY_VERIFY,                                            \
      "yes: also what was verified since it was written; no (no)")           \
    K(READERS, "readers", OPTIONAL,                                          \
      "requests in flight at most, 1 to 256 (256)")                          \
    K(REQUEST, "request", OPTIONAL,                                          \
      "bytes of one at most, a multiple of 65536 up to 2097152 (2097152)")   \
    K(GAP, "gap", MAY_COPY,                                                  \
      "bytes between areas to read through (where it pays)")                 \
    K(RATE, "rate", OPTIONAL,                                                \
      "bytes per second read at most, 0: no limit (0)")                      \
    K(LIMIT_DISK, "limit.disk", OPTIONAL,                                    \
      "file of a rate that may change; made if it is not there")             \
    K(LIMIT_VM, "limit.vm", OPTIONAL, "one that is shared, likewise")        \
    K(LIMIT_HOST, "limit.host", OPTIONAL, "one more")                        \
    K(LIMIT_MACHINE, "limit.machine", OPTIONAL, "one more")                  \
    K(TIMEOUT, "timeout", OPTIONAL,                                          \
      "seconds without any answer before it is given up (300)")

/* How zeroes get to the target, where they have to. */
enum zeroes {
    ZEROES_PUNCH, /* by a request that lets the server give space back */
    ZEROES_KEEP,  /* by one that makes it keep the space */
    ZEROES_WRITE, /* as data, for a server whose zeroes are none */
};

enum key {
#define K(name, key, need, what) KEY_##name,
    REQUEST_KEYS(K)
#undef K
        KEY_COUNT
};

struct request {
    char *text[KEY_COUNT];   /* as given; NULL: absent, or the password */
    struct secret *password; /* NULL: absent */
    struct extents list;     /* of plan list: tidy, whole blocks */
    enum plan_kind plan;
    enum zeroes zeroes;
    bool zeroed;
    bool uncopied;
    bool listed;        /* of plan allocated: list says what is */
    bool compare;       /* verify: there is a source to compare with */
    bool again;         /* verify: what was verified before as well */
    unsigned sample;    /* verify: percent */
    uint64_t seed;      /* verify: of the sample */
    uint16_t port;      /* 0: none given */
    uint64_t disk_size; /* bytes */
    uint64_t rate;      /* bytes/s; 0: no limit */
    unsigned slots;     /* reads in flight at most */
    uint32_t bytes;     /* of one at most; a multiple of DISK_BLOCK */
    uint32_t gap; /* bytes to read through; COPY_GAP_AUTO: where it pays */
    int64_t timeout_ms;
};

/* The whole request, up to its line `end`.  Anything odd is ERR_USER. */
int request_read(int fd, struct request *r, struct err *e);
/* The same, for the verb `verify`. */
int request_read_verify(int fd, struct request *r, struct err *e);
void request_fini(struct request *r);
/* "" for absent ones. */
const char *request_text(const struct request *r, enum key key);
/* One line per key, for --help. */
void request_help(struct str *out);
const char *plan_name(enum plan_kind kind);

/* stop.c ----------------------------------------------------------------- */

/* From here on SIGTERM and SIGINT ask us to stop, in all threads started
 * later as well. */
int stop_watch(struct err *e);
/* Readable once a signal came. */
int stop_fd(void);
bool stop_asked(void);
/* The same, without taking note of it: for any other thread. */
bool stop_pending(void);
/* As if a signal had come. */
void stop_ask(void);

/* report.c: lines of JSON ------------------------------------------------ */

struct counters {
    uint64_t total;   /* bytes of the plan */
    uint64_t done;    /* of these, on the target's stable storage */
    uint64_t read;    /* bytes read from the source by this run */
    uint64_t written; /* bytes written to the target, flushed */
    uint64_t zero;    /* bytes found zero: written as such, or skipped */
    uint64_t same;    /* bytes found equal and not written */
    int64_t start_ms; /* clock_ms() at the start */
};

/* Lines go to fd.  When nobody reads them any more, stop_ask() is called. */
void report_to(int fd);
/* To stdout; what others print there, a library of the user's, goes to stderr
 * from here on. */
int report_to_stdout(struct err *e);
void report_open(const char *transport, uint64_t size, uint64_t todo,
                 enum plan_kind mode, bool resumed, const struct counters *c);
void report_progress(const struct counters *c);
/* What the source is asked about just now. */
void report_planning(uint64_t start, uint64_t length);
/* The source is back, after so long. */
void report_reconnected(const char *transport, int64_t ms);
/* The target is full, `left` bytes of the plan are still to come; it has room
 * again, after so long. */
void report_paused(uint64_t left);
void report_resumed(int64_t ms);
/* Also a line of the log.  Any thread but VDDK's. */
void report_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The source has refused reads for lack of buffers; in_flight: the bytes that
 * are tried at a time from now on. */
void report_short(uint64_t in_flight);
/* The block at that byte contradicts what was said to have changed. */
void report_doubt(uint64_t offset);
/* ERR_NONE: done.  ERR_STOPPED: stopped.  -1: the line could not be written. */
int report_end(const struct counters *c, const struct err *e);
/* A whole line as it is; takes no memory. */
void report_raw(const char *line, size_t n);

/* hang.c: calls that may never return ------------------------------------- */

/* From here on a call that takes longer than limit_ms ends the program with
 * its last line (class net); so does one that still goes on seconds after we
 * were asked to stop.  While a call takes long a line says so now and then. */
int hang_watch(int64_t limit_ms, const struct counters *c, struct err *e);
void hang_unwatch(void);
/* By the thread that changes the counters, around a call; `doing` is a
 * literal of plain letters: "opening the source". */
void hang_begin(const char *doing);
void hang_end(void);

/* Of a verify run; bytes, but for the times. */
struct proof {
    uint64_t total;     /* to be verified by this run */
    uint64_t verified;  /* of these: read, and found as the map says */
    uint64_t zero;      /* of these: not read, the target says they are zero */
    uint64_t different; /* of these: not as the map or the source has them */
    uint64_t known;     /* verified before, since they were written */
    uint64_t unproven;  /* the map knows nothing of them, or owes them */
    uint64_t torn;      /* of those: on torn pages of the map */
    uint64_t read;      /* from the target */
    uint64_t areas;     /* number of different areas */
    int64_t start_ms;   /* clock_ms() at the start */
};

void report_verify_open(const struct request *r, const struct proof *p);
void report_verify_progress(const struct proof *p);
void report_differs(const struct extent *x, const char *what);
/* As report_end; p->different tells `differs` from `done`. */
int report_verify_end(const struct proof *p, const struct err *e);

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

extern const struct source_ops source_file, source_nbd, source_vddk;

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

/* nbd_util.c: what source and target share -------------------------------- */

struct nbd_handle;
/* Within COPY_CONNECT_MS; ERR_STOPPED if stopped meanwhile.  `what` is
 * "source" or "target". */
int nbd_connect_within(struct nbd_handle *h, const char *uri, const char *what,
                       struct err *e);
bool nbd_lost(struct nbd_handle *h);
/* What the connection waits for; fd -1 once it is lost. */
void nbd_pollfd(struct nbd_handle *h, struct pollfd *p);
/* What goes wrong here ends the connection, and with it every request: each
 * comes back as failed. */
void nbd_progress(struct nbd_handle *h, short revents);
/* errno of the call that failed just now, never 0. */
int nbd_errnum(void);
/* ERR_NET with libnbd's own words. */
int nbd_failed(struct err *e, const char *doing, const char *what);

/* target_nbd.c ------------------------------------------------------------ */

#define TARGET_CONNS                                         \
    2u /* connections, where the server allows more than one \
        */

struct target;
/* A write or zero request came back; errnum 0: acknowledged (not stable).
 * Must not call the target. */
typedef void target_done(void *ctx, unsigned slot, int errnum);

/* A target that is too small, read-only, or cannot flush is refused. */
int target_open(struct target **t, const char *uri, uint64_t disk_size,
                enum zeroes zeroes, struct err *e);
/* Whom to tell; before the first request. */
void target_tell(struct target *t, target_done *done, void *ctx);
/* Requests still in flight never come back. */
void target_close(struct target *t);
DEFER_FN(target_close_ptr, struct target, target_close)
/* Bytes of one request at most; a multiple of DISK_BLOCK. */
uint32_t target_most(const struct target *t);
/* Requests stay within the disk.  buf may be written to past n, up to the
 * next DISK_BLOCK boundary, and stays valid until `done`; for target_zero it
 * holds the zeroes.  Failing means that `done` will not be called. */
int target_write(struct target *t, unsigned slot, void *buf, uint64_t offset,
                 uint32_t n, struct err *e);
int target_zero(struct target *t, unsigned slot, void *buf, uint64_t offset,
                uint32_t n, struct err *e);
/* Starts to make stable what was acknowledged so far, on all connections. */
int target_flush(struct target *t, struct err *e);
enum flush_state { FLUSH_NONE, FLUSH_RUNS, FLUSH_DONE, FLUSH_FAILED };
/* After DONE or FAILED (then e is set): NONE again. */
enum flush_state target_flushed(struct target *t, struct err *e);
/* Number of entries filled in, at most TARGET_CONNS. */
unsigned target_poll(const struct target *t, struct pollfd *p);
void target_ready(struct target *t, const struct pollfd *p);

/* target_read.c: the target, only read ------------------------------------ */

#define READER_CONNS 4u /* connections, where the server allows so many */

struct reader;
/* A read came back; errnum 0: the data is there.  Must not call the reader. */
typedef void reader_done(void *ctx, unsigned slot, int errnum);

int reader_open(struct reader **r, const char *uri, uint64_t disk_size,
                reader_done *done, void *ctx, struct err *e);
/* Requests still in flight never come back. */
void reader_close(struct reader *r);
DEFER_FN(reader_close_ptr, struct reader, reader_close)
/* Bytes of one read at most; a multiple of DISK_BLOCK. */
uint32_t reader_most(const struct reader *r);
/* buf has room up to the next DISK_BLOCK boundary.  Failing means that `done`
 * will not be called. */
int reader_read(struct reader *r, unsigned slot, void *buf, uint64_t offset,
                uint32_t n, struct err *e);
/* Does the target say that the block reads as zeroes?  ASKED: not known yet,
 * an answer is on its way.  Blocks in rising order are cheap. */
enum reader_zero { ZERO_NO, ZERO_YES, ZERO_ASKED };
enum reader_zero reader_zero(struct reader *r, uint64_t block);
/* Number of entries filled in, at most READER_CONNS. */
unsigned reader_poll(const struct reader *r, struct pollfd *p);
void reader_ready(struct reader *r, const struct pollfd *p);

/* plan.c ------------------------------------------------------------------ */

struct plan {
    struct extents
        areas;           /* tidy, whole blocks: the plan's, and what is dirty */
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

/* throttle.c -------------------------------------------------------------- */

/* Adds what limits this run: its own rate, and those it shares. */
int throttle_open(struct gate *g, const struct request *r, struct err *e);

/* pipeline.c -------------------------------------------------------------- */

/* Copies what the plan says.  Whatever happens, all that was acknowledged and
 * could be flushed is in the map and the counters when it returns.
 * ERR_STOPPED if it was asked to stop before the end.  *stuck: source or
 * target gave no answer in time and may still hold buffers: neither may be
 * closed, the process has to end. */
int pipeline_run(const struct request *r, struct source *s, struct target *t,
                 struct map *m, struct plan *p, struct counters *c, bool *stuck,
                 struct err *e);

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

/* verify.c ---------------------------------------------------------------- */

/* Reads back what the map calls copied, and compares it with the map, and with
 * the source where there is one.  What is equal is marked in the map as
 * verified, what differs as dirty; both are stable when it returns, whatever
 * happens.  Differences are no error: p->different.  *stuck as of
 * pipeline_run. */
int verify_run(const struct request *r, struct source *s, struct map *m,
               struct proof *p, bool *stuck, struct err *e);

/* copy.c ------------------------------------------------------------------ */

enum {
    COPY_DONE = 0,
    COPY_FAILED = 1,
    COPY_BAD_REQUEST = 2,
    COPY_STOPPED = 3,
    COPY_DIFFERS = 4, /* verify: all was looked at, and something differs */
};

/* The program; sources ends with NULL. */
int copy_main(int argc, char **argv, const struct source_ops *const *sources);

#endif
