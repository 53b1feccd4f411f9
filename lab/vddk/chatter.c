/* Log lines from a thread of the library's own, as the real one has them. */
#include "lab/vddk/vddk.h"

#include <signal.h>
#include <string.h>

#define LONG_ARG 3000 /* characters */

static struct {
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t news;
    char *about; /* NULL: nothing new */
    bool stopping;
} chatter = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .news = PTHREAD_COND_INITIALIZER,
};

static void
greet(void)
{
    char arg[LONG_ARG + 1];

    memset(arg, '.', LONG_ARG);
    arg[LONG_ARG] = '\0';
    vddk_log("VDDK_PhoneHome: is off, 100%% of it.\n");
    vddk_warn("Get CEIP status failed: %d\n", 42);
    vddk_log("DISKLIB-LIB: cache %s at %d%% (%%s %%n %%d)\n", arg, 100);
}

static void *
chatter_main(void *unused)
{
    (void)unused;
    greet();
    pthread_mutex_lock(&chatter.lock);
    while (!chatter.stopping) {
        char *about = take(chatter.about);

        if (!about) {
            pthread_cond_wait(&chatter.news, &chatter.lock);
            continue;
        }
        pthread_mutex_unlock(&chatter.lock);
        vddk_log("NFC session for '%s': 0%% used\n", about);
        free(about);
        pthread_mutex_lock(&chatter.lock);
    }
    pthread_mutex_unlock(&chatter.lock);
    return NULL;
}

int
chatter_start(void)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&chatter.thread, NULL, chatter_main, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

void
chatter_about(const char *text)
{
    pthread_mutex_lock(&chatter.lock);
    free(chatter.about);
    chatter.about = xstrdup(text);
    pthread_cond_signal(&chatter.news);
    pthread_mutex_unlock(&chatter.lock);
}

void
chatter_stop(void)
{
    pthread_mutex_lock(&chatter.lock);
    chatter.stopping = true;
    pthread_cond_signal(&chatter.news);
    pthread_mutex_unlock(&chatter.lock);
    pthread_join(chatter.thread, NULL);
    free(take(chatter.about));
}
