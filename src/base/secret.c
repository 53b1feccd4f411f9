/* Secrets and the guard that keeps them out of every line we print. */
#include "base/secret.h"
#include "base/mem.h"

#include <pthread.h>
#include <string.h>

/* Shorter ones would star half of every line ("a", "on"). */
#define GUARD_MIN 4

struct secret {
    char *text;
    struct secret *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct secret *guarded;

struct secret *
secret_new(const char *text)
{
    struct secret *s;

    if (!text)
        return NULL;
    s = xcalloc(1, sizeof *s);
    s->text = xstrdup(text);
    pthread_mutex_lock(&lock);
    s->next = guarded;
    guarded = s;
    pthread_mutex_unlock(&lock);
    return s;
}

void
secret_free(struct secret *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&lock);
    for (struct secret **p = &guarded; *p; p = &(*p)->next)
        if (*p == s) {
            *p = s->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    explicit_bzero(s->text, strlen(s->text));
    free(s->text);
    free(s);
}

const char *
secret_reveal(const struct secret *s)
{
    return s ? s->text : "";
}

void
secret_redact(char *text)
{
    pthread_mutex_lock(&lock);
    for (struct secret *s = guarded; s; s = s->next) {
        size_t n = strlen(s->text);

        if (n < GUARD_MIN)
            continue;
        for (char *hit = text; (hit = strstr(hit, s->text)); hit += n)
            memset(hit, '*', n);
    }
    pthread_mutex_unlock(&lock);
}
