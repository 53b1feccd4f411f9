/* The vocabulary of the control plane: configuration, spec, steps, record of
 * a migration, downtime ledger.  Names of keys, stages and JSON fields are
 * those of vmware-to-cloudstack wherever it has one. */
#ifndef JOB_JOB_H
#define JOB_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/secret.h"
#include "base/vec.h"
#include "data/data.h"

/* keys.c: a YAML map into a struct, by a table -------------------------- */

enum key_kind {
    KEY_TEXT,   /* char * */
    KEY_SECRET, /* struct secret * */
    KEY_INT,    /* int64_t within min..max */
    KEY_BOOL,   /* bool */
    KEY_TRI,    /* enum tri: absent, no, yes */
    KEY_CHOICE, /* int: index in choices */
    KEY_TIME,   /* int64_t: milliseconds since 1970 */
    KEY_RATE,   /* int64_t: bytes/s; 0: absent; RATE_NONE: none, said so */
    KEY_GROUP,  /* a struct that begins with `int line` (0: absent) */
    KEY_EACH,   /* VEC of structs that begin with `char *key; int line` */
};

enum tri { TRI_ABSENT, TRI_NO, TRI_YES };

#define RATE_NONE (-1)

struct key {
    const char *name; /* NULL ends a table */
    enum key_kind kind;
    size_t offset;
    int64_t min, max;           /* KEY_INT */
    const char *const *choices; /* KEY_CHOICE, NULL-ended */
    const struct key *sub;      /* KEY_GROUP, KEY_EACH */
    size_t size;                /* KEY_EACH: bytes of an element */
};

/* Keys that are absent or null leave the struct as it is.  An unknown key is
 * an error with file, line, key and the nearest known key. */
int keys_load(const struct key *table, const struct yaml *map, const char *file,
              void *out, struct err *e);
void keys_free(const struct key *table, void *s);
/* The struct as JSON, which is YAML that keys_load() reads back.  Secrets and
 * what is empty are left out.  A new reference. */
json_t *keys_json(const struct key *table, const void *s);

/* config.c -------------------------------------------------------------- */

enum quiesce { QUIESCE_UNSET, QUIESCE_AUTO, QUIESCE_TRUE, QUIESCE_FALSE };
enum shutdown_mode {
    SHUTDOWN_UNSET,
    SHUTDOWN_AUTO,
    SHUTDOWN_FORCE,
    SHUTDOWN_MANUAL,
};
/* How much of the replicas is read back before the import. */
enum verify_policy { VERIFY_UNSET, VERIFY_NONE, VERIFY_SAMPLE, VERIFY_FULL };
extern const char *const quiesce_names[];
extern const char *const shutdown_names[];
/* What the base copy reads: what VDDK says is allocated, what CBT says is in
 * use ("*"), or everything. */
enum base_plan { BASE_UNSET, BASE_AUTO, BASE_ALLOCATED, BASE_IN_USE, BASE_ALL };
extern const char *const base_plan_names[];
extern const char *const verify_names[];

/* Where CloudStack is to put a VM: `cloudstack_defaults` of config.yaml and
 * `target.cloudstack` of a spec. */
struct placement_nic {
    char *key;
    int line;
    char *source_label, *source_network, *source_mac, *networkid;
    int64_t source_device_key, source_index;
};

struct placement {
    int line;
    char *zoneid, *clusterid, *storageid, *networkid, *serviceofferingid;
    char *diskofferingid, *ostypeid, *boottype, *bootmode;
    char *rootdiskcontroller, *nicadapter;
    struct VEC(struct placement_nic) nic_mappings;
};

extern const struct key placement_keys[];

struct config {
    char *file; /* as read; NULL: none was found */
    struct {
        int line;
        char *host; /* "host" or "host:port" */
        char *user;
        struct secret *password;
        char *ca_file, *thumbprint;
        bool insecure;
    } vcenter;
    struct {
        int line;
        char *vddk_path;
        int snapshot_quiesce;  /* enum quiesce */
        int shutdown_mode;     /* enum shutdown_mode */
        int verify;            /* enum verify_policy */
        int64_t verify_sample; /* percent */
        int64_t finalize_settle_seconds;
        int64_t parallel_disks, parallel_vms;
        char *control_dir, *specs_dir, *workdir;
    } migration;
    struct {
        int line;
        char *endpoint;
        struct secret *api_key, *secret_key;
        int64_t timeout_seconds;
    } cloudstack;
    struct {
        int line;
        /* as KEY_RATE: of this machine, of each ESXi host, VM and disk */
        int64_t rate, rate_per_host, rate_per_vm, rate_per_disk;
        /* copiers at a time; 0: no limit */
        int64_t disks_per_host, disks_per_datastore;
    } limits;
    struct placement defaults;
    struct {
        int line;
        bool run_virt_v2v;
        char *virtio_iso;
    } virt;
};

/* path NULL: config.yaml here, else ../config.yaml.  Then the environment
 * (V2C_VCENTER_HOST ..., VC_PASSWORD) and the defaults are applied. */
struct config *config_read(const char *path, struct err *e);
void config_free(struct config *c);
DEFER_FN(config_free_ptr, struct config, config_free)

/* spec.c ---------------------------------------------------------------- */

enum disk_format { FORMAT_QCOW2, FORMAT_RAW };
extern const char *const format_names[];
/* How zeroes get to a replica where something else may be: the server may give
 * the space back; has to keep it; gets them as data, and neither they nor a
 * new replica are taken for zeroes. */
enum zeroes { ZEROES_PUNCH, ZEROES_KEEP, ZEROES_WRITE };
extern const char *const zeroes_names[];

struct spec_disk {
    char *key; /* unit number, device key or address ("scsi0:1") */
    int line;
    char *storageid, *diskofferingid;
};

