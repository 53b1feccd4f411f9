/* The world's life: lock, waiting, threads, randomness. */
#include "lab/world/world.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/data.h"

/* More tasks at once than that are refused. */
#define THREADS_MAX 4096

uint64_t
world_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void
world_uuid(const struct world *w, const char *prefix, const char *what,
           char out[40])
{
    uint64_t h = w->seed ^ 0xcbf29ce484222325ull, a, b;
    char hex[33];
    size_t n = strlen(prefix);

    for (const char *p = what; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3ull;
    a = world_random(&h);
    b = world_random(&h);
    snprintf(hex, sizeof hex, "%016llx%016llx", (unsigned long long)a,
             (unsigned long long)b);
    memcpy(hex, prefix, n < 32 ? n : 32);
    snprintf(out, 40, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
             hex + 16, hex + 20);
}

void
world_lock(struct world *w)
{
    pthread_mutex_lock(&w->lock);
}

void
world_unlock(struct world *w)
{
    pthread_mutex_unlock(&w->lock);
}

void
world_touch(struct world *w)
{
    pthread_cond_broadcast(&w->changed);
}

void
world_await(struct world *w, int64_t until)
{
    struct timespec ts = { .tv_sec = until / 1000,
                           .tv_nsec = until % 1000 * 1000000 };

    pthread_cond_timedwait(&w->changed, &w->lock, &ts);
}

bool
world_sleep(struct world *w, int64_t ms)
{
    int64_t until = clock_ms() + ms;
    bool on;

    world_lock(w);
    while (!w->stopping && clock_ms() < until)
        world_await(w, until);
    on = !w->stopping;
    world_unlock(w);
    return on;
}

int
world_thread(struct world *w, void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    pthread_t id;
    int rc;

    if (w->stopping || w->threads >= THREADS_MAX)
        return -1;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    rc = pthread_create(&id, &attr, fn, arg);
    pthread_attr_destroy(&attr);
    if (rc)
        return -1;
    w->threads++;
    return 0;
}

void
world_thread_done(struct world *w)
{
    w->threads--;
    pthread_cond_broadcast(&w->changed);
}

void
world_violation(struct world *w, const struct vm *vm, const char *what)
{
    log_warn("violation: %s: %s", vm->ent->name, what);
    if (w->n_violations == WORLD_VIOLATIONS)
        return;
    if (!w->violations)
        w->violations = xcalloc(WORLD_VIOLATIONS, sizeof *w->violations);
    snprintf(w->violations[w->n_violations].what, sizeof w->violations->what,
             "%s", what);
    snprintf(w->violations[w->n_violations].vm, sizeof w->violations->vm, "%s",
             vm->ent->id);
    w->n_violations++;
}

static void
start_lock(struct world *w)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
}

struct world *
world_new(const char *dir, const json_t *config, struct err *e)
{
    defer(world_free_ptr) struct world *w = xcalloc(1, sizeof *w);
    defer_json json_t *fallback = NULL;

    start_lock(w);
    w->dir = xstrdup(dir);
    if (!config) {
        fallback = json_parse(world_default, strlen(world_default),
                              "built-in world", e);
        if (!fallback)
            return NULL;
        config = fallback;
    }
    if (world_config(w, config, e))
        return NULL;
    for (size_t i = 0; i < w->vms.n; i++)
        if (guest_start(w->vms.p[i], e))
            return NULL;
    return take(w);
}

static void
ent_free(struct ent *ent)
{
    vec_fini(&ent->kids);
    free(ent->name);
    free(ent);
}

void
world_halt(struct world *w)
{
    world_lock(w);
    w->stopping = true;
    pthread_cond_broadcast(&w->changed);
    world_unlock(w);
}

void
world_free(struct world *w)
{
    if (!w)
        return;
    world_halt(w);
    world_lock(w);
    while (w->threads)
        pthread_cond_wait(&w->changed, &w->lock);
    world_unlock(w);
    for (size_t i = 0; i < w->vms.n; i++)
        guest_stop(w->vms.p[i]);
    for (size_t i = 0; i < w->tasks.n; i++)
        task_free(w->tasks.p[i]);
    vec_fini(&w->tasks);
    for (size_t i = 0; i < w->vms.n; i++)
        vm_free(w->vms.p[i]);
    vec_fini(&w->vms);
    for (size_t i = 0; i < w->ents.n; i++)
        ent_free(w->ents.p[i]);
    vec_fini(&w->ents);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w->violations);
    free(w->dir);
    free(w);
}
