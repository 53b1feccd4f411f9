/* What VDDK says is allocated, by a library that lies: never less may be read
 * than its sound answers say, and all of what they do not. */
#include "fuzz.h"
#include "base/log.h"
#include "copy/report.h"
#include "copy/source.h"
#include "copy/vddk_abi.h"

#include <fcntl.h>
#include <unistd.h>

#define BLOCKS_MAX   64u        /* of an answer */
#define READ_THROUGH (1u << 20) /* bytes; smaller holes are */

struct world {
    struct input in;
    uint64_t size;
    bool probed;
    struct extents want; /* what has to be read */
};

static bool
fill(struct input *in, struct vddk_block_list *l, uint64_t start)
{
    uint8_t how = input_u8(in);
    uint64_t at = start;

    l->num_blocks = how % BLOCKS_MAX;
    for (uint32_t i = 0; i < l->num_blocks; i++) {
        struct vddk_block *b = &l->blocks[i];

        if (how & 64) { /* anything */
            b->offset = input_u64(in);
            b->length = input_u64(in);
        } else { /* nearly right */
            b->offset = at + (uint64_t)input_u8(in) * 128;
            b->length = (uint64_t)input_u8(in) * 128;
            at = b->offset + b->length - (input_u8(in) == 255);
        }
    }
    if (how == 254)
        l->num_blocks = UINT32_MAX;
    return how != 255;
}

/* Sorted, apart, within the question. */
static bool
sound(const struct vddk_block_list *l, uint64_t start, uint64_t end)
{
    if (l->num_blocks > BLOCKS_MAX)
        return false;
    for (uint32_t i = 0; i < l->num_blocks; i++) {
        uint64_t at = l->blocks[i].offset, n = l->blocks[i].length;

        if (at < start || at > end || n > end - at)
            return false;
        start = at + n;
    }
    return true;
}

static int
answer(void *ctx, uint64_t start, uint64_t n, struct extents *out,
       struct err *e)
{
    struct world *w = ctx;
    struct vddk_block_list *l =
        xcalloc(1, sizeof *l + BLOCKS_MAX * sizeof *l->blocks);
    uint64_t from = start * VDDK_SECTOR, bytes = n * VDDK_SECTOR;
    bool said;
    int rc = 0;

    check(n && n % VDDK_MIN_CHUNK == 0 && start % VDDK_MIN_CHUNK == 0);
    check(n / VDDK_MIN_CHUNK <= VDDK_MAX_CHUNKS && from + bytes <= w->size);
    said = fill(&w->in, l, start);
    if (!said)
        rc = err_set(e, ERR_REMOTE, "no answer");
    said = said && sound(l, start, start + n);
    /* the first question is a trial of what comes then */
    if (!w->probed && !said)
        extents_add(&w->want, 0, w->size);
    for (uint32_t i = 0; w->probed && said && i < l->num_blocks; i++)
        vec_push(&w->want,
                 (struct extent){ l->blocks[i].offset * VDDK_SECTOR,
                                  l->blocks[i].length * VDDK_SECTOR });
    if (w->probed && !said)
        vec_push(&w->want, (struct extent){ from, bytes });
    w->probed = true;
    if (!rc)
        rc = vddk_blocks(l, start, n, out, e);
    free(l);
    return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint64_t sizes[] = {
        512,         63 << 10,   64 << 10,           (64 << 10) + 512,
        32ull << 30, 1ull << 36, (2ull << 40) + 512, DISK_SIZE_MAX,
    };
    static int nowhere = -1;
    struct world w = { .in = { data, n } };
    struct extents out = { 0 };
    struct err e = ERR_INIT;

    if (nowhere < 0)
        nowhere = open("/dev/null", O_WRONLY);
    report_to(nowhere);
    log_set_level(LOG_ERROR);
    w.size = sizes[input_u8(&w.in) % (sizeof sizes / sizeof *sizes)];
    check(!vddk_allocated(w.size, answer, &w, &out, &e));
    vec_push(&w.want, (struct extent){ w.size - w.size % DISK_BLOCK,
                                       w.size % DISK_BLOCK });
    extents_sort(&w.want);
    extents_coalesce(&w.want, READ_THROUGH);
    check(extents_digest(&w.want) == extents_digest(&out));
    check(!out.n || out.p[out.n - 1].start + out.p[out.n - 1].length <= w.size);
    extents_fini(&w.want);
    extents_fini(&out);
    return 0;
}
