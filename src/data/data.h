/* Bytes to values: JSON (jansson's own type), YAML with line numbers, XML,
 * URLs.  Everything is bounded by the constants below. */
#ifndef DATA_DATA_H
#define DATA_DATA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#define DATA_FILE_MAX  (16u << 20) /* bytes of a YAML or JSON file */
#define JSON_BYTES_MAX (64u << 20)
#define YAML_DEPTH_MAX 16
#define YAML_NODES_MAX 100000
#define XML_BYTES_MAX  (64u << 20)
#define XML_DEPTH_MAX  128
#define XML_NODES_MAX  1000000

/* json.c ------------------------------------------------------------- */

DEFER_FN(json_decref_ptr, json_t, json_decref)
#define defer_json defer(json_decref_ptr)

/* An object or an array, which the caller owns.  Duplicate keys are an error.
 * Errors name place and line but quote nothing: ERR_DAMAGED from json_read,
 * ERR_REMOTE from json_parse. */
json_t *json_read(const char *path, struct err *e);
json_t *json_parse(const char *text, size_t n, const char *what, struct err *e);
/* Indented, in the order of insertion, replaced atomically. */
int json_replace(const char *path, const json_t *v, int mode, struct err *e);
/* Compact, on one line, by one write where the system takes it whole.  `what`
 * names the thing in the error. */
int json_write_line(int fd, const json_t *v, const char *what, struct err *e);
/* Members with a default for absent ones or those of another type. */
const char *json_str(const json_t *o, const char *key, const char *otherwise);
int64_t json_num(const json_t *o, const char *key, int64_t otherwise);
bool json_flag(const json_t *o, const char *key, bool otherwise);

/* yaml.c ------------------------------------------------------------- */

enum yaml_kind { YAML_SCALAR, YAML_MAP, YAML_SEQ };

/* A node owns its children.  In a map, child i has its name in `key`. */
struct yaml {
    enum yaml_kind kind;
    char *key;          /* NULL outside a map */
    char *text;         /* scalar's text; NULL for the others */
    bool quoted;        /* scalar in quotes: text, never null, bool, number */
    int line;           /* 1-based; of the key within a map */
    struct yaml **kids; /* n of them, in file order */
    size_t n;
};

/* The one document; an empty file is an empty map.  A second document, anchors,
 * tags other than the core ones and duplicate keys are errors (ERR_USER) that
 * name file and line. */
struct yaml *yaml_read(const char *path, struct err *e);
struct yaml *yaml_parse(const char *text, size_t n, const char *name,
                        struct err *e);
/* Not yaml_free, which libyaml has for itself. */
void yaml_drop(struct yaml *y);
DEFER_FN(yaml_free_ptr, struct yaml, yaml_drop)
/* NULL if absent, or if y is NULL or no map. */
const struct yaml *yaml_get(const struct yaml *y, const char *key);
/* Unquoted null, ~ or nothing. */
bool yaml_is_null(const struct yaml *y);

/* xml.c -------------------------------------------------------------- */

/* Element tree with local names; text is the concatenation of an element's
 * own text nodes, without mere white space between children.  A node owns its
 * children. */
struct xml {
    char *name; /* local name, no prefix */
    char *text; /* "" if none */
    char *type; /* xsi:type by namespace URI, its prefix stripped; or NULL */
    char *ref;  /* unprefixed attribute "type" (a moref's type); or NULL */
    struct xml *kids, *next;
};

/* No DTD, no entities but the five, no network.  ERR_REMOTE with the line. */
struct xml *xml_parse(const char *text, size_t n, struct err *e);
void xml_free(struct xml *x);
DEFER_FN(xml_free_ptr, struct xml, xml_free)
/* First child of that name; NULL if none or x is NULL. */
const struct xml *xml_kid(const struct xml *x, const char *name);
/* Next sibling of the same name. */
const struct xml *xml_next(const struct xml *x);
/* Text at a path of local names "a/b/c"; NULL if absent. */
const char *xml_text(const struct xml *x, const char *path);

/* url.c -------------------------------------------------------------- */

/* RFC 3986: all but A-Z a-z 0-9 - . _ ~ become %XX. */
void url_encode(struct str *out, const char *text);
/* %XX decoded in place; +, %00 and a % without two digits are left alone. */
void url_decode(char *text);
/* "host", "host:port", "[v6]:port" -> host (no brackets, caller frees) and
 * port (0: none given). */
int url_host_port(const char *text, char **host, uint16_t *port, struct err *e);

#endif
