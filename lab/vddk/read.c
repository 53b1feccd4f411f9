/* Reading: at once, or by a few threads in the order in which the answers of
 * a host would come. */
#include "base/clock.h"
#include "base/mem.h"
#include "lab/vddk/vddk.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define AT_ONCE 64u /* each one of so many is answered within ReadAsync */
#define NEVER   INT64_MAX

/* Not the quality of chance matters, but that it costs nothing. */
static uint64_t
scatter(void)
{
    static _Atomic uint64_t count;
    uint64_t x = atomic_fetch_add(&count, 1) * 0x9e3779b97f4a7c15ull;

    x ^= x >> 32;
    return x * 0xd6e8feb86659fd93ull >> 32;
}

int64_t
answer_due(uint64_t bytes)
{
    int64_t now = clock_ns();
    int64_t latency = 1000 * (int64_t)atomic_load(&lib.shared->latency_us);
    int64_t spread = latency / 4;

    if (spread)
        latency += (int64_t)(scatter() % (uint64_t)spread) - spread / 2;
    return (bytes ? wire_link(lib.shared, now, bytes) : now) + latency;
}

static struct timespec
timespec_of(int64_t ns)
{
    return (struct timespec){ ns / 1000000000, ns % 1000000000 };
}

void
sleep_until(int64_t ns)
{
    struct timespec t = timespec_of(ns);

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* The queue: a heap by the time an answer is due --------------------------- */

static void
swap(struct job *a, struct job *b)
{
    struct job t = *a;

    *a = *b;
    *b = t;
}

/* Whether it is the first one now. */
static bool
heap_push(struct pool *p, struct job j)
{
    size_t i = p->heap.n;

    vec_push(&p->heap, j);
    for (; i && p->heap.p[i].due < p->heap.p[(i - 1) / 2].due; i = (i - 1) / 2)
        swap(&p->heap.p[i], &p->heap.p[(i - 1) / 2]);
    return !i;
}

static struct job
heap_pop(struct pool *p)
{
    struct job first = p->heap.p[0], *h = p->heap.p;
    size_t n = --p->heap.n, i = 0, child;

    h[0] = h[n];
    while ((child = 2 * i + 1) < n) {
        if (child + 1 < n && h[child + 1].due < h[child].due)
            child++;
        if (h[i].due <= h[child].due)
            break;
        swap(&h[i], &h[child]);
        i = child;
    }
    return first;
}

/* Doing ------------------------------------------------------------------- */

static unsigned
read_now(const struct handle *h, const struct job *j)
{
    if (atomic_load(&lib.shared->cuts) != h->cuts)
        return VDDK_CONN_LOST;
    if (j->code)
        return j->code;
    if (layers_pread(h->chain, h->layers, j->buf, j->n, j->start))
        return VDDK_DISK_NOIO;
    if (j->corrupt)
        j->buf[j->n / 2] ^= 0x55;
    return VDDK_OK;
}

static void
finish(struct handle *h, const struct job *j)
{
    struct pool *p = &h->pool;
    unsigned code = read_now(h, j);

    rule_callback(true);
    j->done(j->data, vddk_fail(code));
    rule_callback(false);
    pthread_mutex_lock(&p->lock);
    p->pending--;
    p->pending_bytes -= j->n;
    if (!p->pending)
        pthread_cond_broadcast(&p->idle);
    pthread_mutex_unlock(&p->lock);
}

/* Waits for the next job that is due; false: the end.  Only one thread waits
 * for the clock, the others for work. */
static bool
next_job(struct pool *p, struct job *out)
{
    bool found = false;

    pthread_mutex_lock(&p->lock);
    while (!found && !p->stopping) {
        if (!p->heap.n || (p->timed && p->heap.p[0].due > clock_ns())) {
            pthread_cond_wait(&p->work, &p->lock);
        } else if (p->heap.p[0].due > clock_ns()) {
            struct timespec t = timespec_of(p->heap.p[0].due);

            p->timed = true;
            pthread_cond_timedwait(&p->timer, &p->lock, &t);
            p->timed = false;
        } else {
            *out = heap_pop(p);
            found = true;
            if (p->heap.n)
                pthread_cond_signal(&p->work);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return found;
}

static void *
pool_main(void *arg)
{
    struct handle *h = arg;
    struct job j;

    while (next_job(&h->pool, &j))
        finish(h, &j);
    return NULL;
}

/* The pool ---------------------------------------------------------------- */

void
pool_init(struct pool *p)
{
    pthread_condattr_t monotonic;

    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->timer, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->idle, NULL);
}

static void
pool_start(struct handle *h)
{
    sigset_t all, old;

    if (h->pool.running)
        return;
    h->pool.running = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i < POOL_THREADS; i++)
        if (pthread_create(&h->pool.threads[i], NULL, pool_main, h))
            rule_broken("no more threads can be started");
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void
pool_fini(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    if (p->pending)
        rule_broken("Close with %llu reads pending",
                    (unsigned long long)p->pending);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_cond_broadcast(&p->timer);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; p->running && i < POOL_THREADS; i++)
        pthread_join(p->threads[i], NULL);
    vec_fini(&p->heap);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->timer);
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
}

/* Accepts a read: it counts until its callback has returned.  True when it
 * goes beyond the buffers of the host. */
