/* The pretend world: inventory, virtual machines, their disks, snapshots,
 * tasks and the guests that keep writing.  It knows nothing of SOAP; rooms
 * above it show it to clients (vcenter) and to tests (control).
 *
 * One lock for all of it (world_lock); whoever changes something a client can
 * see calls world_touch.  Each VM has a second lock, its stun: the guest
 * holds it while it writes, a snapshot while it freezes all disks.  Order:
 * world, stun, the disk's own. */
#ifndef LAB_WORLD_H
#define LAB_WORLD_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "base/vec.h"
#include "lab/disk/disk.h"

#define WORLD_ID_MAX        40
#define WORLD_VMS_MAX       2000
#define WORLD_DISKS_MAX     60 /* of one VM */
#define WORLD_NICS_MAX      10
#define WORLD_TASK_KEEP_MS  (10 * 60 * 1000)
#define WORLD_VIOLATIONS    1000
#define WORLD_WRITE_MAX     (4u << 20) /* bytes of one write of a guest */
#define WORLD_DISK_SIZE_MAX (4ull << 40)

/* fault.c: what goes wrong, in vSphere's words ------------------------- */

#define WFAULT_FIELDS 3

/* type "" is no fault. */
struct wfault {
    char type[64];
    char text[256];
    char message_key[96]; /* faultMessage[0].key; "" none */
    struct {
        char name[32];
        char ref[40]; /* type of the object when it is a reference */
        char text[160];
    } field[WFAULT_FIELDS];
    unsigned fields;
};

