/* A virtual disk of the lab: its chain of layers and its versions. */
#include "lab/disk/disk.h"
#include "base/mem.h"
#include "lab/disk/inside.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

_Static_assert(LAYERS_BLOCK == LDISK_BLOCK, "one block size");

/* Making and freeing ---------------------------------------------------- */

struct ldisk *
ldisk_new(const char *dir, const char *name, uint64_t size, struct err *e)
{
    struct layer_file *base;
    struct ldisk *d;

    if (!size || size % 512 || size > INT64_MAX) {
        err_set(e, ERR_USER, "disk %s: %" PRIu64 " is no multiple of 512", name,
                size);
        return NULL;
    }
    base = layer_file_new(dir, name, 0, size, e);
    if (!base)
        return NULL;
    d = xcalloc(1, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    d->dir = xstrdup(dir);
    d->name = xstrdup(name);
    d->base = xstrdup(base->data);
    d->size = size;
    vec_push(&d->levels, (struct level){ base, NULL });
    return d;
}

static void
version_free(struct version *v)
{
    if (!v)
        return;
    track_free(v->track);
    free(v);
}

static void
bury(struct ldisk *d)
{
    for (size_t i = 0; i < d->graves.n; i++) {
        unlink(d->graves.p[i]);
        free(d->graves.p[i]);
    }
    d->graves.n = 0;
}

static void
destroy(struct ldisk *d)
{
    bury(d);
    for (size_t i = 0; i < d->levels.n; i++) {
        layer_file_free(d->levels.p[i].file);
        version_free(d->levels.p[i].version);
    }
    track_free(d->track);
    vec_fini(&d->levels);
    vec_fini(&d->graves);
    pthread_mutex_destroy(&d->lock);
    free(d->dir);
    free(d->name);
    free(d->base);
    free(d);
}

void
ldisk_free(struct ldisk *d)
{
    bool held;

    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    held = d->dead = d->holds > 0;
    pthread_mutex_unlock(&d->lock);
    if (!held)
        destroy(d);
}

/* Looking things up ----------------------------------------------------- */

static struct level *
top(const struct ldisk *d)
{
    return &d->levels.p[d->levels.n - 1];
}

struct level *
ldisk_find(const struct ldisk *d, unsigned version)
{
    if (version == LDISK_NOW)
        return top(d);
    for (size_t i = 0; i < d->levels.n - 1; i++)
        if (d->levels.p[i].version->number == version)
            return &d->levels.p[i];
    return NULL;
}

struct level *
ldisk_must_find(const struct ldisk *d, unsigned version, struct err *e)
{
    struct level *l = ldisk_find(d, version);

    if (!l)
        err_set(e, ERR_NOTFOUND, "disk %s has no version %u", d->name, version);
    return l;
}

uint64_t
ldisk_size_at(const struct ldisk *d, const struct level *l)
{
    return l->version ? l->version->size : d->size;
}

size_t
ldisk_chain(const struct ldisk *d, const struct level *l,
            struct layer chain[LAYERS_MAX])
{
    size_t n = (size_t)(l - d->levels.p) + 1;

    for (size_t i = 0; i < n; i++)
        chain[i] = d->levels.p[n - 1 - i].file->layer;
    return n;
}

const char *
ldisk_base(const struct ldisk *d)
{
    return d->base;
}

uint64_t
ldisk_size(const struct ldisk *d)
{
    LOCK(d);

    return d->size;
}

uint64_t
ldisk_version_size(struct ldisk *d, unsigned version)
{
    LOCK(d);
    const struct level *l = ldisk_find(d, version);

    return l ? ldisk_size_at(d, l) : 0;
}

void
ldisk_file(struct ldisk *d, unsigned version, char *out, unsigned n)
{
    LOCK(d);
    const struct level *l = ldisk_find(d, version);

    if (!l)
        out[0] = '\0';
    else if (!l->file->number)
        snprintf(out, n, "%s.vmdk", d->name);
    else
        snprintf(out, n, "%s-%06u.vmdk", d->name, l->file->number);
}

/* Reading and writing --------------------------------------------------- */

static int
check_range(const struct ldisk *d, uint64_t size, uint64_t n, uint64_t off,
            struct err *e)
{
    if (n % 512 || off % 512 || off > size || n > size - off)
        return err_set(e, ERR_USER,
                       "disk %s: %" PRIu64 " bytes at %" PRIu64
                       " do not fit its sectors",
                       d->name, n, off);
    return 0;
}

int
ldisk_read_level(const struct ldisk *d, const struct level *l, void *buf,
                 uint64_t n, uint64_t off, struct err *e)
{
    struct layer chain[LAYERS_MAX];
    size_t depth = ldisk_chain(d, l, chain);

    if (layers_pread(chain, depth, buf, n, off))
        return err_errno(e, errno, "reading disk %s", d->name);
    return 0;
}

int
ldisk_read(struct ldisk *d, unsigned version, void *buf, uint64_t n,
           uint64_t off, struct err *e)
{
    LOCK(d);
    const struct level *l = ldisk_must_find(d, version, e);

    if (!l || check_range(d, ldisk_size_at(d, l), n, off, e))
        return -1;
    return ldisk_read_level(d, l, buf, n, off, e);
}

/* Writes a part of one block which the top layer may not have yet. */
static int
write_part(struct ldisk *d, const void *buf, uint64_t n, uint64_t off,
           struct err *e)
{
    struct layer_file *f = top(d)->file;
    uint64_t block = off / LDISK_BLOCK, start = block * LDISK_BLOCK;
    uint64_t whole = d->size - start;
    defer_free char *copy = NULL;

    if (layers_has(&f->layer, block))
        return layer_file_put(f, buf, n, off, e);
    if (whole > LDISK_BLOCK)
        whole = LDISK_BLOCK;
    copy = xmalloc(LDISK_BLOCK);
    if (n < whole && ldisk_read_level(d, top(d), copy, whole, start, e))
        return -1;
    memcpy(copy + (off - start), buf, n);
    return layer_file_put(f, copy, whole, start, e);
}

int
ldisk_write(struct ldisk *d, const void *buf, uint64_t n, uint64_t off,
            struct err *e)
{
    LOCK(d);
    const char *p = buf;

    if (check_range(d, d->size, n, off, e))
        return -1;
    if (d->track && n)
        track_mark(d->track, off, n, d->round);
    while (n) {
        uint64_t in_block = off % LDISK_BLOCK, k = n;
        int rc;

        if (!top(d)->file->layer.bits)
            rc = layer_file_put(top(d)->file, p, k, off, e);
        else if (!in_block && n >= LDISK_BLOCK)
            rc = layer_file_put(top(d)->file, p, k -= k % LDISK_BLOCK, off, e);
        else {
            if (k > LDISK_BLOCK - in_block)
                k = LDISK_BLOCK - in_block;
            rc = write_part(d, p, k, off, e);
        }
        if (rc)
            return -1;
        p += k, off += k, n -= k;
    }
    return 0;
}

int
ldisk_grow(struct ldisk *d, uint64_t size, struct err *e)
{
    LOCK(d);

    if (size < d->size || size % 512 || size > INT64_MAX)
        return err_set(e, ERR_USER,
                       "disk %s of %" PRIu64 " bytes cannot become %" PRIu64,
                       d->name, d->size, size);
    if (layer_file_grow(top(d)->file, size, e))
        return -1;
    if (d->track)
        track_grow(d->track, size, d->round);
    d->size = size;
    return 0;
}

/* Versions -------------------------------------------------------------- */

static struct version *
version_of_now(struct ldisk *d)
{
    struct version *v = xcalloc(1, sizeof *v);

    v->number = ++d->versions;
    v->size = d->size;
    if (d->track) {
        v->round = d->round;
        v->track = track_copy(d->track);
        snprintf(v->change_id, sizeof v->change_id, "%s/%" PRIu32, d->epoch,
                 d->round++);
    }
    return v;
}

int
ldisk_snapshot(struct ldisk *d, unsigned *version, struct err *e)
{
    LOCK(d);
    struct layer_file *f;

    if (d->levels.n == LAYERS_MAX)
        return err_set(e, ERR_USER, "disk %s has %u layers already; drop some",
                       d->name, LAYERS_MAX);
    f = layer_file_new(d->dir, d->name, d->files + 1, d->size, e);
    if (!f)
        return -1;
    d->files++;
    top(d)->version = version_of_now(d);
    *version = top(d)->version->number;
    vec_push(&d->levels, (struct level){ f, NULL });
    return 0;
}

int
ldisk_drop(struct ldisk *d, unsigned version, struct err *e)
{
    LOCK(d);
    struct level *l = version ? ldisk_must_find(d, version, e) : NULL, *above;

    if (!version)
        return err_set(e, ERR_USER, "disk %s: the present cannot be dropped",
                       d->name);
    if (!l)
        return -1;
    if (l->version->holds || d->live_holds)
        return err_set(e, ERR_BUSY, "disk %s: version %u is open", d->name,
                       version);
    above = l + 1;
    if (layer_file_merge(l->file, above->file, e))
        return err_wrap(e, "dropping version %u of disk %s", version, d->name);
    vec_push(&d->graves, xstrdup(above->file->data));
    vec_push(&d->graves, xstrdup(above->file->map));
    if (!d->holds)
        bury(d);
    layer_file_free(above->file);
    version_free(l->version);
    l->version = above->version;
    memmove(above, above + 1, (size_t)(top(d) - above) * sizeof *above);
    d->levels.n--;
    return 0;
}

int
ldisk_hold(struct ldisk *d, unsigned version, struct str *layers, struct err *e)
{
    LOCK(d);
    struct level *l = ldisk_must_find(d, version, e);

    if (!l)
        return -1;
    if (l->version)
        l->version->holds++;
    else
        d->live_holds++;
    d->holds++;
    for (; l >= d->levels.p; l--)
        str_addf(layers, "%s\n%s\n", l->file->data,
                 l->file->map ? l->file->map : "");
    return 0;
}

void
ldisk_release(struct ldisk *d, unsigned version)
{
    bool last;

    pthread_mutex_lock(&d->lock);
    if (version)
        ldisk_find(d, version)->version->holds--;
    else
        d->live_holds--;
    if (!--d->holds)
        bury(d);
    last = d->dead && !d->holds;
    pthread_mutex_unlock(&d->lock);
    if (last)
        destroy(d);
}