static bool
pool_accept(struct pool *p, uint64_t bytes)
{
    uint64_t limit = atomic_load(&lib.shared->buffers);
    uint64_t most = atomic_load(&lib.shared->in_flight_max), now;
    bool beyond;

    pthread_mutex_lock(&p->lock);
    beyond = limit && p->pending_bytes + bytes > limit;
    p->pending_bytes += bytes;
    now = ++p->pending;
    pthread_mutex_unlock(&p->lock);
    while (most < now && !atomic_compare_exchange_weak(
                             &lib.shared->in_flight_max, &most, now))
        ;
    return beyond;
}

static void
pool_push(struct pool *p, struct job j)
{
    pthread_mutex_lock(&p->lock);
    if (!heap_push(p, j) && p->timed)
        ; /* who watches the clock comes to it */
    else if (p->timed)
        pthread_cond_signal(&p->timer);
    else
        pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

/* Calls ------------------------------------------------------------------- */

static unsigned
check_range(const struct handle *h, uint64_t start, uint64_t n, const void *buf)
{
    uint64_t capacity = h->size / VDDK_SECTOR;

    if (!n || !buf)
        return VDDK_INVALID_ARG;
    if (start > capacity || n > capacity - start)
        return VDDK_DISK_OUTOFRANGE;
    return VDDK_OK;
}

/* Faults of both kinds of reading; a code that refuses the call. */
static unsigned
apply_faults(const struct handle *h, struct job *j)
{
    unsigned code = 0, lines;

    if (handle_fault(h, LAB_FAULT_LOG, &lines)) {
        printf("this is said on stdout\n");
        fflush(stdout);
        while (lines--)
            vddk_log("NFC AIO: %u messages of this kind follow\n", lines);
    }
    if (handle_fault(h, LAB_FAULT_CRASH, &code)) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    if (handle_fault(h, LAB_FAULT_READ, &code))
        return code;
    j->due = answer_due(j->n);
    if (handle_fault(h, LAB_FAULT_SLOW, &code))
        j->due += (int64_t)code * 1000000;
    j->corrupt = handle_fault(h, LAB_FAULT_CORRUPT, &code);
    if (handle_fault(h, LAB_FAULT_HANG, &code))
        j->due = NEVER;
    atomic_fetch_add(&lib.shared->reads, 1);
    atomic_fetch_add(&lib.shared->bytes, j->n);
    return VDDK_OK;
}

static bool
reads_pending(struct pool *p)
{
    bool any;

    pthread_mutex_lock(&p->lock);
    any = p->pending;
    pthread_mutex_unlock(&p->lock);
    return any;
}

vddk_error
VixDiskLib_Read(vddk_handle p, uint64_t start, uint64_t num, uint8_t *buf)
{
    defer_leave struct handle *h = handle_enter("Read", p);
    struct job j = { .start = start * VDDK_SECTOR,
                     .n = num * VDDK_SECTOR,
                     .buf = buf };
    unsigned code = check_range(h, start, num, buf);

    if (!code && reads_pending(&h->pool))
        code = VDDK_ASYNC_MIXED;
    if (!code)
        code = apply_faults(h, &j);
    if (code)
        return vddk_fail(code);
    sleep_until(j.due);
    return vddk_fail(read_now(h, &j));
}

vddk_error
VixDiskLib_ReadAsync(vddk_handle p, uint64_t start, uint64_t num, uint8_t *buf,
                     vddk_done_fn *done, void *data)
{
    defer_leave struct handle *h = handle_enter("ReadAsync", p);
    struct job j = { .start = start * VDDK_SECTOR,
                     .n = num * VDDK_SECTOR,
                     .buf = buf,
                     .done = done,
                     .data = data };
    unsigned code = check_range(h, start, num, buf);

    if (!code && !done)
        code = VDDK_INVALID_ARG;
    if (!code)
        code = apply_faults(h, &j);
    if (code)
        return vddk_fail(code);
    if (handle_fault(h, LAB_FAULT_CALLBACK, &code))
        j.code = code;
    pool_start(h);
    if (pool_accept(&h->pool, j.n))
        j.code = VDDK_OUT_OF_MEMORY;
    if (++h->submitted % AT_ONCE == 0 && j.due != NEVER)
        finish(h, &j);
    else
        pool_push(&h->pool, j);
    return VDDK_ASYNC;
}

vddk_error
VixDiskLib_Wait(vddk_handle p)
{
    defer_leave struct handle *h = handle_enter("Wait", p);

    pthread_mutex_lock(&h->pool.lock);
    while (h->pool.pending)
        pthread_cond_wait(&h->pool.idle, &h->pool.lock);
    pthread_mutex_unlock(&h->pool.lock);
    return VDDK_OK;
}

/* Writing: not in this world, but some programs want the names ------------- */

VDDK_EXPORT vddk_error VixDiskLib_Write(vddk_handle p, uint64_t start,
                                        uint64_t num, const uint8_t *buf);
VDDK_EXPORT vddk_error VixDiskLib_Flush(vddk_handle p);

vddk_error
VixDiskLib_Write(vddk_handle p, uint64_t start, uint64_t num,
                 const uint8_t *buf)
{
    defer_leave struct handle *h = handle_enter("Write", p);
    unsigned code = check_range(h, start, num, buf);

    return vddk_fail(code ? code : VDDK_NOT_SUPPORTED);
}

vddk_error
VixDiskLib_Flush(vddk_handle p)
{
    defer_leave struct handle *h = handle_enter("Flush", p);

    (void)h;
    return VDDK_OK;
}
