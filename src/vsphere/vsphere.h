/* vCenter and ESXi by SOAP: session, inventory, snapshots, changed areas,
 * power.  Each call logs in again once when the session was lost, waits for
 * its task, and has a timeout.  Faults become classes: InvalidLogin and
 * NoPermission AUTH; ManagedObjectNotFound and NotFound NOTFOUND;
 * TaskInProgress, ConcurrentAccess, FileLocked, MethodDisabled BUSY;
 * HostNotConnected and the like NET; NoDiskSpace NOSPACE; the rest REMOTE.
 * err.fault holds the fault's type; it is clear after success.  A task whose
 * end cannot be learnt is NET: look at the VM before it is tried again. */
#ifndef VSPHERE_VSPHERE_H
#define VSPHERE_VSPHERE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/secret.h"
#include "base/vec.h"

#define VS_ID_MAX 96 /* bytes of a moref's id, NUL included */

/* session.c ----------------------------------------------------------- */

struct vs; /* one login; one thread at a time */

struct vs_opts {
    const char *host;
    uint16_t port; /* 0: 443 */
    const char *user;
    const struct secret *password;
    const char *ca_file, *thumbprint; /* as in net.h */
    bool insecure;
    const char *operation_id;          /* shown in the server's logs */
    const volatile sig_atomic_t *stop; /* waits end with ERR_STOPPED when it
                                        * becomes non-zero, but a task is
                                        * still started then; or NULL */
};

/* Connects and logs in; copies all but `stop`.  Once a login was refused, none
 * is tried again in this session: accounts get locked. */
struct vs *vs_open(const struct vs_opts *o, struct err *e);
/* Logs out, as far as that is possible. */
void vs_close(struct vs *vs);
DEFER_FN(vs_close_ptr, struct vs, vs_close)
/* Any cheap call; to be made every few minutes of idling. */
int vs_keepalive(struct vs *vs, struct err *e);
/* Watches another flag, or none: to clean up after having been stopped. */
void vs_set_stop(struct vs *vs, const volatile sig_atomic_t *stop);
bool vs_is_vcenter(const struct vs *vs);
const char *vs_about(const struct vs *vs); /* "VMware vCenter Server 8.0.2" */
/* SHA-1 of the certificate this session verified, as VDDK wants it. */
const char *vs_thumbprint(const struct vs *vs);

/* inventory.c --------------------------------------------------------- */

/* Exactly one is set. */
struct vs_query {
    const char *name;  /* in any datacenter and folder; "a/b" or "a%2fb" */
    const char *moref; /* "vm-57" */
    const char *uuid;  /* BIOS or instance uuid */
    const char *path;  /* inventory path "DC/vm/folder/name" */
};

/* NOTFOUND if there is none; USER naming the paths and morefs of the
 * candidates if there are several; a template is refused, and is no candidate
 * beside a VM. */
int vs_find_vm(struct vs *vs, const struct vs_query *q, char vm[VS_ID_MAX],
               struct err *e);

struct vs_disk {
    int key; /* device key; the disk's name in all our records */
    int controller_key;
    int bus, unit;       /* -1: unknown */
    char address[24];    /* "scsi0:1", "nvme0:0" */
    char controller[40]; /* "ParaVirtualSCSIController" */
    char shared_bus[24]; /* "noSharing", ... ; "" if unknown */
    char *label;         /* "Hard disk 1" */
    uint64_t capacity;   /* bytes */
    char *path;          /* "[ds] dir/name.vmdk" */
    char *uuid;          /* of the backing; "" if none */
    char *change_id;     /* "" if none */
    char backing[56];    /* "VirtualDiskFlatVer2BackingInfo" */
    char mode[32];       /* "persistent", "independent_persistent", ... */
    char sharing[24];    /* "sharingNone", "sharingMultiWriter" */
    char rdm[16];        /* compatibilityMode, "" if no RDM */
    bool ctk;            /* extraConfig <address>.ctkEnabled is true */
};

struct vs_disks VEC(struct vs_disk);
void vs_disks_fini(struct vs_disks *d);

