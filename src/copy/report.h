/* Towards whoever started us: lines of results, being asked to stop, and the
 * last word when a call never returns. */
#ifndef COPY_REPORT_H
#define COPY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "copy/request.h"
#include "disk/disk.h"

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

#endif
