/* Filters and waiting for updates. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lab/vcenter/inside.h"
#include "lab/vcenter/wsdl.h"

#define WAIT_MAX_S 1800
#define LOOK_MS    200 /* for what changes by time alone */

struct collector *
collector_of(struct session *s, const char *id)
{
    for (size_t i = 0; i < s->collectors.n; i++)
        if (!strcmp(s->collectors.p[i]->id, id))
            return s->collectors.p[i];
    return NULL;
}

int
m_create_collector(struct call *c)
{
    struct collector *col;

    if (c->s->collectors.n >= COLLECTORS_MAX)
        return wfault_system(&c->fault, "too many property collectors");
    col = xcalloc(1, sizeof *col);
    snprintf(col->id, sizeof col->id, "session[%.8s]pc-%u", c->s->key,
             ++c->s->next_id);
    vec_push(&c->s->collectors, col);
    answer_ref(c, "PropertyCollector", col->id);
    return 0;
}

static void
drop_filters(struct session *s, const char *collector, const char *id)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->filters.n; i++) {
        struct filter *f = s->filters.p[i];

        if ((collector && !strcmp(f->collector, collector)) ||
            (id && !strcmp(f->id, id)))
            filter_free(f);
        else
            s->filters.p[kept++] = f;
    }
    s->filters.n = kept;
}

int
m_destroy_collector(struct call *c)
{
    struct collector *col = collector_of(c->s, c->self.id);
    size_t kept = 0;

    if (col == c->s->collectors.p[0])
        return wfault_set(&c->fault, "NotSupported",
                          "The default property collector stays.");
    drop_filters(c->s, col->id, NULL);
    for (size_t i = 0; i < c->s->collectors.n; i++)
        if (c->s->collectors.p[i] != col)
            c->s->collectors.p[kept++] = c->s->collectors.p[i];
    c->s->collectors.n = kept;
    col->dead = true;
    if (!col->waiting)
        free(col);
    return 0;
}

int
m_create_filter(struct call *c)
{
    struct founds found = { 0 };
    struct err e = ERR_INIT;
    struct filter *f;
    int rc = pc_collect(c, xml_kid(c->q, "spec"), &found);

    founds_fini(&found);
    if (rc)
        return -1;
    if (c->s->filters.n >= FILTERS_MAX)
        return wfault_system(&c->fault, "too many filters");
    f = xcalloc(1, sizeof *f);
    f->request = xml_parse(c->req->body, c->req->body_len, &e);
    f->spec = xml_kid(xml_kid(f->request, "Body")->kids, "spec");
    f->partial = arg_flag(c, "partialUpdates", false);
    snprintf(f->collector, sizeof f->collector, "%s", c->self.id);
    snprintf(f->id, sizeof f->id, "session[%.8s]f-%u", c->s->key,
             ++c->s->next_id);
    vec_push(&c->s->filters, f);
    answer_ref(c, "PropertyFilter", f->id);
    return 0;
}

int
m_destroy_filter(struct call *c)
{
    drop_filters(c->s, NULL, c->self.id);
    return 0;
}

static const struct val *
prop_val(const struct val *props, const char *path)
{
    for (const struct val *p = props ? props->kids : NULL; p; p = p->next)
        if (!strcmp(val_get(p, "name")->text, path))
            return val_get(p, "val");
    return NULL;
}

static void
change(struct val *update, const char *path, const struct val *now)
{
    struct val *c = val_object("PropertyChange");

    val_str(c, "name", path);
    val_str(c, "op", "assign");
    if (now)
        val_put(c, "val", val_copy(now));
    val_put(update, "changeSet", c);
}

/* Is it an object whose parts may be told one by one? */
static bool
splits(const struct val *a, const struct val *b)
{
    return a && b && a->kind == VAL_OBJECT && b->kind == VAL_OBJECT &&
           !strcmp(a->type, b->type);
}

static void
compare(struct val *update, const char *path, const struct val *was,
        const struct val *now, bool partial)
{
    if (was && now && val_equal(was, now))
        return;
    if (!partial || !splits(was, now)) {
        change(update, path, now);
        return;
    }
    for (const struct val *k = now->kids; k; k = k->next) {
        defer_free char *sub = xasprintf("%s.%s", path, k->name);

        compare(update, sub, val_get(was, k->name), k, partial);
    }
    for (const struct val *k = was->kids; k; k = k->next) {
        defer_free char *sub = xasprintf("%s.%s", path, k->name);

        if (!val_get(now, k->name))
            change(update, sub, NULL);
    }
}

static struct val *
new_update(const char *kind, const struct moref *m)
{
    struct val *u = val_object("ObjectUpdate");

    val_str(u, "kind", kind);
    val_link(u, "obj", m->type, m->id);
    return u;
}

/* What is new about one object; NULL: nothing. */
static struct val *
object_update(const struct filter *f, const struct told *was,
              const struct found *now)
{
    struct val *u = new_update(was ? "modify" : "enter", &now->obj);

    for (const struct val *p = now->props->kids; p; p = p->next) {
        const char *path = val_get(p, "name")->text;

        compare(u, path, was ? prop_val(was->props, path) : NULL,
                val_get(p, "val"), f->partial && was);
    }
    for (const struct val *p = was ? was->props->kids : NULL; p; p = p->next) {
        const char *path = val_get(p, "name")->text;

        if (!prop_val(now->props, path))
            change(u, path, NULL);
    }
    if (was && !val_get(u, "changeSet")) {
        val_free(u);
        return NULL;
    }
    return u;
}

