/* Judges a request by the WSDL: names, order, types, references. */
#include <stdio.h>
#include <string.h>

#include "lab/vcenter/inside.h"
#include "lab/vcenter/wsdl.h"

static int
refuse(struct wfault *f, const char *why, const char *what, const char *where)
{
    return wfault_set(f, "InvalidRequest",
                      "Deserialization error: %s \"%.80s\" while parsing "
                      "\"%.80s\"",
                      why, what, where);
}

static int
check_scalar(const struct xml *x, const char *type, const char *where,
             struct wfault *f)
{
    static const struct {
        const char *type;
        int64_t min, max;
    } ranges[] = {
        { "byte", INT8_MIN, INT8_MAX },
        { "short", INT16_MIN, INT16_MAX },
        { "int", INT32_MIN, INT32_MAX },
        { "long", INT64_MIN, INT64_MAX },
    };
    struct err e = ERR_INIT;
    int64_t n;

    if (x->kids)
        return refuse(f, "Unexpected element tag", x->kids->name, where);
    if (!strcmp(type, "boolean") && strcmp(x->text, "true") &&
        strcmp(x->text, "false") && strcmp(x->text, "1") &&
        strcmp(x->text, "0"))
        return refuse(f, "no boolean", x->text, where);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!strcmp(type, ranges[i].type) &&
            num_i64(x->text, ranges[i].min, ranges[i].max, &n, type, &e))
            return refuse(f, "no number of that type", x->text, where);
    return 0;
}

static int check_fields(const struct xml *first, const struct wtype *t,
                        struct wfault *f);

/* Is xsi:type one that may stand here? */
static const char *
actual_type(const struct xml *x, const char *declared, struct wfault *f)
{
    if (!strcmp(declared, "anyType")) {
        if (!x->type)
            refuse(f, "xsi:type is missing for an anyType", x->name, x->name);
        return x->type;
    }
    if (!x->type || !strcmp(x->type, declared))
        return declared;
    if (wsdl_is_a(x->type, declared))
        return x->type;
    refuse(f, "that type cannot stand here:", x->type, x->name);
    return NULL;
}

static int
check_value(const struct xml *x, const char *declared, const char *where,
            struct wfault *f)
{
    const struct wtype *t;
    const char *type;

    if (!strcmp(declared, "moref")) {
        if (!x->ref || !*x->ref || !*x->text)
            return refuse(f, "reference without type or id", x->name, where);
        return 0;
    }
    type = actual_type(x, declared, f);
    if (!type)
        return -1;
    t = wsdl_type(type);
    if (t && t->kind == WSDL_DATA) {
        if (*x->text && strspn(x->text, " \t\r\n") != strlen(x->text))
            return refuse(f, "text within an object", x->text, x->name);
        return check_fields(x->kids, t, f);
    }
    return check_scalar(x, type, x->name, f);
}

static int
check_fields(const struct xml *x, const struct wtype *t, struct wfault *f)
{
    const struct wfield *want;
    int order = 0;
    bool had = false;

    for (; x; x = x->next) {
        const struct wfield *is = wsdl_field(t, x->name);

        if (!is || is->order < order)
            return refuse(f,
                          is ? "Element out of order"
                             : "Unexpected "
                               "element tag",
                          x->name, t->name);
        for (; order < is->order; order++, had = false) {
            want = wsdl_field_at(t, order);
            if (!had && !want->optional && !want->repeated)
                return refuse(f, "Required property is missing:", want->name,
                              t->name);
        }
        if (had && !is->repeated)
            return refuse(f, "Element repeated", x->name, t->name);
        had = true;
        if (check_value(x, is->type, t->name, f))
            return -1;
    }
    for (; (want = wsdl_field_at(t, order)); order++, had = false)
        if (!had && !want->optional && !want->repeated)
            return refuse(f, "Required property is missing:", want->name,
                          t->name);
    return 0;
}

int
check_request(const struct xml *call, struct wfault *f)
{
    const struct wtype *method = wsdl_method(call->name);
    const struct xml *self = call->kids;

    if (!self || strcmp(self->name, "_this"))
        return refuse(f, "_this must be the first element of", call->name,
                      call->name);
    if (!self->ref || !*self->ref || !*self->text)
        return refuse(f, "_this needs type and id", self->text, call->name);
    return method ? check_fields(self->next, method, f) : 0;
}
