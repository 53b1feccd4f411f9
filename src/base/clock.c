/* The one clock. */
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

int64_t
clock_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t
clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t
clock_wall_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void
clock_text(int64_t wall_ms, char out[CLOCK_TEXT_MAX])
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(out, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* "+02:00", "-0730", "Z" or nothing, as seconds east of UTC. */
static int
parse_offset(const char *p, int64_t *seconds)
{
    int sign = *p == '-' ? -1 : 1, d[4];

    *seconds = 0;
    if (!*p || !strcmp(p, "Z") || !strcmp(p, "z"))
        return 0;
    if (*p != '+' && *p != '-')
        return -1;
    p++;
    for (int i = 0; i < 4; i++) {
        if (i == 2 && *p == ':')
            p++;
        if (*p < '0' || *p > '9')
            return -1;
        d[i] = *p++ - '0';
    }
    if (*p || d[0] * 10 + d[1] > 23 || d[2] > 5)
        return -1;
    *seconds = sign * ((d[0] * 10 + d[1]) * 3600L + (d[2] * 10 + d[3]) * 60L);
    return 0;
}

int
clock_parse(const char *text, int64_t *wall_ms, struct err *e)
{
    static const char *const layouts[] = { "%Y-%m-%dT%H:%M:%S",
                                           "%Y-%m-%dT%H:%M" };

    for (size_t i = 0; i < 2; i++) {
        struct tm tm = { 0 };
        const char *rest = strptime(text, layouts[i], &tm);
        int64_t east, ms = 0;

        if (!rest)
            continue;
        if (i == 0 && *rest == '.')
            for (int64_t unit = 100; *++rest >= '0' && *rest <= '9'; unit /= 10)
                ms += (*rest - '0') * unit;
        if (parse_offset(rest, &east))
            continue;
        *wall_ms = ((int64_t)timegm(&tm) - east) * 1000 + ms;
        return 0;
    }
    return err_set(e, ERR_USER,
                   "'%.40s' is not a time; write 2026-11-21T22:00:00Z, or "
                   "2026-11-21T22:00 for UTC",
                   text);
}

void
clock_pause(int64_t ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

    if (ms > 0)
        nanosleep(&t, NULL);
}
