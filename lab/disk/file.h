/* One layer on disk: its data file and its bitmap.  Not locked. */
#ifndef LAB_DISK_FILE_H
#define LAB_DISK_FILE_H

#include "base/err.h"
#include "lab/disk/layers.h"

struct layer_file {
    struct layer layer; /* what readers use; bits is also ours to write */
    char *data, *map;   /* paths; map is NULL for the base */
    unsigned number;    /* in the names; 0: the base */
};

/* number 0 makes the base.  NULL on failure. */
struct layer_file *layer_file_new(const char *dir, const char *name,
                                  unsigned number, uint64_t size,
                                  struct err *e);
/* Closes it; the files stay. */
void layer_file_free(struct layer_file *f);
int layer_file_grow(struct layer_file *f, uint64_t size, struct err *e);
/* Writes whole blocks (or up to the end of the disk) and then sets their
 * bits. */
int layer_file_put(struct layer_file *f, const void *buf, uint64_t n,
                   uint64_t off, struct err *e);
/* Copies all that `from` holds into f, which becomes as big as it. */
int layer_file_merge(struct layer_file *f, const struct layer_file *from,
                     struct err *e);

#endif
