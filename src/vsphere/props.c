/* The property collector: one object, or all of a type page by page. */
#include "vsphere/soap.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define PAGE_OBJECTS  "500"
#define OBJECTS_MAX   200000 /* in one inventory */
#define SESSION_TRIES 2

const char *
text_at(const struct xml *x, const char *path)
{
    const char *text = x ? xml_text(x, path) : NULL;

    return text ? text : "";
}

bool
text_true(const char *text)
{
    return !strcasecmp(text, "true") || !strcmp(text, "1");
}

int
num_at(const struct xml *x, const char *path, int64_t min, int64_t max,
       int64_t *out, struct err *e)
{
    if (num_i64(text_at(x, path), min, max, out, path, e)) {
        e->class = ERR_REMOTE;
        return -1;
    }
    return 0;
}

int
ref_copy(const struct xml *ref, char out[VS_ID_MAX], const char *what,
         struct err *e)
{
    if (!ref || !*ref->text)
        return err_set(e, ERR_REMOTE, "the answer names no %s", what);
    if (strlen(ref->text) >= VS_ID_MAX)
        return err_set(e, ERR_REMOTE, "the id of %s is over %d bytes", what,
                       VS_ID_MAX - 1);
    snprintf(out, VS_ID_MAX, "%s", ref->text);
    return 0;
}

const struct xml *
prop(const struct xml *object, const char *path)
{
    const struct xml *p = xml_kid(object, "propSet");

    for (; p; p = xml_next(p))
        if (!strcmp(text_at(p, "name"), path))
            return xml_kid(p, "val");
    return NULL;
}

const char *
prop_text(const struct xml *object, const char *path)
{
    const struct xml *val = prop(object, path);

    return val ? val->text : "";
}

bool
prop_true(const struct xml *object, const char *path)
{
    return text_true(prop_text(object, path));
}

/* Properties the server has but does not show.  One that its version does not
 * have is the same as one that is unset. */
static int
check_missing(struct vs *vs, const struct xml *object, struct err *e)
{
    const struct xml *m = xml_kid(object, "missingSet");

    for (; m; m = xml_next(m)) {
        const struct xml *lmf = xml_kid(m, "fault");

        fault_set(vs, xml_kid(lmf, "fault"), NULL,
                  text_at(lmf, "localizedMessage"), e);
        if (!fault_is(e, "InvalidProperty"))
            return err_wrap(e, "%s", text_at(m, "path"));
        err_clear(e);
    }
    return 0;
}

static void
add_spec(struct str *s, const char *type, const char *const *paths)
{
    str_addf(s, "<propSet><type>%s</type><all>false</all>", type);
    for (; *paths; paths++)
        str_addf(s, "<pathSet>%s</pathSet>", *paths);
    str_add(s, "</propSet>");
}

int
props_get(struct vs *vs, const char *type, const char *id,
          const char *const *paths, struct answer *a, struct err *e)
{
    defer(str_fini) struct str spec = STR_INIT;
    defer_answer struct answer got = { 0 };

    add_spec(&spec, type, paths);
    str_addf(&spec, "<objectSet><obj type=\"%s\">", type);
    str_add_xml(&spec, id);
    str_add(&spec, "</obj><skip>false</skip></objectSet>");
    if (soap_call(vs, VIM_RETRIEVE, vs->collector, ARGS(str_text(&spec), ""),
                  &got, e))
        return err_wrap(e, "reading %s %s", type, id);
    got.val = xml_kid(got.val, "objects");
    if (!got.val)
        return err_set(e, ERR_NOTFOUND, "reading %s %s: there is none", type,
                       id);
    if (check_missing(vs, got.val, e))
        return err_wrap(e, "reading %s %s", type, id);
    *a = got;
    got = (struct answer){ 0 };
    return 0;
}

/* Hands on one page; *token is the next one's, NULL after the last. */
static int
walk_page(const struct xml *page, char **token, size_t *n, object_fn *fn,
          void *ctx, struct err *e)
{
    const struct xml *o = xml_kid(page, "objects");

    for (; o; o = xml_next(o)) {
        if (++*n > OBJECTS_MAX)
            return err_set(e, ERR_REMOTE,
                           "the inventory has more than %d objects",
                           OBJECTS_MAX);
        if (fn(ctx, o, e))
            return -1;
    }
    free(*token);
    *token = *text_at(page, "token") ? xstrdup(text_at(page, "token")) : NULL;
    if (*token && !xml_kid(page, "objects"))
        return err_set(e, ERR_REMOTE, "a page of the inventory is empty");
    return 0;
}

static int
walk_view(struct vs *vs, const char *view, const char *type,
          const char *const *paths, object_fn *fn, void *ctx, struct err *e)
{
    defer(str_fini) struct str spec = STR_INIT;
    defer_answer struct answer a = { 0 };
    defer_free char *token = NULL;
    size_t n = 0;

    add_spec(&spec, type, paths);
    str_add(&spec, "<objectSet><obj type=\"ContainerView\">");
    str_add_xml(&spec, view);
    str_add(&spec, "</obj><skip>true</skip>"
                   "<selectSet xsi:type=\"TraversalSpec\"><name>v</name>"
                   "<type>ContainerView</type><path>view</path>"
                   "<skip>false</skip></selectSet></objectSet>");
    if (soap_call(
            vs, VIM_RETRIEVE, vs->collector,
            ARGS(str_text(&spec), "<maxObjects>" PAGE_OBJECTS "</maxObjects>"),
            &a, e))
        return -1;
    for (;;) {
        if (walk_page(a.val, &token, &n, fn, ctx, e))
            return -1;
        if (!token)
            return 0;
        answer_fini(&a);
        if (soap_call(vs, VIM_CONTINUE, vs->collector, ARGS(token), &a, e))
            return -1;
    }
}

static int
walk_type(struct vs *vs, const char *type, const char *const *paths,
          object_fn *fn, void *ctx, struct err *e)
{
    defer_answer struct answer a = { 0 };
    char view[VS_ID_MAX];
    struct err why = ERR_INIT;
    int rc;

    if (!*vs->views)
        return err_set(e, ERR_REMOTE,
                       "%s has no ViewManager: name the VM by moref or path",
                       vs->where);
    if (soap_call(vs, VIM_CREATE_VIEW, vs->views, ARGS(vs->root, type, "true"),
                  &a, e) ||
        ref_copy(a.val, view, "ContainerView", e))
        return -1;
    rc = walk_view(vs, view, type, paths, fn, ctx, e);
    /* A view that stays ends with the session. */
    if (soap_call(vs, VIM_DESTROY_VIEW, view, NULL, NULL, &why))
        log_debug("%s", why.msg);
    return rc;
}

int
props_each(struct vs *vs, const char *type, const char *const *paths,
           void (*reset)(void *ctx), object_fn *fn, void *ctx, struct err *e)
{
    for (int i = 1;; i++) {
        unsigned logins = vs->logins;

        reset(ctx);
        if (!walk_type(vs, type, paths, fn, ctx, e))
            return 0;
        /* Views and tokens died with the session that was replaced. */
        if (vs->logins == logins || i == SESSION_TRIES)
            return err_wrap(e, "listing %s objects", type);
        err_clear(e);
    }
}
