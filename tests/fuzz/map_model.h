/* What a block map's file must mean: its documented layout, read by code of
 * the tests' own. */
#ifndef FUZZ_MAP_MODEL_H
#define FUZZ_MAP_MODEL_H

#include "disk/disk.h"

#define MODEL_PAGE     4096u
#define MODEL_PAGES_AT 8192u
#define MODEL_PAGES    6u /* of the disk's, that a run looks at */

struct model_page {
    uint64_t no;
    unsigned blocks; /* of the disk on this page */
    bool torn;
    struct map_entry entry[MAP_PAGE_BLOCKS]; /* as the page says it */
};

struct model {
    struct map_head head;
    uint64_t blocks; /* of the disk */
    unsigned n;
    struct model_page page[MODEL_PAGES]; /* ascending */
};

/* The header that counts; false: none is valid. */
bool model_head(int fd, struct map_head *out);
/* The page's number p of those looked at for a disk of this size; the count
 * is returned when `out` is NULL. */
unsigned model_pages(uint64_t size, uint64_t *out);
/* Reads the whole file; false: it is no map. */
bool model_load(struct model *m, int fd);
/* With what holes_zero makes of it. */
struct map_entry model_get(const struct model *m, const struct model_page *p,
                           unsigned i);
uint32_t model_block_bytes(const struct model *m, uint64_t block);
/* What map_begin and map_prove do to one block; true: it was changed. */
void model_mark(const struct model *m, struct model_page *p, unsigned i);
bool model_prove(const struct model *m, struct model_page *p, unsigned i,
                 bool good);

/* The sums that a slot and a page of number `no` need. */
void model_sum_slot(uint8_t *slot);
void model_sum_page(uint8_t *page, uint64_t no);

/* Aborts where the library says something else. */
void model_same(const struct model *a, const struct model *b);
void model_check_page(const struct model *m, const struct model_page *p,
                      struct map *map);
void model_check(const struct model *m, struct map *map);
/* By those who read it without a lock; `which` block and page is a matter of
 * taste. */
void model_check_file(const struct model *m, const char *path, unsigned which);

#endif
