/* Value trees: properties, faults and results before they are XML.  What is
 * put in must be in the WSDL's tables: a wrong field is a bug and ends the
 * program. */
#ifndef LAB_VAL_H
#define LAB_VAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/str.h"
#include "lab/world/world.h"

enum val_kind { VAL_SCALAR, VAL_REF, VAL_OBJECT, VAL_ARRAY };

struct val {
    enum val_kind kind;
    char *name;       /* of the field; NULL at the top */
    const char *type; /* actual type; of an array: of its items */
    char *text;       /* of a scalar; id of a reference */
    char *ref;        /* type of a reference's object */
    int order;        /* among its siblings, by the WSDL */
    struct val *kids, *next;
};

void val_free(struct val *v);
DEFER_FN(val_free_ptr, struct val, val_free)
#define defer_val defer(val_free_ptr)

struct val *val_object(const char *type);
struct val *val_scalar(const char *type, const char *text);
struct val *val_integer(int64_t n); /* of type int */
struct val *val_ref(const char *type, const char *id);
/* An empty array of items of that type ("moref" for references). */
struct val *val_array(const char *item);

/* Fields.  A repeated field grows by each; the child belongs to `o`. */
void val_put(struct val *o, const char *field, struct val *child);
void val_str(struct val *o, const char *field, const char *text);
void val_int(struct val *o, const char *field, int64_t n);
void val_bool(struct val *o, const char *field, bool b);
void val_time(struct val *o, const char *field, int64_t wall_ms);
void val_link(struct val *o, const char *field, const char *type,
              const char *id);
/* A field of type anyType that holds a scalar. */
void val_any(struct val *o, const char *field, const char *type,
             const char *text);
/* For arrays. */
void val_push(struct val *array, struct val *item);

struct val *val_get(const struct val *o, const char *field);
struct val *val_copy(const struct val *v);
bool val_equal(const struct val *a, const struct val *b);

/* <tag>...</tag>; declared is the type the reader expects, "anyType" for one
 * that expects anything. */
void val_xml(struct str *out, const char *tag, const struct val *v,
             const char *declared);

/* Where a property path leads.  v and type describe the start: its value
 * (NULL: unset) and its declared type.  1 and *out: set; 0: unset; -1: no
 * such property. */
int val_path(const struct val *v, const char *type, bool repeated,
             const char *path, const struct val **out);

struct val *val_fault(const struct wfault *f);
/* LocalizedMethodFault */
struct val *val_localized(const struct wfault *f);

#endif
