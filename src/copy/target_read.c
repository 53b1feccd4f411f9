/* Target: an NBD server, read back.  Nothing is ever written here. */
#include "copy/nbd_util.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/target.h"

#include <errno.h>
#include <libnbd.h>
#include <string.h>

#define WINDOW_BLOCKS 32768u /* 2 GiB: of one answer about zeroes */

struct read_ctx {
    struct reader *r;
    unsigned slot;
    uint64_t missing; /* bytes that no answer has held yet */
};

/* What the target says of the zeroes of one stretch of blocks. */
struct window {
    struct reader *r;
    enum { UNASKED, ASKED, ANSWERED, KNOWN } state;
    uint64_t no;       /* of the window */
    uint64_t at, end;  /* bytes: the answer reaches up to at */
    uint64_t asked_at; /* where the request in flight began */
    uint64_t zero_at;  /* where the run of zeroes that ends at `at` began */
    uint8_t zero[WINDOW_BLOCKS / 8];
};

struct reader {
    unsigned conns;
    struct nbd_handle *conn[READER_CONNS]; /* slot % conns has its reads */
    uint64_t disk_size;
    uint32_t align, most; /* bytes; of the server's requests */
    bool can_tell;        /* it answers questions about zeroes */
    reader_done *done;
    void *ctx;
    struct read_ctx slots[COPY_SLOTS_MAX];
    struct window windows[2]; /* no % 2: the one in use, and the next */
};

void
reader_close(struct reader *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < r->conns; i++) {
        nbd_aio_disconnect(r->conn[i], 0);
        nbd_close(r->conn[i]);
    }
    free(r);
}

static int
add_conn(struct reader *r, const char *uri, struct err *e)
{
    struct nbd_handle *h = nbd_create();

    if (!h || nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION)) {
        nbd_close(h);
        return nbd_failed(e, "connecting to", "target");
    }
    if (nbd_connect_within(h, uri, "target", e)) {
        nbd_close(h);
        return -1;
    }
    r->conn[r->conns++] = h;
    return 0;
}

static int
check(struct reader *r, struct err *e)
{
    struct nbd_handle *h = r->conn[0];
    int64_t size = nbd_get_size(h);
    int64_t align = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);

    if (size < 0 || align < 0 || most < 0)
        return nbd_failed(e, "asking the size of", "target");
    r->align = align > 1 ? (uint32_t)align : 1;
    if (r->align > DISK_BLOCK || DISK_BLOCK % r->align ||
        (r->disk_size + r->align - 1) / r->align * r->align > (uint64_t)size)
        return err_set(e, ERR_DAMAGED,
                       "the target has %lld bytes, the disk %llu: it is not "
                       "the one that was copied to",
                       (long long)size, (unsigned long long)r->disk_size);
    if (!most || most > COPY_REQUEST_MAX)
        most = COPY_REQUEST_MAX;
    r->most = (uint32_t)most / DISK_BLOCK * DISK_BLOCK;
    if (!r->most)
        return err_set(e, ERR_USER,
                       "the target takes %lld bytes at a time only, and not "
                       "%u",
                       (long long)most, DISK_BLOCK);
    r->can_tell = nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
    return 0;
}

int
reader_open(struct reader **out, const char *uri, uint64_t disk_size,
            reader_done *done, void *ctx, struct err *e)
{
    defer(reader_close_ptr) struct reader *r = xcalloc(1, sizeof *r);

    r->disk_size = disk_size;
    r->done = done;
    r->ctx = ctx;
    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        r->slots[i] = (struct read_ctx){ .r = r, .slot = i };
    for (unsigned i = 0; i < 2; i++)
        r->windows[i].r = r;
    if (add_conn(r, uri, e) || check(r, e))
        return -1;
    while (r->conns < READER_CONNS && nbd_can_multi_conn(r->conn[0]) == 1)
        if (add_conn(r, uri, e)) {
            if (e->class == ERR_STOPPED)
                return -1;
            report_warn("%s; going on with %u", e->msg, r->conns);
            err_clear(e);
            break;
        }
    *out = take(r);
    return 0;
}

uint32_t
reader_most(const struct reader *r)
{
    return r->most;
}

/* Requests are whole blocks of the server's. */
static uint64_t
padded(const struct reader *r, uint64_t n)
{
    return (n + r->align - 1) / r->align * r->align;
}

/* An answer may come in parts; where one never does, the buffer tells nothing
 * of the target. */
static int
on_part(void *user_data, const void *buf, size_t n, uint64_t offset,
        unsigned status, int *error)
{
    struct read_ctx *c = user_data;

    (void)buf, (void)offset, (void)error;
    if (status == LIBNBD_READ_DATA || status == LIBNBD_READ_HOLE)
        c->missing -= n < c->missing ? n : c->missing;
    return 0;
}

static int
on_read(void *user_data, int *error)
{
    struct read_ctx *c = user_data;
    int errnum = !*error && c->missing ? EPROTO : *error;

    c->r->done(c->r->ctx, c->slot, errnum);
    return 1;
}

/* Asking a connection that is gone is no mistake of ours. */
static int
issue_errnum(struct nbd_handle *h)
{
    int errnum = nbd_errnum();

    return nbd_lost(h) ? ENOTCONN : errnum;
}

