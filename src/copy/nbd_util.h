/* What source and target share of NBD. */
#ifndef COPY_NBD_UTIL_H
#define COPY_NBD_UTIL_H

#include <poll.h>
#include <stdbool.h>

#include "base/err.h"

#define COPY_REQUEST_MAX (16u << 20) /* bytes of one NBD request */
#define COPY_CONNECT_MS  30000       /* to an NBD server */

struct nbd_handle;
/* Within COPY_CONNECT_MS; ERR_STOPPED if stopped meanwhile.  `what` is
 * "source" or "target". */
int nbd_connect_within(struct nbd_handle *h, const char *uri, const char *what,
                       struct err *e);
bool nbd_lost(struct nbd_handle *h);
/* What the connection waits for; fd -1 once it is lost. */
void nbd_pollfd(struct nbd_handle *h, struct pollfd *p);
/* What goes wrong here ends the connection, and with it every request: each
 * comes back as failed. */
void nbd_progress(struct nbd_handle *h, short revents);
/* errno of the call that failed just now, never 0. */
int nbd_errnum(void);
/* ERR_NET with libnbd's own words. */
int nbd_failed(struct err *e, const char *doing, const char *what);

#endif
