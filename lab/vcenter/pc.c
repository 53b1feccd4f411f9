/* The property collector: walks a filter's objects and reads their
 * properties. */
#include <stdio.h>
#include <string.h>

#include "lab/vcenter/inside.h"
#include "lab/vcenter/wsdl.h"

#define WALK_DEPTH  64
#define OBJECTS_MAX 100000

int
read_moref(const struct xml *x, struct moref *m)
{
    snprintf(m->type, sizeof m->type, "%s", x && x->ref ? x->ref : "");
    snprintf(m->id, sizeof m->id, "%s", x ? x->text : "");
    return x ? 0 : -1;
}

void
founds_fini(struct founds *f)
{
    for (size_t i = 0; i < f->n; i++)
        val_free(f->p[i].props);
    vec_fini(f);
}

struct walk {
    struct call *c;
    const struct xml *object_set; /* where named specs are looked up */
    struct morefs found;
    struct VEC(struct step {
        const struct xml *spec;
        struct moref at;
    }) been;
};

static int
bad_property(struct call *c, const char *path)
{
    wfault_set(&c->fault, "InvalidProperty",
               "The property %.120s is not one of that type", path);
    wfault_field(&c->fault, "name", NULL, path);
    return -1;
}

static int
bad_type(struct call *c, const char *type)
{
    wfault_set(&c->fault, "InvalidType", "The type %.80s is not known", type);
    wfault_field(&c->fault, "argument", NULL, type);
    return -1;
}

static bool
known_object(const char *type)
{
    const struct wtype *t = wsdl_type(type);

    return t && t->kind == WSDL_OBJECT;
}

/* A TraversalSpec of that name, anywhere below. */
static const struct xml *
named(const struct xml *x, const char *name)
{
    for (const struct xml *k = x->kids; k; k = k->next) {
        const char *is = xml_text(k, "name");
        const struct xml *deeper;

        if (strcmp(k->name, "selectSet"))
            continue;
        if (k->type && !strcmp(k->type, "TraversalSpec") && is &&
            !strcmp(is, name))
            return k;
        deeper = named(k, name);
        if (deeper)
            return deeper;
    }
    return NULL;
}

static bool
been_there(struct walk *w, const struct xml *spec, const struct moref *at)
{
    for (size_t i = 0; i < w->been.n; i++)
        if (w->been.p[i].spec == spec && !strcmp(w->been.p[i].at.id, at->id))
            return true;
    vec_push(&w->been, (struct step){ spec, *at });
    return false;
}

static void
found(struct walk *w, const struct moref *at)
{
    for (size_t i = 0; i < w->found.n; i++)
        if (!strcmp(w->found.p[i].id, at->id))
            return;
    if (w->found.n < OBJECTS_MAX)
        vec_push(&w->found, *at);
}

static bool
flag(const struct xml *x, const char *name)
{
    const char *text = xml_text(x, name);

    return text && (!strcmp(text, "true") || !strcmp(text, "1"));
}

static int visit(struct walk *w, const struct xml *sets, const struct moref *at,
                 int depth);

/* 1 and the value, 0 unset, -1 with the fault set. */
static int
read_path(struct call *c, const struct moref *at, const char *type,
          const char *path, struct val **out)
{
    const struct wtype *t = wsdl_type(type);
    char first[128];
    size_t n = strcspn(path, ".[");
    const struct wfield *f;
    const struct val *v = NULL;
    struct val *top;
    int rc;

    *out = NULL;
    snprintf(first, sizeof first, "%.*s", (int)(n < 127 ? n : 127), path);
    f = t ? wsdl_field(t, first) : NULL;
    if (!f)
        return bad_property(c, path);
    top = at ? object_prop(c, at, first) : NULL;
    if (!path[n]) {
        *out = top;
        return top != NULL;
    }
    if (path[n] == '[' || !path[n + 1] || f->repeated) {
        val_free(top);
        return bad_property(c, path);
    }
    rc = val_path(top, f->type, false, path + n + 1, &v);
    if (rc > 0)
        *out = val_copy(v);
    val_free(top);
    return rc < 0 ? bad_property(c, path) : rc;
}

static int
follow(struct walk *w, const struct xml *spec, const struct moref *to,
       int depth)
{
    if (!object_exists(w->c, to))
        return 0;
    if (!flag(spec, "skip"))
        found(w, to);
    return visit(w, spec, to, depth + 1);
}

static int
traverse(struct walk *w, const struct xml *spec, const struct moref *at,
         int depth)
{
    const char *type = xml_text(spec, "type"), *path = xml_text(spec, "path");
    struct val *v = NULL;
    struct moref to;
    int rc;

    if (!known_object(type))
        return bad_type(w->c, type);
    if (!wsdl_is_a(at->type, type)) {
        rc = read_path(w->c, NULL, type, path, &v);
        return rc < 0 ? -1 : 0;
    }
    if (been_there(w, spec, at))
        return 0;
    rc = read_path(w->c, at, type, path, &v);
    if (rc <= 0)
        return rc;
    rc = 0;
    for (const struct val *k = v->kind == VAL_ARRAY ? v->kids : v;
         k && k->kind == VAL_REF && !rc; k = k->next) {
        snprintf(to.type, sizeof to.type, "%s", k->ref);
        snprintf(to.id, sizeof to.id, "%s", k->text);
        rc = follow(w, spec, &to, depth);
    }
    val_free(v);
    return rc;
}

