/* What one run is asked to do, and the bounds of a request. */
#ifndef COPY_REQUEST_H
#define COPY_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"
#include "disk/disk.h"
#include "limit/limit.h"

#define COPY_SLOTS_MAX       256u /* requests in flight */
#define COPY_GAP_AUTO        UINT32_MAX
#define COPY_LINE_MAX        8192u       /* bytes of a line of the request */
#define COPY_EXTENTS_MAX     (64u << 20) /* after merging neighbours */
#define COPY_RATE_MAX        RATE_MAX    /* bytes/s */
#define COPY_TIMEOUT_DEFAULT 300u        /* seconds */
#define COPY_TIMEOUT_MAX     86400u

enum plan_kind { PLAN_ALLOCATED, PLAN_ALL, PLAN_LIST, PLAN_COMPARE };

/* K(name in enum key, key, when it is needed, what it is).  When: REQUIRED,
 * OPTIONAL; COPY, MAY_COPY, MAY_VERIFY: by that verb alone; EITHER: COPY, and
 * admitted by verify; or a source's kind that requires (VDDK) or admits
 * (MAY_VDDK) it. */
#define REQUEST_KEYS(K)                                                      \
    K(SOURCE_KIND, "source.kind", EITHER, "vddk, nbd or file")               \
    K(LIBDIR, "source.libdir", VDDK, "directory that holds VDDK's lib64")    \
    K(SERVER, "source.server", VDDK, "vCenter or ESXi host name")            \
    K(PORT, "source.port", MAY_VDDK, "its port (443)")                       \
    K(USER, "source.user", VDDK, "account there")                            \
    K(PASSWORD, "source.password", VDDK, "its password")                     \
    K(THUMBPRINT, "source.thumbprint", VDDK, "SHA-1 of its certificate")     \
    K(VM, "source.vm", VDDK, "managed object id of the VM, as vm-12")        \
    K(SNAPSHOT, "source.snapshot", MAY_VDDK, "that of the snapshot to read") \
    K(PATH, "source.path", VDDK, "\"[datastore] dir/disk.vmdk\"")            \
    K(TRANSPORTS, "source.transports", MAY_VDDK, "in order (nbdssl:nbd)")    \
    K(CONFIG, "source.config", MAY_VDDK, "VDDK's configuration file")        \
    K(SOURCE_URI, "source.uri", NBD, "NBD URI to read from")                 \
    K(FILE, "source.file", FILE, "raw file or block device to read")         \
    K(TARGET_URI, "target.uri", REQUIRED, "NBD URI of the target")           \
    K(TARGET_ZEROED, "target.zeroed", COPY,                                  \
      "yes: a new target reads as zeroes; no")                               \
    K(TARGET_ZEROES, "target.zeroes", MAY_COPY,                              \
      "how they are written: punch, keep or write (punch)")                  \
    K(TARGET_ID, "target.id", REQUIRED, "text that tells this target")       \
    K(DISK_ID, "disk.id", REQUIRED, "text that tells this disk")             \
    K(DISK_SIZE, "disk.size", REQUIRED, "bytes")                             \
    K(MAP, "map", REQUIRED, "path of the block map")                         \
    K(PLAN_ID, "plan.id", COPY, "the same again resumes the plan")           \
    K(PLAN, "plan", EITHER,                                                  \
      "allocated, all, list or compare; of verify: all or list (all)")       \
    K(LISTED, "listed", MAY_COPY,                                            \
      "yes: what is allocated is listed, and not asked for; no (no)")        \
    K(UNCOPIED, "uncopied", MAY_COPY,                                        \
      "yes: list, and every block never copied; no (no)")                    \
    K(SAMPLE, "sample", MAY_VERIFY, "percent of the blocks (100)")           \
    K(SEED, "seed", MAY_VERIFY, "which ones (at random)")                    \
    K(AGAIN, "again", MAY_VERIFY,                                            \
      "yes: also what was verified since it was written; no (no)")           \
    K(READERS, "readers", OPTIONAL,                                          \
      "requests in flight at most, 1 to 256 (256)")                          \
    K(REQUEST, "request", OPTIONAL,                                          \
      "bytes of one at most, a multiple of 65536 up to 2097152 (2097152)")   \
    K(GAP, "gap", MAY_COPY,                                                  \
      "bytes between areas to read through (where it pays)")                 \
    K(RATE, "rate", OPTIONAL,                                                \
      "bytes per second read at most, 0: no limit (0)")                      \
    K(LIMIT_DISK, "limit.disk", OPTIONAL,                                    \
      "file of a rate that may change; made if it is not there")             \
    K(LIMIT_VM, "limit.vm", OPTIONAL, "one that is shared, likewise")        \
    K(LIMIT_HOST, "limit.host", OPTIONAL, "one more")                        \
    K(LIMIT_MACHINE, "limit.machine", OPTIONAL, "one more")                  \
    K(TIMEOUT, "timeout", OPTIONAL,                                          \
      "seconds without any answer before it is given up (300)")

/* How zeroes get to the target, where they have to. */
enum zeroes {
    ZEROES_PUNCH, /* by a request that lets the server give space back */
    ZEROES_KEEP,  /* by one that makes it keep the space */
    ZEROES_WRITE, /* as data, for a server whose zeroes are none */
};

enum key {
#define K(name, key, need, what) KEY_##name,
    REQUEST_KEYS(K)
#undef K
        KEY_COUNT
};

struct request {
    char *text[KEY_COUNT];   /* as given; NULL: absent, or the password */
    struct secret *password; /* NULL: absent */
    struct extents list;     /* of plan list: tidy, whole blocks */
    enum plan_kind plan;
    enum zeroes zeroes;
    bool zeroed;
    bool uncopied;
    bool listed;        /* of plan allocated: list says what is */
    bool compare;       /* verify: there is a source to compare with */
    bool again;         /* verify: what was verified before as well */
    unsigned sample;    /* verify: percent */
    uint64_t seed;      /* verify: of the sample */
    uint16_t port;      /* 0: none given */
    uint64_t disk_size; /* bytes */
    uint64_t rate;      /* bytes/s; 0: no limit */
    unsigned slots;     /* reads in flight at most */
    uint32_t bytes;     /* of one at most; a multiple of DISK_BLOCK */
    uint32_t gap; /* bytes to read through; COPY_GAP_AUTO: where it pays */
    int64_t timeout_ms;
};

/* The whole request, up to its line `end`.  Anything odd is ERR_USER. */
int request_read(int fd, struct request *r, struct err *e);
/* The same, for the verb `verify`. */
int request_read_verify(int fd, struct request *r, struct err *e);
void request_fini(struct request *r);
/* "" for absent ones. */
const char *request_text(const struct request *r, enum key key);
/* One line per key, for --help. */
void request_help(struct str *out);
const char *plan_name(enum plan_kind kind);

#endif
