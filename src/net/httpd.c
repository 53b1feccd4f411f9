/* HTTP server: a thread per connection, whole requests, whole answers. */
#include "base/log.h"
#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <string.h>

#define CONNECTIONS_MAX   4096
#define CONNECTION_MEMORY (64u << 10) /* bounds the request's headers */
#define IDLE_S            120u        /* of a kept connection */
#define TLS_PRIORITIES    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct httpd {
    struct MHD_Daemon *mhd;
    httpd_handler *handler;
    void *ctx;
    uint16_t port;
};

struct httpd_conn {
    struct MHD_Connection *mhd;
    struct str body;
    size_t dropped; /* bytes of the body past its bound */
    char *query;
    bool begun, bad_uri;
};

/* The request line is in: the first that is known of a request. */
static void *
on_uri(void *ctx, const char *uri, struct MHD_Connection *mhd)
{
    struct httpd_conn *c = xcalloc(1, sizeof *c);
    const char *query = strchr(uri, '?');

    (void)ctx;
    c->mhd = mhd;
    c->body.max = HTTPD_BODY_MAX;
    c->query = xstrdup(query ? query + 1 : "");
    /* A NUL would make the path end early for us, not for others. */
    c->bad_uri = strstr(uri, "%00") != NULL;
    return c;
}

static void
on_completed(void *ctx, struct MHD_Connection *mhd, void **slot,
             enum MHD_RequestTerminationCode why)
{
    struct httpd_conn *c = *slot;

    (void)ctx;
    (void)mhd;
    (void)why;
    if (!c)
        return;
    str_fini(&c->body);
    free(c->query);
    free(c);
    *slot = NULL;
}

/* "Name: value\n" lines; the text is cut up. */
static int
add_headers(struct MHD_Response *r, char *lines)
{
    for (char *next, *line = lines; line && *line; line = next) {
        char *colon = strchr(line, ':');

        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (!colon || (next && colon >= next))
            return -1;
        *colon++ = '\0';
        colon += strspn(colon, " ");
        if (MHD_add_response_header(r, line, colon) != MHD_YES)
            return -1;
    }
    return 0;
}

