/* The session: version, login, cookie, logout, pauses. */
#include "vsphere/soap.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define VERSION_NEWEST "8.0.1.0" /* what the room's reader was written for */
#define VERSION_FLOOR  "6.7"     /* when the server lists nothing of use */
#define VERSION_PARTS  4
#define VERSION_MAX    32 /* bytes */
#define COOKIE_NAME    "vmware_soap_session="
#define COOKIE_MAX     1024 /* bytes */
#define STOP_LOOK_MS   200

/* "8.0.1.0" as one number that sorts; 0 if it is no version. */
static uint64_t
version_rank(const char *text)
{
    uint64_t rank = 0;

    for (int part = 0; part < VERSION_PARTS; part++) {
        unsigned v = 0;

        for (int digits = 0; *text >= '0' && *text <= '9'; text++) {
            if (++digits > 4)
                return 0;
            v = v * 10 + (unsigned)(*text - '0');
        }
        rank = rank << 16 | v;
        if (*text == '.' && part < VERSION_PARTS - 1)
            text++;
    }
    return *text ? 0 : rank;
}

static void
take_version(const struct xml *v, uint64_t *best, char *out, size_t n)
{
    for (; v; v = xml_next(v)) {
        uint64_t rank = version_rank(v->text);

        if (rank > *best && rank <= version_rank(VERSION_NEWEST) &&
            strlen(v->text) < n) {
            *best = rank;
            snprintf(out, n, "%s", v->text);
        }
    }
}

bool
session_version(const struct xml *list, char *out, size_t n)
{
    const struct xml *ns = xml_kid(list, "namespace");
    uint64_t best = 0;

    for (; ns; ns = xml_next(ns)) {
        if (strcmp(text_at(ns, "name"), "urn:vim25"))
            continue;
        take_version(xml_kid(ns, "version"), &best, out, n);
        take_version(xml_kid(xml_kid(ns, "priorVersions"), "version"), &best,
                     out, n);
    }
    return best > 0;
}

/* The first exchange with the server, so certificate and address are judged
 * here.  A server without the list is asked by the floor version. */
static int
choose_version(struct vs *vs, struct err *e)
{
    defer_free char *url =
        xasprintf("https://%s/sdk/vimServiceVersions.xml", vs->where);
    defer(http_res_fini) struct http_res r = { 0 };
    defer(xml_free_ptr) struct xml *list = NULL;
    char version[VERSION_MAX] = VERSION_FLOOR;
    struct err why = ERR_INIT;

    if (http_do(vs->http, &(struct http_req){ .url = url }, &r, e))
        return -1;
    if (r.status == 200)
        list = xml_parse(str_text(&r.body), r.body.n, &why);
    if (!list || !session_version(list, version, sizeof version))
        log_debug("%s lists no API version we know (HTTP %d), using %s",
                  vs->where, r.status, version);
    vs->action = xasprintf("SOAPAction: urn:vim25/%s", version);
    return 0;
}

void
session_cookie(struct vs *vs, const struct http_res *r)
{
    for (char **h = r->headers; h && *h; h++) {
        const char *value = *h + strlen("Set-Cookie:");
        size_t n;

        if (strncasecmp(*h, "Set-Cookie:", strlen("Set-Cookie:")))
            continue;
        value += strspn(value, " \t");
        n = strcspn(value, "; \t\r\n");
        if (!str_starts(value, COOKIE_NAME) || n > COOKIE_MAX)
            continue;
        defer_free char *raw = xstrndup(value, n);

        secret_free(vs->cookie);
        vs->cookie = secret_new(raw);
    }
}

/* A manager the server does not have stays "". */
static int
take_manager(const struct xml *content, const char *name, bool must,
             char out[VS_ID_MAX], struct err *e)
{
    const struct xml *ref = xml_kid(content, name);

    if (!ref && !must)
        return 0;
    return ref_copy(ref, out, name, e);
}

static int
read_content(struct vs *vs, struct err *e)
{
    defer_answer struct answer a = { 0 };
    const struct xml *c;

    if (soap_call(vs, VIM_SERVICE_CONTENT, "ServiceInstance", NULL, &a, e))
        return -1;
    c = a.val;
    if (take_manager(c, "rootFolder", true, vs->root, e) ||
        take_manager(c, "propertyCollector", true, vs->collector, e) ||
        take_manager(c, "sessionManager", true, vs->sessions, e) ||
        take_manager(c, "viewManager", false, vs->views, e) ||
        take_manager(c, "searchIndex", false, vs->search, e))
        return -1;
    vs->vcenter = !strcmp(text_at(c, "about/apiType"), "VirtualCenter");
    vs->about = xasprintf("%s %s", text_at(c, "about/name"),
                          text_at(c, "about/version"));
    return 0;
}

