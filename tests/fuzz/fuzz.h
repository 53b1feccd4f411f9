/* What the fuzz targets share: a cursor over the input, and a check that is
 * never compiled out. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define check(x)                                                            \
    do {                                                                    \
        if (!(x)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                        \
        }                                                                   \
    } while (0)

/* An input that ended reads as zeroes. */
struct input {
    const uint8_t *p;
    size_t n;
};

static inline void
input_take(struct input *in, void *to, size_t n)
{
    size_t k = n < in->n ? n : in->n;

    memset(to, 0, n);
    if (k)
        memcpy(to, in->p, k);
    in->p += k;
    in->n -= k;
}

static inline uint8_t
input_u8(struct input *in)
{
    uint8_t x;

    input_take(in, &x, sizeof x);
    return x;
}

static inline uint64_t
input_u64(struct input *in)
{
    uint64_t x;

    input_take(in, &x, sizeof x);
    return x;
}

/* What libFuzzer calls. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#endif
