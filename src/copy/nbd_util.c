/* NBD: connecting within a time limit, polling, errors. */
#include "copy/nbd_util.h"
#include "copy/report.h"

#include "base/clock.h"

#include <errno.h>
#include <libnbd.h>

#define CONNECT_STEP_MS 200 /* between looks at stop_asked */

int
nbd_errnum(void)
{
    int errnum = nbd_get_errno();

    return errnum ? errnum : EIO;
}

int
nbd_failed(struct err *e, const char *doing, const char *what)
{
    int errnum = nbd_get_errno();

    err_set(e, ERR_NET, "%s the %s: %s", doing, what, nbd_get_error());
    e->code = errnum;
    return -1;
}

int
nbd_connect_within(struct nbd_handle *h, const char *uri, const char *what,
                   struct err *e)
{
    int64_t end = clock_ms() + COPY_CONNECT_MS;
    int rc;

    hang_begin("looking up an NBD server"); /* its name, by the resolver */
    rc = nbd_aio_connect_uri(h, uri);
    hang_end();
    if (rc)
        return nbd_failed(e, "connecting to", what);
    while (!nbd_aio_is_ready(h)) {
        if (stop_asked())
            return err_set(e, ERR_STOPPED, "stopped while connecting to the %s",
                           what);
        if (clock_ms() > end)
            return err_set(e, ERR_NET,
                           "connecting to the %s: no answer within %d s", what,
                           COPY_CONNECT_MS / 1000);
        if (nbd_poll(h, CONNECT_STEP_MS) < 0)
            return nbd_failed(e, "connecting to", what);
    }
    return 0;
}

bool
nbd_lost(struct nbd_handle *h)
{
    return nbd_aio_is_dead(h) || nbd_aio_is_closed(h);
}

void
nbd_pollfd(struct nbd_handle *h, struct pollfd *p)
{
    unsigned dir = nbd_aio_get_direction(h);

    p->fd = nbd_lost(h) ? -1 : nbd_aio_get_fd(h);
    p->events = (short)((dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                        (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    p->revents = 0;
}

void
nbd_progress(struct nbd_handle *h, short revents)
{
    if (revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))
        nbd_aio_notify_read(h);
    else if (revents & POLLOUT)
        nbd_aio_notify_write(h);
}
