/* The inside of a disk, for the files of this room. */
#ifndef LAB_DISK_INSIDE_H
#define LAB_DISK_INSIDE_H

#include <pthread.h>

#include "lab/disk/disk.h"
#include "lab/disk/file.h"
#include "lab/disk/layers.h"
#include "lab/disk/track.h"

struct version {
    unsigned number, holds;
    uint64_t size;
    char change_id[LDISK_CHANGE_MAX]; /* "": was not tracked */
    uint32_t round;                   /* the last one that it contains */
    struct track *track;
};

struct level {
    struct layer_file *file;
    struct version *version; /* frozen by it; NULL: the one being written */
};

struct ldisk {
    pthread_mutex_t lock;
    char *dir, *name, *base;
    uint64_t size;
    struct VEC(struct level) levels; /* the base first */
    unsigned versions, files;        /* numbers used up */
    unsigned holds, live_holds;      /* all of them; those of LDISK_NOW */
    struct VEC(char *) graves;       /* merged files a reader may still open */
    bool dead;                       /* freed while held */
    struct track *track;             /* NULL: off */
    char epoch[TRACK_EPOCH_MAX];
    uint32_t round; /* writes of now belong to it */
};

#define defer_unlock defer(ldisk_unlock)

static inline void
ldisk_unlock(pthread_mutex_t **lock)
{
    pthread_mutex_unlock(*lock);
}

/* Locked until the scope ends. */
#define LOCK(d)                                                     \
    defer_unlock __attribute__((unused)) pthread_mutex_t *locked_ = \
        ldisk_lock(d)

static inline pthread_mutex_t *
ldisk_lock(const struct ldisk *d)
{
    pthread_mutex_t *m = &((struct ldisk *)d)->lock;

    pthread_mutex_lock(m);
    return m;
}

/* Callers of these hold the lock. */

/* NULL when there is no such version. */
struct level *ldisk_find(const struct ldisk *d, unsigned version);
struct level *ldisk_must_find(const struct ldisk *d, unsigned version,
                              struct err *e);
uint64_t ldisk_size_at(const struct ldisk *d, const struct level *l);
/* The chain from that level down; returns its length. */
size_t ldisk_chain(const struct ldisk *d, const struct level *l,
                   struct layer chain[LAYERS_MAX]);
int ldisk_read_level(const struct ldisk *d, const struct level *l, void *buf,
                     uint64_t n, uint64_t off, struct err *e);

#endif
