/* A call that never returns: a thread of ours tells the one who waits that it
 * still goes on, and ends the program when it took too long.  It takes no
 * memory and no lock but its own, since the one that hangs may hold any. */
#include "copy/copy.h"
#include "copy/report.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define TICK_MS       100
#define TELL_MS       5000 /* between two lines about the same call */
#define STOP_GRACE_MS 5000 /* once we were asked to stop */

static struct {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t end;
    pthread_t thread;
    bool running, ending;
    const char *doing; /* NULL: nothing that could hang */
    int64_t began_ms, told_ms, stop_ms, limit_ms;
    const struct counters *counters; /* changed by who begins and ends only */
} hang = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Our own words only: nothing in them needs to be escaped. */
static void
tell(const char *doing, int64_t ms)
{
    char line[256];
    int n = snprintf(line, sizeof line,
                     "{\"event\":\"waiting\",\"for\":\"%s\",\"ms\":%lld}\n",
                     doing, (long long)ms);

    report_raw(line, (size_t)n);
}

static void
give_up(const char *why, int64_t ms)
{
    const struct counters *c = hang.counters;
    char line[512];
    int n = snprintf(
        line, sizeof line,
        "{\"event\":\"end\",\"result\":\"failed\",\"class\":\"net\",\"code\":0,"
        "\"error\":\"%s: %s %lld s; it goes on from the map when started "
        "again\",\"done\":%llu,\"total\":%llu,\"read\":%llu,\"written\":%llu,"
        "\"zero\":%llu,\"same\":%llu,\"ms\":%lld}\n",
        hang.doing, why, (long long)ms / 1000, (unsigned long long)c->done,
        (unsigned long long)c->total, (unsigned long long)c->read,
        (unsigned long long)c->written, (unsigned long long)c->zero,
        (unsigned long long)c->same, (long long)(clock_ms() - c->start_ms));

    report_raw(line, (size_t)n);
    _exit(COPY_FAILED);
}

/* With the lock held. */
static void
look(int64_t now)
{
    int64_t ms = now - hang.began_ms;

    if (!hang.doing)
        return;
    if (ms >= hang.limit_ms)
        give_up("no answer for", ms);
    if (!hang.stop_ms && stop_pending())
        hang.stop_ms = now;
    if (hang.stop_ms && now - hang.stop_ms >= STOP_GRACE_MS)
        give_up("asked to stop, and no answer for", ms);
    if (now - hang.told_ms >= TELL_MS) {
        hang.told_ms = now;
        tell(hang.doing, ms);
    }
}

static void *
hang_main(void *arg)
{
    pthread_mutex_lock(&hang.lock);
    while (!hang.ending) {
        struct timespec t;
        int64_t ns = clock_ns() + TICK_MS * 1000000ll;

        t = (struct timespec){ ns / 1000000000, ns % 1000000000 };
        pthread_cond_timedwait(&hang.end, &hang.lock, &t);
        look(clock_ms());
    }
    pthread_mutex_unlock(&hang.lock);
    return arg;
}

int
hang_watch(int64_t limit_ms, const struct counters *c, struct err *e)
{
    pthread_condattr_t monotonic;
    int rc;

    hang.limit_ms = limit_ms;
    hang.counters = c;
    hang.ending = false;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&hang.end, &monotonic);
    pthread_condattr_destroy(&monotonic);
    rc = pthread_create(&hang.thread, NULL, hang_main, NULL);
    if (rc)
        return err_errno(e, rc, "starting a thread");
    hang.running = true;
    return 0;
}

void
hang_unwatch(void)
{
    if (!hang.running)
        return;
    pthread_mutex_lock(&hang.lock);
    hang.ending = true;
    pthread_cond_signal(&hang.end);
    pthread_mutex_unlock(&hang.lock);
    pthread_join(hang.thread, NULL);
    pthread_cond_destroy(&hang.end);
    hang.running = false;
}

void
hang_begin(const char *doing)
{
    pthread_mutex_lock(&hang.lock);
    hang.doing = doing;
    hang.began_ms = hang.told_ms = clock_ms();
    hang.stop_ms = 0;
    pthread_mutex_unlock(&hang.lock);
}

void
hang_end(void)
{
    pthread_mutex_lock(&hang.lock);
    hang.doing = NULL;
    pthread_mutex_unlock(&hang.lock);
}
