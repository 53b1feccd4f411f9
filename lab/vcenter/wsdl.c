/* The tables of urn:vim25, parsed once. */
#include "lab/vcenter/wsdl.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct line {
    enum wkind kind;
    const char *name, *base, *fields;
};

#define DATA(name, base, fields)   { WSDL_DATA, #name, #base, fields },
#define OBJECT(name, base, fields) { WSDL_OBJECT, #name, #base, fields },
#define METHOD(name, base, fields) { WSDL_METHOD, #name, #base, fields },

static const struct line lines[] = {
#include "lab/vcenter/data.def"
#include "lab/vcenter/fault.def"
#include "lab/vcenter/object.def"
};

#define LINES (sizeof lines / sizeof *lines)

static struct wtype types[LINES];
static const struct wtype *sorted[LINES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int
by_name(const void *a, const void *b)
{
    const struct wtype *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static void
parse_field(struct wfield *f, char *text)
{
    char *colon = strchr(text, ':');

    assert(colon && colon > text);
    *colon = '\0';
    f->type = colon + 1;
    f->optional = colon[-1] == '?';
    f->repeated = colon[-1] == '*';
    if (f->optional || f->repeated)
        colon[-1] = '\0';
    f->name = text;
}

/* The texts live as long as the program. */
static void
parse_line(struct wtype *t, const struct line *l)
{
    char *rest, *word;
    size_t cap = 1;

    t->kind = l->kind;
    t->name = l->name;
    t->base = l->base;
    if (!*l->fields)
        return;
    rest = xstrdup(l->fields);
    for (const char *p = l->fields; *p; p++)
        cap += *p == ' ';
    t->fields = xcalloc(cap, sizeof *t->fields);
    while ((word = strsep(&rest, " ")))
        if (*word)
            parse_field(&t->fields[t->n++], word);
}

static const struct wtype *
find(const char *name)
{
    struct wtype key = { .name = name };
    const struct wtype *k = &key, **at;

    at = bsearch(&k, sorted, LINES, sizeof *sorted, by_name);
    return at ? *at : NULL;
}

static int
count(const struct wtype *t)
{
    return t ? count(t->parent) + (int)t->n : 0;
}

static void
parse(void)
{
    for (size_t i = 0; i < LINES; i++) {
        parse_line(&types[i], &lines[i]);
        sorted[i] = &types[i];
    }
    qsort(sorted, LINES, sizeof *sorted, by_name);
    for (size_t i = 0; i < LINES; i++)
        if (types[i].kind != WSDL_METHOD && strcmp(types[i].base, "NONE")) {
            types[i].parent = find(types[i].base);
            assert(types[i].parent);
        }
    for (size_t i = 0; i < LINES; i++) {
        types[i].first = count(types[i].parent);
        for (size_t f = 0; f < types[i].n; f++)
            types[i].fields[f].order = types[i].first + (int)f;
    }
}

const struct wtype *
wsdl_type(const char *name)
{
    const struct wtype *t;

    pthread_once(&once, parse);
    t = find(name);
    return t && t->kind != WSDL_METHOD ? t : NULL;
}

const struct wtype *
wsdl_method(const char *name)
{
    const struct wtype *t;

    pthread_once(&once, parse);
    t = find(name);
    return t && t->kind == WSDL_METHOD ? t : NULL;
}

const struct wfield *
wsdl_field(const struct wtype *t, const char *name)
{
    for (; t; t = t->parent)
        for (size_t i = 0; i < t->n; i++)
            if (!strcmp(t->fields[i].name, name))
                return &t->fields[i];
    return NULL;
}

const struct wfield *
wsdl_field_at(const struct wtype *t, int order)
{
    for (; t; t = t->parent)
        if (order >= t->first && order < t->first + (int)t->n)
            return &t->fields[order - t->first];
    return NULL;
}

bool
wsdl_is_a(const char *type, const char *base)
{
    const struct wtype *t;

    for (t = wsdl_type(type); t; t = t->parent)
        if (!strcmp(t->name, base))
            return true;
    return false;
}

bool
wsdl_is_xsd(const char *type)
{
    static const char *const names[] = { "string",      "boolean",  "int",
                                         "long",        "dateTime", "short",
                                         "byte",        "double",   "float",
                                         "base64Binary" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], type))
            return true;
    return false;
}
