/* HTTP client: one kept connection, TLS checked by CA or by thumbprint. */
#include "base/vec.h"
#include "net/cert.h"
#include "net/net.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define CONNECT_MS 15000
#define TIMEOUT_MS 60000
#define ORIGIN_MAX 300 /* "https://host:port" */
#define PLACE_MAX  200 /* bytes of a URL shown in an error */

struct http {
    CURL *curl;
    struct cert cert;
    int64_t timeout_ms;
    char origin[ORIGIN_MAX]; /* the last asked; "" if that failed */
    /* of the exchange that runs */
    bool asked; /* a connection was ready for the request */
    bool over;  /* an answer's bound was passed */
    struct http_res *res;
    struct lines VEC(char *) lines;
    char said[CURL_ERROR_SIZE];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global;

static void
start_curl(void)
{
    global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* Answers ------------------------------------------------------------ */

static void
lines_clear(struct http *h)
{
    for (size_t i = 0; i < h->lines.n; i++)
        free(h->lines.p[i]);
    vec_fini(&h->lines);
}

static size_t
on_header(char *text, size_t size, size_t n, void *ctx)
{
    struct http *h = ctx;
    size_t len = n * size;

    while (len && (text[len - 1] == '\r' || text[len - 1] == '\n'))
        len--;
    if (len > 5 && !strncmp(text, "HTTP/", 5)) {
        lines_clear(h); /* those of a "100 Continue" */
        return n * size;
    }
    if (!len)
        return n * size;
    if (h->lines.n == HTTP_HEADERS_MAX) {
        h->over = true;
        return 0;
    }
    vec_push(&h->lines, xstrndup(text, len));
    return n * size;
}

static size_t
on_body(char *bytes, size_t size, size_t n, void *ctx)
{
    struct http *h = ctx;

    str_addn(&h->res->body, bytes, n * size);
    h->over = h->res->body.failed;
    return h->over ? 0 : n * size;
}

/* A request goes out once.  curl would send it again by itself when a kept
 * connection ends without an answer, and so might do the thing twice. */
static int
on_ready(void *ctx, char *ip, char *own_ip, int port, int own_port)
{
    struct http *h = ctx;
    bool again = h->asked;

    (void)ip;
    (void)own_ip;
    (void)port;
    (void)own_port;
    h->asked = true;
    return again ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* Client ------------------------------------------------------------- */

static CURLcode
set_checks(struct http *h, const struct http_opts *o)
{
    bool by_ca = !h->cert.insecure && !h->cert.pin_len;
    CURL *c = h->curl;
    CURLcode rc = CURLE_OK;

    /* Our callback decides, in each mode; curl adds the host's name. */
    rc |= curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, cert_on_ssl_ctx);
    rc |= curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, &h->cert);
    rc |= curl_easy_setopt(c, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    rc |=
        curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, h->cert.insecure ? 0L : 1L);
    rc |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, by_ca ? 2L : 0L);
    if (!by_ca || o->ca_file) {
        rc |= curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
        rc |= curl_easy_setopt(c, CURLOPT_CAINFO, by_ca ? o->ca_file : NULL);
    }
    return rc;
}

static CURLcode
set_options(struct http *h, const struct http_opts *o)
{
    CURL *c = h->curl;
    CURLcode rc = set_checks(h, o);

    rc |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    rc |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    rc |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    rc |= curl_easy_setopt(c, CURLOPT_PROXY, ""); /* none by environment */
    rc |= curl_easy_setopt(c, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    /* One, as more would be of no use: see is_fresh(). */
    rc |= curl_easy_setopt(c, CURLOPT_MAXCONNECTS, 1L);
    rc |= curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    rc |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS,
                           (long)(o->connect_ms ? o->connect_ms : CONNECT_MS));
    rc |= curl_easy_setopt(c, CURLOPT_USERAGENT,
                           o->user_agent ? o->user_agent : "v2c");
    rc |= curl_easy_setopt(c, CURLOPT_MAXFILESIZE_LARGE,
                           (curl_off_t)HTTP_ANSWER_MAX);
    rc |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->said);
    rc |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    rc |= curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
    rc |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    rc |= curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    rc |= curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_ready);
    rc |= curl_easy_setopt(c, CURLOPT_PREREQDATA, h);
    return rc;
}

