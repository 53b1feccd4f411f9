/* Which areas of a disk VDDK has to read: never fewer than there are. */
#include "copy/report.h"
#include "copy/source.h"
#include "copy/vddk_abi.h"

#define CHUNK_BYTES  ((uint64_t)VDDK_MIN_CHUNK * VDDK_SECTOR)
#define WINDOW_BYTES (CHUNK_BYTES * VDDK_MAX_CHUNKS)

_Static_assert(CHUNK_BYTES == DISK_BLOCK, "chunks are blocks");

int
vddk_blocks(const struct vddk_block_list *list, uint64_t start,
            uint64_t sectors, struct extents *out, struct err *e)
{
    bool bad = list->num_blocks > VDDK_MAX_CHUNKS;

    for (uint32_t i = 0; !bad && i < list->num_blocks; i++) {
        const struct vddk_block *b = &list->blocks[i];

        /* what was not asked for might overflow as bytes */
        bad = b->offset > start + sectors || b->length > sectors;
        if (!bad)
            vec_push(out, (struct extent){ b->offset * VDDK_SECTOR,
                                           b->length * VDDK_SECTOR });
    }
    return bad ? err_set(e, ERR_REMOTE,
                         "asking what is allocated: the answer makes no sense")
               : 0;
}

/* Areas that are sorted, within start..end, and do not overlap. */
static int
check_answer(const struct extents *x, uint64_t start, uint64_t end,
             struct err *e)
{
    for (size_t i = 0; i < x->n; i++) {
        if (x->p[i].start < start || x->p[i].start > end ||
            x->p[i].length > end - x->p[i].start)
            return err_set(e, ERR_REMOTE,
                           "the answer has an area outside of the question");
        start = x->p[i].start + x->p[i].length;
    }
    return 0;
}

static int
ask(uint64_t start, uint64_t n, vddk_query *query, void *ctx,
    struct extents *out, struct err *e)
{
    defer_extents struct extents got = { 0 };
    int rc = query(ctx, start / VDDK_SECTOR, n / VDDK_SECTOR, &got, e);

    if (rc || check_answer(&got, start, start + n, e))
        return rc ? rc : -1;
    for (size_t i = 0; i < got.n; i++)
        extents_add_near(out, got.p[i].start, got.p[i].length, COPY_HOLE_MIN);
    return 0;
}

int
vddk_allocated(uint64_t size, vddk_query *query, void *ctx, struct extents *out,
               struct err *e)
{
    defer_extents struct extents probe = { 0 };
    uint64_t whole = size - size % CHUNK_BYTES, step;
    struct err why = ERR_INIT;
    int rc = whole ? ask(0, CHUNK_BYTES, query, ctx, &probe, &why) : 0;

    if (rc == -1) {
        report_warn("%s; the whole disk is read", why.msg);
        whole = 0;
    }
    for (uint64_t at = 0; at < whole && rc > -2; at += step) {
        step = whole - at < WINDOW_BYTES ? whole - at : WINDOW_BYTES;
        if (stop_asked())
            return err_set(e, ERR_STOPPED, "stopped");
        report_planning(at, step);
        rc = ask(at, step, query, ctx, out, &why);
        if (rc == -1) {
            report_warn("%s; all is read from %llu to %llu", why.msg,
                        (unsigned long long)at, (unsigned long long)at + step);
            extents_add(out, at, step);
        }
    }
    if (rc == -2) {
        *e = why;
        return -1;
    }
    /* Asking for less than a chunk is an error: what is left is read. */
    extents_add(out, whole, size - whole);
    extents_sort(out);
    extents_coalesce(out, COPY_HOLE_MIN);
    return 0;
}
