/* Log lines: time, level, where (VM, disk, step), what.  To stderr and, once
 * given, to a file.  Guarded secrets are starred. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines above this level are dropped.  Default LOG_INFO. */
void log_set_level(enum log_level level);
/* Appends to path as well, mode 0600, one write(2) a line; closes the one
 * before.  NULL: no file. */
int log_open(const char *path, struct err *e);
/* Where we are, shown on each line of this thread; NULL or "" leaves it out.
 * The text is copied. */
void log_context(const char *vm, const char *step);
void log_disk(const char *disk);

void log_at(enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
