/* The knobs of the lab's disk service: latency, link, faults, counters. */
#include "lab/nfc/knobs.h"
#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static const char *const op_names[LAB_FAULT_OPS] = {
    [LAB_FAULT_CONNECT] = "connect",
    [LAB_FAULT_OPEN] = "open",
    [LAB_FAULT_READ] = "read",
    [LAB_FAULT_CALLBACK] = "callback",
    [LAB_FAULT_HANG] = "hang",
    [LAB_FAULT_CRASH] = "crash",
    [LAB_FAULT_SLOW] = "slow",
    [LAB_FAULT_CORRUPT] = "corrupt",
    [LAB_FAULT_QUERY] = "query",
    [LAB_FAULT_QUERY_BAD] = "query-bad",
    [LAB_FAULT_INFO] = "info",
    [LAB_FAULT_CAPACITY] = "capacity",
    [LAB_FAULT_TRANSPORT] = "transport",
    [LAB_FAULT_LOG] = "log",
    [LAB_FAULT_HANG_CONNECT] = "hang-connect",
    [LAB_FAULT_HANG_OPEN] = "hang-open",
    [LAB_FAULT_HANG_QUERY] = "hang-query",
    [LAB_FAULT_HANG_CLOSE] = "hang-close",
};

int
lab_fault_op_parse(const char *name)
{
    for (int i = 0; i < LAB_FAULT_OPS; i++)
        if (!strcmp(op_names[i], name))
            return i;
    return -1;
}

/* A new file each time: who has the old one mapped is not disturbed. */
struct wire_shared *
knobs_map(const char *dir, struct err *e)
{
    defer_free char *path = xasprintf("%s/%s", dir, LAB_NFC_SHARED);
    defer_free char *tmp = xasprintf("%s.new", path);
    defer_close int fd = -1;
    struct wire_shared *s;

    if (fs_remove(tmp, e))
        return NULL;
    fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *s)) {
        err_errno(e, errno, "creating %s", tmp);
        return NULL;
    }
    s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED) {
        err_errno(e, errno, "mapping %s", tmp);
        return NULL;
    }
    s->magic = WIRE_MAGIC;
    if (rename(tmp, path)) {
        err_errno(e, errno, "renaming %s to %s", tmp, path);
        knobs_unmap(s);
        return NULL;
    }
    return s;
}

void
knobs_unmap(struct wire_shared *s)
{
    if (s)
        munmap(s, sizeof *s);
}

void
lab_nfc_set_latency(struct lab_nfc *n, uint32_t us)
{
    atomic_store(&nfc_shared(n)->latency_us, us);
}

void
lab_nfc_set_link(struct lab_nfc *n, uint64_t bytes_per_s)
{
    atomic_store(&nfc_shared(n)->link_free_ns, 0);
    atomic_store(&nfc_shared(n)->link_bytes_per_s, bytes_per_s);
}

void
lab_nfc_set_buffers(struct lab_nfc *n, uint64_t bytes)
{
    atomic_store(&nfc_shared(n)->buffers, bytes);
}

void
lab_nfc_cut(struct lab_nfc *n)
{
    atomic_fetch_add(&nfc_shared(n)->cuts, 1);
}

static int
free_slot(const struct wire_shared *s)
{
    for (int i = 0; i < LAB_NFC_FAULTS; i++)
        if (!atomic_load(&s->rules[i].active))
            return i;
    return -1;
}

int
lab_nfc_fault(struct lab_nfc *n, const struct lab_fault *f, struct err *e)
{
    const char *match = f->match ? f->match : "";
    defer(nfc_unlock) struct lab_nfc *locked = nfc_lock(n);
    struct wire_shared *s = nfc_shared(locked);
    int id = free_slot(s);
    struct wire_rule *r;

    if (f->op >= LAB_FAULT_OPS)
        return err_set(e, ERR_USER, "fault: no such operation");
    if (strlen(match) >= LAB_NFC_MATCH_MAX)
        return err_set(e, ERR_USER, "fault: '%.40s...' is too long", match);
    if (id < 0)
        return err_set(e, ERR_USER, "fault: there are %d rules; clear some",
                       LAB_NFC_FAULTS);
    r = &s->rules[id];
    r->op = f->op, r->code = f->code;
    r->after = f->after, r->every = f->every, r->count = f->count;
    snprintf(r->match, sizeof r->match, "%s", match);
    atomic_store(&r->seen, 0);
    atomic_store(&r->hits, 0);
    atomic_store_explicit(&r->active, 1, memory_order_release);
    return id;
}

void
lab_nfc_fault_clear(struct lab_nfc *n, int id)
{
    defer(nfc_unlock) struct lab_nfc *locked = nfc_lock(n);

    for (int i = 0; i < LAB_NFC_FAULTS; i++)
        if (id < 0 || i == id)
            atomic_store(&nfc_shared(locked)->rules[i].active, 0);
}

uint64_t
lab_nfc_fault_hits(struct lab_nfc *n, int id)
{
    return id < 0 || id >= LAB_NFC_FAULTS
               ? 0
               : atomic_load(&nfc_shared(n)->rules[id].hits);
}

void
lab_nfc_stats(struct lab_nfc *n, struct lab_nfc_stats *out)
{
    struct wire_shared *s = nfc_shared(n);

    *out = (struct lab_nfc_stats){
        .opens = atomic_load(&s->opens),
        .reads = atomic_load(&s->reads),
        .queries = atomic_load(&s->queries),
        .bytes = atomic_load(&s->bytes),
        .in_flight_max = atomic_load(&s->in_flight_max),
    };
    nfc_open_counts(n, out);
}
