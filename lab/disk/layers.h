/* Reading a chain of layers: what the lab and its VDDK library have in
 * common.  A layer is a sparse raw file; of all but the base a bitmap tells
 * which blocks of LDISK_BLOCK bytes it holds, one bit each, in 64-bit words
 * of this machine. */
#ifndef LAB_DISK_LAYERS_H
#define LAB_DISK_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYERS_BLOCK 65536u
#define LAYERS_MAX   64u /* in one chain */

struct layer {
    int fd;
    const uint64_t *bits; /* NULL: the base, which holds all */
    uint64_t size;        /* bytes; beyond it there are zeroes */
};

/* Bytes of the bitmap of a disk of that size, whole pages. */
size_t layers_bitmap_bytes(uint64_t size);
bool layers_has(const struct layer *l, uint64_t block);
/* All three take the chain from the top down, the last one is the base. */

/* The layer that holds a block. */
size_t layers_find(const struct layer *chain, size_t n, uint64_t block);
/* 0, or -1 with errno. */
int layers_pread(const struct layer *chain, size_t n, void *buf, uint64_t len,
                 uint64_t off);

/* Returning other than 0 ends the walk with that value. */
typedef int layers_area_fn(void *ctx, uint64_t start, uint64_t length);
/* Areas of [start, end) that hold data, in whole chunks but for the end of
 * the range, in order, merged.  start is a multiple of chunk. */
int layers_allocated(const struct layer *chain, size_t n, uint64_t start,
                     uint64_t end, uint64_t chunk, layers_area_fn *fn,
                     void *ctx);

#endif
