/* Reads one JSON object by a table of its keys; private to this room. */
#ifndef LAB_CONF_H
#define LAB_CONF_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum conf_kind {
    CONF_TEXT,   /* const char *, into the JSON */
    CONF_NUM,    /* int64_t within min..max */
    CONF_FLAG,   /* bool */
    CONF_CHOICE, /* int: index into choices */
    CONF_ARRAY,  /* const json_t * */
    CONF_OBJECT, /* const json_t * */
};

struct conf_key {
    const char *name;
    enum conf_kind kind;
    size_t offset; /* of the value in the reader's structure */
    int64_t min, max;
    const char *const *choices; /* NULL-ended */
};

/* Values of keys that are absent stay as they are; n keys.  A key that is
 * not in the table, or a value of another kind, is ERR_USER. */
int conf_read(const json_t *o, const struct conf_key *keys, size_t n, void *out,
              const char *what, struct err *e);

#endif