int
session_login(struct vs *vs, struct err *e)
{
    if (vs->refused)
        return err_set(e, ERR_AUTH,
                       "%s has refused the login of %s before: check user "
                       "and password, then start again",
                       vs->where, vs->user);
    /* A login within a session is refused by some builds. */
    secret_free(take(vs->cookie));
    vs->logged_in = false;
    if (soap_call(vs, VIM_LOGIN, vs->sessions,
                  ARGS(vs->user, secret_reveal(vs->password), "en_US"), NULL,
                  e)) {
        vs->refused = e->class == ERR_AUTH;
        return err_wrap(e, "logging in to %s as %s", vs->where, vs->user);
    }
    if (!vs->cookie)
        return err_set(e, ERR_REMOTE,
                       "logging in to %s: it gave no session cookie, give the "
                       "address of a vCenter or an ESXi host",
                       vs->where);
    vs->logged_in = true;
    vs->logins++;
    return 0;
}

static struct vs *
new_session(const struct vs_opts *o)
{
    bool v6 = strchr(o->host, ':');
    struct vs *vs = xcalloc(1, sizeof *vs);

    vs->where = xasprintf("%s%s%s", v6 ? "[" : "", o->host, v6 ? "]" : "");
    if (o->port && o->port != 443) {
        defer_free char *host = vs->where;

        vs->where = xasprintf("%s:%u", host, o->port);
    }
    vs->url = xasprintf("https://%s/sdk", vs->where);
    vs->user = xstrdup(o->user);
    vs->password = secret_new(secret_reveal(o->password));
    vs->operation_id = o->operation_id ? xstrdup(o->operation_id) : NULL;
    vs->stop = o->stop;
    vs->haste = 1;
    return vs;
}

struct vs *
vs_open(const struct vs_opts *o, struct err *e)
{
    struct http_opts h = {
        .ca_file = o->ca_file,
        .thumbprint = o->thumbprint,
        .insecure = o->insecure,
    };
    defer(vs_close_ptr) struct vs *vs = NULL;

    if (!o->host || !*o->host || !o->user || !*o->user) {
        err_set(e, ERR_USER, "connecting to vSphere: host or user is missing");
        return NULL;
    }
    vs = new_session(o);
    vs->http = http_new(&h, e);
    if (!vs->http || choose_version(vs, e) || read_content(vs, e) ||
        session_login(vs, e)) {
        err_wrap(e, "connecting to vSphere");
        return NULL;
    }
    return take(vs);
}

void
vs_close(struct vs *vs)
{
    struct err e = ERR_INIT;

    if (!vs)
        return;
    /* What stays behind ends by itself after half an hour of idling. */
    if (vs->logged_in &&
        soap_call(vs, VIM_LOGOUT, vs->sessions, NULL, NULL, &e))
        log_debug("logging out: %s", e.msg);
    http_free(vs->http);
    secret_free(vs->cookie);
    secret_free(vs->password);
    free(vs->where);
    free(vs->url);
    free(vs->action);
    free(vs->user);
    free(vs->operation_id);
    free(vs->about);
    free(vs);
}

int
vs_keepalive(struct vs *vs, struct err *e)
{
    const char *const paths[] = { "currentSession", NULL };
    defer_answer struct answer a = { 0 };

    if (props_get(vs, "SessionManager", vs->sessions, paths, &a, e))
        return -1;
    return prop(a.val, "currentSession") ? 0 : session_login(vs, e);
}

void
vs_set_stop(struct vs *vs, const volatile sig_atomic_t *stop)
{
    vs->stop = stop;
}

bool
vs_is_vcenter(const struct vs *vs)
{
    return vs->vcenter;
}

const char *
vs_about(const struct vs *vs)
{
    return vs->about;
}

const char *
vs_thumbprint(const struct vs *vs)
{
    return http_peer_sha1(vs->http);
}

int
session_pause(struct vs *vs, int64_t ms, struct err *e)
{
    int64_t end = clock_ms() + ms / vs->haste;

    for (;;) {
        int64_t left = end - clock_ms();

        if (vs->stop && *vs->stop)
            return err_set(e, ERR_STOPPED, "stopped while waiting for %s",
                           vs->where);
        if (left <= 0)
            return 0;
        clock_pause(left < STOP_LOOK_MS ? left : STOP_LOOK_MS);
    }
}