/* Returns -1. */
int wfault_set(struct wfault *f, const char *type, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* SystemError for that reason.  Returns -1. */
int wfault_system(struct wfault *f, const char *why);
/* Adds a field of the fault; ref as in struct wfault, or NULL. */
void wfault_field(struct wfault *f, const char *name, const char *ref,
                  const char *text);

/* inventory ------------------------------------------------------------ */

enum ent_kind {
    ENT_FOLDER,
    ENT_DATACENTER,
    ENT_CLUSTER,
    ENT_HOST,
    ENT_POOL,
    ENT_DATASTORE,
    ENT_NETWORK,
    ENT_PORTGROUP, /* a network whose name starts with "dvs:" */
    ENT_VM,
};

struct ent;
struct ents VEC(struct ent *);

struct ent {
    enum ent_kind kind;
    char id[WORLD_ID_MAX];
    char *name;         /* as shown: / \ % are %-escaped */
    struct ent *parent; /* NULL: the root folder */
    struct ents kids;
    struct vm *vm; /* of ENT_VM */
};

/* virtual machines ------------------------------------------------------ */

struct kv {
    char *key, *value;
};
struct kvs VEC(struct kv);
void kvs_fini(struct kvs *kvs); /* vm.c */

enum vm_power { VM_OFF, VM_ON, VM_SUSPENDED };
enum vm_tools { TOOLS_NONE, TOOLS_STOPPED, TOOLS_RUNNING };
enum vm_bus { BUS_SCSI, BUS_SATA, BUS_NVME, BUS_IDE };
enum vm_rdm { RDM_NONE, RDM_VIRTUAL, RDM_PHYSICAL };

struct versions VEC(unsigned);

struct vm_disk {
    int key, controller_key, unit, bus_no;
    enum vm_bus bus;
    const char *controller; /* VirtualController's type */
    char label[32];
    char uuid[64];
    char mode[40];       /* VirtualDiskMode */
    bool shared;         /* multi-writer */
    char shared_bus[32]; /* of the controller */
    enum vm_rdm rdm;
    bool thin;
    uint64_t guest_from, guest_to; /* bytes the guest writes within */
    struct ldisk *disk;
    struct versions versions; /* frozen ones that exist, oldest first */
    struct versions orphans;  /* of them those no snapshot owns any more */
};
struct vm_disks VEC(struct vm_disk *);

struct vm_nic {
    int key;
    char type[32]; /* VirtualVmxnet3 and so on */
    char mac[32];
    struct ent *network;
};
struct vm_nics VEC(struct vm_nic);

struct snap_disk {
    struct vm_disk *disk;
    bool frozen; /* else excluded from snapshots: version is LDISK_NOW */
    unsigned version;
    uint64_t size;
    char mode[40];
};
struct snap_disks VEC(struct snap_disk);

struct snap {
    char id[WORLD_ID_MAX];
    int num;
    char *name, *description;
    char *vm_name;
    int64_t created; /* wall ms */
    enum vm_power power;
    bool quiesced, cbt_flag;
    struct vm *vm;
    struct snap *parent;
    struct snap_disks disks;
};
struct snaps VEC(struct snap *);

/* What a guest does; all but the settings belongs to guest.c. */
struct guest {
    unsigned writes_per_s;
    uint32_t max_bytes;
    unsigned shutdown_ms;
    bool ignores_shutdown;
    unsigned zero_share; /* percent of the writes that write zeroes */
    pthread_t thread;
    bool started;
    pthread_mutex_t stun;
    pthread_cond_t wake;
    bool run, paused, quit; /* under stun, as are the counters */
    uint64_t writes, bytes, zero_writes, rng;
    char failed[ERR_MSG_MAX]; /* why it stopped by itself; "" it did not */
};

struct vm {
    struct world *w;
    struct ent *ent; /* id, name, folder */
    struct ent *host, *pool, *datastore, *datacenter;
    char *dir; /* on the datastore */
    char *guest_id, *guest_name, *version, *firmware, *annotation;
    char uuid[40], instance_uuid[40];
    unsigned cpus, memory_mb;
    bool secure_boot, template, encrypted, cbt_supported;
    bool cbt_flag;   /* config.changeTrackingEnabled */
    bool cbt_active; /* what the last stun made of it */
    enum vm_power power;
    enum vm_tools tools;
    char connection[24]; /* VirtualMachineConnectionState */
    char question[128];  /* "" none */
    struct kvs extra;
    struct vm_disks disks;
    struct vm_nics nics;
    struct snaps snaps; /* oldest first */
    struct snap *current;
    int snap_count;          /* ever */
    int64_t consolidated_at; /* clock_ms when consolidationNeeded ends */
    struct task *task;       /* the one that has the VM */
    unsigned changes;        /* of config */
    int64_t booted;          /* wall ms */
    bool shutting_down;
    struct guest guest;
};
struct vms VEC(struct vm *);

/* tasks ------------------------------------------------------------------ */

enum task_state { TASK_QUEUED, TASK_RUNNING, TASK_SUCCESS, TASK_ERROR };

struct task {
    char id[WORLD_ID_MAX];
    int num;
    const char *method;      /* "CreateSnapshot_Task" */
    const char *description; /* "VirtualMachine.createSnapshot" */
    struct vm *vm;
    enum task_state state;
    int progress;
    struct wfault fault;
    char result_type[40], result_id[WORLD_ID_MAX]; /* "": no result */
    char user[128];
    int64_t queued, started, completed; /* wall ms; 0 not yet */
    int64_t ended;                      /* clock_ms */
    /* Does the work; called without the world's lock. */
    int (*run)(struct task *t, struct wfault *f);
    void *arg;
    void (*arg_free)(void *arg);
    struct wfault inject; /* ends with this fault instead of running */
    int inject_delay_ms;
};
struct tasks VEC(struct task *);

/* the world --------------------------------------------------------------- */

struct world {
    /* settings, as in the world file */
    uint64_t seed;
    bool esxi;
    int task_ms, session_idle_s, consolidate_ms;
    unsigned latency_us, link_mbps, area_limit;

    char *dir; /* the lab's directory */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping;
    unsigned threads; /* tasks and timers under way */
    unsigned next_id;
    uint64_t rng;
    struct ents ents; /* all of them; the first is the root folder */
    struct vms vms;
    struct tasks tasks;
    uint64_t tasks_started;
    struct {
        char what[64];
        char vm[WORLD_ID_MAX];
    } * violations;
    unsigned n_violations;
};

/* world.c.  config NULL: the built-in world.  Disks are made below dir. */
struct world *world_new(const char *dir, const json_t *config, struct err *e);
/* Whoever sleeps or waits comes back at once; nothing new begins. */
void world_halt(struct world *w);
/* Stops guests and tasks, waits for them, frees all. */
void world_free(struct world *w);
DEFER_FN(world_free_ptr, struct world, world_free)
void world_lock(struct world *w);
void world_unlock(struct world *w);
/* Something changed; wakes all who wait.  The lock is held. */
void world_touch(struct world *w);
/* Waits (lock held) for a touch, the end or `until` (clock_ms). */
void world_await(struct world *w, int64_t until);
/* Sleeps without the lock; false when the world ends meanwhile. */
bool world_sleep(struct world *w, int64_t ms);
/* A thread that world_free waits for; -1 when there are no more. */
int world_thread(struct world *w, void *(*fn)(void *), void *arg);
void world_thread_done(struct world *w); /* its last act; lock held */
/* A client did what no client may do; tests look at the list. */
void world_violation(struct world *w, const struct vm *vm, const char *what);
uint64_t world_random(uint64_t *state);
/* lower-case uuid, always the same for the same seed and text */
void world_uuid(const struct world *w, const char *prefix, const char *what,
                char out[40]);

/* default.c */
extern const char world_default[];

/* config.c: JSON to inventory and VMs */
int world_config(struct world *w, const json_t *config, struct err *e);

/* inventory.c */
struct ent *ent_new(struct world *w, enum ent_kind kind, const char *name,
                    struct ent *parent);
/* NULL for an id that is none. */
struct ent *world_ent(const struct world *w, const char *id);
/* NULL if it has none of that name, or of that kind. */
struct ent *ent_kid(const struct ent *e, const char *name);
struct ent *ent_first(const struct ent *e, enum ent_kind kind);
/* With its folders "vm", "host", "datastore" and "network" and a cluster,
 * made if it is not there. */
struct ent *world_datacenter(struct world *w, const char *name);
/* A vm folder by its path below "vm", made where it is missing. */
struct ent *world_folder(struct world *w, struct ent *datacenter,
                         const char *path);
struct ent *world_network(struct world *w, struct ent *datacenter,
                          const char *name);
/* The one that e is in. */
const struct ent *ent_datacenter(const struct ent *e);
/* "DC/vm/folder/name", a slash in front is ignored */
struct ent *world_by_path(const struct world *w, const char *path);
void ent_path(const struct ent *e, struct str *out);

/* content.c: fills a new disk; tells how much of it a file system takes */
int content_fill(struct world *w, struct ldisk *disk, const char *content,
                 uint64_t seed, uint64_t *fs_end, struct err *e);

/* vm_new.c */
struct vm *vm_new(struct world *w, const json_t *config, struct err *e);

/* vm.c */
void vm_free(struct vm *vm);
struct vm *world_vm(const struct world *w, const char *name_or_id);
struct vm_disk *vm_disk(const struct vm *vm, int key);
const char *vm_power_name(enum vm_power p);
void vm_extra_set(struct vm *vm, const char *key, const char *value);
/* Does a snapshot freeze it?  Does CBT follow it? */
bool vm_disk_freezes(const struct vm_disk *d);
bool vm_disk_tracks(const struct vm_disk *d);
/* "[datastore1] web01/web01-000001.vmdk" */
void vm_disk_path(const struct vm *vm, const struct vm_disk *d,
                  unsigned version, char *out, size_t n);
/* The stun that makes the CBT flag take effect. */
void vm_apply_cbt(struct vm *vm);
void vm_set_cbt(struct vm *vm, bool on);
bool vm_consolidation_needed(const struct vm *vm);
/* All with the lock held. */
void vm_power_on(struct vm *vm);
void vm_power_off(struct vm *vm);
int vm_shutdown_guest(struct vm *vm, struct wfault *f);

/* snap.c */
struct snap *world_snap(const struct world *w, const char *id);
struct snap_disk *snap_disk(const struct snap *s, int key);
/* Freezes all disks at one moment.  Lock held; NULL with f on failure. */
struct snap *snap_create(struct vm *vm, const char *name,
                         const char *description, bool quiesce,
                         struct wfault *f);
/* Both called without the lock, by the task that has the VM. */
int snap_remove(struct snap *s, bool children, bool consolidate,
                struct wfault *f);
int snap_consolidate(struct vm *vm, struct wfault *f);
void snap_free(struct snap *s);

/* task.c.  All with the lock held. */
struct task *task_new(struct vm *vm, const char *method,
                      const char *description,
                      int (*run)(struct task *, struct wfault *), void *arg,
                      void (*arg_free)(void *));
/* TaskInProgress when another task has the VM. */
int task_start(struct task *t, struct wfault *f);
struct task *world_task(const struct world *w, const char *id);
void task_free(struct task *t);
const char *task_state_name(enum task_state s);

/* guest.c */
int guest_start(struct vm *vm, struct err *e);
void guest_stop(struct vm *vm);
/* Stops or starts the writing; returns when no write is under way. */
void guest_run(struct vm *vm, bool run);
void guest_last_writes(struct vm *vm);
void guest_stun(struct vm *vm);
void guest_release(struct vm *vm);

#endif
