/* What a caller of the library must not do. */
#include "lab/vddk/vddk.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* In the block that each thread has from its start: the leak checker takes one
 * that is made later, at an unlucky address, for something else. */
static _Thread_local bool in_callback
    __attribute__((tls_model("initial-exec")));

void
rule_broken(const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fprintf(stderr, "lab vddk: %s\n", line);
    abort();
}

void
rule_enter(const char *fn)
{
    static const char *const off[] = { "before InitEx", NULL, "after Exit" };
    int state = atomic_load(&lib.state);

    if (state != 1)
        rule_broken("%s %s", fn, off[state]);
    if (getpid() != lib.pid)
        rule_broken("%s after a fork", fn);
    if (in_callback)
        rule_broken("%s within a callback", fn);
}

void
rule_serial(const char *fn)
{
    const char *other = NULL;

    if (!atomic_compare_exchange_strong(&lib.serial, &other, fn))
        rule_broken("%s while %s runs", fn, other);
}

void
rule_serial_end(void)
{
    atomic_store(&lib.serial, NULL);
}

void
rule_thread(const char *fn, const struct conn *c)
{
    if (!lib.any_thread && !pthread_equal(c->thread, pthread_self()))
        rule_broken("%s on another thread than ConnectEx", fn);
}

void
rule_callback(bool runs)
{
    in_callback = runs;
}

/* Gifts ------------------------------------------------------------------- */

#define GRAVES 64

struct gift_head {
    uint64_t given, kind; /* given: GIVEN or TAKEN_BACK */
};

#define GIVEN      0x6e65766967ull
#define TAKEN_BACK 0x6e656b6174ull

static const char *const gift_names[GIFTS] = {
    [GIFT_PARAMS] = "FreeConnectParams",
    [GIFT_INFO] = "FreeInfo",
    [GIFT_BLOCKS] = "FreeBlockList",
    [GIFT_TEXT] = "FreeErrorText",
};

static pthread_mutex_t graves_lock = PTHREAD_MUTEX_INITIALIZER;
static struct gift_head *graves[GRAVES];
static unsigned next_grave;

void *
gift_new(enum gift kind, size_t n)
{
    struct gift_head *head = xcalloc(1, sizeof *head + n);

    *head = (struct gift_head){ GIVEN, kind };
    return head + 1;
}

void
gift_free(enum gift kind, void *p)
{
    struct gift_head *head = (struct gift_head *)p - 1;

    if (!p)
        return;
    if (head->given == TAKEN_BACK)
        rule_broken("%s twice", gift_names[kind]);
    if (head->given != GIVEN || head->kind != kind)
        rule_broken("%s of something else", gift_names[kind]);
    head->given = TAKEN_BACK;
    pthread_mutex_lock(&graves_lock);
    free(graves[next_grave]);
    graves[next_grave] = head;
    next_grave = (next_grave + 1) % GRAVES;
    pthread_mutex_unlock(&graves_lock);
}

void
gift_bury(void)
{
    pthread_mutex_lock(&graves_lock);
    for (unsigned i = 0; i < GRAVES; i++) {
        free(graves[i]);
        graves[i] = NULL;
    }
    pthread_mutex_unlock(&graves_lock);
}
