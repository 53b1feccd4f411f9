/* HTTP both ways: a client on libcurl with pinned or CA-checked TLS, a server
 * on libmicrohttpd. */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#define HTTP_ANSWER_MAX  (64u << 20) /* bytes of an answer's body */
#define HTTP_HEADERS_MAX 200
#define HTTPD_BODY_MAX   (64u << 20) /* bytes of a request's body */

/* http.c: client ------------------------------------------------------ */

struct http; /* one kept connection; one thread at a time */

struct http_opts {
    const char *ca_file;    /* PEM; NULL: the system's */
    const char *thumbprint; /* SHA-256 or SHA-1 of the leaf certificate as hex
                             * pairs, colons optional; then no CA is asked */
    bool insecure;          /* no check at all, thumbprint or not */
    int64_t connect_ms;     /* 0: 15 s */
    int64_t timeout_ms;     /* whole exchange; 0: 60 s */
    const char *user_agent; /* NULL: "v2c" */
};

struct http_req {
    const char *method; /* NULL: GET, or POST with a body */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-ended; or NULL */
    const void *body;
    size_t body_len;
    int64_t timeout_ms; /* 0: that of the client */
};

struct http_res {
    int status;
    struct str body;
    char **headers; /* "Name: value" as received, NULL-ended */
};

/* A thumbprint that is none is ERR_USER. */
struct http *http_new(const struct http_opts *o, struct err *e);
void http_free(struct http *h);
DEFER_FN(http_free_ptr, struct http, http_free)
/* Any answer is success, whatever its status.  No answer: ERR_NET; a
 * certificate that does not fit: ERR_AUTH, with the way out in the text and
 * before a byte of the request was sent.  No secret, no query string and no
 * userinfo of the URL is in an error.  An answer past the bounds: ERR_REMOTE.
 * A request goes out at most once; whether to try again is the caller's to
 * say.  Redirects are not followed, the environment's proxies not used.  r is
 * for http_res_fini in either case. */
int http_do(struct http *h, const struct http_req *q, struct http_res *r,
            struct err *e);
void http_res_fini(struct http_res *r);
/* Value of the first header of that name (case-insensitive), or NULL. */
const char *http_header(const struct http_res *r, const char *name);
/* Fingerprints of the leaf certificate of the connection last used, as
 * upper-case hex pairs with colons; "" before there was one. */
const char *http_peer_sha1(const struct http *h);
const char *http_peer_sha256(const struct http *h);

/* httpd.c: server ----------------------------------------------------- */

struct httpd;
struct httpd_conn; /* one request, while its handler runs */

struct httpd_req {
    const char *method, *path; /* path is decoded, without the query */
    const char *query;         /* as sent, after the '?'; "" if none */
    const char *body;          /* NUL-terminated; "" if none */
    size_t body_len;
    struct httpd_conn *conn;
};

struct httpd_res {
    int status;         /* 200 when the handler leaves it */
    const char *type;   /* Content-Type; NULL: text/plain */
    struct str body;    /* freed by the server */
    struct str headers; /* "Name: value\n" lines without Content-Type;
                         * freed by the server */
    bool drop;          /* close the connection without an answer */
};

/* Runs on a thread of its connection; may block. */
typedef void httpd_handler(void *ctx, const struct httpd_req *q,
                           struct httpd_res *r);

struct httpd_opts {
    const char *bind;               /* address; NULL: 127.0.0.1 */
    uint16_t port;                  /* 0: a free one, see httpd_port */
    const char *cert_pem, *key_pem; /* PEM texts; NULL: plain HTTP */
    httpd_handler *handler;
    void *ctx;
};

struct httpd *httpd_start(const struct httpd_opts *o, struct err *e);
/* Waits for running handlers. */
void httpd_stop(struct httpd *d);
DEFER_FN(httpd_stop_ptr, struct httpd, httpd_stop)
uint16_t httpd_port(const struct httpd *d);
/* NULL if absent, "" if without a value; decoded; the name in any case; valid
 * while the handler runs.  A request with %00 in its URL is answered by 400, a
 * body over HTTPD_BODY_MAX by 413, before any handler sees it. */
const char *httpd_header(const struct httpd_req *q, const char *name);
const char *httpd_query(const struct httpd_req *q, const char *name);

#endif
