/* What is in a disk: areas in use, changed areas, whole copies. */
#include "base/fs.h"
#include "base/mem.h"
#include "lab/disk/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

/* Whole content --------------------------------------------------------- */

static int
push_area(void *ctx, uint64_t start, uint64_t length)
{
    struct ldisk_areas *out = ctx;

    vec_push(out, (struct ldisk_area){ start, length });
    return 0;
}

static int
allocated(const struct ldisk *d, const struct level *l, uint64_t start,
          struct ldisk_areas *out, struct err *e)
{
    struct layer chain[LAYERS_MAX];
    size_t depth = ldisk_chain(d, l, chain);
    uint64_t from = start / LDISK_BLOCK * LDISK_BLOCK;

    if (layers_allocated(chain, depth, from, ldisk_size_at(d, l), LDISK_BLOCK,
                         push_area, out))
        return err_errno(e, errno, "looking for the data of disk %s", d->name);
    return 0;
}

int
ldisk_allocated(struct ldisk *d, unsigned version, struct ldisk_areas *out,
                struct err *e)
{
    LOCK(d);
    const struct level *l = ldisk_must_find(d, version, e);

    return l ? allocated(d, l, 0, out, e) : -1;
}

#define DUMP_BYTES (1u << 20) /* at a time */

static int
dump_area(struct ldisk *d, const struct level *l, struct ldisk_area a, int fd,
          char *buf, struct err *e)
{
    while (a.length) {
        uint64_t n = a.length < DUMP_BYTES ? a.length : DUMP_BYTES;

        if (ldisk_read_level(d, l, buf, n, a.start, e))
            return -1;
        if (fs_pwrite_all(fd, buf, n, (off_t)a.start))
            return err_errno(e, errno, "writing");
        a.start += n, a.length -= n;
    }
    return 0;
}

static int
dump_level(struct ldisk *d, const struct level *l, int fd, struct err *e)
{
    defer_free char *buf = xmalloc(DUMP_BYTES);
    struct ldisk_areas areas = { 0 };
    int rc = allocated(d, l, 0, &areas, e);

    for (size_t i = 0; !rc && i < areas.n; i++)
        rc = dump_area(d, l, areas.p[i], fd, buf, e);
    vec_fini(&areas);
    if (!rc && ftruncate(fd, (off_t)ldisk_size_at(d, l)))
        rc = err_errno(e, errno, "sizing");
    return rc;
}

int
ldisk_dump(struct ldisk *d, unsigned version, const char *path, struct err *e)
{
    LOCK(d);
    const struct level *l = ldisk_must_find(d, version, e);
    defer_close int fd = -1;

    if (!l)
        return -1;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, errno, "creating %s", path);
    if (dump_level(d, l, fd, e))
        return err_wrap(e, "dumping disk %s to %s", d->name, path);
    return 0;
}

/* Tracking -------------------------------------------------------------- */

void
ldisk_track(struct ldisk *d, bool on)
{
    LOCK(d);

    track_free(d->track);
    d->track = on ? track_new(d->size) : NULL;
    d->round = 1;
    if (on)
        track_new_epoch(d->epoch);
}

bool
ldisk_tracked(struct ldisk *d)
{
    LOCK(d);

    return d->track;
}

void
ldisk_change_id(struct ldisk *d, unsigned version, char out[LDISK_CHANGE_MAX])
{
    LOCK(d);
    const struct level *l = ldisk_find(d, version);

    if (!l || !d->track)
        out[0] = '\0';
    else if (l->version)
        memcpy(out, l->version->change_id, LDISK_CHANGE_MAX);
    else
        snprintf(out, LDISK_CHANGE_MAX, "%s/%" PRIu32, d->epoch, d->round - 1);
}

/* "*": what is in use, cut like changes. */
static int
areas_in_use(const struct ldisk *d, const struct level *l, uint64_t start,
             unsigned max, struct ldisk_areas *out, uint64_t *length,
             struct err *e)
{
    size_t first = out->n;

    if (allocated(d, l, start, out, e))
        return -1;
    if (out->n > first && out->p[first].start < start) {
        out->p[first].length -= start - out->p[first].start;
        out->p[first].start = start;
    }
    *length = ldisk_size_at(d, l) - start;
    if (out->n - first > max) {
        out->n = first + max;
        *length = out->p[out->n - 1].start + out->p[out->n - 1].length - start;
    }
    return 0;
}

static int
areas_since(const struct ldisk *d, const struct level *l, const char *change_id,
            uint64_t start, unsigned max, struct ldisk_areas *out,
            uint64_t *length, struct err *e)
{
    const struct track *t = l->version ? l->version->track : d->track;
    uint32_t newest = l->version ? l->version->round : d->round - 1;
    char epoch[TRACK_EPOCH_MAX];
    uint64_t round;

    if (track_parse(change_id, epoch, &round, e))
        return -1;
    if (!t)
        return err_set(e, ERR_NOTFOUND, "disk %s: that version is not tracked",
                       d->name);
    if (strcmp(epoch, d->epoch) ||
        (l->version && !str_starts(l->version->change_id, d->epoch)))
        return err_set(e, ERR_DAMAGED, "disk %s: changeId of another epoch",
                       d->name);
    if (round > newest)
        return err_set(e, ERR_DAMAGED,
                       "disk %s: changeId is younger than the version",
                       d->name);
    track_areas(t, (uint32_t)round, start, max, out, length);
    return 0;
}

int
ldisk_changes(struct ldisk *d, unsigned version, const char *change_id,
              uint64_t start, unsigned max, struct ldisk_areas *out,
              uint64_t *length, struct err *e)
{
    LOCK(d);
    const struct level *l = ldisk_must_find(d, version, e);

    if (!l)
        return -1;
    if (start >= ldisk_size_at(d, l) || !max)
        return err_set(e, ERR_USER, "disk %s: no changes from %" PRIu64 " on",
                       d->name, start);
    if (!d->track)
        return err_set(e, ERR_NOTFOUND, "disk %s is not tracked", d->name);
    return strcmp(change_id, "*")
               ? areas_since(d, l, change_id, start, max, out, length, e)
               : areas_in_use(d, l, start, max, out, length, e);
}
