/* Limits that all processes of this machine share: bytes per second (buckets)
 * and copiers at a time (slots).  What is held belongs to a process and is free
 * again when that process has gone, however it went. */
#ifndef LIMIT_LIMIT_H
#define LIMIT_LIMIT_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"

/* Directory below control_dir; its name is never one of a VM's directory. */
#define LIMIT_DIR          "limits"
#define LIMIT_MACHINE_RATE "machine.rate" /* there */
#define LIMIT_HOST         "host"         /* there, for bucket_path() */
#define LIMIT_VM_RATE      "vm.rate"      /* in a VM's directory */
#define LIMIT_DISK_RATE    "disk-%" PRId64 ".rate" /* likewise; its key */

/* rate.c: bytes per second ------------------------------------------------ */

#define RATE_MIN      (64ull << 10) /* 0 is "no limit" */
#define RATE_MAX      (1ull << 40)
#define RATE_TEXT_MAX 32

/* A number, with a fraction of up to three digits, and one of B kB MB GB (of
 * 1000), KiB MiB GiB (of 1024), kbit Mbit Gbit, then "/s" or nothing; or "none"
 * or "0".  What may mean two things ("200M", "200mb", "200") is ERR_USER. */
int rate_parse(const char *text, uint64_t *rate, struct err *e);
/* rate_parse() reads it back. */
void rate_text(uint64_t rate, char out[RATE_TEXT_MAX]);

/* bucket.c: a rate in a file ---------------------------------------------- */

#define BUCKET_MAX (64ull << 20)        /* bytes taken at once */
#define BURST_NS   (100 * 1000 * 1000l) /* of the rate, taken at once */

/* A small file, mapped by everyone who obeys it.  Its rate may be changed at
 * any time and counts at once.  It has no owner and no lock. */
struct bucket;

/* Opens path, mode 0600.  With `make` one that is missing is made, without a
 * limit, and one that is damaged is made anew, with a warning; without, both
 * are errors.  Links and files of other users are refused. */
int bucket_open(const char *path, bool make, struct bucket **out,
                struct err *e);
/* One of this process alone. */
struct bucket *bucket_private(uint64_t rate);
void bucket_close(struct bucket *b);
DEFER_FN(bucket_close_ptr, struct bucket, bucket_close)

/* Bytes per second, 0: no limit. */
uint64_t bucket_rate(const struct bucket *b);
uint64_t bucket_configured(const struct bucket *b);
/* By hand; out of RATE_MIN..RATE_MAX is taken for the nearer one, 0 for no
 * limit. */
void bucket_set(struct bucket *b, uint64_t rate);
/* As the configuration says: a value other than the last one replaces what was
 * set by hand, the same one does not. */
void bucket_configure(struct bucket *b, uint64_t rate);
/* Takes n bytes (at most BUCKET_MAX).  false: not now; *ready is when to ask
 * again, in clock_ns().  All takers together get at most rate * time, and
 * BURST_NS of it and one take more. */
bool bucket_take(struct bucket *b, uint64_t n, int64_t now_ns, int64_t *ready);

/* gate.c: several buckets at once ----------------------------------------- */

#define GATE_BUCKETS 5

/* What one bucket gave while another one refused is kept: nothing is given
 * back, so nothing is given twice. */
struct gate {
    struct bucket *buckets[GATE_BUCKETS]; /* owned */
    uint64_t paid[GATE_BUCKETS];          /* bytes taken and not spent */
    unsigned n;
    int64_t ready; /* clock_ns() of the next try; 0: none was refused */
};

/* Takes the bucket; the narrowest one first. */
void gate_add(struct gate *g, struct bucket *b);
void gate_fini(struct gate *g);
/* May n bytes be read now?  Then gate_spend() what is read, up to n. */
bool gate_pass(struct gate *g, uint64_t n, int64_t now_ns);
void gate_spend(struct gate *g, uint64_t n);
/* Milliseconds until asking makes sense, at least 1; -1: any time. */
int64_t gate_wait_ms(const struct gate *g, int64_t now_ns);

