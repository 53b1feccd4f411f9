/* A connection that was lost and is to come back: how long, how often. */
#include "copy/report.h"
#include "copy/source.h"

#include "base/clock.h"

#define PAUSE_MIN_MS 500
#define PAUSE_MAX_MS 30000

/* Three quarters to five quarters of it: many copiers lose one host at the
 * same moment, and are not to come back at the same moment. */
static int64_t
spread(int64_t ms)
{
    return ms * 3 / 4 + clock_ns() / 1000 % (ms / 2);
}

int
comeback_after(struct comeback *c, struct err *e)
{
    int64_t now = clock_ms(), pause = PAUSE_MIN_MS;

    if (!c->since_ms) {
        c->since_ms = now;
        c->tries = 0;
    }
    for (unsigned i = 0; i < c->tries && pause < PAUSE_MAX_MS; i++)
        pause *= 2;
    pause = spread(pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS);
    c->tries++;
    if (now + pause - c->since_ms > c->patience_ms) {
        err_wrap(e, "given up after %lld s and %u tries",
                 (long long)(now - c->since_ms) / 1000, c->tries);
        return -1;
    }
    c->due_ms = now + pause;
    report_warn("%s; connecting again in %.1f s", e->msg, (double)pause / 1000);
    return 0;
}

void
comeback_worked(struct comeback *c)
{
    c->since_ms = 0;
}

bool
comeback_due(const struct comeback *c)
{
    return clock_ms() >= c->due_ms;
}

int
comeback_wait(const struct comeback *c, struct err *e)
{
    struct pollfd stop = { stop_fd(), POLLIN, 0 };
    int64_t left;

    while ((left = c->due_ms - clock_ms()) > 0 && !stop_asked())
        poll(&stop, 1, (int)left);
    return stop_asked() ? err_set(e, ERR_STOPPED, "stopped") : 0;
}
