/* Rows of key tables: a field of struct s that bears its key's name.  Private
 * to the room. */
#ifndef JOB_ROWS_H
#define JOB_ROWS_H

#include "job/job.h"

#define ROW(s, f, k, ...)                                              \
    {                                                                  \
        .name = #f, .kind = k, .offset = offsetof(s, f), ##__VA_ARGS__ \
    }
#define TEXT(s, f)          ROW(s, f, KEY_TEXT)
#define SECRET(s, f)        ROW(s, f, KEY_SECRET)
#define FLAG(s, f)          ROW(s, f, KEY_BOOL)
#define TRI(s, f)           ROW(s, f, KEY_TRI)
#define TIME(s, f)          ROW(s, f, KEY_TIME)
#define RATE(s, f)          ROW(s, f, KEY_RATE)
#define INT(s, f, lo, hi)   ROW(s, f, KEY_INT, .min = lo, .max = hi)
#define CHOICE(s, f, names) ROW(s, f, KEY_CHOICE, .choices = names)
#define GROUP(s, f, table)  ROW(s, f, KEY_GROUP, .sub = table)
#define EACH(s, f, table, type) \
    ROW(s, f, KEY_EACH, .sub = table, .size = sizeof(type))

#endif
