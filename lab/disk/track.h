/* Tracking of changed blocks: for each block of LDISK_BLOCK bytes the round
 * in which it was written last.  A snapshot keeps a copy, which costs only the
 * chunks written since.  Not locked: the disk's lock guards it. */
#ifndef LAB_DISK_TRACK_H
#define LAB_DISK_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#include "lab/disk/disk.h"

#define TRACK_EPOCH_MAX 48 /* bytes of "52 f3 ... 8d ea 3e-58 ... 62" */

struct track;

/* All blocks of a new one count as written in round 1. */
struct track *track_new(uint64_t size);
void track_free(struct track *t);
struct track *track_copy(const struct track *t);
/* Blocks that come in count as written in `round`. */
void track_grow(struct track *t, uint64_t size, uint32_t round);
void track_mark(struct track *t, uint64_t off, uint64_t n, uint32_t round);
/* Areas written after `round`, from start on, at most max; *length as in
 * ldisk_changes. */
void track_areas(const struct track *t, uint32_t round, uint64_t start,
                 unsigned max, struct ldisk_areas *out, uint64_t *length);

void track_new_epoch(char out[TRACK_EPOCH_MAX]);
/* Takes "EPOCH/ROUND" apart. */
int track_parse(const char *change_id, char epoch[TRACK_EPOCH_MAX],
                uint64_t *round, struct err *e);

#endif
