/* Which parts of a disk hold data. */
#include "base/mem.h"
#include "lab/vddk/vddk.h"

#include <errno.h>
#include <string.h>

struct answer {
    struct VEC(struct vddk_block) blocks;
};

static int
add_block(void *ctx, uint64_t start, uint64_t length)
{
    struct answer *a = ctx;

    vec_push(&a->blocks,
             (struct vddk_block){ start / VDDK_SECTOR, length / VDDK_SECTOR });
    return 0;
}

static unsigned
check_query(const struct handle *h, uint64_t start, uint64_t n, uint64_t chunk)
{
    uint64_t capacity = h->size / VDDK_SECTOR;

    if (chunk < VDDK_MIN_CHUNK || !n || start % chunk || n % chunk)
        return VDDK_INVALID_ARG;
    if (n / chunk > VDDK_MAX_CHUNKS)
        return VDDK_INVALID_ARG;
    if (start > capacity || n > capacity - start)
        return VDDK_INVALID_ARG;
    return VDDK_OK;
}

static unsigned
query(struct handle *h, uint64_t start, uint64_t n, uint64_t chunk,
      struct answer *a)
{
    unsigned code = check_query(h, start, n, chunk);

    if (code || handle_fault(h, LAB_FAULT_QUERY, &code))
        return code;
    if (handle_fault(h, LAB_FAULT_HANG_QUERY, &code))
        sleep_until(INT64_MAX);
    sleep_until(answer_due(0));
    if (atomic_load(&lib.shared->cuts) != h->cuts)
        return VDDK_CONN_LOST;
    atomic_fetch_add(&lib.shared->queries, 1);
    if (layers_allocated(h->chain, h->layers, start * VDDK_SECTOR,
                         (start + n) * VDDK_SECTOR, chunk * VDDK_SECTOR,
                         add_block, a))
        return VDDK_DISK_NOIO;
    if (handle_fault(h, LAB_FAULT_QUERY_BAD, &code)) {
        vec_push(&a->blocks, (struct vddk_block){ start, n });
        vec_push(&a->blocks, (struct vddk_block){ start + n - 1, chunk + 1 });
    }
    return VDDK_OK;
}

vddk_error
VixDiskLib_QueryAllocatedBlocks(vddk_handle p, uint64_t start, uint64_t n,
                                uint64_t chunk, struct vddk_block_list **out)
{
    defer_leave struct handle *h = handle_enter("QueryAllocatedBlocks", p);
    struct answer a = { 0 };
    unsigned code;

    rule_thread("QueryAllocatedBlocks", h->conn);
    rule_serial("QueryAllocatedBlocks");
    code = out ? query(h, start, n, chunk, &a) : VDDK_INVALID_ARG;
    if (!code) {
        size_t bytes = a.blocks.n * sizeof *a.blocks.p;

        *out = gift_new(GIFT_BLOCKS, sizeof **out + bytes);
        (*out)->num_blocks = (uint32_t)a.blocks.n;
        if (bytes)
            memcpy((*out)->blocks, a.blocks.p, bytes);
    }
    vec_fini(&a.blocks);
    rule_serial_end();
    return vddk_fail(code);
}

vddk_error
VixDiskLib_FreeBlockList(struct vddk_block_list *list)
{
    gift_free(GIFT_BLOCKS, list);
    return VDDK_OK;
}
