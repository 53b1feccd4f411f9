/* What the tests of net share: certificates, servers that use them, and a
 * handler with a path for each behaviour. */
#ifndef UNIT_NET_WORLD_H
#define UNIT_NET_WORLD_H

#include <semaphore.h>
#include <stdatomic.h>

#include "net/net.h"

/* A self-signed certificate, which is its own CA. */
struct identity {
    char *cert, *key, *file;
    char sha1[60], sha256[96];
};

/* For the loopback address, and for another name. */
extern struct identity here, elsewhere;
/* Without TLS; with the one; with the other. */
extern struct httpd *plain, *tls, *foreign;
/* Times that the handler ran. */
extern atomic_int calls;
/* Posted by /slow and /lasting when they begin; awaited by /slow. */
extern sem_t entered, release;
/* /lasting came to its end. */
extern atomic_bool finished;

/* cmocka's set-up and tear-down of a group. */
int world_start(void **state);
int world_stop(void **state);

httpd_handler serve;
/* With that certificate, or without TLS when id is NULL. */
struct httpd *start(const struct identity *id);
char *url_of(const struct httpd *d, const char *path);
/* One exchange with a client of its own. */
int get(const struct http_opts *o, const struct httpd *d, const char *path,
        struct http_res *r, struct err *e);

#endif
