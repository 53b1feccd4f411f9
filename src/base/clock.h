/* The one clock. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#include "base/err.h"

#define CLOCK_TEXT_MAX 32

/* Milliseconds that never step back; for durations. */
int64_t clock_ms(void);
/* The same clock in nanoseconds. */
int64_t clock_ns(void);
/* Milliseconds since 1970; for what people and records see. */
int64_t clock_wall_ms(void);
/* "2026-11-21T23:55:40Z" */
void clock_text(int64_t wall_ms, char out[CLOCK_TEXT_MAX]);
/* RFC3339 (with Z or an offset), YYYY-MM-DDTHH:MM:SS or YYYY-MM-DDTHH:MM; the
 * last two are UTC. */
int clock_parse(const char *text, int64_t *wall_ms, struct err *e);
/* Sleeps; a signal ends it early. */
void clock_pause(int64_t ms);

#endif
