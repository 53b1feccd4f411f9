/* Inside of the state machine: what its steps share. */
#ifndef MIGRATE_MACHINE_H
#define MIGRATE_MACHINE_H

#include "base/log.h"
#include "disk/disk.h"
#include "limit/limit.h"
#include "migrate/migrate.h"
#include "store/store.h"
#include "vsphere/vsphere.h"

/* "v2c-base-MOREF", likewise delta-N, final and stun; with the description
 * they tell our snapshots from those of others. */
#define SNAPSHOT_PREFIX      "v2c-"
#define SNAPSHOT_DESCRIPTION "made by v2c for a migration; removed by itself"

struct machine {
    const struct migrate_opts *o;
    struct vs *vs;
    char moref[VS_ID_MAX];
    char *server; /* host of the vCenter, without the port */
    uint16_t port;
    struct vs_vm vm;    /* as of the last look */
    struct vs_vm found; /* as of discovering; `target` borrows from it */
    void *cloud;
    struct cloud_vm target;
    struct store *store;
    struct record *r;
    enum step resume;        /* where the record stood when we came */
    struct vs_disks frozen;  /* the disks of the active snapshot */
    int64_t reported, saved; /* clock_ms() of the last ones */
    int64_t kept_alive;
    bool extra_round_done; /* the delta that FINALIZE asks for */
    struct {
        struct slots *slots;
        char *dir;               /* of the limits of this machine, absolute */
        char *host;              /* ESXi host of the VM, as of this round */
        struct slot_claim first; /* taken before the snapshot ... */
        int64_t first_key;       /* ... for this disk */
        char waits_for[SLOT_NAME_MAX]; /* as logged; "": nothing */
    } limits;
    int64_t round_due; /* clock_ms() of the next round */
};

/* A step: may be run again after a crash at any point of it. */
typedef int step_fn(struct machine *m, enum step *next, struct err *e);
#define STEP(name, text, next, down) step_fn step_##name;
#include "job/steps.def"
#undef STEP

/* machine.c */
int machine_save(struct machine *m, struct err *e);
/* Saves and reports when it is time to; for loops. */
int machine_tick(struct machine *m, struct err *e);
void machine_event(struct machine *m, const char *name, json_t *what);
bool machine_stopping(const struct machine *m);
/* ERR_STOPPED if we are to stop. */
int machine_pause(struct machine *m, int64_t ms, struct err *e);
int machine_look(struct machine *m, struct err *e); /* reads m->vm again */

/* discover.c */
/* What keeps this VM from being migrated while it runs: the first such thing
 * as an error. */
int discover_check(const struct machine *m, struct err *e);
/* New record: its disks.  Old record: are they still the same? */
int discover_disks(struct machine *m, struct err *e);
/* Once the disks are known: what the target is to build. */
int discover_target(struct machine *m, struct err *e);

/* round.c: a snapshot, its changes on the target, the snapshot's end. */
int round_begin(struct machine *m, struct err *e);
int round_copy(struct machine *m, struct err *e);
struct cloud_disk *round_replica(struct machine *m, int64_t key);
int round_end(struct machine *m, struct err *e);
/* Removes all snapshots of ours from the VM. */
int round_clean(struct machine *m, struct err *e);
/* Those alone that the record does not know of: left by a crash. */
int round_clean_stale(struct machine *m, struct err *e);

/* plan.c: what of one disk a round has to copy. */
struct round_plan {
    const char *mode; /* of the copier: allocated, all, list, compare */
    bool listed;      /* mode allocated: areas says what is */
    bool uncopied;    /* and all that was never copied */
    char *id;
    struct extents areas; /* mode list; or what is allocated */
};
int round_plan_make(struct machine *m, struct disk_record *d,
                    const struct vs_disk *frozen, struct round_plan *p,
                    struct err *e);
void round_plan_fini(struct round_plan *p);
char *plan_map_path(const struct machine *m, const struct disk_record *d);

/* copiers.c: runs one copier a disk, several at a time. */
struct copy_job {
    const struct copier_kind *kind; /* what it does: copier.h */
    struct disk_record *d;
    struct cloud_disk *replica;
    const struct vs_disk *frozen; /* to copy */
    struct round_plan plan;
    int64_t sample;    /* to verify: percent */
    int64_t different; /* bytes of this run, once it has ended */
    int64_t unproven;  /* bytes that the map does not answer for */
    bool ended;        /* and was not stopped before */
};
struct copy_jobs VEC(struct copy_job);
/* plan.c: the copier found that the changed areas cannot be right: from here
 * on, and after a restart, the whole disk is compared. */
int round_plan_doubt(struct machine *m, struct copy_job *job, const char *why,
                     struct err *e);
/* enough, asked now and then (NULL: never): to stop them all is no error. */
int copiers_run(struct machine *m, struct copy_jobs *jobs,
                bool (*enough)(struct machine *m), struct err *e);

/* verify.c: the replicas read back, as far as the policy says. */
/* While the source runs, before it is shut down: what differs is copied again
 * by another round, and read again. */
int verify_before(struct machine *m, struct err *e);
/* Once it is down and all is copied: what differs is copied from the last
 * snapshot again, and read again. */
int verify_last(struct machine *m, struct err *e);
/* For as long as nothing else is to be done; differences are left to the next
 * round. */
int verify_meanwhile(struct machine *m, bool (*enough)(struct machine *m),
                     struct err *e);

/* limits.c: what is shared with other VMs */
/* Asks for the slot of the round's first disk, so that no snapshot grows while
 * it is waited for.  1: it is there; 0: not yet, and half a second has passed.
 * The next copiers_run() takes it over. */
int limits_queue(struct machine *m, struct err *e);
/* Until it is there. */
int limits_wait(struct machine *m, struct err *e);
/* Nobody took it over. */
void limits_release(struct machine *m);
/* Where the VM runs now, and what the configuration says of it; the disk that
 * has its slot comes first. */
int limits_prepare(struct machine *m, struct copy_jobs *jobs, struct err *e);
/* Adds the copier's `limit.` lines. */
void limits_describe(const struct machine *m, const struct disk_record *d,
                     struct str *request);
/* A copier could not read for lack of buffers and goes on with in_flight bytes
 * at a time. */
void limits_short(struct machine *m, int64_t in_flight);
void limits_close(struct machine *m);

/* finalize.c */
enum finalize { FINALIZE_NO, FINALIZE_SOON, FINALIZE_AT_ONCE };
/* Takes the markers into the record. */
int finalize_wanted(struct machine *m, enum finalize *f, struct err *e);
/* Until the next round is due or finalize is wanted. */
int finalize_wait(struct machine *m, struct err *e);

#endif
