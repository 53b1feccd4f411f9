/* The vocabulary of the data plane: extents of a disk, and the block map that
 * says which of its blocks are on the target. */
#ifndef DISK_DISK_H
#define DISK_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"

#define DISK_BLOCK    65536u /* bytes; the unit of plans and of the map */
#define DISK_SECTOR   512u   /* bytes; every disk size is a multiple */
#define DISK_SIZE_MAX (64ull << 40) /* bytes; vSphere's own limit is 62 TiB */

/* extents.c ------------------------------------------------------------ */

/* Bytes.  start + length never overflows. */
struct extent {
    uint64_t start, length;
};
struct extents VEC(struct extent);

static inline void
extents_fini(struct extents *x)
{
    vec_fini(x);
}
#define defer_extents defer(extents_fini)

/* "Tidy" below: sorted by start, not empty, neither overlapping nor touching.
 */

/* Makes x tidy. */
void extents_sort(struct extents *x);
/* Adds at the end; one that overlaps or touches the last is merged into it. */
void extents_add(struct extents *x, uint64_t start, uint64_t length);
/* The same, and a gap before it shorter than `gap` is added as well. */
void extents_add_near(struct extents *x, uint64_t start, uint64_t length,
                      uint64_t gap);
/* Makes x tidy, each end rounded out to DISK_BLOCK and clipped to size. */
void extents_round(struct extents *x, uint64_t size);
uint64_t extents_total(const struct extents *x);
/* Fills in the gaps shorter than `gap` of a tidy x. */
void extents_coalesce(struct extents *x, uint64_t gap);
/* a and b tidy; out, emptied first, is neither of them and becomes tidy. */
void extents_union(const struct extents *a, const struct extents *b,
                   struct extents *out);
void extents_intersect(const struct extents *a, const struct extents *b,
                       struct extents *out);
void extents_subtract(const struct extents *a, const struct extents *b,
                      struct extents *out);
/* XXH3-64 of a tidy x; equal for equal areas. */
uint64_t extents_digest(const struct extents *x);

/* map.c, map_file.c, map_prove.c, map_read.c ----------------------------- */

/* File `disk-<key>.map`, little-endian:
 *
 *   bytes 0 and 4096   two header slots (struct map_slot in map_file.h).  The
 *                      valid one with the higher generation counts; a new
 *                      header goes to the other slot, so that a torn write
 *                      leaves the old one.
 *   bytes 8192...      pages of 4096 bytes for MAP_PAGE_BLOCKS blocks each:
 *                      XXH3-64 (seeded by the page's number) of what follows,
 *                      the hashes, the flags.
 *
 * A page of zeroes, or one past the end of the file, knows nothing of its
 * blocks.  A page whose sum is wrong was torn: all its blocks are MAP_DIRTY,
 * none is MAP_COPIED. */

enum map_flags {
    MAP_COPIED = 1, /* on the target's stable storage, with this hash */
    MAP_ZERO = 2,   /* of zeroes only */
    MAP_DIRTY = 4,  /* to be copied (again); with MAP_COPIED: it had this hash
                     * when its round began, a write may have begun since */
    /* With MAP_COPIED and never with MAP_DIRTY: it was read back from the
     * target and had this hash; whatever is written there takes it away. */
    MAP_VERIFIED = 8,
};

#define MAP_PAGE_BLOCKS   454u
#define MAP_DISK_ID_MAX   256u /* bytes with the NUL; so are the others */
#define MAP_TARGET_ID_MAX 1024u
#define MAP_PLAN_ID_MAX   256u

struct map_head {
    uint64_t size;   /* of the disk, bytes */
    uint64_t digest; /* of the current plan; only equality says something */
    bool zeroed;     /* the target was known to be zero at birth */
    bool holes_zero; /* blocks the pages know nothing of are zero on the
                      * target: they count as MAP_COPIED | MAP_ZERO */
    char disk_id[MAP_DISK_ID_MAX];
    char target_id[MAP_TARGET_ID_MAX];
    char plan[MAP_PLAN_ID_MAX]; /* current plan; "": none was begun */
    char born[MAP_PLAN_ID_MAX]; /* the first plan, while it is the only one;
                                 * "" once another was begun */
};

struct map_entry {
    uint64_t hash; /* 0 without MAP_COPIED */
    uint8_t flags; /* enum map_flags */
};