struct vs_nic {
    int key;
    char *label;   /* "Network adapter 1" */
    char type[40]; /* "VirtualVmxnet3" */
    char *mac;     /* "00:50:56:..." */
    char *network; /* name of the network or port group; its key if the server
                    * tells no name */
};

struct vs_snapshot {
    char id[VS_ID_MAX], parent[VS_ID_MAX]; /* parent "": a root */
    char *name, *description;
};

struct vs_vm {
    char id[VS_ID_MAX], host[VS_ID_MAX];
    char *name, *uuid, *instance_uuid, *version; /* version "vmx-19" */
    char *guest_id, *guest_name;
    char *path; /* "DC/vm/name", parts %-escaped as stored, while name is not;
                 * ".../name" if the account may not read the folders */
    char firmware[8]; /* "bios" or "efi" */
    bool secure_boot, vtpm, encrypted, template, fault_tolerant;
    int cpus, cores_per_socket;
    uint64_t memory_mb;
    char power[16];      /* "poweredOn", "poweredOff", "suspended" */
    char connection[16]; /* "connected", ... */
    char tools_running[40], tools_status[24];
    char *question; /* text of a pending question, or NULL */
    bool cbt_supported, cbt_enabled, consolidation_needed;
    int boot_disk_key;     /* first disk of the boot order, else first by
                            * controller and unit; 0: no disks */
    struct vs_disks disks; /* sorted by family (ide, scsi, sata, nvme), bus,
                            * unit; none if the VM is not connected */
    struct VEC(struct vs_nic) nics;
    struct VEC(struct vs_snapshot) snapshots; /* the whole tree */
};

int vs_get_vm(struct vs *vs, const char *vm, struct vs_vm *out, struct err *e);
void vs_vm_fini(struct vs_vm *vm);
/* Only what changes: power and tools. */
int vs_get_power(struct vs *vs, const char *vm, char power[16],
                 char tools_running[40], struct err *e);

/* The name of an ESXi host, of its moref; caller frees. */
int vs_host_name(struct vs *vs, const char *host, char **name, struct err *e);

/* snapshot.c ---------------------------------------------------------- */

int vs_enable_cbt(struct vs *vs, const char *vm, struct err *e);
/* memory=false.  Tries a few times while another task holds the VM.  Waits for
 * its end even when asked to stop. */
int vs_snapshot_create(struct vs *vs, const char *vm, const char *name,
                       const char *description, bool quiesce,
                       char snap[VS_ID_MAX], struct err *e);
/* Removes it alone, consolidates, and returns when consolidationNeeded has
 * been false for two seconds.  A snapshot that is gone already is success. */
int vs_snapshot_remove(struct vs *vs, const char *vm, const char *snap,
                       struct err *e);
/* Returns when consolidationNeeded is false, asking for it if need be. */
int vs_consolidate(struct vs *vs, const char *vm, struct err *e);
/* The disks as frozen by the snapshot: path to read, size, changeId. */
int vs_snapshot_disks(struct vs *vs, const char *snap, struct vs_disks *out,
                      struct err *e);

/* changes.c ----------------------------------------------------------- */

/* Bytes.  Returns non-zero to end the walk (then so does the query). */
typedef int vs_area_fn(void *ctx, uint64_t start, uint64_t length);

/* Areas written between change_id and snap, in order, without overlap, within
 * capacity.  Fails closed: any answer that does not add up is ERR_DAMAGED, a
 * snapshot's disk of another size or epoch or a CBT fault too; the caller then
 * compares the whole disk.  Areas told before a failure are no answer. */
int vs_changed_areas(struct vs *vs, const char *vm, const char *snap, int key,
                     uint64_t capacity, const char *change_id, vs_area_fn *area,
                     void *ctx, struct err *e);
/* Both of one tracking epoch? */
bool vs_same_epoch(const char *change_id, const char *other);

/* power.c ------------------------------------------------------------- */

/* Asks the guest; returns at once. */
int vs_shutdown_guest(struct vs *vs, const char *vm, struct err *e);
/* Hard.  Already off is success. */
int vs_power_off(struct vs *vs, const char *vm, struct err *e);
int vs_power_on(struct vs *vs, const char *vm, struct err *e);

#endif
