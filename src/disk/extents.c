/* Extents: sorting, rounding and set operations. */
#include "disk/disk.h"

#include <assert.h>
#include <xxhash.h>

static uint64_t
end_of(const struct extent *x)
{
    return x->start + x->length;
}

static int
by_start(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

void
extents_add(struct extents *x, uint64_t start, uint64_t length)
{
    extents_add_near(x, start, length, 0);
}

void
extents_add_near(struct extents *x, uint64_t start, uint64_t length,
                 uint64_t gap)
{
    struct extent *last = x->n ? &x->p[x->n - 1] : NULL;

    assert(start + length >= start);
    if (!length)
        return;
    if (last && start >= last->start &&
        (start <= end_of(last) || start - end_of(last) < gap)) {
        if (start + length > end_of(last))
            last->length = start + length - last->start;
        return;
    }
    vec_push(x, (struct extent){ start, length });
}

void
extents_sort(struct extents *x)
{
    size_t n = x->n;

    if (!n)
        return;
    qsort(x->p, n, sizeof *x->p, by_start);
    x->n = 0;
    /* Never grows past what was read already. */
    for (size_t i = 0; i < n; i++)
        extents_add(x, x->p[i].start, x->p[i].length);
}

void
extents_round(struct extents *x, uint64_t size)
{
    size_t n = 0;

    assert(size <= DISK_SIZE_MAX);
    for (size_t i = 0; i < x->n; i++) {
        uint64_t start = x->p[i].start, end = end_of(&x->p[i]);

        if (!x->p[i].length || start >= size)
            continue;
        start -= start % DISK_BLOCK;
        if (end > size)
            end = size;
        end += (DISK_BLOCK - end % DISK_BLOCK) % DISK_BLOCK;
        if (end > size)
            end = size;
        x->p[n++] = (struct extent){ start, end - start };
    }
    x->n = n;
    extents_sort(x);
}

uint64_t
extents_total(const struct extents *x)
{
    uint64_t n = 0;

    for (size_t i = 0; i < x->n; i++)
        n += x->p[i].length;
    return n;
}

void
extents_coalesce(struct extents *x, uint64_t gap)
{
    size_t n = 0;

    for (size_t i = 0; i < x->n; i++) {
        if (n && x->p[i].start - end_of(&x->p[n - 1]) < gap)
            x->p[n - 1].length = end_of(&x->p[i]) - x->p[n - 1].start;
        else
            x->p[n++] = x->p[i];
    }
    x->n = n;
}

void
extents_union(const struct extents *a, const struct extents *b,
              struct extents *out)
{
    size_t i = 0, k = 0;

    out->n = 0;
    while (i < a->n || k < b->n) {
        const struct extent *x;

        if (k == b->n || (i < a->n && a->p[i].start <= b->p[k].start))
            x = &a->p[i++];
        else
            x = &b->p[k++];
        extents_add(out, x->start, x->length);
    }
}

void
extents_intersect(const struct extents *a, const struct extents *b,
                  struct extents *out)
{
    size_t i = 0, k = 0;

    out->n = 0;
    while (i < a->n && k < b->n) {
        const struct extent *x = &a->p[i], *y = &b->p[k];
        uint64_t start = x->start > y->start ? x->start : y->start;
        uint64_t end = end_of(x) < end_of(y) ? end_of(x) : end_of(y);

        if (start < end)
            extents_add(out, start, end - start);
        if (end_of(x) < end_of(y))
            i++;
        else
            k++;
    }
}

void
extents_subtract(const struct extents *a, const struct extents *b,
                 struct extents *out)
{
    size_t k = 0;

    out->n = 0;
    for (size_t i = 0; i < a->n; i++) {
        uint64_t at = a->p[i].start, end = end_of(&a->p[i]);

        while (k < b->n && end_of(&b->p[k]) <= at)
            k++;
        for (size_t j = k; j < b->n && b->p[j].start < end; j++) {
            if (b->p[j].start > at)
                extents_add(out, at, b->p[j].start - at);
            at = end_of(&b->p[j]);
        }
        if (at < end)
            extents_add(out, at, end - at);
    }
}

uint64_t
extents_digest(const struct extents *x)
{
    return XXH3_64bits(x->n ? (const void *)x->p : "", x->n * sizeof *x->p);
}