struct spec {
    char *file;
    int line;
    struct {
        int line;
        char *name, *moref, *uuid, *path;
    } vm;
    struct {
        int line;
        int64_t delta_interval, finalize_delta_interval; /* seconds */
        int64_t finalize_window, finalize_settle_seconds;
        int64_t finalize_at;         /* ms since 1970; 0: none */
        int64_t readers;             /* 0: the copier decides */
        int64_t copier_timeout;      /* seconds; 0: the copier decides */
        int64_t rate, rate_per_disk; /* of the VM, of each of its disks */
        int run_virt_v2v;            /* enum tri */
        int snapshot_quiesce, shutdown_mode, verify;
        int64_t verify_sample; /* percent */
        int base_plan;         /* enum base_plan */
        int64_t parallel_disks;
        bool start_vm_after_import;
    } migration;
    struct {
        int line;
        struct placement cloudstack;
        struct {
            int line;
            char *path;
            int format;      /* enum disk_format */
            int zeroes;      /* enum zeroes */
            bool overcommit; /* less free space than the disks' size is ok */
        } local;
    } target;
    struct VEC(struct spec_disk) disks;
};

struct specs VEC(struct spec *);

/* Adds the one or many VMs of a file, defaults of the config applied.  What
 * can be checked without a connection is checked. */
int spec_read(const char *path, const struct config *c, struct specs *out,
              struct err *e);
/* The effective spec, defaults applied.  A new reference. */
json_t *spec_json(const struct spec *s);
/* How the spec names its VM, for people. */
const char *spec_vm(const struct spec *s);
void specs_fini(struct specs *s);

/* steps.c --------------------------------------------------------------- */

enum step {
#define STEP(name, text, next, down) STEP_##name,
#include "job/steps.def"
#undef STEP
    STEP_COUNT
};

struct step_info {
    const char *name;
    const char *text;
    enum step next;
    bool down; /* the source VM is down during it */
};

extern const struct step_info steps[STEP_COUNT];
/* STEP_COUNT for a name that is none. */
enum step step_parse(const char *name);

/* record.c: state.json -------------------------------------------------- */

#define RECORD_SCHEMA 1
#define RECORD_PHASES 16

struct disk_record {
    char *name; /* its key in state.json: unit number, or the address where
                 * two disks of the VM have one unit number */
    int64_t key, unit;
    char *address, *label, *uuid, *stage;
    int64_t capacity; /* bytes */
    char *target, *source_path;
    char *change_id;        /* of the last round that was copied and flushed */
    char *marked_change_id; /* base copy only: the map marks whatever changed
                             * before this */
    char *plan;             /* id of the plan being copied */
    char *doubt;            /* why the whole disk has to be compared; "" */
    bool blank; /* the replica was made by us, reading as zeroes, and its map
                 * knows all that was written since */
    bool base_copied;
    int64_t delta_rounds;
    int64_t round;       /* last round done, 0: base; -1: none */
    int64_t round_total; /* bytes of the round under way */
    int64_t round_done;
    int64_t changed; /* bytes of the last delta's changed areas */
    /* of all rounds: */
    int64_t bytes_read, bytes_written, bytes_zero;
    char *waiting;       /* for what it waits, for people; "": it does not */
    int64_t verified;    /* bytes that were read back and equal, or agreed
                          * to be zero, since they were written; as of the
                          * last time that was looked at */
    int64_t different;   /* bytes that were not, of all times */
    int64_t mended;      /* of these, copied again and then equal */
    double speed;        /* MiB/s, of the last seconds */
    int64_t eta_seconds; /* -1: unknown */
    double progress;     /* 0..100, of this round */
    char *paused; /* why it waits, for people; "": it does not.  Says nothing
                   * once the worker has ended */
};

/* One phase of the downtime. */
struct phase {
    char *name;
    int64_t started; /* ms since 1970 */
    int64_t ms;      /* -1: under way */
};

struct record {
    char *vm_name, *vm_moref, *uuid, *instance_uuid, *migration_id;
    enum step stage;
    char *active_snapshot; /* moref; "" if none */
    struct VEC(struct disk_record) disks;
    int64_t round;    /* under way, or next; 0: base */
    bool final_round; /* that round is the last one */
    bool finalize_requested;
    bool tracked_from_start; /* tracking began by us, with no snapshot there */
    int64_t verify_seed;     /* of the sample that is read back; 0: none yet */
    bool shutdown_required;
    char *shutdown_reason, *tools_status;
    double progress, speed;
    char *last_error;
    int64_t started, finished, updated; /* ms since 1970; 0: not yet */
    struct VEC(struct phase) downtime;
    char *result; /* what import made: a path or an id */
};

struct record *record_new(void);
void record_free(struct record *r);
DEFER_FN(record_free_ptr, struct record, record_free)
/* A new reference. */
json_t *record_json(const struct record *r);
/* Accepts what the first engine wrote as well.  A schema newer than ours is
 * refused. */
struct record *record_parse(const json_t *j, const char *what, struct err *e);
struct disk_record *record_disk(struct record *r, int64_t key);
/* Fields are set by copies; this frees the old one. */
void record_set(char **field, const char *value);
/* Ledger: ends the phase under way and begins `name` (NULL: none). */
void record_phase(struct record *r, const char *name);
/* Milliseconds from the first phase to the end of the last. */
int64_t record_downtime(const struct record *r);

/* name.c ---------------------------------------------------------------- */

/* "<VM>_<moref>" with every byte but A-Z a-z 0-9 . _ - made _ ; never ".",
 * "..", hidden or longer than a file name may be.  Caller frees. */
char *job_dir_name(const char *vm_name, const char *moref);
/* The same done to any name, in place. */
void job_sanitize(char *name);

#endif
