/* The error object. */
#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    enum err_class class;
    const char *name;
    bool retry;
} classes[] = {
    { ERR_NONE, "none", false },       { ERR_USER, "user", false },
    { ERR_AUTH, "auth", false },       { ERR_NOTFOUND, "notfound", false },
    { ERR_BUSY, "busy", true },        { ERR_NET, "net", true },
    { ERR_REMOTE, "remote", false },   { ERR_IO, "io", false },
    { ERR_NOSPACE, "nospace", false }, { ERR_DAMAGED, "damaged", false },
    { ERR_BUG, "bug", false },         { ERR_STOPPED, "stopped", false },
};

/* Errors travel to one-line places: logs, JSON lines, a table cell.  What is
 * no UTF-8 there, or was cut in the middle of a letter, becomes '?'. */
static void
one_line(char *s)
{
    while (*s) {
        size_t n = utf8_len(s);

        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = ' ';
        if (!n)
            *s = '?';
        s += n ? n : 1;
    }
}

static void
set_message(struct err *e, const char *fmt, va_list ap, const char *tail)
{
    char wide[ERR_MSG_MAX * 4]; /* half a secret would not be found */
    int n = vsnprintf(wide, sizeof wide, fmt, ap);

    if (tail && n >= 0 && (size_t)n < sizeof wide)
        snprintf(wide + n, sizeof wide - (size_t)n, ": %s", tail);
    secret_redact(wide);
    one_line(wide);
    wide[sizeof e->msg - 1] = '\0';
    memcpy(e->msg, wide, strlen(wide) + 1);
}

int
err_set(struct err *e, enum err_class class, const char *fmt, ...)
{
    va_list ap;

    err_clear(e);
    e->class = class;
    va_start(ap, fmt);
    set_message(e, fmt, ap, NULL);
    va_end(ap);
    return -1;
}

static enum err_class
class_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR: return ERR_NOTFOUND;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_USER;
    case ENOSPC:
    case EDQUOT: return ERR_NOSPACE;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY: return ERR_BUSY;
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
    case EPIPE:
    case ESHUTDOWN:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH: return ERR_NET;
    case EINVAL:
    case EFAULT:
    case EBADF: return ERR_BUG;
    default: return ERR_IO;
    }
}

int
err_errno(struct err *e, int errnum, const char *fmt, ...)
{
    va_list ap;

    err_clear(e);
    e->class = class_of_errno(errnum);
    e->code = errnum;
    va_start(ap, fmt);
    set_message(e, fmt, ap, strerror(errnum));
    va_end(ap);
    return -1;
}

int
err_wrap(struct err *e, const char *fmt, ...)
{
    char old[sizeof e->msg];
    va_list ap;

    memcpy(old, e->msg, sizeof old);
    va_start(ap, fmt);
    set_message(e, fmt, ap, old);
    va_end(ap);
    return -1;
}

void
err_clear(struct err *e)
{
    *e = (struct err)ERR_INIT;
}

bool
err_retryable(const struct err *e)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (classes[i].class == e->class)
            return classes[i].retry;
    return false;
}

const char *err_class_name(enum err_class class)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (classes[i].class == class)
            return classes[i].name;
    return "bug";
}

enum err_class
err_class_parse(const char *name)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!strcmp(classes[i].name, name))
            return classes[i].class;
    return ERR_BUG;
}