struct http *
http_new(const struct http_opts *o, struct err *e)
{
    defer(http_free_ptr) struct http *h = xcalloc(1, sizeof *h);

    pthread_once(&once, start_curl);
    if (global) {
        err_set(e, ERR_BUG, "libcurl: %s", curl_easy_strerror(global));
        return NULL;
    }
    h->cert.insecure = o->insecure;
    h->timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_MS;
    if (o->thumbprint && cert_parse_pin(&h->cert, o->thumbprint, e))
        return NULL;
    if (o->ca_file && access(o->ca_file, R_OK)) {
        err_errno(e, errno, "reading the CA file %s", o->ca_file);
        return NULL;
    }
    h->curl = curl_easy_init();
    if (!h->curl || set_options(h, o)) {
        err_set(e, ERR_BUG, "libcurl lacks what is needed (OpenSSL flavour)");
        return NULL;
    }
    return take(h);
}

void
http_free(struct http *h)
{
    if (!h)
        return;
    if (h->curl)
        curl_easy_cleanup(h->curl);
    lines_clear(h);
    free(h);
}

/* Requests ----------------------------------------------------------- */

static void
part(CURLU *u, CURLUPart which, const char *before, struct str *out)
{
    char *text = NULL;

    if (curl_url_get(u, which, &text, 0) == CURLUE_OK)
        str_addf(out, "%s%s", before, text);
    curl_free(text);
}

/* The URL for an error: its origin and path, without userinfo, query and
 * fragment. */
static int
place_of(const char *url, struct str *origin, struct str *place, struct err *e)
{
    defer(str_fini) struct str path = STR_INIT;
    CURLU *u = curl_url();
    CURLUcode rc = CURLUE_OUT_OF_MEMORY;

    if (u)
        rc = curl_url_set(u, CURLUPART_URL, url, 0);
    if (rc == CURLUE_OK) {
        part(u, CURLUPART_SCHEME, "", origin);
        part(u, CURLUPART_HOST, "://", origin);
        part(u, CURLUPART_PORT, ":", origin);
        part(u, CURLUPART_PATH, "", &path);
    }
    curl_url_cleanup(u);
    if (rc != CURLUE_OK)
        return err_set(e, ERR_USER, "the URL is not valid: %s",
                       curl_url_strerror(rc));
    if (origin->failed)
        return err_set(e, ERR_USER,
                       "the URL is not valid: the host is longer "
                       "than any name");
    str_addf(place, "%.*s%.*s", PLACE_MAX, str_text(origin), PLACE_MAX / 2,
             str_text(&path));
    return 0;
}

/* A new connection is made unless the one that was used last can go on; so
 * the fingerprints are always those of the connection used.  Until it ends
 * well, the exchange counts as failed. */
static bool
is_fresh(struct http *h, const char *origin)
{
    bool fresh = strcmp(h->origin, origin) != 0;

    h->origin[0] = '\0';
    return fresh;
}

static void
slist_free(struct curl_slist **l)
{
    curl_slist_free_all(*l);
}

static int
add_line(struct curl_slist **l, const char *line, struct err *e)
{
    struct curl_slist *longer;

    if (strpbrk(line, "\r\n"))
        return err_set(e, ERR_BUG, "a header of the request has two lines");
    longer = curl_slist_append(*l, line);
    if (!longer)
        abort(); /* no memory, as in xmalloc */
    *l = longer;
    return 0;
}

static int
add_lines(struct curl_slist **l, const struct http_req *q, struct err *e)
{
    bool has_type = false;

    for (size_t i = 0; q->headers && q->headers[i]; i++) {
        has_type |= !strncasecmp(q->headers[i], "Content-Type:", 13);
        if (add_line(l, q->headers[i], e))
            return -1;
    }
    /* What curl would add on its own. */
    if (!has_type && add_line(l, "Content-Type:", e))
        return -1;
    return add_line(l, "Expect:", e);
}

static CURLcode
set_request(struct http *h, const struct http_req *q, struct curl_slist *l)
{
    const char *method = q->method ? q->method : q->body ? "POST" : "GET";
    bool head = !strcmp(method, "HEAD"), get = !strcmp(method, "GET");
    CURL *c = h->curl;
    CURLcode rc = CURLE_OK;

    rc |= curl_easy_setopt(c, CURLOPT_HTTPGET, 1L); /* undoes the last one */
    if (head) {
        rc |= curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (!get || q->body) {
        rc |= curl_easy_setopt(c, CURLOPT_POST, 1L);
        rc |= curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)(q->body ? q->body_len : 0));
        rc |= curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body ? q->body : "");
    }
    rc |= curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, head ? NULL : method);
    rc |= curl_easy_setopt(c, CURLOPT_URL, q->url);
    rc |= curl_easy_setopt(c, CURLOPT_HTTPHEADER, l);
    rc |=
        curl_easy_setopt(c, CURLOPT_TIMEOUT_MS,
                         (long)(q->timeout_ms ? q->timeout_ms : h->timeout_ms));
    return rc;
}

