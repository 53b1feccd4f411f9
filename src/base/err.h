/* The error object: one line for people, one class for the retry policy. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

/* What may be done about it.  Only the class decides; never the text. */
enum err_class {
    ERR_NONE,
    ERR_USER,     /* wrong input: say what to change; never retried */
    ERR_AUTH,     /* credentials or rights; never retried (locks accounts) */
    ERR_NOTFOUND, /* the thing named is not there */
    ERR_BUSY,     /* held by somebody else; later it may work */
    ERR_NET,      /* the way there is broken; retry with back-off */
    ERR_REMOTE,   /* the other side refused or failed */
    ERR_IO,       /* local reading or writing failed */
    ERR_NOSPACE,  /* a disk is full; goes on when there is room */
    ERR_DAMAGED,  /* data does not fit its record; never used further */
    ERR_BUG,      /* ours */
    ERR_STOPPED,  /* we were asked to stop; nothing is wrong */
};

#define ERR_MSG_MAX 512

/* Owned by the caller, no allocation.  Set once, wrapped on the way up,
 * reported once at the top. */
struct err {
    enum err_class class;
    int code;              /* errno, HTTP status or VDDK code; 0: none */
    char fault[64];        /* SOAP fault type or API error name; "": none */
    char msg[ERR_MSG_MAX]; /* one line, no full stop, no secret */
};

#define ERR_INIT \
    {            \
        0        \
    }

/* Both return -1, so that failing is one statement. */
int err_set(struct err *e, enum err_class class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* As err_set, with the class that errnum tells and ": strerror" at the end. */
int err_errno(struct err *e, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Put "what we were doing: " in front.  Returns -1. */
int err_wrap(struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

void err_clear(struct err *e);
/* Worth another try after a pause? */
bool err_retryable(const struct err *e);
const char *err_class_name(enum err_class class);
/* ERR_BUG for a name that is none. */
enum err_class err_class_parse(const char *name);

#endif
