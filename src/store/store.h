/* Where records live: one directory per VM below control_dir. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/mem.h"
#include "job/job.h"

/* Markers: empty files by which people and programs tell a worker something.
 * The worker removes what it has acted on. */
#define MARK_FINALIZE        "FINALIZE"
#define MARK_FINALIZE_NOW    "FINALIZE_NOW"
#define MARK_SHUTDOWN_FORCE  "SHUTDOWN_FORCE"
#define MARK_SHUTDOWN_MANUAL "SHUTDOWN_MANUAL"

struct store; /* the directory of one VM */

/* Makes the directory if need be and takes its lock; ERR_BUSY names who
 * migrates that VM.  A worker whose `run` has ended is waited for.  The lock is
 * held until store_close or our death. */
struct store *store_open(const char *control_dir, const char *vm_name,
                         const char *moref, struct err *e);
void store_close(struct store *s);
DEFER_FN(store_close_ptr, struct store, store_close)
const char *store_dir(const struct store *s);
/* Path of a file in the directory; caller frees. */
char *store_path(const struct store *s, const char *name);

/* A new record if there is none yet. */
struct record *store_load(struct store *s, struct err *e);
/* Sets `updated` and replaces state.json. */
int store_save(struct store *s, struct record *r, struct err *e);
/* One line of events.jsonl; takes the reference to what. */
int store_event(struct store *s, const char *name, json_t *what, struct err *e);
int store_replace(struct store *s, const char *name, const json_t *v,
                  struct err *e);

bool store_marked(const struct store *s, const char *mark);
int store_unmark(struct store *s, const char *mark, struct err *e);

/* For status and finalize: the directories below control_dir that hold the
 * record of a VM, read without a lock. */
struct found {
    char *dir;
    struct record *record;
    bool running; /* somebody holds the lock */
};
struct founds VEC(struct found);
/* name or moref NULL: any.  No control_dir at all is an empty list.  A record
 * that cannot be read is logged and left out. */
int store_find(const char *control_dir, const char *vm_name, const char *moref,
               struct founds *out, struct err *e);
void founds_fini(struct founds *f);
int store_mark(const char *dir, const char *mark, struct err *e);

#endif
