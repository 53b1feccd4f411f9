/* Memory for what is in flight: pieces of whole blocks out of one area of a
 * fixed size.  The lowest place that fits is taken, so that what is used again
 * soon is likely still in the processor's cache. */
#include "copy/pace.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int
arena_init(struct arena *a, struct err *e)
{
    void *mem = mmap(NULL, COPY_BUFFERS, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *a = (struct arena){ 0 };
    if (mem == MAP_FAILED)
        return err_errno(e, errno, "taking %u bytes for buffers", COPY_BUFFERS);
    a->mem = mem;
    return 0;
}

void
arena_fini(struct arena *a)
{
    if (a->mem)
        munmap(a->mem, COPY_BUFFERS);
    a->mem = NULL;
}

uint8_t *
arena_take(struct arena *a, unsigned blocks)
{
    unsigned run = 0;

    assert(blocks && blocks <= ARENA_BLOCKS);
    if (blocks > ARENA_BLOCKS - a->used)
        return NULL;
    for (unsigned i = 0; i < ARENA_BLOCKS; i++) {
        run = a->taken[i] ? 0 : run + 1;
        if (run < blocks)
            continue;
        memset(&a->taken[i + 1 - blocks], 1, blocks);
        a->used += blocks;
        return a->mem + (size_t)(i + 1 - blocks) * DISK_BLOCK;
    }
    return NULL;
}

void
arena_give(struct arena *a, const uint8_t *p, unsigned blocks)
{
    size_t first = (size_t)(p - a->mem) / DISK_BLOCK;

    assert(first + blocks <= ARENA_BLOCKS && a->taken[first]);
    memset(&a->taken[first], 0, blocks);
    a->used -= blocks;
}