/* "PREFIX-NAME.rate" below dir, NAME escaped; caller frees. */
char *bucket_path(const char *dir, const char *prefix, const char *name);

/* slots.c: copiers at a time ---------------------------------------------- */

#define SLOT_NAME_MAX  256 /* bytes with NUL; longer names are cut */
#define SLOT_LIMIT_MAX 1000
#define SLOT_DEFAULT   (-1) /* for slots_set: what the configuration says */

enum slot_kind { SLOT_HOST, SLOT_DATASTORE, SLOT_KINDS };

struct slots; /* the table of this machine, open */

/* dir is made if need be. */
int slots_open(const char *dir, struct slots **out, struct err *e);
void slots_close(struct slots *s);
DEFER_FN(slots_close_ptr, struct slots, slots_close)

/* limit 0: none.  As for buckets, the configuration's value replaces what was
 * set by hand only when it changes. */
int slots_configure(struct slots *s, enum slot_kind kind, const char *name,
                    int limit, struct err *e);
/* By hand; SLOT_DEFAULT takes that back.  Counts for the next one to start. */
int slots_set(struct slots *s, enum slot_kind kind, const char *name, int limit,
              struct err *e);

struct slot_wish {
    const char *names[SLOT_KINDS]; /* one slot of each; "": of that kind none */
    const char *who;               /* for people: "web01 disk 0" */
    bool urgent; /* the source is down: first, and beyond the limit up to as
                  * many again */
};

/* A place in the queue, then a slot.  It is held by a descriptor, and by every
 * process that has inherited it: the last one that ends frees it. */
struct slot_claim {
    int fd; /* -1: none */
    unsigned row;
    bool taken;
    int64_t since_ms; /* when it came into the queue */
};

#define SLOT_INIT       \
    {                   \
        -1, 0, false, 0 \
    }

/* What is full. */
struct slot_wait {
    enum slot_kind kind;
    char name[SLOT_NAME_MAX];
    int in_use, limit; /* limit 0: it waits for others in the queue */
};

/* 1: taken.  0: not yet; ask again within SLOT_STALE_MS or lose what the place
 * in the queue reserves.  All or nothing, oldest first; one that could not
 * start now holds up no other, until it has waited for SLOT_PATIENCE_MS. */
#define SLOT_STALE_MS    5000
#define SLOT_PATIENCE_MS (300 * 1000)
int slot_take(struct slots *s, struct slot_claim *slot,
              const struct slot_wish *wish, int64_t now_ms,
              struct slot_wait *wait, struct err *e);
/* This process lets go of it. */
void slot_release(struct slot_claim *slot);

/* The host is short of NFC buffers: half of those that read from it now may do
 * so from now on, and one more each SLOT_RAISE_MS without another shortage.
 * Once in SLOT_LOWER_MS at most.  1: *limit is the new number; 0: it stays. */
#define SLOT_LOWER_MS 10000
#define SLOT_RAISE_MS 60000
int slots_short(struct slots *s, const char *host, int64_t now_ms, int *limit,
                struct err *e);

/* What there is, for people. */
struct slot_use {
    enum slot_kind kind;
    char name[SLOT_NAME_MAX];
    int limit, configured; /* as set, as in the configuration; 0: none */
    int lowered;           /* in force now, by a shortage; 0: not lowered */
    int in_use, waiting;
};
struct slot_holder {
    char names[SLOT_KINDS][SLOT_NAME_MAX], who[SLOT_NAME_MAX];
    bool taken;      /* else it waits */
    int64_t seconds; /* since then */
};
struct slot_list {
    struct VEC(struct slot_use) uses;       /* by kind and name */
    struct VEC(struct slot_holder) holders; /* oldest first */
};
int slots_list(struct slots *s, int64_t now_ms, struct slot_list *out,
               struct err *e);
void slot_list_fini(struct slot_list *l);

#endif
