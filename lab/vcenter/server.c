/* The server: its paths, its start and end. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lab/vcenter/inside.h"

static const char versions[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<namespaces version=\"1.0\"><namespace><name>urn:vim25</name>"
    "<version>8.0.2.0</version><priorVersions><version>8.0.1.0</version>"
    "<version>8.0.0.1</version><version>7.0.3.0</version>"
    "<version>7.0</version><version>6.7</version><version>6.5</version>"
    "<version>6.0</version><version>5.5</version></priorVersions>"
    "</namespace></namespaces>\n";

static void
handle(void *ctx, const struct httpd_req *q, struct httpd_res *r)
{
    struct vcenter *v = ctx;
    struct call c = { .v = v, .w = v->w, .req = q, .res = r };

    if (!strcmp(q->path, "/sdk/vimServiceVersions.xml")) {
        r->type = "text/xml";
        str_add(&r->body, versions);
    } else if (!strcmp(q->path, "/sdk") || !strcmp(q->path, "/sdk/") ||
               !strcmp(q->path, "/sdk/vimService")) {
        if (!strcmp(q->method, "POST")) {
            soap_post(&c);
        } else {
            r->status = 405;
            str_add(&r->body, "POST only\n");
        }
    } else if (!strcmp(q->path, "/ui")) {
        r->status = 302;
        str_add(&r->headers, "Location: /ui/login\n");
    } else {
        r->status = 404;
        str_add(&r->body, "not found\n");
    }
}

struct vcenter *
vcenter_start(struct world *w, struct err *e)
{
    struct vcenter *v = xcalloc(1, sizeof *v);
    struct str cert = STR_INIT, key = STR_INIT;

    v->w = w;
    v->rng = w->seed ^ (uint64_t)clock_wall_ms();
    if (!tls_make(w->dir, &cert, &key, v->sha1, v->sha256, e))
        v->httpd = httpd_start(&(struct httpd_opts){ .cert_pem = cert.p,
                                                     .key_pem = key.p,
                                                     .handler = handle,
                                                     .ctx = v },
                               e);
    str_fini(&cert);
    str_fini(&key);
    if (!v->httpd) {
        free(v);
        return NULL;
    }
    return v;
}

void
vcenter_stop(struct vcenter *v)
{
    if (!v)
        return;
    vcenter_drop_sessions(v);
    httpd_stop(v->httpd);
    vec_fini(&v->sessions);
    vec_fini(&v->counts);
    vec_fini(&v->rules);
    free(v);
}

void
vcenter_drop_sessions(struct vcenter *v)
{
    world_lock(v->w);
    while (v->sessions.n)
        session_end(v, v->sessions.p[v->sessions.n - 1]);
    world_unlock(v->w);
}

unsigned
vcenter_sessions(struct vcenter *v)
{
    unsigned n;

    world_lock(v->w);
    n = (unsigned)v->sessions.n;
    world_unlock(v->w);
    return n;
}

json_t *
vcenter_requests(struct vcenter *v)
{
    json_t *o = json_object();

    world_lock(v->w);
    for (size_t i = 0; i < v->counts.n; i++)
        json_object_set_new(o, v->counts.p[i].method,
                            json_integer((json_int_t)v->counts.p[i].n));
    world_unlock(v->w);
    return o;
}

uint16_t
vcenter_port(const struct vcenter *v)
{
    return httpd_port(v->httpd);
}

const char *
vcenter_sha1(const struct vcenter *v)
{
    return v->sha1;
}

const char *
vcenter_sha256(const struct vcenter *v)
{
    return v->sha256;
}

void
vcenter_set_nfc(struct vcenter *v, struct lab_nfc *n)
{
    v->nfc = n;
}
