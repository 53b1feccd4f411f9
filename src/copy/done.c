/* Completions: from any thread to the one that polls. */
#include "copy/request.h"
#include "copy/source.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

struct done {
    pthread_mutex_t lock; /* guards first, n, items */
    int fd;               /* readable while items wait */
    unsigned first, n;
    struct done_item items[COPY_SLOTS_MAX]; /* ring */
};

struct done *
done_new(struct err *e)
{
    struct done *d = xcalloc(1, sizeof *d);

    d->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (d->fd < 0) {
        err_errno(e, errno, "making an eventfd");
        free(d);
        return NULL;
    }
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

void
done_free(struct done *d)
{
    if (!d)
        return;
    pthread_mutex_destroy(&d->lock);
    close(d->fd);
    free(d);
}

/* The descriptor is written under the lock, so that once the last item was
 * taken nobody touches it any more and it may be closed. */
void
done_post(struct done *d, unsigned slot, uint64_t code)
{
    pthread_mutex_lock(&d->lock);
    assert(d->n < COPY_SLOTS_MAX);
    d->items[(d->first + d->n++) % COPY_SLOTS_MAX] =
        (struct done_item){ slot, code };
    if (d->n == 1 && eventfd_write(d->fd, 1))
        abort();
    pthread_mutex_unlock(&d->lock);
}

int
done_fd(const struct done *d)
{
    return d->fd;
}

bool
done_take(struct done *d, struct done_item *out)
{
    eventfd_t n;
    bool any;

    pthread_mutex_lock(&d->lock);
    any = d->n > 0;
    if (any) {
        *out = d->items[d->first];
        d->first = (d->first + 1) % COPY_SLOTS_MAX;
        /* The last one: quiet again. */
        if (!--d->n && eventfd_read(d->fd, &n))
            abort();
    }
    pthread_mutex_unlock(&d->lock);
    return any;
}