static int
visit(struct walk *w, const struct xml *from, const struct moref *at, int depth)
{
    if (depth > WALK_DEPTH)
        return wfault_system(&w->c->fault, "traversal goes too deep");
    for (const struct xml *x = xml_kid(from, "selectSet"); x; x = xml_next(x)) {
        const struct xml *spec = x;

        if (!x->type || strcmp(x->type, "TraversalSpec")) {
            const char *name = xml_text(x, "name");

            spec = name ? named(w->object_set, name) : NULL;
            if (!spec)
                return fault_argument(w->c, "selectSet");
        }
        if (traverse(w, spec, at, depth))
            return -1;
    }
    return 0;
}

static void
add_prop(struct val *props, const char *path, struct val *v)
{
    struct val *p = val_object("DynamicProperty");

    val_str(p, "name", path);
    val_put(p, "val", v);
    val_push(props, p);
}

static bool
has_prop(const struct val *props, const char *path)
{
    for (const struct val *p = props->kids; p; p = p->next)
        if (!strcmp(val_get(p, "name")->text, path))
            return true;
    return false;
}

static int
read_all(struct call *c, const struct moref *m, struct val *props)
{
    const struct wtype *t = wsdl_type(m->type);
    const struct wfield *f;
    struct val *v;

    for (int i = 0; (f = wsdl_field_at(t, i)); i++)
        if (!has_prop(props, f->name) && (v = object_prop(c, m, f->name)))
            add_prop(props, f->name, v);
    return 0;
}

/* 1: the spec speaks of this object. */
static int
read_props(struct call *c, const struct xml *prop_set, const struct moref *m,
           struct val *props)
{
    const char *type = xml_text(prop_set, "type");
    struct val *v;
    int rc;

    if (!wsdl_is_a(m->type, type))
        return 0;
    if (flag(prop_set, "all"))
        return read_all(c, m, props) ? -1 : 1;
    for (const struct xml *p = xml_kid(prop_set, "pathSet"); p;
         p = xml_next(p)) {
        if (has_prop(props, p->text))
            continue;
        rc = read_path(c, m, m->type, p->text, &v);
        if (rc < 0)
            return -1;
        if (rc)
            add_prop(props, p->text, v);
    }
    return 1;
}

/* Paths are judged even if no object of that type is met. */
static int
judge_props(struct call *c, const struct xml *spec)
{
    struct val *v;

    for (const struct xml *s = xml_kid(spec, "propSet"); s; s = xml_next(s)) {
        const char *type = xml_text(s, "type");

        if (!known_object(type))
            return bad_type(c, type);
        for (const struct xml *p = xml_kid(s, "pathSet"); p; p = xml_next(p))
            if (!strchr(p->text, '[') &&
                read_path(c, NULL, type, p->text, &v) < 0)
                return -1;
    }
    return 0;
}

static int
walk_set(struct walk *w, const struct xml *spec, const struct xml *set)
{
    struct moref start;

    read_moref(xml_kid(set, "obj"), &start);
    if (!object_exists(w->c, &start)) {
        if (flag(spec, "reportMissingObjectsInResults"))
            return 0;
        return fault_gone(w->c, &start);
    }
    if (!flag(set, "skip"))
        found(w, &start);
    w->object_set = set;
    w->been.n = 0;
    return visit(w, set, &start, 0);
}

static int
read_found(struct call *c, const struct xml *spec, const struct moref *m,
           struct founds *out)
{
    struct found f = { .obj = *m, .props = val_array("DynamicProperty") };
    bool spoken = false;

    for (const struct xml *s = xml_kid(spec, "propSet"); s; s = xml_next(s)) {
        int rc = read_props(c, s, m, f.props);

        if (rc < 0) {
            val_free(f.props);
            return -1;
        }
        spoken |= rc > 0;
    }
    if (spoken)
        vec_push(out, f);
    else
        val_free(f.props);
    return 0;
}

int
pc_collect(struct call *c, const struct xml *spec, struct founds *out)
{
    struct walk w = { .c = c };
    int rc = judge_props(c, spec);

    for (const struct xml *s = xml_kid(spec, "objectSet"); s && !rc;
         s = xml_next(s))
        rc = walk_set(&w, spec, s);
    for (size_t i = 0; i < w.found.n && !rc; i++)
        rc = read_found(c, spec, &w.found.p[i], out);
    vec_fini(&w.found);
    vec_fini(&w.been);
    return rc;
}
