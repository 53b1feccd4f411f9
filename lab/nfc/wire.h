/* What the disk service and the lab's VDDK library share: the messages on the
 * socket and the file of knobs.  One machine, one build: no byte order. */
#ifndef LAB_NFC_WIRE_H
#define LAB_NFC_WIRE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "lab/nfc/nfc.h"

#define WIRE_MAGIC       0x6c616231u /* of this layout */
#define WIRE_REQUEST_MAX 16384u      /* bytes */

/* The request: this, then one NUL-ended string for each of enum
 * wire_string. */
struct wire_request {
    uint32_t magic, port, nfc_port, flags, read_only;
};

enum wire_string {
    WIRE_SERVER,
    WIRE_THUMBPRINT,
    WIRE_USER,
    WIRE_PASSWORD,
    WIRE_COOKIE,
    WIRE_VMX_SPEC,
    WIRE_SNAPSHOT,
    WIRE_PATH,
    WIRE_TRANSPORTS,
    WIRE_STRINGS
};

/* The answer; with code 0 it comes with 2 x layers - 1 descriptors: data and
 * bitmap from the top down, of the base only the data. */
struct wire_answer {
    uint32_t magic, code, layers;
    uint64_t size; /* bytes */
    char uuid[LAB_NFC_UUID_MAX];
};

struct wire_rule {
    _Atomic uint32_t active; /* the rest is valid while it is 1 */
    uint32_t op, code;
    uint64_t after, every, count;
    char match[LAB_NFC_MATCH_MAX];
    _Atomic uint64_t seen, hits;
};

struct wire_shared {
    uint32_t magic;
    _Atomic uint32_t latency_us;
    _Atomic uint32_t cuts; /* handles of an earlier number are broken */
    _Atomic uint64_t link_bytes_per_s, link_free_ns, buffers;
    _Atomic uint64_t opens, reads, queries, bytes, in_flight_max;
    struct wire_rule rules[LAB_NFC_FAULTS];
};

/* An address that fits, however long the directory's name is; it is good as
 * long as *dir_fd is open.  -1 with errno. */
int wire_address(const char *dir, struct sockaddr_un *a, int *dir_fd);
/* Does a rule for this op strike a call on that path?  Counts the call. */
bool wire_fault(struct wire_shared *s, enum lab_fault_op op, const char *path,
                unsigned *code);
/* Books n bytes on the link; returns when the last of them has passed, in
 * ns of the monotonic clock. */
int64_t wire_link(struct wire_shared *s, int64_t now_ns, uint64_t n);

#endif
