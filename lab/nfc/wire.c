/* What both sides of the lab's disk service do with what they share. */
#include "lab/nfc/wire.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int
wire_address(const char *dir, struct sockaddr_un *a, int *dir_fd)
{
    *a = (struct sockaddr_un){ .sun_family = AF_UNIX };
    *dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0)
        return -1;
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%s", *dir_fd,
             LAB_NFC_SOCKET);
    return 0;
}

/* Is call number n (from 1) one of those that the rule means? */
static bool
due(const struct wire_rule *r, uint64_t n)
{
    uint64_t every = r->every ? r->every : 1;

    if (n <= r->after)
        return false;
    n -= r->after + 1;
    return n % every == 0 && (!r->count || n / every < r->count);
}

bool
wire_fault(struct wire_shared *s, enum lab_fault_op op, const char *path,
           unsigned *code)
{
    bool strikes = false;

    for (unsigned i = 0; i < LAB_NFC_FAULTS; i++) {
        struct wire_rule *r = &s->rules[i];

        if (!atomic_load_explicit(&r->active, memory_order_acquire) ||
            r->op != op || !strstr(path, r->match))
            continue;
        if (!due(r, atomic_fetch_add(&r->seen, 1) + 1))
            continue;
        atomic_fetch_add(&r->hits, 1);
        *code = r->code;
        strikes = true;
    }
    return strikes;
}

int64_t
wire_link(struct wire_shared *s, int64_t now_ns, uint64_t n)
{
    uint64_t rate = atomic_load(&s->link_bytes_per_s), now = (uint64_t)now_ns;
    uint64_t was = atomic_load(&s->link_free_ns), end;

    if (!rate)
        return now_ns;
    do
        end = (was > now ? was : now) +
              (uint64_t)((double)n * 1e9 / (double)rate);
    while (!atomic_compare_exchange_weak(&s->link_free_ns, &was, end));
    return (int64_t)end;
}
