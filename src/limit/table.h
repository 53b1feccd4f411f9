/* Inside of the slots: the table, a file of rows of fixed size.  A row of a
 * copier is alive while its first byte is locked; a row of a host or datastore
 * is for ever.  The first row's byte is the lock of the table itself. */
#ifndef LIMIT_TABLE_H
#define LIMIT_TABLE_H

#include "limit/limit.h"

#define ROW_BYTES 1024
#define ROWS_MAX  4096

enum row_kind { ROW_FREE, ROW_PLACE, ROW_COPIER };

/* A host or datastore. */
struct place {
    uint32_t kind;                      /* enum slot_kind */
    int32_t limit, configured, lowered; /* as in struct slot_use */
    int64_t lowered_ms;                 /* clock_ms() of then */
    char name[SLOT_NAME_MAX];
};

/* A copier that runs, or one that waits. */
struct copier_row {
    int64_t since_ms, beat_ms; /* clock_ms() it came, it asked last */
    uint32_t taken, urgent;
    char names[SLOT_KINDS][SLOT_NAME_MAX], who[SLOT_NAME_MAX];
};

/* As in the file, in the processor's order of bytes. */
struct row {
    char magic[8];
    uint32_t kind; /* enum row_kind */
    uint32_t spare;
    union {
        struct place place;
        struct copier_row copier;
        char bytes[ROW_BYTES - 16];
    };
};
_Static_assert(sizeof(struct row) == ROW_BYTES, "rows do not overlap");

/* All rows, with what is no row, and who is dead, made free.  The index is the
 * row's number; 0 is free and not to be used. */
struct rows VEC(struct row);

struct slots {
    char *path;
    int fd;
};

/* Waits at most wait_ms; ERR_BUSY then. */
int table_lock(struct slots *s, int64_t wait_ms, struct err *e);
void table_unlock(struct slots *s);
/* Adds to rows.  The lock is held, for these and the next three. */
int table_load(struct slots *s, struct rows *rows, struct err *e);
int table_write(struct slots *s, unsigned row, const struct row *r,
                struct err *e);
/* A row of a copier, alive until *fd is closed everywhere. */
int table_claim(struct slots *s, const struct rows *rows, unsigned *row,
                int *fd, struct err *e);
/* The row of a host or datastore, made if `make`; NULL with e clear: none. */
struct row *table_place(struct slots *s, struct rows *rows, enum slot_kind kind,
                        const char *name, bool make, struct err *e);
/* Cuts at SLOT_NAME_MAX, between characters. */
void table_name(char out[SLOT_NAME_MAX], const char *name);

#endif
