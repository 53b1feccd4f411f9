/* The NBD server that is written to, or read back. */
#ifndef COPY_TARGET_H
#define COPY_TARGET_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "copy/request.h"

/* target_nbd.c ------------------------------------------------------------ */

/* Connections, where the server allows more than one. */
#define TARGET_CONNS 2u

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

/* Connections, where the server allows so many. */
#define READER_CONNS 4u

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

#endif
