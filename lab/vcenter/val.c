/* Value trees. */
#include "lab/vcenter/val.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "lab/vcenter/wsdl.h"

void
val_free(struct val *v)
{
    struct val *next;

    for (; v; v = next) {
        next = v->next;
        val_free(v->kids);
        free(v->name);
        free(v->text);
        free(v->ref);
        free(v);
    }
}

static struct val *
make(enum val_kind kind, const char *type)
{
    struct val *v = xcalloc(1, sizeof *v);

    v->kind = kind;
    v->type = type;
    return v;
}

struct val *
val_object(const char *type)
{
    const struct wtype *t = wsdl_type(type);

    if (!t)
        log_error("lab: type %s is not in the tables", type);
    assert(t);
    return make(VAL_OBJECT, t->name);
}

struct val *
val_scalar(const char *type, const char *text)
{
    struct val *v = make(VAL_SCALAR, type);

    v->text = xstrdup(text);
    return v;
}

struct val *
val_ref(const char *type, const char *id)
{
    struct val *v = make(VAL_REF, "moref");

    v->text = xstrdup(id);
    v->ref = xstrdup(type);
    return v;
}

struct val *
val_array(const char *item)
{
    return make(VAL_ARRAY, item);
}

static void
append(struct val *parent, struct val *child)
{
    struct val **at = &parent->kids;

    while (*at)
        at = &(*at)->next;
    *at = child;
}

void
val_push(struct val *array, struct val *item)
{
    assert(array->kind == VAL_ARRAY);
    append(array, item);
}

static const struct wfield *
field_of(const struct val *o, const char *field)
{
    const struct wfield *f = wsdl_field(wsdl_type(o->type), field);

    if (!f)
        log_error("lab: type %s has no field %s", o->type, field);
    assert(f);
    return f;
}

struct val *
val_get(const struct val *o, const char *field)
{
    for (struct val *v = o ? o->kids : NULL; v; v = v->next)
        if (v->name && !strcmp(v->name, field))
            return v;
    return NULL;
}

static void
insert(struct val *o, struct val *child, const struct wfield *f)
{
    struct val **at = &o->kids;

    free(child->name);
    child->name = xstrdup(f->name);
    child->order = f->order;
    while (*at && (*at)->order < f->order)
        at = &(*at)->next;
    child->next = *at;
    *at = child;
}

void
val_put(struct val *o, const char *field, struct val *child)
{
    const struct wfield *f = field_of(o, field);
    struct val *old = val_get(o, field);

    if (f->repeated && child->kind != VAL_ARRAY) {
        if (!old) {
            old = val_array(f->type);
            insert(o, old, f);
        }
        val_push(old, child);
        return;
    }
    assert(!old);
    insert(o, child, f);
}

void
val_str(struct val *o, const char *field, const char *text)
{
    val_put(o, field, val_scalar(field_of(o, field)->type, text));
}

void
val_int(struct val *o, const char *field, int64_t n)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, n);
    val_str(o, field, text);
}

struct val *
val_integer(int64_t n)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, n);
    return val_scalar("int", text);
}

void
val_bool(struct val *o, const char *field, bool b)
{
    val_str(o, field, b ? "true" : "false");
}

void
val_time(struct val *o, const char *field, int64_t wall_ms)
{
    char text[CLOCK_TEXT_MAX];

    clock_text(wall_ms, text);
    val_str(o, field, text);
}

void
val_link(struct val *o, const char *field, const char *type, const char *id)
{
    val_put(o, field, val_ref(type, id));
}

void
val_any(struct val *o, const char *field, const char *type, const char *text)
{
    val_put(o, field, val_scalar(type, text));
}

struct val *
val_copy(const struct val *v)
{
    struct val *c = make(v->kind, v->type), **at = &c->kids;

    c->name = v->name ? xstrdup(v->name) : NULL;
    c->text = v->text ? xstrdup(v->text) : NULL;
    c->ref = v->ref ? xstrdup(v->ref) : NULL;
    c->order = v->order;
    for (const struct val *k = v->kids; k; k = k->next) {
        *at = val_copy(k);
        at = &(*at)->next;
    }
    return c;
}

static bool
same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

bool
val_equal(const struct val *a, const struct val *b)
{
    const struct val *x, *y;

    if (!a || !b)
        return a == b;
    if (a->kind != b->kind || strcmp(a->type, b->type) ||
        !same_text(a->text, b->text) || !same_text(a->ref, b->ref) ||
        !same_text(a->name, b->name))
        return false;
    for (x = a->kids, y = b->kids; x && y; x = x->next, y = y->next)
        if (!val_equal(x, y))
            return false;
    return !x && !y;
}

static void
array_name(struct str *out, const char *item)
{
    if (!strcmp(item, "moref"))
        item = "ManagedObjectReference";
    str_addc(out, (char)toupper((unsigned char)*item));
    str_add(out, item + 1);
}

