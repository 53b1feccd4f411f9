/* The block map's file: slots, pages, and how they are read and written.
 * Private to the map. */
#ifndef DISK_MAP_FILE_H
#define DISK_MAP_FILE_H

#include "disk/disk.h"

#define MAP_MAGIC      0x3170616d63327600ull /* "\0v2cmap1" */
#define MAP_VERSION    1u
#define MAP_PAGE_BYTES 4096u
#define MAP_SLOTS      2u
#define MAP_CACHE      32u /* pages: 128 KiB */

enum { MAP_HEAD_ZEROED = 1, MAP_HEAD_HOLES_ZERO = 2 };

struct map_slot {
    uint64_t sum; /* XXH3-64 of all that follows */
    uint64_t magic;
    uint32_t version, block_bytes;
    uint64_t size, generation, digest;
    uint32_t flags, reserved;
    char disk_id[MAP_DISK_ID_MAX];
    char target_id[MAP_TARGET_ID_MAX];
    char plan[MAP_PLAN_ID_MAX];
    char born[MAP_PLAN_ID_MAX];
    char rest[MAP_PAGE_BYTES - 7 * 8 - 2 * MAP_PLAN_ID_MAX - MAP_DISK_ID_MAX -
              MAP_TARGET_ID_MAX];
};

struct map_page {
    uint64_t sum; /* XXH3-64 of all that follows, seeded by the number */
    uint64_t hash[MAP_PAGE_BLOCKS];
    uint8_t flags[MAP_PAGE_BLOCKS];
    uint8_t reserved[2];
};

_Static_assert(sizeof(struct map_slot) == MAP_PAGE_BYTES, "layout");
_Static_assert(sizeof(struct map_page) == MAP_PAGE_BYTES, "layout");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "layout");

struct map_cached {
    uint64_t no; /* UINT64_MAX: none */
    bool torn;
    struct map_page page;
};

struct map {
    int fd;
    char *path;
    uint64_t generation; /* of the header that counts */
    struct map_head head;
    struct map_cached cache[MAP_CACHE];
};

/* A map around an open file, which it takes; the header is not read. */
struct map *map_new(int fd, const char *path);
int map_load_head(struct map *m, struct err *e);
/* Makes h the header, stable on return. */
int map_store_head(struct map *m, const struct map_head *h, struct err *e);

/* A torn page reads as MAP_DIRTY throughout.  Valid until the next call. */
struct map_cached *map_load_page(struct map *m, uint64_t no, struct err *e);
/* Sums and writes it; not stable before map_sync. */
int map_store_page(struct map *m, struct map_cached *c, struct err *e);
/* What is read from now on is what stable storage has. */
int map_settle(struct map *m, struct err *e);
/* The first page at or after no that the file holds; UINT64_MAX: none. */
uint64_t map_next_page(struct map *m, uint64_t no);
/* What the page says of block no * MAP_PAGE_BLOCKS + i. */
struct map_entry map_entry_of(const struct map *m, const struct map_cached *c,
                              unsigned i);
uint64_t map_pages(const struct map *m);
/* Blocks on page no: MAP_PAGE_BLOCKS but for the last. */
unsigned map_page_blocks(const struct map *m, uint64_t no);

#endif
