/* A virtual disk of the lab: a flat base file and delta layers on top of it,
 * as vSphere keeps them.  A layer is frozen by a snapshot and never changes
 * while a reader may look at it.  Also keeps the tracking of changed blocks.
 * All calls are safe from any thread (one lock per disk). */
#ifndef LAB_DISK_H
#define LAB_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "base/vec.h"

#define LDISK_BLOCK      65536u /* of tracking and of the layers' bitmaps */
#define LDISK_NOW        0u     /* "version" of the live content */
#define LDISK_CHANGE_MAX 64     /* bytes of a changeId with NUL */

struct ldisk;

struct ldisk_area {
    uint64_t start, length; /* bytes */
};
struct ldisk_areas VEC(struct ldisk_area);

/* Creates DIR/NAME-flat.raw, size bytes of zeroes (sparse); size is any
 * multiple of 512.  The base may be filled by the caller before first use. */
struct ldisk *ldisk_new(const char *dir, const char *name, uint64_t size,
                        struct err *e);
/* Waits for nobody: what readers hold lives until they release it. */
void ldisk_free(struct ldisk *d);
const char *ldisk_base(const struct ldisk *d); /* path of the flat file */
uint64_t ldisk_size(const struct ldisk *d);
/* Size when that version was taken; 0: no such version. */
uint64_t ldisk_version_size(struct ldisk *d, unsigned version);
/* "NAME.vmdk" or "NAME-000002.vmdk": the file that holds that version's top
 * layer; for LDISK_NOW the one being written. */
void ldisk_file(struct ldisk *d, unsigned version, char *out, unsigned n);

/* What the guest does.  Offsets and lengths are multiples of 512. */
int ldisk_write(struct ldisk *d, const void *buf, uint64_t n, uint64_t off,
                struct err *e);
int ldisk_read(struct ldisk *d, unsigned version, void *buf, uint64_t n,
               uint64_t off, struct err *e);
int ldisk_grow(struct ldisk *d, uint64_t size, struct err *e);

/* Freezes the content; versions count from 1 and are never used again. */
int ldisk_snapshot(struct ldisk *d, unsigned *version, struct err *e);
/* Merges the layer above into it.  BUSY while a reader has it open. */
int ldisk_drop(struct ldisk *d, unsigned version, struct err *e);
/* Writes the whole content of a version to path as a sparse raw file. */
int ldisk_dump(struct ldisk *d, unsigned version, const char *path,
               struct err *e);

/* Tracking.  On: a new epoch, everything before counts as changed.  Off: no
 * changeId any more.  A snapshot taken while on has a changeId. */
void ldisk_track(struct ldisk *d, bool on);
bool ldisk_tracked(struct ldisk *d);
/* "" if that version has none. */
void ldisk_change_id(struct ldisk *d, unsigned version,
                     char out[LDISK_CHANGE_MAX]);
/* Areas written after change_id and before the snapshot `version`, from
 * `start` on, at most max of them; *length: how far the answer reaches (to
 * the end of the disk when the limit was not met).  change_id "*": areas in
 * use.  USER: malformed; DAMAGED: another epoch or from the future; NOTFOUND:
 * not tracked. */
int ldisk_changes(struct ldisk *d, unsigned version, const char *change_id,
                  uint64_t start, unsigned max, struct ldisk_areas *out,
                  uint64_t *length, struct err *e);
/* Areas of the version that hold data, in whole LDISK_BLOCKs. */
int ldisk_allocated(struct ldisk *d, unsigned version, struct ldisk_areas *out,
                    struct err *e);

/* Readers in other processes: pairs of paths "data\nbitmap" from the top
 * layer down, the last (base) with an empty bitmap path.  Released by
 * ldisk_release; while held, ldisk_drop of that version is BUSY. */
int ldisk_hold(struct ldisk *d, unsigned version, struct str *layers,
               struct err *e);
void ldisk_release(struct ldisk *d, unsigned version);

#endif
