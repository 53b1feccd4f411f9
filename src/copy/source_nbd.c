/* Source: an NBD server. */
#include "copy/copy.h"

#include <libnbd.h>
#include <string.h>

#define STATUS_STEP (1ull << 30) /* bytes asked about at once */

struct nbd;
struct read_ctx {
    struct nbd *nbd;
    unsigned slot;
};

struct nbd {
    struct source base;
    struct nbd_handle *h;
    uint64_t size;
    struct read_ctx ctx[COPY_SLOTS_MAX];
    struct { /* ring of reads that came back */
        unsigned slot;
        int errnum;
    } back[COPY_SLOTS_MAX];
    unsigned first, n;
};

static void
nbd_close_source(struct source *s)
{
    struct nbd *n = (struct nbd *)s;

    nbd_close(n->h);
    free(n);
}

static int
connect_to(struct nbd *n, const char *uri, struct err *e)
{
    int64_t size;

    n->h = nbd_create();
    if (!n->h || nbd_add_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION))
        return nbd_failed(e, "connecting to", "source");
    if (nbd_connect_within(n->h, uri, "source", e))
        return -1;
    size = nbd_get_size(n->h);
    if (size < 0)
        return nbd_failed(e, "asking the size of", "source");
    n->size = (uint64_t)size;
    return 0;
}

static int
nbd_open(struct source **s, const struct request *r, struct err *e)
{
    struct nbd *n = xcalloc(1, sizeof *n);

    n->base.ops = &source_nbd;
    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        n->ctx[i] = (struct read_ctx){ n, i };
    if (connect_to(n, request_text(r, KEY_SOURCE_URI), e)) {
        nbd_close_source(&n->base);
        return -1;
    }
    *s = &n->base;
    return 0;
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
            extents_add(s->out, s->at, len);
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

    if (nbd_can_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1) {
        extents_add(out, 0, n->size);
        return 0;
    }
    while (st.at < st.end) {
        uint64_t before = st.at, left = st.end - st.at;

        if (stop_asked())
            return err_set(e, ERR_STOPPED, "stopped");
        if (nbd_block_status(n->h, left < STATUS_STEP ? left : STATUS_STEP,
                             st.at, cb, 0) == -1 ||
            st.at == before) {
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

    n->back[i].slot = slot;
    n->back[i].errnum = errnum;
}

static int
on_read(void *user_data, int *error)
{
    struct read_ctx *c = user_data;

    came_back(c->nbd, c->slot, *error);
    return 1;
}

static void
nbd_read(struct source *s, unsigned slot, void *buf, uint64_t offset,
         uint32_t len)
{
    struct nbd *n = (struct nbd *)s;
    nbd_completion_callback cb = { .callback = on_read,
                                   .user_data = &n->ctx[slot] };

    if (nbd_aio_pread(n->h, buf, len, offset, cb, 0) == -1)
        came_back(n, slot, nbd_errnum());
}

static void
nbd_poll_source(const struct source *s, struct pollfd *p)
{
    nbd_pollfd(((const struct nbd *)s)->h, p);
}

static void
nbd_ready(struct source *s, short revents)
{
    nbd_progress(((struct nbd *)s)->h, revents);
}

static bool
nbd_reap(struct source *s, struct read_result *out)
{
    struct nbd *n = (struct nbd *)s;
    int errnum;

    if (!n->n)
        return false;
    out->slot = n->back[n->first].slot;
    errnum = n->back[n->first].errnum;
    n->first = (n->first + 1) % COPY_SLOTS_MAX;
    n->n--;
    out->verdict = errnum ? READ_FAILED : READ_OK;
    if (errnum)
        err_errno(&out->err, errnum, "NBD");
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
};
