/* The lab's disk service, what port 902 of an ESXi host is to the world: a
 * unix socket where the lab's VDDK opens disks, and beside it a shared file of
 * knobs (latency, link, faults) which open handles obey at once. */
#ifndef LAB_NFC_H
#define LAB_NFC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define LAB_NFC_SOCKET    "nfc.sock" /* below LIBDIR/lab/ */
#define LAB_NFC_SHARED    "link.shm" /* in the same directory */
#define LAB_NFC_UUID_MAX  64
#define LAB_NFC_FAULTS    32 /* rules at the same time */
#define LAB_NFC_MATCH_MAX 96 /* bytes of a rule's path with NUL */

struct ldisk;
struct lab_nfc;

/* What a client gave to ConnectEx and Open.  Strings are never NULL; "" is
 * what was not given. */
struct lab_nfc_request {
    const char *server, *thumbprint;
    const char *user, *password; /* with a cookie: as the client gave them */
    const char *cookie;          /* session login; "" for user and password */
    const char *vmx_spec;        /* "moref=vm-12" */
    const char *snapshot;        /* "snapshot-12", any "moref=" removed */
    const char *path;            /* "[datastore1] web01/web01-000001.vmdk" */
    const char *transports;      /* colon list as given */
    uint32_t port, nfc_port;     /* 0: the default */
    uint32_t flags;              /* of Open */
    bool read_only;              /* of ConnectEx */
};

/* Filled by the resolver: either lab_nfc_grant(), or a code. */
struct lab_nfc_answer {
    unsigned code; /* VDDK error; 0: granted */
    struct ldisk *disk;
    unsigned version;
    uint64_t size; /* bytes */
    char uuid[LAB_NFC_UUID_MAX];
    struct str layers; /* of ldisk_hold */
};

/* Judges one Open; runs on the thread of that connection.  It starts with an
 * answer of VDDK_FAIL (1). */
typedef void lab_nfc_resolve(void *ctx, const struct lab_nfc_request *q,
                             struct lab_nfc_answer *a);
/* Holds the version for this connection (call it under whatever lock keeps
 * the disk from being freed) and makes the answer a success; or sets code 4
 * when there is no such version.  Released when the client closes or dies. */
void lab_nfc_grant(struct lab_nfc_answer *a, struct ldisk *disk,
                   unsigned version, const char *uuid);

/* dir is LIBDIR/lab; it is made.  LIBDIR is what clients give to InitEx. */
struct lab_nfc *lab_nfc_start(const char *dir, lab_nfc_resolve *resolve,
                              void *ctx, struct err *e);
/* Ends all connections and waits for them. */
void lab_nfc_stop(struct lab_nfc *n);

/* Knobs ---------------------------------------------------------------- */

/* From request to answer of each read and query; the mean, with a spread of
 * an eighth to both sides.  0: none. */
void lab_nfc_set_latency(struct lab_nfc *n, uint32_t us);
/* Shared by all disks and clients of this lab.  0: no limit. */
void lab_nfc_set_link(struct lab_nfc *n, uint64_t bytes_per_s);
/* Bytes a handle may have in flight; reads beyond it fail with code 2, as
 * when the buffers of the host are used up.  0: no limit. */
void lab_nfc_set_buffers(struct lab_nfc *n, uint64_t bytes);
/* Breaks the connection of all open handles: their reads fail with 14011. */
void lab_nfc_cut(struct lab_nfc *n);

enum lab_fault_op {
    LAB_FAULT_CONNECT,      /* ConnectEx returns code */
    LAB_FAULT_OPEN,         /* Open returns code */
    LAB_FAULT_READ,         /* Read or ReadAsync returns code */
    LAB_FAULT_CALLBACK,     /* ReadAsync accepts, its callback gets code */
    LAB_FAULT_HANG,         /* ReadAsync accepts, its callback never comes */
    LAB_FAULT_CRASH,        /* SIGSEGV within a read */
    LAB_FAULT_SLOW,         /* a read takes code milliseconds more */
    LAB_FAULT_CORRUPT,      /* a read succeeds with one wrong byte */
    LAB_FAULT_QUERY,        /* QueryAllocatedBlocks returns code */
    LAB_FAULT_QUERY_BAD,    /* its answer has blocks which overlap */
    LAB_FAULT_INFO,         /* GetInfo returns code */
    LAB_FAULT_CAPACITY,     /* GetInfo tells code sectors more */
    LAB_FAULT_TRANSPORT,    /* GetTransportMode says "file" */
    LAB_FAULT_LOG,          /* code log lines at a read, one on stdout */
    LAB_FAULT_HANG_CONNECT, /* ConnectEx never returns */
    LAB_FAULT_HANG_OPEN,    /* Open never returns */
    LAB_FAULT_HANG_QUERY,   /* QueryAllocatedBlocks never returns */
    LAB_FAULT_HANG_CLOSE,   /* Close never returns */
    LAB_FAULT_OPS
};

/* Counts the calls of that op on disks whose path has `match` in it (""
 * or NULL: all), from when the rule was made. */
struct lab_fault {
    enum lab_fault_op op;
    unsigned code;
    const char *match;
    uint64_t after; /* calls that go well first */
    uint64_t every; /* then each one of so many fails; 0, 1: each */
    uint64_t count; /* and so many times; 0: for ever */
};

/* "connect", "open", "read", "callback", "hang", "crash", "slow", "corrupt",
 * "query", "query-bad", "info", "capacity", "transport", "log",
 * "hang-connect", "hang-open", "hang-query", "hang-close"; -1 for a name that
 * is none. */
int lab_fault_op_parse(const char *name);
/* Returns a number for lab_nfc_fault_clear; -1 when the table is full. */
int lab_nfc_fault(struct lab_nfc *n, const struct lab_fault *f, struct err *e);
/* -1: all of them. */
void lab_nfc_fault_clear(struct lab_nfc *n, int id);
/* How often that rule struck. */
uint64_t lab_nfc_fault_hits(struct lab_nfc *n, int id);

struct lab_nfc_stats {
    uint64_t opens, reads, queries, bytes; /* since the start */
    uint64_t in_flight_max;                /* reads at once on one handle */
    unsigned open_now, open_max; /* handles; most at once since the start */
};
void lab_nfc_stats(struct lab_nfc *n, struct lab_nfc_stats *s);

#endif