/* Takes the text of res. */
static enum MHD_Result
send_answer(struct MHD_Connection *mhd, struct httpd_res *res)
{
    size_t n = res->body.n;
    struct MHD_Response *r = MHD_create_response_from_buffer(
        n, str_take(&res->body), MHD_RESPMEM_MUST_FREE);
    enum MHD_Result rc = MHD_NO;

    if (!r)
        return MHD_NO;
    if (add_headers(r, res->headers.p) ||
        MHD_add_response_header(
            r, "Content-Type", res->type ? res->type : "text/plain") != MHD_YES)
        log_error("HTTP answer dropped: one of its headers is not valid");
    else
        rc = MHD_queue_response(mhd, (unsigned int)res->status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result
refuse(struct MHD_Connection *mhd, int status, const char *text)
{
    struct httpd_res res = { .status = status };

    str_addf(&res.body, "%s\n", text);
    return send_answer(mhd, &res);
}

static enum MHD_Result
refuse_length(struct MHD_Connection *mhd)
{
    return refuse(mhd, 413, "the body is too long");
}

static bool
declares_too_much(struct MHD_Connection *mhd)
{
    const char *text =
        MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Content-Length");
    struct err e = ERR_INIT;
    uint64_t n;

    return text && num_u64(text, 0, HTTPD_BODY_MAX, &n, "Content-Length", &e);
}

/* The idle clock must not run while a handler waits for something. */
static void
set_idle(struct MHD_Connection *mhd, unsigned int seconds)
{
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

static enum MHD_Result
answer(struct httpd *d, struct httpd_conn *c, const char *method,
       const char *path)
{
    struct httpd_req q = {
        .method = method,
        .path = path,
        .query = c->query,
        .body = str_text(&c->body),
        .body_len = c->body.n,
        .conn = c,
    };
    struct httpd_res res = { .status = 200 };
    enum MHD_Result rc = MHD_NO;

    set_idle(c->mhd, 0);
    d->handler(d->ctx, &q, &res);
    set_idle(c->mhd, IDLE_S);
    if (!res.drop)
        rc = send_answer(c->mhd, &res);
    str_fini(&res.body);
    str_fini(&res.headers);
    return rc;
}

static enum MHD_Result
on_request(void *ctx, struct MHD_Connection *mhd, const char *path,
           const char *method, const char *version, const char *data,
           size_t *size, void **slot)
{
    struct httpd_conn *c = *slot;

    (void)version;
    if (!c->begun) {
        c->begun = true;
        if (c->bad_uri)
            return refuse(mhd, 400, "%00 in the path or query");
        return declares_too_much(mhd) ? refuse_length(mhd) : MHD_YES;
    }
    if (*size) {
        str_addn(&c->body, data, *size);
        if (c->body.failed)
            c->dropped += *size;
        *size = 0;
        /* An answer may only come after the body, but not for any body. */
        return c->dropped > HTTPD_BODY_MAX ? MHD_NO : MHD_YES;
    }
    return c->body.failed ? refuse_length(mhd) : answer(ctx, c, method, path);
}

/* An IPv4 or IPv6 address in text -> socket address; 0: it is neither. */
static socklen_t
parse_address(const char *text, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        return sizeof *v6;
    }
    return 0;
}

static int
start_daemon(struct httpd *d, const struct httpd_opts *o,
             const struct sockaddr_storage *at, struct err *e)
{
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)o->cert_pem },
        { MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)o->key_pem },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITIES },
        { MHD_OPTION_END, 0, NULL },
    };
    struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };
    unsigned int flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_AUTO |
                         MHD_USE_INTERNAL_POLLING_THREAD;

    if (o->cert_pem)
        flags |= MHD_USE_TLS;
    if (at->ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    errno = 0;
    d->mhd = MHD_start_daemon(
        flags, o->port, NULL, NULL, on_request, d, MHD_OPTION_SOCK_ADDR,
        (const struct sockaddr *)at, MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_ARRAY,
        o->cert_pem ? tls : none, MHD_OPTION_END);
    if (d->mhd)
        return 0;
    if (errno)
        return err_errno(e, errno, "cannot listen");
    return err_set(e, ERR_USER, "cannot listen: %s",
                   o->cert_pem ? "its certificate or its key is not usable"
                               : "the server could not be set up");
}

struct httpd *
httpd_start(const struct httpd_opts *o, struct err *e)
{
    const char *bind = o->bind ? o->bind : "127.0.0.1";
    const union MHD_DaemonInfo *info;
    struct sockaddr_storage at;
    struct httpd *d;

    if (!parse_address(bind, o->port, &at)) {
        err_set(e, ERR_USER, "%.80s is not an address; write one like 0.0.0.0",
                bind);
        return NULL;
    }
    d = xcalloc(1, sizeof *d);
    d->handler = o->handler;
    d->ctx = o->ctx;
    if (start_daemon(d, o, &at, e)) {
        err_wrap(e, "HTTP server on %s port %u", bind, (unsigned)o->port);
        httpd_stop(d);
        return NULL;
    }
    info = MHD_get_daemon_info(d->mhd, MHD_DAEMON_INFO_BIND_PORT);
    d->port = info ? info->port : o->port;
    return d;
}

void
httpd_stop(struct httpd *d)
{
    if (!d)
        return;
    if (d->mhd)
        MHD_stop_daemon(d->mhd);
    free(d);
}

uint16_t
httpd_port(const struct httpd *d)
{
    return d->port;
}

const char *
httpd_header(const struct httpd_req *q, const char *name)
{
    return MHD_lookup_connection_value(q->conn->mhd, MHD_HEADER_KIND, name);
}

const char *
httpd_query(const struct httpd_req *q, const char *name)
{
    const char *value = NULL;

    if (MHD_lookup_connection_value_n(q->conn->mhd, MHD_GET_ARGUMENT_KIND, name,
                                      strlen(name), &value, NULL) != MHD_YES)
        return NULL;
    return value ? value : ""; /* "?name" */
}
