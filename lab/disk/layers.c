/* Reading a chain of layers. */
#include "lab/disk/layers.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define NONE UINT64_MAX

static uint64_t
blocks_of(uint64_t size)
{
    return size / LAYERS_BLOCK + (size % LAYERS_BLOCK != 0);
}

size_t
layers_bitmap_bytes(uint64_t size)
{
    size_t n = blocks_of(size) / 8 + 8;

    return (n + 4095) & ~(size_t)4095;
}

static uint64_t
word(const struct layer *l, uint64_t i)
{
    return __atomic_load_n(&l->bits[i], __ATOMIC_ACQUIRE);
}

bool
layers_has(const struct layer *l, uint64_t block)
{
    if (!l->bits)
        return true;
    return block < blocks_of(l->size) &&
           (word(l, block / 64) >> block % 64 & 1);
}

size_t
layers_find(const struct layer *chain, size_t n, uint64_t block)
{
    for (size_t i = 0; i < n - 1; i++)
        if (layers_has(&chain[i], block))
            return i;
    return n - 1;
}

/* What lies beyond the end of the file is zero. */
static int
read_layer(const struct layer *l, char *buf, uint64_t len, uint64_t off)
{
    while (len) {
        ssize_t k = pread(l->fd, buf, len, (off_t)off);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -1;
        if (k == 0) {
            memset(buf, 0, len);
            return 0;
        }
        buf += k, off += (uint64_t)k, len -= (uint64_t)k;
    }
    return 0;
}

int
layers_pread(const struct layer *chain, size_t n, void *buf, uint64_t len,
             uint64_t off)
{
    char *p = buf;
    uint64_t end = off + len;

    while (off < end) {
        uint64_t block = off / LAYERS_BLOCK, stop;
        size_t l = layers_find(chain, n, block);

        if (n == 1)
            stop = end;
        else
            do
                stop = ++block * LAYERS_BLOCK;
            while (stop < end && layers_find(chain, n, block) == l);
        if (stop > end)
            stop = end;
        if (read_layer(&chain[l], p, stop - off, off))
            return -1;
        p += stop - off;
        off = stop;
    }
    return 0;
}

/* The data of one layer at or after a position. */
struct cursor {
    uint64_t start, end;
};

/* First block at or after `block` whose bit is `set`; the number of blocks
 * if there is none. */
static uint64_t
next_bit(const struct layer *l, uint64_t block, bool set)
{
    uint64_t n = blocks_of(l->size);

    while (block < n) {
        uint64_t w = word(l, block / 64);

        w = (set ? w : ~w) >> block % 64;
        if (w) {
            block += (uint64_t)__builtin_ctzll(w);
            break;
        }
        block = (block / 64 + 1) * 64;
    }
    return block < n ? block : n;
}

static int
seek_base(const struct layer *l, struct cursor *c, uint64_t pos)
{
    off_t data = lseek(l->fd, (off_t)pos, SEEK_DATA), hole;

    if (data < 0 && errno == ENXIO) {
        *c = (struct cursor){ NONE, NONE };
        return 0;
    }
    hole = data < 0 ? -1 : lseek(l->fd, data, SEEK_HOLE);
    if (hole < 0)
        return -1;
    *c = (struct cursor){ (uint64_t)data, (uint64_t)hole };
    return 0;
}

/* Moves the cursor to the data that reaches beyond pos. */
static int
seek_data(const struct layer *l, struct cursor *c, uint64_t pos)
{
    uint64_t block;

    if (c->end > pos)
        return 0;
    if (!l->bits)
        return seek_base(l, c, pos);
    block = next_bit(l, pos / LAYERS_BLOCK, true);
    if (block * LAYERS_BLOCK >= l->size) {
        *c = (struct cursor){ NONE, NONE };
        return 0;
    }
    c->start = block * LAYERS_BLOCK;
    c->end = next_bit(l, block, false) * LAYERS_BLOCK;
    return 0;
}

/* The next data of any layer, from pos on, rounded to chunks; gathered no
 * further than to limit. */
static int
next_area(const struct layer *chain, size_t n, struct cursor *c, uint64_t pos,
          uint64_t limit, uint64_t chunk, struct cursor *out)
{
    bool more = true;
    uint64_t start = NONE;

    for (size_t i = 0; i < n; i++) {
        if (seek_data(&chain[i], &c[i], pos))
            return -1;
        if (c[i].start < start)
            start = c[i].start;
    }
    *out = (struct cursor){ start, start };
    if (start == NONE)
        return 0;
    out->start = (start > pos ? start : pos) / chunk * chunk;
    out->end = out->start + chunk;
    while (more && out->end < limit) {
        more = false;
        for (size_t i = 0; i < n; i++) {
            if (seek_data(&chain[i], &c[i], out->end))
                return -1;
            if (c[i].start <= out->end && c[i].end != NONE) {
                out->end = (c[i].end + chunk - 1) / chunk * chunk;
                more = true;
            }
        }
    }
    return 0;
}

int
layers_allocated(const struct layer *chain, size_t n, uint64_t start,
                 uint64_t end, uint64_t chunk, layers_area_fn *fn, void *ctx)
{
    struct cursor c[LAYERS_MAX] = { 0 }, area;
    int rc;

    for (uint64_t pos = start; pos < end; pos = area.end) {
        if (next_area(chain, n, c, pos, end, chunk, &area))
            return -1;
        if (area.start >= end)
            break;
        if (area.end > end)
            area.end = end;
        rc = fn(ctx, area.start, area.end - area.start);
        if (rc)
            return rc;
    }
    return 0;
}
