/* Target: an NBD server, written to and flushed. */
#include "copy/nbd_util.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/target.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <libnbd.h>
#include <string.h>
#include <sys/socket.h>

#define SEND_BUFFER (1 << 20) /* bytes */

struct write_ctx {
    struct target *t;
    unsigned slot;
};

struct target {
    unsigned conns;
    struct nbd_handle *conn[TARGET_CONNS]; /* slot % conns has its requests */
    uint64_t disk_size;                    /* bytes; the export may be larger */
    uint32_t align;      /* the server's smallest request, bytes */
    uint32_t most;       /* its largest, in whole DISK_BLOCKs, bytes */
    bool can_zero;       /* by request, and the policy wants it */
    uint32_t zero_flags; /* of such a request */
    target_done *done;
    void *ctx;
    struct write_ctx slots[COPY_SLOTS_MAX];
    unsigned flushing; /* flushes in flight */
    int flush_errnum;  /* of the first that failed */
    bool flushed;      /* a flush was begun and not asked for since */
};

void
target_close(struct target *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < t->conns; i++) {
        nbd_aio_disconnect(t->conn[i], 0);
        nbd_close(t->conn[i]);
    }
    free(t);
}

/* Room for more than one request on the way to a server of this machine: many
 * small ones then cost a fifth less.  Where it may not be, it works as well. */
static void
widen(struct nbd_handle *h)
{
    int fd = nbd_aio_get_fd(h), domain = 0, n = SEND_BUFFER;
    socklen_t len = sizeof domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) ||
        domain != AF_UNIX)
        return; /* TCP finds its own */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &n, sizeof n) &&
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n))
        log_debug("target: no larger buffer for sending: %s", strerror(errno));
}

static int
add_conn(struct target *t, const char *uri, struct err *e)
{
    struct nbd_handle *h = nbd_create();

    if (!h)
        return nbd_failed(e, "connecting to", "target");
    if (nbd_connect_within(h, uri, "target", e)) {
        nbd_close(h);
        return -1;
    }
    widen(h);
    t->conn[t->conns++] = h;
    return 0;
}

static int
check(struct target *t, struct err *e)
{
    struct nbd_handle *h = t->conn[0];
    int64_t size = nbd_get_size(h);
    int64_t align = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);

    if (size < 0 || align < 0 || most < 0)
        return nbd_failed(e, "asking the size of", "target");
    if ((uint64_t)size < t->disk_size)
        return err_set(e, ERR_USER,
                       "the target has %lld bytes, the disk %llu; make it at "
                       "least as large",
                       (long long)size, (unsigned long long)t->disk_size);
    if (nbd_is_read_only(h) != 0)
        return err_set(e, ERR_USER, "the target is read-only");
    /* Without it nothing could be known to be stable. */
    if (nbd_can_flush(h) != 1)
        return err_set(e, ERR_USER,
                       "the target's server does not offer flush; export it "
                       "with a cache mode that does");
    t->align = align > 1 ? (uint32_t)align : 1;
    if (t->align > DISK_BLOCK || DISK_BLOCK % t->align ||
        (t->disk_size + t->align - 1) / t->align * t->align > (uint64_t)size)
        return err_set(e, ERR_USER,
                       "the target takes blocks of %u bytes only and has no "
                       "room for the last one",
                       t->align);
    if (!most || most > COPY_REQUEST_MAX)
        most = COPY_REQUEST_MAX;
    t->most = (uint32_t)most / DISK_BLOCK * DISK_BLOCK;
    if (!t->most)
        return err_set(e, ERR_USER,
                       "the target takes %lld bytes at a time only, and not "
                       "%u",
                       (long long)most, DISK_BLOCK);
    t->can_zero = t->can_zero && nbd_can_zero(h) == 1;
    return 0;
}

int
target_open(struct target **out, const char *uri, uint64_t disk_size,
            enum zeroes zeroes, struct err *e)
{
    defer(target_close_ptr) struct target *t = xcalloc(1, sizeof *t);

    t->disk_size = disk_size;
    t->can_zero = zeroes != ZEROES_WRITE;
    t->zero_flags = zeroes == ZEROES_KEEP ? LIBNBD_CMD_FLAG_NO_HOLE : 0;
    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        t->slots[i] = (struct write_ctx){ t, i };
    if (add_conn(t, uri, e) || check(t, e))
        return -1;
    /* Only a server that says so takes more than one; one is enough. */
    while (t->conns < TARGET_CONNS && nbd_can_multi_conn(t->conn[0]) == 1)
        if (add_conn(t, uri, e)) {
            if (e->class == ERR_STOPPED)
                return -1;
            report_warn("%s; going on with %u", e->msg, t->conns);
            err_clear(e);
            break;
        }
    *out = take(t);
    return 0;
}

