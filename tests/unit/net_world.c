/* What the tests of net share. */
#include "net_world.h"
#include "base/clock.h"
#include "base/fs.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct identity here, elsewhere;
struct httpd *plain, *tls, *foreign;
atomic_int calls;
sem_t entered, release;
atomic_bool finished;

/* The server's side --------------------------------------------------- */

static void
serve_echo(const struct httpd_req *q, struct httpd_res *r)
{
    const char *given = httpd_header(q, "x-given");
    const char *arg = httpd_query(q, "arg");
    const char *type = httpd_header(q, "Content-Type");

    r->status = 201;
    r->type = "text/echo";
    str_add(&r->headers, "X-One: 1\nX-Two: a: b\n");
    str_addf(&r->body, "%s %s ?%s arg=%s given=%s type=%s body=", q->method,
             q->path, q->query, arg ? arg : "(none)", given ? given : "(none)",
             type ? type : "(none)");
    str_addn(&r->body, q->body, q->body_len);
}

static void
serve_big(const struct httpd_req *q, struct httpd_res *r)
{
    static const char block[1 << 20];

    (void)q;
    for (size_t n = 0; n < HTTP_ANSWER_MAX; n += sizeof block)
        str_addn(&r->body, block, sizeof block);
    str_addc(&r->body, 'x');
}

static void
serve_headers(const struct httpd_req *q, struct httpd_res *r)
{
    (void)q;
    for (int i = 0; i < HTTP_HEADERS_MAX; i++)
        str_addf(&r->headers, "X-%d: y\n", i);
}

static void
serve_bad_header(const struct httpd_req *q, struct httpd_res *r)
{
    (void)q;
    str_add(&r->headers, "no colon\n");
}

static void
serve_slow(const struct httpd_req *q, struct httpd_res *r)
{
    (void)q;
    (void)r;
    sem_post(&entered);
    sem_wait(&release);
}

static void
serve_lasting(const struct httpd_req *q, struct httpd_res *r)
{
    (void)q;
    (void)r;
    sem_post(&entered);
    clock_pause(50);
    finished = true;
}

static void
serve_redirect(const struct httpd_req *q, struct httpd_res *r)
{
    (void)q;
    r->status = 302;
    str_add(&r->headers, "Location: /echo\n");
}

static void
serve_drop(const struct httpd_req *q, struct httpd_res *r)
{
    (void)q;
    str_add(&r->body, "never seen");
    r->drop = true;
}

void
serve(void *ctx, const struct httpd_req *q, struct httpd_res *r)
{
    static const struct {
        const char *path;
        void (*serve)(const struct httpd_req *, struct httpd_res *);
    } routes[] = {
        { "/big", serve_big },
        { "/headers", serve_headers },
        { "/slow", serve_slow },
        { "/lasting", serve_lasting },
        { "/redirect", serve_redirect },
        { "/drop", serve_drop },
        { "/bad-header", serve_bad_header },
    };

    (void)ctx;
    calls++;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (!strcmp(routes[i].path, q->path)) {
            routes[i].serve(q, r);
            return;
        }
    serve_echo(q, r);
}

/* Certificates -------------------------------------------------------- */

static char *
pem_text(BIO *bio)
{
    char *p = NULL;
    long n = BIO_get_mem_data(bio, &p);
    char *text = xstrndup(p, (size_t)n);

    BIO_free(bio);
    return text;
}

static void
print_digest(const X509 *x, const EVP_MD *md, char *out)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;

    assert_int_equal(X509_digest(x, md, digest, &n), 1);
    for (unsigned int i = 0; i < n; i++)
        snprintf(out + i * 3, 4, "%02X%s", digest[i], i + 1 < n ? ":" : "");
}

static X509 *
make_certificate(EVP_PKEY *key, const char *names)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);
    X509_EXTENSION *san =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);

    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)names, -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509_set_pubkey(x, key);
    assert_non_null(san);
    X509_add_ext(x, san, -1);
    X509_EXTENSION_free(san);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

static void
make_identity(struct identity *id, const char *names)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = make_certificate(key, names);
    BIO *cert = BIO_new(BIO_s_mem()), *private = BIO_new(BIO_s_mem());
    char path[] = "/tmp/net_test.XXXXXX";
    defer_close int fd = mkstemp(path);

    PEM_write_bio_X509(cert, x);
    PEM_write_bio_PrivateKey(private, key, NULL, NULL, 0, NULL, NULL);
    id->cert = pem_text(cert);
    id->key = pem_text(private);
    id->file = xstrdup(path);
    assert_int_equal(fs_write_all(fd, id->cert, strlen(id->cert)), 0);
    print_digest(x, EVP_sha1(), id->sha1);
    print_digest(x, EVP_sha256(), id->sha256);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void
free_identity(struct identity *id)
{
    unlink(id->file);
    free(id->cert);
    free(id->key);
    free(id->file);
}

/* Set-up -------------------------------------------------------------- */

struct httpd *
start(const struct identity *id)
{
    struct httpd_opts o = { .handler = serve };
    struct err e = ERR_INIT;
    struct httpd *d;

    if (id) {
        o.cert_pem = id->cert;
        o.key_pem = id->key;
    }
    d = httpd_start(&o, &e);
    if (!d)
        fail_msg("%s", e.msg);
    return d;
}

int
world_start(void **state)
{
    (void)state;
    sem_init(&entered, 0, 0);
    sem_init(&release, 0, 0);
    make_identity(&here, "IP:127.0.0.1");
    make_identity(&elsewhere, "DNS:elsewhere.example");
    plain = start(NULL);
    tls = start(&here);
    foreign = start(&elsewhere);
    return 0;
}

int
world_stop(void **state)
{
    (void)state;
    httpd_stop(plain);
    httpd_stop(tls);
    httpd_stop(foreign);
    free_identity(&here);
    free_identity(&elsewhere);
    sem_destroy(&entered);
    sem_destroy(&release);
    return 0;
}

char *
url_of(const struct httpd *d, const char *path)
{
    return xasprintf("%s://127.0.0.1:%u%s", d == plain ? "http" : "https",
                     (unsigned)httpd_port(d), path);
}

int
get(const struct http_opts *o, const struct httpd *d, const char *path,
    struct http_res *r, struct err *e)
{
    defer_free char *url = url_of(d, path);
    defer(http_free_ptr) struct http *h = http_new(o, e);
    struct http_req q = { .url = url };

    *r = (struct http_res){ 0 };
    return h ? http_do(h, &q, r, e) : -1;
}
