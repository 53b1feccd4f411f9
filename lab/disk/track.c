/* Tracking of changed blocks. */
#include "lab/disk/track.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define CHUNK_BLOCKS 4096u /* 256 MiB of disk in 16 KiB */

struct chunk {
    unsigned refs; /* tables that have it */
    uint32_t round[CHUNK_BLOCKS];
};

struct slot {
    struct chunk *chunk; /* NULL: all its blocks are as `fill` says */
    uint32_t fill;
};

struct track {
    uint64_t size; /* bytes */
    size_t n;
    struct slot *slots;
};

static size_t
slots_of(uint64_t size)
{
    uint64_t span = (uint64_t)CHUNK_BLOCKS * LDISK_BLOCK;

    return size / span + (size % span != 0);
}

struct track *
track_new(uint64_t size)
{
    struct track *t = xcalloc(1, sizeof *t);

    track_grow(t, size, 1);
    return t;
}

void
track_free(struct track *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++)
        if (t->slots[i].chunk && !--t->slots[i].chunk->refs)
            free(t->slots[i].chunk);
    free(t->slots);
    free(t);
}

struct track *
track_copy(const struct track *t)
{
    struct track *copy = xcalloc(1, sizeof *copy);

    *copy = *t;
    copy->slots = xcalloc(t->n, sizeof *t->slots);
    for (size_t i = 0; i < t->n; i++) {
        copy->slots[i] = t->slots[i];
        if (t->slots[i].chunk)
            t->slots[i].chunk->refs++;
    }
    return copy;
}

/* The chunk of its own that a table may write to. */
static struct chunk *
own_chunk(struct slot *s)
{
    struct chunk *c = s->chunk;

    if (c && c->refs == 1)
        return c;
    s->chunk = xmalloc(sizeof *s->chunk);
    s->chunk->refs = 1;
    for (size_t i = 0; i < CHUNK_BLOCKS; i++)
        s->chunk->round[i] = c ? c->round[i] : s->fill;
    if (c)
        c->refs--;
    return s->chunk;
}

static void
mark_block(struct track *t, uint64_t block, uint32_t round)
{
    own_chunk(&t->slots[block / CHUNK_BLOCKS])->round[block % CHUNK_BLOCKS] =
        round;
}

void
track_grow(struct track *t, uint64_t size, uint32_t round)
{
    size_t n = slots_of(size), old = t->n;
    uint64_t from = t->size / LDISK_BLOCK;

    t->slots = xrealloc(t->slots, n * sizeof *t->slots);
    for (size_t i = old; i < n; i++)
        t->slots[i] = (struct slot){ NULL, round };
    for (; from < (uint64_t)old * CHUNK_BLOCKS; from++)
        mark_block(t, from, round);
    t->n = n;
    t->size = size;
}

void
track_mark(struct track *t, uint64_t off, uint64_t n, uint32_t round)
{
    for (uint64_t b = off / LDISK_BLOCK; b * LDISK_BLOCK < off + n; b++)
        mark_block(t, b, round);
}

/* First block at or after `block` that was (not) written after `round`; the
 * number of blocks if there is none. */
static uint64_t
next_block(const struct track *t, uint64_t block, uint32_t round, bool changed)
{
    uint64_t n = (t->size + LDISK_BLOCK - 1) / LDISK_BLOCK;

    while (block < n) {
        const struct slot *s = &t->slots[block / CHUNK_BLOCKS];
        uint32_t at =
            s->chunk ? s->chunk->round[block % CHUNK_BLOCKS] : s->fill;

        if ((at > round) == changed)
            return block;
        block =
            s->chunk ? block + 1 : (block / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS;
    }
    return n;
}

void
track_areas(const struct track *t, uint32_t round, uint64_t start, unsigned max,
            struct ldisk_areas *out, uint64_t *length)
{
    uint64_t block = start / LDISK_BLOCK, from, to = start;
    size_t first = out->n; /* the caller may gather */

    *length = t->size - start;
    for (;;) {
        block = next_block(t, block, round, true);
        from = block * LDISK_BLOCK;
        if (from >= t->size)
            return;
        if (out->n - first >= max) {
            *length = to - start;
            return;
        }
        if (from < start)
            from = start;
        block = next_block(t, block, round, false);
        to = block * LDISK_BLOCK;
        if (to > t->size)
            to = t->size;
        vec_push(out, (struct ldisk_area){ from, to - from });
    }
}

void
track_new_epoch(char out[TRACK_EPOCH_MAX])
{
    unsigned char b[16];
    size_t n = 0;

    while (getrandom(b, sizeof b, 0) != sizeof b)
        if (errno != EINTR)
            abort();
    for (size_t i = 0; i < sizeof b; i++)
        n += (size_t)snprintf(out + n, TRACK_EPOCH_MAX - n, "%s%02x",
                              i == 0   ? ""
                              : i == 8 ? "-"
                                       : " ",
                              b[i]);
}

#define EPOCH_CHARS 47u

static bool
epoch_char_fits(char c, size_t i)
{
    if (i % 3 != 2)
        return isdigit((unsigned char)c) || (c >= 'a' && c <= 'f');
    return c == (i == 23 ? '-' : ' ');
}

int
track_parse(const char *change_id, char epoch[TRACK_EPOCH_MAX], uint64_t *round,
            struct err *e)
{
    size_t n = strlen(change_id);
    bool fits = n > EPOCH_CHARS + 1 && change_id[EPOCH_CHARS] == '/';

    for (size_t i = 0; fits && i < EPOCH_CHARS; i++)
        fits = epoch_char_fits(change_id[i], i);
    if (!fits)
        return err_set(e, ERR_USER, "changeId '%.60s' is malformed", change_id);
    memcpy(epoch, change_id, EPOCH_CHARS);
    epoch[EPOCH_CHARS] = '\0';
    return num_u64(change_id + EPOCH_CHARS + 1, 0, UINT32_MAX, round,
                   "changeId's sequence", e);
}
