/* The state machine: one VM from its first snapshot to the target. */
#ifndef MIGRATE_MIGRATE_H
#define MIGRATE_MIGRATE_H

#include <signal.h>

#include "base/err.h"
#include "base/str.h"
#include "cloud/cloud.h"
#include "job/job.h"

/* A disk as the copier is to read it. */
struct source_disk {
    const char *server, *thumbprint; /* of the session that found the VM */
    uint16_t port;
    const char *vm, *snapshot, *path;
};

/* The way to read disks; its maker is named in main alone. */
struct reader_ops {
    const char *name;
    /* Is everything there that reading needs?  Touches nothing. */
    int (*check)(const struct config *c, struct err *e);
    /* "LD_LIBRARY_PATH=..." for the copier, or NULL; caller frees. */
    char *(*environment)(const struct config *c);
    /* Adds the copier's `source.` lines. */
    void (*describe)(const struct config *c, const struct source_disk *d,
                     struct str *request);
};

struct migrate_opts {
    const struct config *config;
    const struct spec *spec;
    const struct reader_ops *source;
    const struct cloud_ops *cloud;
    const char *copier;                /* path of v2c-copy */
    const volatile sig_atomic_t *stop; /* non-zero: stop cleanly */
    /* Called a few times a second and at each change; may be NULL. */
    void (*report)(void *ctx, const char *dir, const struct record *r);
    void *ctx;
};

/* To the end, or as far as it goes.  ERR_STOPPED when asked to stop: the same
 * call later continues.  A VM that is done already is success. */
int migrate_run(const struct migrate_opts *o, struct err *e);

#endif