static int
fail(struct http *h, CURLcode rc, const char *place, struct err *e)
{
    static const struct {
        CURLcode rc;
        enum err_class class;
    } classes[] = {
        { CURLE_URL_MALFORMAT, ERR_USER },
        { CURLE_UNSUPPORTED_PROTOCOL, ERR_USER },
        { CURLE_SSL_CACERT_BADFILE, ERR_USER },
        { CURLE_FAILED_INIT, ERR_BUG },
        { CURLE_OUT_OF_MEMORY, ERR_BUG },
        { CURLE_BAD_FUNCTION_ARGUMENT, ERR_BUG },
        { CURLE_WEIRD_SERVER_REPLY, ERR_REMOTE },
    };
    enum err_class class = ERR_NET;
    long errnum = 0;

    if (h->cert.refused || rc == CURLE_PEER_FAILED_VERIFICATION)
        return cert_fail(&h->cert, place, e);
    if (h->over || rc == CURLE_FILESIZE_EXCEEDED)
        return err_set(e, ERR_REMOTE,
                       "%s: the answer is longer than %u bytes or has more "
                       "than %d headers",
                       place, HTTP_ANSWER_MAX, HTTP_HEADERS_MAX);
    if (rc == CURLE_ABORTED_BY_CALLBACK)
        return err_set(e, ERR_NET, "%s: the connection ended unanswered",
                       place);
    curl_easy_getinfo(h->curl, CURLINFO_OS_ERRNO, &errnum);
    if (rc == CURLE_COULDNT_CONNECT && errnum)
        return err_set(e, ERR_NET, "%s: cannot connect: %s", place,
                       strerror((int)errnum));
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (classes[i].rc == rc)
            class = classes[i].class;
    return err_set(e, class, "%s: %s", place,
                   *h->said ? h->said : curl_easy_strerror(rc));
}

static void
take_answer(struct http *h, struct http_res *r)
{
    const char *scheme = NULL;
    long status = 0;

    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(h->curl, CURLINFO_SCHEME, &scheme);
    if (!scheme || strcasecmp(scheme, "https"))
        h->cert.sha1[0] = h->cert.sha256[0] = '\0';
    r->status = (int)status;
    vec_push(&h->lines, NULL);
    r->headers = take(h->lines.p);
    vec_fini(&h->lines);
}

int
http_do(struct http *h, const struct http_req *q, struct http_res *r,
        struct err *e)
{
    defer(str_fini) struct str origin = { .max = ORIGIN_MAX - 1 };
    defer(str_fini) struct str place = STR_INIT;
    defer(slist_free) struct curl_slist *l = NULL;
    CURLcode rc;

    *r = (struct http_res){ .body.max = HTTP_ANSWER_MAX };
    if (place_of(q->url, &origin, &place, e) || add_lines(&l, q, e))
        return -1;
    h->cert.refused = h->asked = h->over = false;
    h->cert.verify = 0;
    h->said[0] = '\0';
    h->res = r;
    lines_clear(h);
    if (set_request(h, q, l) ||
        curl_easy_setopt(h->curl, CURLOPT_FRESH_CONNECT,
                         (long)is_fresh(h, str_text(&origin))))
        return err_set(e, ERR_BUG, "%s: libcurl refuses the request",
                       str_text(&place));
    rc = curl_easy_perform(h->curl);
    curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL); /* l goes away */
    if (rc) {
        http_res_fini(r);
        return fail(h, rc, str_text(&place), e);
    }
    memcpy(h->origin, str_text(&origin), origin.n + 1);
    take_answer(h, r);
    return 0;
}

void
http_res_fini(struct http_res *r)
{
    for (size_t i = 0; r->headers && r->headers[i]; i++)
        free(r->headers[i]);
    free(r->headers);
    str_fini(&r->body);
    *r = (struct http_res){ 0 };
}

const char *
http_header(const struct http_res *r, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; r->headers && r->headers[i]; i++) {
        const char *line = r->headers[i];

        if (!strncasecmp(line, name, n) && line[n] == ':')
            return line + n + 1 + strspn(line + n + 1, " \t");
    }
    return NULL;
}

const char *
http_peer_sha1(const struct http *h)
{
    return h->cert.sha1;
}

const char *
http_peer_sha256(const struct http *h)
{
    return h->cert.sha256;
}
