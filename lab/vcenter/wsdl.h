/* The types of urn:vim25 as a table (data.def, fault.def, object.def): what
 * answers are built by and requests are judged by. */
#ifndef LAB_WSDL_H
#define LAB_WSDL_H

#include <stdbool.h>
#include <stddef.h>

enum wkind { WSDL_DATA, WSDL_OBJECT, WSDL_METHOD };

struct wfield {
    const char *name, *type; /* type "moref": reference to an object */
    bool optional, repeated;
    int order; /* among all fields, those of the base first */
};

struct wtype {
    enum wkind kind;
    const char *name, *base; /* base "NONE"; of a method: its receiver */
    const struct wtype *parent;
    struct wfield *fields; /* own ones, n of them */
    size_t n;
    int first; /* order of the first own field */
};

/* NULL for a type, or method, that is not in the tables. */
const struct wtype *wsdl_type(const char *name);
const struct wtype *wsdl_method(const char *name);
/* Looks in the bases too. */
const struct wfield *wsdl_field(const struct wtype *t, const char *name);
/* By its order; NULL past the end. */
const struct wfield *wsdl_field_at(const struct wtype *t, int order);
bool wsdl_is_a(const char *type, const char *base);
/* "string", "int" and the like, which xsd: names */
bool wsdl_is_xsd(const char *type);

#endif
