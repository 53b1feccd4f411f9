/* One layer on disk. */
#include "lab/disk/file.h"
#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define COPY_BLOCKS 16u /* copied at a time: 1 MiB */

static uint64_t *
bits_of(const struct layer_file *f)
{
    return (uint64_t *)f->layer.bits;
}

static void
unmap_bits(struct layer_file *f)
{
    if (f->layer.bits)
        munmap(bits_of(f), layers_bitmap_bytes(f->layer.size));
    f->layer.bits = NULL;
}

static int
map_bits(struct layer_file *f, uint64_t size, struct err *e)
{
    defer_close int fd = open(f->map, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    size_t n = layers_bitmap_bytes(size);
    void *p;

    if (fd < 0 || ftruncate(fd, (off_t)n))
        return err_errno(e, errno, "sizing the bitmap %s", f->map);
    p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, errno, "mapping the bitmap %s", f->map);
    unmap_bits(f);
    f->layer.bits = p;
    return 0;
}

int
layer_file_grow(struct layer_file *f, uint64_t size, struct err *e)
{
    if (ftruncate(f->layer.fd, (off_t)size))
        return err_errno(e, errno, "sizing %s", f->data);
    if (f->map && map_bits(f, size, e))
        return -1;
    f->layer.size = size;
    return 0;
}

struct layer_file *
layer_file_new(const char *dir, const char *name, unsigned number,
               uint64_t size, struct err *e)
{
    struct layer_file *f = xcalloc(1, sizeof *f);

    f->number = number;
    if (number) {
        f->data = xasprintf("%s/%s-%06u-delta.raw", dir, name, number);
        f->map = xasprintf("%s/%s-%06u-delta.map", dir, name, number);
    } else {
        f->data = xasprintf("%s/%s-flat.raw", dir, name);
    }
    f->layer.fd = open(f->data, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (f->layer.fd < 0)
        err_errno(e, errno, "creating %s", f->data);
    else if (!layer_file_grow(f, size, e))
        return f;
    layer_file_free(f);
    return NULL;
}

void
layer_file_free(struct layer_file *f)
{
    if (!f)
        return;
    unmap_bits(f);
    if (f->layer.fd >= 0)
        close(f->layer.fd);
    free(f->data);
    free(f->map);
    free(f);
}

int
layer_file_put(struct layer_file *f, const void *buf, uint64_t n, uint64_t off,
               struct err *e)
{
    if (fs_pwrite_all(f->layer.fd, buf, n, (off_t)off))
        return err_errno(e, errno, "writing %s", f->data);
    if (!f->layer.bits)
        return 0;
    for (uint64_t b = off / LAYERS_BLOCK; b * LAYERS_BLOCK < off + n; b++)
        __atomic_fetch_or(&bits_of(f)[b / 64], 1ull << b % 64,
                          __ATOMIC_RELEASE);
    return 0;
}

struct merge {
    struct layer_file *to;
    const struct layer_file *from;
    char *buf;
    struct err *e;
};

static int
merge_area(void *ctx, uint64_t start, uint64_t length)
{
    struct merge *m = ctx;

    while (length) {
        uint64_t max = (uint64_t)COPY_BLOCKS * LAYERS_BLOCK;
        uint64_t n = length < max ? length : max;

        if (layers_pread(&m->from->layer, 1, m->buf, n, start))
            return err_errno(m->e, errno, "reading %s", m->from->data);
        if (layer_file_put(m->to, m->buf, n, start, m->e))
            return -1;
        start += n, length -= n;
    }
    return 0;
}

int
layer_file_merge(struct layer_file *f, const struct layer_file *from,
                 struct err *e)
{
    defer_free char *buf = xmalloc((size_t)COPY_BLOCKS * LAYERS_BLOCK);
    struct merge m = { f, from, buf, e };

    if (from->layer.size > f->layer.size &&
        layer_file_grow(f, from->layer.size, e))
        return -1;
    return layers_allocated(&from->layer, 1, 0, from->layer.size, LAYERS_BLOCK,
                            merge_area, &m);
}
