/* Source: an NBD server. */
#include "copy/copy.h"
#include "copy/nbd_util.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/source.h"

#include "base/clock.h"

#include <errno.h>
#include <libnbd.h>
#include <string.h>

#define STATUS_STEP (1ull << 30) /* bytes asked about at once */

struct nbd;
struct read_ctx {
    struct nbd *nbd;
    unsigned slot;
    unsigned pieces;  /* requests that are not answered */
    int errnum;       /* of the first that failed */
    uint64_t missing; /* bytes that no answer has held yet */
};

struct nbd {
    struct source base;
    const char *uri;
    struct nbd_handle *h; /* NULL: not connected */
    uint64_t size;        /* 0: it was never open */
    uint32_t most;        /* bytes of one request at most */
    unsigned in_flight;   /* reads that are not reaped */
    bool lost;            /* the connection is to be made anew */
    struct comeback back;
    struct read_ctx ctx[COPY_SLOTS_MAX];
    struct { /* ring of reads that came back */
        unsigned slot;
        int errnum;
    } came[COPY_SLOTS_MAX];
    unsigned first, n;
};

static void
hang_up(struct nbd *n)
{
    nbd_close(n->h);
    n->h = NULL;
}

static void
nbd_close_source(struct source *s)
{
    struct nbd *n = (struct nbd *)s;

    hang_up(n);
    free(n);
}

/* One that was there before has to be the same. */
static int
check_size(struct nbd *n, struct err *e)
{
    int64_t size = nbd_get_size(n->h);

    if (size < 0)
        return nbd_failed(e, "asking the size of", "source");
    if (n->size && n->size != (uint64_t)size)
        return err_set(e, ERR_DAMAGED,
                       "the source has %lld bytes now, it had %llu; a disk "
                       "that was resized has to be copied anew",
                       (long long)size, (unsigned long long)n->size);
    n->size = (uint64_t)size;
    return 0;
}

/* What the server takes, while it says so. */
static int
check_requests(struct nbd *n, struct err *e)
{
    int64_t least = nbd_get_block_size(n->h, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(n->h, LIBNBD_SIZE_MAXIMUM);

    if (least < 0 || most < 0)
        return nbd_failed(e, "asking the size of", "source");
    if (least < 1)
        least = 1;
    if (DISK_BLOCK % (uint64_t)least || n->size % (uint64_t)least)
        return err_set(e, ERR_USER,
                       "the source is read in blocks of %lld bytes only, and "
                       "its %llu are no multiple of that",
                       (long long)least, (unsigned long long)n->size);
    if (!most || most > COPY_REQUEST_MAX)
        most = COPY_REQUEST_MAX;
    n->most = (uint32_t)(most - most % least);
    if (!n->most)
        return err_set(e, ERR_USER,
                       "the source is read in blocks of %lld bytes and in %lld "
                       "at most: nothing can be",
                       (long long)least, (long long)most);
    return 0;
}

static int
connect_to(struct nbd *n, struct err *e)
{
    n->h = nbd_create();
    if (!n->h || nbd_add_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION))
        return nbd_failed(e, "connecting to", "source");
    if (nbd_connect_within(n->h, n->uri, "source", e))
        return -1;
    return check_size(n, e) || check_requests(n, e) ? -1 : 0;
}

static int
nbd_open(struct source **s, const struct request *r, struct err *e)
{
    struct nbd *n = xcalloc(1, sizeof *n);

    n->base.ops = &source_nbd;
    n->uri = request_text(r, KEY_SOURCE_URI);
    n->back.patience_ms = r->timeout_ms;
    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        n->ctx[i] = (struct read_ctx){ .nbd = n, .slot = i };
    if (connect_to(n, e)) {
        nbd_close_source(&n->base);
        return -1;
    }
    *s = &n->base;
    return 0;
}

static int
nbd_mend(struct source *s, struct err *e)
{
    struct nbd *n = (struct nbd *)s;

    if (!n->lost)
        return 1;
    if (n->in_flight)
        return 0;
    hang_up(n);
    if (!comeback_due(&n->back))
        return 0;
    if (connect_to(n, e)) {
        hang_up(n);
        return e->class == ERR_NET ? comeback_after(&n->back, e) : -1;
    }
    n->lost = false;
    report_reconnected(s->ops->kind, clock_ms() - n->back.since_ms);
    return 1;
}

static uint64_t
nbd_size(const struct source *s)
{
    return ((const struct nbd *)s)->size;
}

static const char *
nbd_transport(const struct source *s)
{
    return s->ops->kind;
}

struct status {
    struct extents *out;
    uint64_t at, end; /* at: what is known so far */
};

static int
on_status(void *ctx, const char *context, uint64_t offset, uint32_t *entries,
          size_t n, int *error)
{
    struct status *s = ctx;

    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) || offset != s->at)
        return 0;
    for (size_t i = 0; i + 1 < n && s->at < s->end; i += 2) {
        uint64_t len = entries[i];

        if (len > s->end - s->at)
            len = s->end - s->at;
        if (!(entries[i + 1] & LIBNBD_STATE_ZERO))
            extents_add_near(s->out, s->at, len, COPY_HOLE_MIN);
        s->at += len;
    }
    return 0;
}