struct map_change {
    uint64_t block;
    struct map_entry entry;
};

/* Blocks of a disk, and bytes of one of them (the last may be shorter). */
uint64_t disk_blocks(uint64_t size);
uint32_t disk_block_bytes(uint64_t size, uint64_t block);
/* XXH3-64 of n bytes; of n <= DISK_BLOCK zeroes. */
uint64_t disk_hash(const void *p, size_t n);
uint64_t disk_zero_hash(size_t n);
/* n > 0. */
bool disk_is_zero(const void *p, size_t n);

struct map;

/* Opens the map for writing, made if it is not there, with an exclusive lock
 * (ERR_BUSY if another has it).  One that does not fit disk_id, size or
 * target_id is refused: ERR_DAMAGED, saying which.  A text too long is
 * ERR_USER. */
int map_open(struct map **m, const char *path, const char *disk_id,
             uint64_t size, const char *target_id, struct err *e);
/* As map_open; one that is not there is ERR_NOTFOUND. */
int map_open_old(struct map **m, const char *path, const char *disk_id,
                 uint64_t size, const char *target_id, struct err *e);
void map_close(struct map *m);
DEFER_FN(map_close_ptr, struct map, map_close)
const struct map_head *map_head(const struct map *m);
/* Pages are read through a small cache; blocks in order are cheap. */
int map_get(struct map *m, uint64_t block, struct map_entry *out,
            struct err *e);
/* out, emptied first: all areas that are MAP_DIRTY or torn, and, if asked for,
 * those that never were MAP_COPIED; tidy. */
int map_dirty(struct map *m, bool uncopied, struct extents *out, struct err *e);
/* Bytes of the blocks that x (sorted) touches and that are not MAP_COPIED, or
 * are MAP_DIRTY; *first (may be NULL) is where they begin, if there are. */
int map_left(struct map *m, const struct extents *x, uint64_t *left,
             uint64_t *first, struct err *e);
/* Begins a round: marks what is MAP_COPIED of `plan` (tidy, whole blocks) as
 * MAP_DIRTY, makes that stable, then makes the plan's id and digest stable.
 * What was MAP_DIRTY before is no longer MAP_COPIED: its hash says nothing.
 * `zeroed` counts for a map without a plan only. */
int map_begin(struct map *m, const char *plan_id, uint64_t digest,
              const struct extents *plan, bool zeroed, struct err *e);
/* Puts the entries in: stable once a map_sync that began later has ended.
 * Sorts c. */
int map_apply(struct map *m, struct map_change *c, size_t n, struct err *e);
/* Makes all that was put in stable.  Any thread, while none closes m. */
int map_sync(const struct map *m, struct err *e);
/* What is known of a block, without its hash: cheap, also for holes. */
struct map_look {
    uint8_t flags;
    bool implied; /* no entry of its own: `holes_zero` says it */
    bool torn;
};
int map_look(struct map *m, uint64_t block, struct map_look *out,
             struct err *e);
/* What reading a block back has shown. */
struct map_proof {
    uint64_t block;
    bool good; /* MAP_VERIFIED, where it is MAP_COPIED and not MAP_DIRTY;
                * else it has to be copied again: MAP_DIRTY and no hash */
};
/* Puts it in and makes it stable.  Sorts p. */
int map_prove(struct map *m, struct map_proof *p, size_t n, struct err *e);
/* Makes `holes_zero` true and stable. */
int map_holes_zero(struct map *m, struct err *e);

/* For others than the copier; without a lock, so exact only while no copier
 * has the map open. */
struct map_summary {
    struct map_head head;
    uint64_t blocks;  /* of the disk */
    uint64_t copied;  /* MAP_COPIED and not MAP_DIRTY */
    uint64_t zero;    /* of those, MAP_ZERO */
    uint64_t dirty;   /* MAP_DIRTY, torn ones included */
    uint64_t torn;    /* on torn pages */
    uint64_t unknown; /* none of these */
    /* Of the copied, MAP_VERIFIED; without those that have no entry of their
     * own. */
    uint64_t verified;
};
int map_summary(const char *path, struct map_summary *out, struct err *e);
/* Is every block that x touches MAP_COPIED and not MAP_DIRTY?  1: yes; 0: no,
 * *first (may be NULL) is the first byte of the first block that is not. */
int map_covers(const char *path, const struct extents *x, uint64_t *first,
               struct err *e);

#endif