static struct told *
told_of(struct filter *f, const char *id)
{
    for (size_t i = 0; i < f->told.n; i++)
        if (!strcmp(f->told.p[i].obj.id, id))
            return &f->told.p[i];
    return NULL;
}

static bool
is_found(const struct founds *found, const char *id)
{
    for (size_t i = 0; i < found->n; i++)
        if (!strcmp(found->p[i].obj.id, id))
            return true;
    return false;
}

static void
tell_leaving(struct filter *f, const struct founds *found, struct val *fu,
             size_t *room)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->told.n; i++) {
        struct told t = f->told.p[i];

        if (*room && !is_found(found, t.obj.id)) {
            val_put(fu, "objectSet", new_update("leave", &t.obj));
            val_free(t.props);
            (*room)--;
        } else {
            f->told.p[kept++] = t;
        }
    }
    f->told.n = kept;
}

/* Adds the filter's news to the set, at most *room objects. */
static void
filter_update(struct call *c, struct filter *f, struct val *set, size_t *room)
{
    struct val *fu = val_object("PropertyFilterUpdate");
    struct founds found = { 0 };
    struct wfault before = c->fault;

    val_link(fu, "filter", "PropertyFilter", f->id);
    if (pc_collect(c, f->spec, &found)) {
        founds_fini(&found); /* what it started from is gone: all leave */
        c->fault = before;
    }
    for (size_t i = 0; i < found.n && *room; i++) {
        struct told *was = told_of(f, found.p[i].obj.id);
        struct val *u = object_update(f, was, &found.p[i]);

        if (!u)
            continue;
        val_put(fu, "objectSet", u);
        (*room)--;
        if (!was) {
            vec_push(&f->told, (struct told){ .obj = found.p[i].obj });
            was = &f->told.p[f->told.n - 1];
        }
        val_free(was->props);
        was->props = val_copy(found.p[i].props);
    }
    tell_leaving(f, &found, fu, room);
    founds_fini(&found);
    if (val_get(fu, "objectSet"))
        val_put(set, "filterSet", fu);
    else
        val_free(fu);
}

static struct val *
news(struct call *c, struct collector *col, size_t room)
{
    struct val *set = val_object("UpdateSet");
    char version[16];

    for (size_t i = 0; i < c->s->filters.n && room; i++)
        if (!strcmp(c->s->filters.p[i]->collector, col->id))
            filter_update(c, c->s->filters.p[i], set, &room);
    if (!val_get(set, "filterSet")) {
        val_free(set);
        return NULL;
    }
    snprintf(version, sizeof version, "%u", ++col->version);
    val_str(set, "version", version);
    if (!room)
        val_bool(set, "truncated", true);
    return set;
}

static int
check_version(struct call *c, struct collector *col)
{
    const char *version = arg(c, "version");
    char last[16];

    if (!version || !*version) {
        for (size_t i = 0; i < c->s->filters.n; i++) {
            struct filter *f = c->s->filters.p[i];

            for (size_t t = 0; t < f->told.n; t++)
                if (!strcmp(f->collector, col->id))
                    val_free(f->told.p[t].props);
            if (!strcmp(f->collector, col->id))
                f->told.n = 0;
        }
        return 0;
    }
    snprintf(last, sizeof last, "%u", col->version);
    if (!strcmp(version, last))
        return 0;
    return wfault_set(&c->fault, "InvalidCollectorVersion",
                      "The collector has no version %.40s.", version);
}

static int
await(struct call *c, struct collector *col, int64_t until, size_t room)
{
    unsigned mine = ++col->calls;

    for (;;) {
        struct val *set;

        if (c->s->dead || c->w->stopping)
            return wfault_set(&c->fault, "NotAuthenticated",
                              "The session is not authenticated.");
        if (col->dead || col->calls != mine)
            return wfault_set(&c->fault, "RequestCanceled",
                              "The request was canceled by a user.");
        set = news(c, col, room);
        if (set) {
            answer(c, "returnval", set, "UpdateSet");
            val_free(set);
            return 0;
        }
        if (clock_ms() >= until)
            return 0;
        world_await(c->w, until < clock_ms() + LOOK_MS ? until
                                                       : clock_ms() + LOOK_MS);
        c->s->last = clock_ms();
    }
}

int
m_wait(struct call *c)
{
    struct collector *col = collector_of(c->s, c->self.id);
    const char *seconds = arg(c, "options/maxWaitSeconds");
    const char *max = arg(c, "options/maxObjectUpdates");
    struct err e = ERR_INIT;
    uint64_t s = WAIT_MAX_S, room = SIZE_MAX;
    int rc;

    if (seconds && num_u64(seconds, 0, WAIT_MAX_S, &s, "maxWaitSeconds", &e))
        return fault_argument(c, "options.maxWaitSeconds");
    if (max && num_u64(max, 1, INT32_MAX, &room, "maxObjectUpdates", &e))
        return fault_argument(c, "options.maxObjectUpdates");
    if (check_version(c, col))
        return -1;
    col->waiting++;
    rc = await(c, col, clock_ms() + (int64_t)s * 1000, (size_t)room);
    if (--col->waiting == 0 && col->dead)
        free(col);
    return rc;
}

int
m_cancel_wait(struct call *c)
{
    collector_of(c->s, c->self.id)->calls++;
    world_touch(c->w);
    return 0;
}