static int
nbd_allocated(struct source *s, struct extents *out, struct err *e)
{
    struct nbd *n = (struct nbd *)s;
    struct status st = { out, 0, n->size };
    nbd_extent_callback cb = { .callback = on_status, .user_data = &st };
    int rc;

    if (nbd_can_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1) {
        extents_add(out, 0, n->size);
        return 0;
    }
    while (st.at < st.end) {
        uint64_t before = st.at, left = st.end - st.at;

        if (stop_asked())
            return err_set(e, ERR_STOPPED, "stopped");
        report_planning(st.at, left < STATUS_STEP ? left : STATUS_STEP);
        hang_begin("asking what is allocated");
        rc = nbd_block_status(n->h, left < STATUS_STEP ? left : STATUS_STEP,
                              st.at, cb, 0);
        hang_end();
        if (rc == -1 || st.at == before) {
            report_warn("the source does not say what is allocated from %llu "
                        "on: that is read whole",
                        (unsigned long long)st.at);
            extents_add(out, st.at, st.end - st.at);
            return 0;
        }
    }
    return 0;
}

static void
came_back(struct nbd *n, unsigned slot, int errnum)
{
    unsigned i = (n->first + n->n++) % COPY_SLOTS_MAX;

    n->came[i].slot = slot;
    n->came[i].errnum = errnum;
}

/* An answer may come in parts; libnbd does not mind if some never do. */
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

static void
piece_back(struct read_ctx *c, int errnum)
{
    if (errnum && !c->errnum)
        c->errnum = errnum;
    if (--c->pieces)
        return;
    if (!c->errnum && c->missing)
        c->errnum = EPROTO;
    came_back(c->nbd, c->slot, c->errnum);
}

static int
on_read(void *user_data, int *error)
{
    piece_back(user_data, *error);
    return 1;
}

static void
nbd_read(struct source *s, unsigned slot, void *buf, uint64_t offset,
         uint32_t len)
{
    struct nbd *n = (struct nbd *)s;
    struct read_ctx *c = &n->ctx[slot];
    nbd_chunk_callback part = { .callback = on_part, .user_data = c };
    nbd_completion_callback cb = { .callback = on_read, .user_data = c };
    uint32_t at = 0, k;
    int errnum = 0;

    n->in_flight++;
    c->pieces = 1; /* until all are asked for */
    c->errnum = 0;
    c->missing = len;
    for (; at < len && !errnum; at += k) {
        k = len - at < n->most ? len - at : n->most;
        c->pieces++; /* first: the answer may come while it is asked for */
        if (nbd_aio_pread_structured(n->h, (char *)buf + at, k, offset + at,
                                     part, cb, 0) == -1) {
            errnum = nbd_errnum();
            c->pieces--;
        }
    }
    piece_back(c, errnum);
}

static void
nbd_poll_source(const struct source *s, struct pollfd *p)
{
    const struct nbd *n = (const struct nbd *)s;

    p->fd = -1;
    if (n->h)
        nbd_pollfd(n->h, p);
}

static void
nbd_ready(struct source *s, short revents)
{
    struct nbd *n = (struct nbd *)s;

    if (n->h)
        nbd_progress(n->h, revents);
}

static enum read_verdict
verdict(struct nbd *n, int errnum, struct err *e)
{
    if (!errnum) {
        if (!n->lost)
            comeback_worked(&n->back);
        return READ_OK;
    }
    err_errno(e, errnum, "NBD");
    if (errnum == EPROTO)
        err_set(e, ERR_REMOTE, "NBD: the server left out a part of its answer");
    if (!nbd_lost(n->h))
        return READ_FAILED; /* the server said so */
    e->class = ERR_NET;
    if (!n->lost && comeback_after(&n->back, e))
        return READ_FAILED;
    n->lost = true;
    return READ_LOST;
}

static bool
nbd_reap(struct source *s, struct read_result *out)
{
    struct nbd *n = (struct nbd *)s;
    int errnum;

    if (!n->n)
        return false;
    out->slot = n->came[n->first].slot;
    errnum = n->came[n->first].errnum;
    n->first = (n->first + 1) % COPY_SLOTS_MAX;
    n->n--;
    n->in_flight--;
    out->verdict = verdict(n, errnum, &out->err);
    return true;
}

const struct source_ops source_nbd = {
    .kind = "nbd",
    .open = nbd_open,
    .close = nbd_close_source,
    .size = nbd_size,
    .transport = nbd_transport,
    .allocated = nbd_allocated,
    .read = nbd_read,
    .poll = nbd_poll_source,
    .ready = nbd_ready,
    .reap = nbd_reap,
    .mend = nbd_mend,
};
