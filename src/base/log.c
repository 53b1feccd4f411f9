/* Log lines. */
#include "base/log.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/secret.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>

#define LINE_MAX_LEN 2048

static enum log_level max_level = LOG_INFO;
static int file_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread char ctx_vm[96], ctx_step[40], ctx_disk[40];

void
log_set_level(enum log_level level)
{
    max_level = level;
}

int
log_open(const char *path, struct err *e)
{
    int fd = -1;

    if (path) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0)
            return err_errno(e, errno, "opening the log %s", path);
    }
    pthread_mutex_lock(&lock);
    if (file_fd >= 0)
        close(file_fd);
    file_fd = fd;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void
set_context(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

void
log_context(const char *vm, const char *step)
{
    set_context(ctx_vm, sizeof ctx_vm, vm);
    set_context(ctx_step, sizeof ctx_step, step);
}

void
log_disk(const char *disk)
{
    set_context(ctx_disk, sizeof ctx_disk, disk);
}

static void
add_message(struct str *line, const char *fmt, va_list ap)
{
    size_t start = line->n;
    char *text = NULL;

    if (vasprintf(&text, fmt, ap) < 0)
        return;
    str_add(line, text);
    free(text);
    for (size_t i = start; i < line->n; i++)
        if ((unsigned char)line->p[i] < 0x20)
            line->p[i] = ' ';
}

void
log_at(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    defer(str_fini) struct str line = STR_INIT;
    char when[CLOCK_TEXT_MAX];
    va_list ap;

    if (level > max_level)
        return;
    clock_text(clock_wall_ms(), when);
    str_addf(&line, "%s %-5s ", when, names[level]);
    if (*ctx_vm)
        str_addf(&line, "[%s] ", ctx_vm);
    if (*ctx_step)
        str_addf(&line, "%s: ", ctx_step);
    if (*ctx_disk)
        str_addf(&line, "disk %s: ", ctx_disk);
    va_start(ap, fmt);
    add_message(&line, fmt, ap);
    va_end(ap);
    /* starred before it is cut, so that no half of a secret is left */
    secret_redact(line.p);
    if (line.n >= LINE_MAX_LEN)
        line.n = LINE_MAX_LEN - 1;
    line.p[line.n++] = '\n';
    pthread_mutex_lock(&lock);
    /* A log that cannot be written must not stop a migration. */
    (void)!write(STDERR_FILENO, line.p, line.n);
    if (file_fd >= 0)
        (void)!write(file_fd, line.p, line.n);
    pthread_mutex_unlock(&lock);
}