static void
open_tag(struct str *out, const char *tag, const struct val *v,
         const char *declared)
{
    bool any = !strcmp(declared, "anyType");

    str_addf(out, "<%s", tag);
    if (v->kind == VAL_REF) {
        if (any)
            str_add(out, " xsi:type=\"ManagedObjectReference\"");
        str_addf(out, " type=\"%s\"", v->ref);
    } else if (v->kind == VAL_ARRAY) {
        str_add(out, " xsi:type=\"ArrayOf");
        array_name(out, v->type);
        str_addc(out, '"');
    } else if (any || strcmp(declared, v->type)) {
        str_addf(out, " xsi:type=\"%s%s\"", wsdl_is_xsd(v->type) ? "xsd:" : "",
                 v->type);
    }
    str_addc(out, '>');
}

void
val_xml(struct str *out, const char *tag, const struct val *v,
        const char *declared)
{
    bool any = !strcmp(declared, "anyType");

    if (v->kind == VAL_ARRAY && !any) {
        for (const struct val *k = v->kids; k; k = k->next)
            val_xml(out, tag, k, declared);
        return;
    }
    open_tag(out, tag, v, declared);
    if (v->kind == VAL_SCALAR || v->kind == VAL_REF)
        str_add_xml(out, v->text);
    for (const struct val *k = v->kids; k; k = k->next) {
        if (v->kind == VAL_ARRAY)
            val_xml(out,
                    strcmp(v->type, "moref") ? v->type
                                             : "ManagedObjectReference",
                    k, v->type);
        else
            val_xml(out, k->name, k, field_of(v, k->name)->type);
    }
    str_addf(out, "</%s>", tag);
}

/* One segment "name" or "name[key]" taken off the path. */
static bool
segment(const char **path, char *name, size_t n, char *key, size_t k)
{
    size_t len = strcspn(*path, ".[");

    if (!len || len >= n)
        return false;
    memcpy(name, *path, len);
    name[len] = '\0';
    key[0] = '\0';
    *path += len;
    if (**path == '[') {
        const char *end = strchr(*path, ']');
        const char *from = *path + 1;

        if (!end || end == from || (size_t)(end - from) >= k)
            return false;
        if (*from == '"' && end[-1] == '"' && end - from >= 2)
            snprintf(key, k, "%.*s", (int)(end - from - 2), from + 1);
        else
            snprintf(key, k, "%.*s", (int)(end - from), from);
        *path = end + 1;
    }
    if (**path == '.')
        return *++*path != '\0';
    return **path == '\0';
}

static const struct val *
item_by_key(const struct val *array, const char *key)
{
    for (const struct val *k = array ? array->kids : NULL; k; k = k->next) {
        const struct val *id = k->kind == VAL_OBJECT ? val_get(k, "key") : k;

        if (id && id->text && !strcmp(id->text, key))
            return k;
    }
    return NULL;
}

int
val_path(const struct val *v, const char *type, bool repeated, const char *path,
         const struct val **out)
{
    char name[128], key[128];

    while (*path) {
        const char *actual = v && v->kind == VAL_OBJECT ? v->type : type;
        const struct wtype *t = wsdl_type(actual);
        const struct wfield *f;

        if (repeated || !segment(&path, name, sizeof name, key, sizeof key))
            return -1;
        if (!t) { /* not modelled, or a scalar, which has no fields */
            *out = NULL;
            return wsdl_is_xsd(actual) || !strcmp(actual, "moref") || v ? -1
                                                                        : 0;
        }
        f = wsdl_field(t, name);
        if (!f || (key[0] && !f->repeated))
            return -1;
        v = v && v->kind == VAL_OBJECT ? val_get(v, name) : NULL;
        type = f->type;
        repeated = f->repeated;
        if (key[0]) {
            v = item_by_key(v, key);
            repeated = false;
        }
    }
    *out = v;
    return v != NULL;
}

struct val *
val_fault(const struct wfault *f)
{
    struct val *v = val_object(f->type);

    for (unsigned i = 0; i < f->fields; i++) {
        if (f->field[i].ref[0])
            val_link(v, f->field[i].name, f->field[i].ref, f->field[i].text);
        else
            val_str(v, f->field[i].name, f->field[i].text);
    }
    if (f->message_key[0]) {
        struct val *m = val_object("LocalizableMessage");

        val_str(m, "key", f->message_key);
        val_str(m, "message", f->text);
        val_put(v, "faultMessage", m);
    }
    return v;
}

struct val *
val_localized(const struct wfault *f)
{
    struct val *v = val_object("LocalizedMethodFault");

    val_put(v, "fault", val_fault(f));
    val_str(v, "localizedMessage", f->text);
    return v;
}