uint32_t
target_most(const struct target *t)
{
    return t->most;
}

void
target_tell(struct target *t, target_done *done, void *ctx)
{
    t->done = done;
    t->ctx = ctx;
}

static int
on_written(void *user_data, int *error)
{
    struct write_ctx *w = user_data;

    w->t->done(w->t->ctx, w->slot, *error);
    return 1;
}

/* A connection that was lost takes no requests: that is no bug of ours, which
 * its errno, EINVAL, would make it. */
static int
issue_failed(struct nbd_handle *h, uint64_t offset, struct err *e)
{
    int errnum = nbd_errnum();

    if (nbd_aio_is_dead(h) || nbd_aio_is_closed(h))
        errnum = ENOTCONN;
    return err_errno(e, errnum, "writing the target at %llu",
                     (unsigned long long)offset);
}

/* Past the end of the disk, up to what the server can take, comes zero. */
static uint32_t
padded(const struct target *t, void *buf, uint64_t offset, uint32_t n)
{
    uint32_t pad = (t->align - n % t->align) % t->align;

    assert(!pad || offset + n == t->disk_size);
    memset((char *)buf + n, 0, pad);
    return n + pad;
}

int
target_write(struct target *t, unsigned slot, void *buf, uint64_t offset,
             uint32_t n, struct err *e)
{
    nbd_completion_callback cb = { .callback = on_written,
                                   .user_data = &t->slots[slot] };

    n = padded(t, buf, offset, n);
    if (nbd_aio_pwrite(t->conn[slot % t->conns], buf, n, offset, cb, 0) == -1)
        return issue_failed(t->conn[slot % t->conns], offset, e);
    return 0;
}

int
target_zero(struct target *t, unsigned slot, void *buf, uint64_t offset,
            uint32_t n, struct err *e)
{
    nbd_completion_callback cb = { .callback = on_written,
                                   .user_data = &t->slots[slot] };

    if (!t->can_zero)
        return target_write(t, slot, buf, offset, n, e);
    n = padded(t, buf, offset, n);
    /* Without NO_HOLE the server may trim, and reads zero all the same.  No
     * FAST_ZERO: a server that has to write them itself still spares us the
     * way, and at this size it stalls nobody. */
    if (nbd_aio_zero(t->conn[slot % t->conns], n, offset, cb, t->zero_flags) ==
        -1)
        return issue_failed(t->conn[slot % t->conns], offset, e);
    return 0;
}

static int
on_flushed(void *user_data, int *error)
{
    struct target *t = user_data;

    t->flushing--;
    if (*error && !t->flush_errnum)
        t->flush_errnum = *error;
    return 1;
}

int
target_flush(struct target *t, struct err *e)
{
    nbd_completion_callback cb = { .callback = on_flushed, .user_data = t };

    assert(!t->flushing && !t->flushed);
    t->flushed = true;
    t->flush_errnum = 0;
    for (unsigned i = 0; i < t->conns; i++) {
        t->flushing++;
        if (nbd_aio_flush(t->conn[i], cb, 0) == -1) {
            int errnum = nbd_errnum();

            t->flushing--;
            if (nbd_aio_is_dead(t->conn[i]) || nbd_aio_is_closed(t->conn[i]))
                errnum = ENOTCONN;
            return err_errno(e, errnum, "flushing the target");
        }
    }
    return 0;
}

enum flush_state
target_flushed(struct target *t, struct err *e)
{
    if (!t->flushed)
        return FLUSH_NONE;
    if (t->flushing)
        return FLUSH_RUNS;
    t->flushed = false;
    if (!t->flush_errnum)
        return FLUSH_DONE;
    err_errno(e, t->flush_errnum, "flushing the target");
    return FLUSH_FAILED;
}

unsigned
target_poll(const struct target *t, struct pollfd *p)
{
    for (unsigned i = 0; i < t->conns; i++)
        nbd_pollfd(t->conn[i], &p[i]);
    return t->conns;
}

void
target_ready(struct target *t, const struct pollfd *p)
{
    for (unsigned i = 0; i < t->conns; i++)
        nbd_progress(t->conn[i], p[i].revents);
}
