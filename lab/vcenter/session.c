/* Sessions: cookies, login, the things that die with a session. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lab/vcenter/inside.h"

#define COOKIE_NAME "vmware_soap_session="

void
filter_free(struct filter *f)
{
    for (size_t i = 0; i < f->told.n; i++)
        val_free(f->told.p[i].props);
    vec_fini(&f->told);
    xml_free(f->request);
    free(f);
}

void
pages_free(struct pages *p)
{
    for (size_t i = 0; i < p->objects.n; i++)
        free(p->objects.p[i]);
    vec_fini(&p->objects);
    free(p);
}

void
view_free(struct view *v)
{
    for (size_t i = 0; i < v->types.n; i++)
        free(v->types.p[i]);
    vec_fini(&v->types);
    free(v);
}

static void
session_free(struct session *s)
{
    for (size_t i = 0; i < s->collectors.n; i++)
        free(s->collectors.p[i]);
    vec_fini(&s->collectors);
    for (size_t i = 0; i < s->filters.n; i++)
        filter_free(s->filters.p[i]);
    vec_fini(&s->filters);
    for (size_t i = 0; i < s->views.n; i++)
        view_free(s->views.p[i]);
    vec_fini(&s->views);
    for (size_t i = 0; i < s->pages.n; i++)
        pages_free(s->pages.p[i]);
    vec_fini(&s->pages);
    free(s);
}

void
session_release(struct session *s)
{
    if (--s->users == 0 && s->dead)
        session_free(s);
}

void
session_end(struct vcenter *v, struct session *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < v->sessions.n; i++)
        if (v->sessions.p[i] != s)
            v->sessions.p[kept++] = v->sessions.p[i];
    v->sessions.n = kept;
    s->dead = true;
    if (!s->users)
        session_free(s);
    world_touch(v->w);
}

static void
expire(struct vcenter *v)
{
    int64_t before = clock_ms() - v->w->session_idle_s * 1000ll;

    for (size_t i = v->sessions.n; i-- > 0;)
        if (!v->sessions.p[i]->users && v->sessions.p[i]->last < before)
            session_end(v, v->sessions.p[i]);
}

/* Real servers take the value with its quotes and without: Go's cookie jar
 * strips them. */
struct session *
session_of(struct vcenter *v, const char *header)
{
    const char *at = header ? strstr(header, COOKIE_NAME) : NULL;

    expire(v);
    if (!at)
        return NULL;
    at += sizeof COOKIE_NAME - 1;
    if (*at == '"')
        at++;
    for (size_t i = 0; i < v->sessions.n; i++) {
        struct session *s = v->sessions.p[i];
        size_t n = strlen(s->cookie);

        if (!strncmp(at, s->cookie, n) && (!at[n] || strchr("\"; ", at[n])))
            return s;
    }
    return NULL;
}

bool
session_credentials(struct vcenter *v, const char *user, const char *password,
                    const char *cookie)
{
    size_t n = strlen(cookie);

    if (!n)
        return !strcmp(user, VCENTER_USER) &&
               !strcmp(password, VCENTER_PASSWORD);
    if (n >= 2 && cookie[0] == '"' && cookie[n - 1] == '"') {
        cookie++;
        n -= 2;
    }
    expire(v);
    for (size_t i = 0; i < v->sessions.n; i++)
        if (strlen(v->sessions.p[i]->cookie) == n &&
            !strncmp(v->sessions.p[i]->cookie, cookie, n))
            return true;
    return false;
}

struct val *
session_val(const struct session *s)
{
    struct val *u = val_object("UserSession");

    val_str(u, "key", s->key);
    val_str(u, "userName", s->user);
    val_str(u, "fullName", "Administrator vsphere.local");
    val_time(u, "loginTime", s->login);
    val_time(u, "lastActiveTime", s->last_wall);
    val_str(u, "locale", "en");
    val_str(u, "messageLocale", "en");
    val_bool(u, "extensionSession", false);
    val_str(u, "ipAddress", "127.0.0.1");
    val_str(u, "userAgent", s->agent);
    val_int(u, "callCount", (int64_t)s->calls);
    return u;
}

