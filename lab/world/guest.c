/* Guests: a thread per VM that writes to its disks while it is powered on. */
#include "lab/world/world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define RECENT      8 /* places a guest comes back to */
#define LAST_WRITES 5 /* when it shuts down */
#define SECTOR      512u

struct recent {
    struct vm_disk *disk;
    uint64_t off;
    uint64_t n;
};

struct writer {
    struct vm *vm;
    unsigned char *buf; /* max_bytes */
    struct recent recent[RECENT];
    unsigned n_recent, next_recent;
};

static void
fill(unsigned char *buf, uint64_t n, uint64_t *rng)
{
    for (uint64_t i = 0; i < n; i += sizeof(uint64_t)) {
        uint64_t x = world_random(rng);

        memcpy(buf + i, &x, sizeof x);
    }
}

/* A disk that has room for a write; NULL if the VM has none. */
static struct vm_disk *
choose_disk(struct vm *vm)
{
    size_t n = vm->disks.n;
    size_t first = n ? (size_t)(world_random(&vm->guest.rng) % n) : 0;

    for (size_t i = 0; i < n; i++) {
        struct vm_disk *d = vm->disks.p[(first + i) % n];

        if (d->guest_to >= d->guest_from + SECTOR)
            return d;
    }
    return NULL;
}

static void
choose_place(struct writer *wr, struct recent *at)
{
    struct guest *g = &wr->vm->guest;
    uint64_t kind = world_random(&g->rng) % 8;
    uint64_t span, sectors;
    struct vm_disk *d;

    if (kind < 2 && wr->n_recent) {
        *at = wr->recent[world_random(&g->rng) % wr->n_recent];
        return;
    }
    d = at->disk = choose_disk(wr->vm);
    if (!d)
        return;
    span = (d->guest_to - d->guest_from) / SECTOR;
    sectors = 1 + world_random(&g->rng) % (g->max_bytes / SECTOR);
    if (sectors > span)
        sectors = span;
    at->n = sectors * SECTOR;
    at->off =
        d->guest_from + world_random(&g->rng) % (span - sectors + 1) * SECTOR;
    if (kind == 2) {
        uint64_t edge = at->off / LDISK_BLOCK * LDISK_BLOCK + LDISK_BLOCK;

        if (edge > d->guest_from + SECTOR &&
            edge - SECTOR + at->n <= d->guest_to)
            at->off = edge - SECTOR;
    }
}

/* Under stun. */
static void
write_once(struct writer *wr)
{
    struct guest *g = &wr->vm->guest;
    struct recent at = { 0 };
    struct err e = ERR_INIT;
    bool zero;

    choose_place(wr, &at);
    if (!at.disk)
        return;
    zero = world_random(&g->rng) % 100 < g->zero_share;
    if (zero)
        memset(wr->buf, 0, at.n);
    else
        fill(wr->buf, at.n, &g->rng);
    if (ldisk_write(at.disk->disk, wr->buf, at.n, at.off, &e)) {
        snprintf(g->failed, sizeof g->failed, "%s", e.msg);
        log_error("guest %s stops: %s", wr->vm->ent->name, e.msg);
        g->run = false;
        return;
    }
    g->writes++;
    g->bytes += at.n;
    g->zero_writes += zero;
    wr->recent[wr->next_recent] = at;
    wr->next_recent = (wr->next_recent + 1) % RECENT;
    if (wr->n_recent < RECENT)
        wr->n_recent++;
}

static struct timespec
in_us(uint64_t us)
{
    struct timespec ts;
    uint64_t ns;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    ns = (uint64_t)ts.tv_nsec + us * 1000;
    ts.tv_sec += (time_t)(ns / 1000000000);
    ts.tv_nsec = (long)(ns % 1000000000);
    return ts;
}

static void *
guest_main(void *arg)
{
    struct vm *vm = arg;
    struct guest *g = &vm->guest;
    struct writer wr = { .vm = vm };

    pthread_mutex_lock(&g->stun);
    wr.buf = xmalloc(g->max_bytes + sizeof(uint64_t));
    while (!g->quit) {
        struct timespec ts;

        if (!g->run || g->paused || !g->writes_per_s) {
            pthread_cond_wait(&g->wake, &g->stun);
            continue;
        }
        write_once(&wr);
        ts = in_us(1000000 / (g->writes_per_s ? g->writes_per_s : 1));
        pthread_cond_timedwait(&g->wake, &g->stun, &ts);
    }
    pthread_mutex_unlock(&g->stun);
    free(wr.buf);
    return NULL;
}

int
guest_start(struct vm *vm, struct err *e)
{
    struct guest *g = &vm->guest;
    int rc;

    pthread_mutex_lock(&g->stun);
    g->run = vm->power == VM_ON;
    pthread_mutex_unlock(&g->stun);
    rc = pthread_create(&g->thread, NULL, guest_main, vm);
    if (rc)
        return err_errno(e, rc, "starting the guest of %s", vm->ent->name);
    g->started = true;
    return 0;
}

void
guest_stop(struct vm *vm)
{
    struct guest *g = &vm->guest;

    if (!g->started)
        return;
    pthread_mutex_lock(&g->stun);
    g->quit = true;
    pthread_cond_broadcast(&g->wake);
    pthread_mutex_unlock(&g->stun);
    pthread_join(g->thread, NULL);
    g->started = false;
}

void
guest_run(struct vm *vm, bool run)
{
    pthread_mutex_lock(&vm->guest.stun);
    vm->guest.run = run;
    pthread_cond_broadcast(&vm->guest.wake);
    pthread_mutex_unlock(&vm->guest.stun);
}

void
guest_last_writes(struct vm *vm)
{
    struct guest *g = &vm->guest;
    struct writer wr = { .vm = vm };

    pthread_mutex_lock(&g->stun);
    wr.buf = xmalloc(g->max_bytes + sizeof(uint64_t));
    for (int i = 0; i < LAST_WRITES && g->run && g->writes_per_s; i++)
        write_once(&wr);
    g->run = false;
    pthread_mutex_unlock(&g->stun);
    free(wr.buf);
}

void
guest_stun(struct vm *vm)
{
    pthread_mutex_lock(&vm->guest.stun);
}

void
guest_release(struct vm *vm)
{
    pthread_mutex_unlock(&vm->guest.stun);
}