int
reader_read(struct reader *r, unsigned slot, void *buf, uint64_t offset,
            uint32_t n, struct err *e)
{
    struct read_ctx *c = &r->slots[slot];
    nbd_chunk_callback part = { .callback = on_part, .user_data = c };
    nbd_completion_callback cb = { .callback = on_read, .user_data = c };
    struct nbd_handle *h = r->conn[slot % r->conns];

    c->missing = padded(r, n);
    if (nbd_aio_pread_structured(h, buf, c->missing, offset, part, cb, 0) == -1)
        return err_errno(e, issue_errnum(h), "reading the target at %llu",
                         (unsigned long long)offset);
    return 0;
}

/* zeroes ------------------------------------------------------------------ */

/* The blocks that lie wholly within the zeroes from..to. */
static void
mark_zeroes(struct window *w, uint64_t from, uint64_t to)
{
    uint64_t base = w->no * WINDOW_BLOCKS;
    uint64_t block = from / DISK_BLOCK + (from % DISK_BLOCK != 0);
    uint64_t end =
        to >= w->r->disk_size ? disk_blocks(w->r->disk_size) : to / DISK_BLOCK;

    for (; block < end && block - base < WINDOW_BLOCKS; block++)
        w->zero[(block - base) / 8] |= (uint8_t)(1u << (block - base) % 8);
}

static int
on_status(void *ctx, const char *context, uint64_t offset, uint32_t *entries,
          size_t n, int *error)
{
    struct window *w = ctx;

    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) || offset != w->at)
        return 0;
    for (size_t i = 0; i + 1 < n && w->at < w->end; i += 2) {
        uint64_t len = entries[i];

        if (len > w->end - w->at)
            len = w->end - w->at;
        w->at += len;
        if (entries[i + 1] & LIBNBD_STATE_ZERO)
            mark_zeroes(w, w->zero_at, w->at);
        else
            w->zero_at = w->at;
    }
    return 0;
}

static int
on_answered(void *ctx, int *error)
{
    struct window *w = ctx;

    (void)error; /* then nothing was added, and that is seen */
    w->state = ANSWERED;
    return 1;
}

/* Whatever is not answered counts as data, and is read. */
static void
ask(struct reader *r, struct window *w)
{
    nbd_extent_callback each = { .callback = on_status, .user_data = w };
    nbd_completion_callback all = { .callback = on_answered, .user_data = w };

    w->asked_at = w->at;
    w->state = ASKED;
    if (nbd_aio_block_status(r->conn[0], padded(r, w->end - w->at), w->at, each,
                             all, 0) == -1)
        w->state = KNOWN;
}

static void
begin_window(struct reader *r, uint64_t no)
{
    struct window *w = &r->windows[no % 2];

    *w = (struct window){ .r = r, .no = no };
    w->at = w->zero_at = no * WINDOW_BLOCKS * DISK_BLOCK;
    w->end = w->at + (uint64_t)WINDOW_BLOCKS * DISK_BLOCK;
    if (w->end > r->disk_size)
        w->end = r->disk_size;
    ask(r, w);
}

static void
go_on(struct reader *r, struct window *w)
{
    if (w->state != ANSWERED)
        return;
    if (w->at < w->end && w->at > w->asked_at) {
        ask(r, w);
        return;
    }
    w->state = KNOWN;
    if (w->at < w->end && r->can_tell) {
        r->can_tell = false;
        report_warn("the target does not say what is zero from %llu on: that "
                    "is read",
                    (unsigned long long)w->at);
    }
}

static bool
is_of(const struct window *w, uint64_t no)
{
    return w->state != UNASKED && w->no == no;
}

static bool
in_flight(const struct window *w)
{
    return w->state == ASKED || w->state == ANSWERED;
}

enum reader_zero
reader_zero(struct reader *r, uint64_t block)
{
    uint64_t no = block / WINDOW_BLOCKS, at = block % WINDOW_BLOCKS;
    struct window *w = &r->windows[no % 2], *next = &r->windows[(no + 1) % 2];

    if (!is_of(w, no)) {
        if (in_flight(w))
            return ZERO_ASKED;
        if (!r->can_tell)
            return ZERO_NO;
        begin_window(r, no);
    }
    if (in_flight(w))
        return ZERO_ASKED;
    if (r->can_tell && !is_of(next, no + 1) && !in_flight(next) &&
        (no + 1) * WINDOW_BLOCKS * DISK_BLOCK < r->disk_size)
        begin_window(r, no + 1);
    return w->zero[at / 8] >> at % 8 & 1 ? ZERO_YES : ZERO_NO;
}

unsigned
reader_poll(const struct reader *r, struct pollfd *p)
{
    for (unsigned i = 0; i < r->conns; i++)
        nbd_pollfd(r->conn[i], &p[i]);
    return r->conns;
}

void
reader_ready(struct reader *r, const struct pollfd *p)
{
    for (unsigned i = 0; i < r->conns; i++)
        nbd_progress(r->conn[i], p[i].revents);
    go_on(r, &r->windows[0]);
    go_on(r, &r->windows[1]);
}