static void
new_cookie(struct vcenter *v, char out[COOKIE_MAX])
{
    uint64_t a = world_random(&v->rng), b = world_random(&v->rng),
             c = world_random(&v->rng);

    snprintf(out, COOKIE_MAX, "%016llx%016llx%08x", (unsigned long long)a,
             (unsigned long long)b, (unsigned)(c & 0xffffffff));
}

static void
set_cookie(struct call *c, const char *cookie)
{
    str_addf(&c->res->headers,
             "Set-Cookie: " COOKIE_NAME "\"%s\"; Path=/; HttpOnly; Secure;\n",
             cookie);
}

int
m_service_content(struct call *c)
{
    defer_val struct val *content = service_content(c->w);
    const char *cookie = httpd_header(c->req, "Cookie");
    char fresh[COOKIE_MAX];

    if (!cookie || !strstr(cookie, COOKIE_NAME)) {
        new_cookie(c->v, fresh);
        set_cookie(c, fresh);
    }
    answer(c, "returnval", content, "ServiceContent");
    return 0;
}

int
m_current_time(struct call *c)
{
    defer_val struct val *now = val_scalar("dateTime", "");

    free(now->text);
    now->text = xmalloc(CLOCK_TEXT_MAX);
    clock_text(clock_wall_ms(), now->text);
    answer(c, "returnval", now, "dateTime");
    return 0;
}

static int
login_refused(struct call *c)
{
    return wfault_set(&c->fault, "InvalidLogin",
                      "Cannot complete login due to an incorrect user name or "
                      "password.");
}

int
m_login(struct call *c)
{
    const char *locale = arg(c, "locale");
    const char *agent = httpd_header(c->req, "User-Agent");
    struct collector *first;
    struct session *s;

    if (c->s || c->v->sessions.n >= VCENTER_SESSIONS_MAX ||
        strcmp(arg(c, "userName"), VCENTER_USER) ||
        strcmp(arg(c, "password"), VCENTER_PASSWORD))
        return login_refused(c);
    if (locale && !str_starts(locale, "en"))
        return wfault_set(&c->fault, "InvalidLocale",
                          "The locale %.40s is not supported.", locale);
    s = xcalloc(1, sizeof *s);
    new_cookie(c->v, s->cookie);
    world_uuid(c->w, "52", s->cookie, s->key);
    snprintf(s->user, sizeof s->user, "%s", arg(c, "userName"));
    snprintf(s->agent, sizeof s->agent, "%s", agent ? agent : "");
    s->login = s->last_wall = clock_wall_ms();
    s->last = clock_ms();
    first = xcalloc(1, sizeof *first);
    snprintf(first->id, sizeof first->id, "%s",
             service_id(c->w, "PropertyCollector"));
    vec_push(&s->collectors, first);
    vec_push(&c->v->sessions, s);
    set_cookie(c, s->cookie);
    defer_val struct val *u = session_val(s);
    answer(c, "returnval", u, "UserSession");
    return 0;
}

int
m_logout(struct call *c)
{
    session_end(c->v, c->s);
    return 0;
}

int
m_session_is_active(struct call *c)
{
    bool active = false;

    for (size_t i = 0; i < c->v->sessions.n; i++)
        if (!strcmp(c->v->sessions.p[i]->key, arg(c, "sessionID")) &&
            !strcmp(c->v->sessions.p[i]->user, arg(c, "userName")))
            active = true;
    if (c->w->esxi)
        return wfault_set(&c->fault, "NotImplemented",
                          "The operation is not implemented.");
    defer_val struct val *v = val_scalar("boolean", active ? "true" : "false");
    answer(c, "returnval", v, "boolean");
    return 0;
}
