/* YAML: a strict, bounded tree that remembers its lines. */
#include "base/fs.h"
#include "base/vec.h"
#include "data/data.h"

#include <string.h>
#include <yaml.h>

#define TAG_CORE  "tag:yaml.org,2002:"
#define QUOTE_MAX 60 /* bytes of a key shown in an error */

struct kids VEC(struct yaml *);

struct reading {
    yaml_parser_t parser;
    yaml_event_t event; /* the one being looked at */
    const char *text;   /* all of it */
    const char *name;   /* of the file, for errors */
    size_t nodes;
    int depth;
};

static struct yaml *read_node(struct reading *r, struct err *e);

void
yaml_drop(struct yaml *y)
{
    if (!y)
        return;
    for (size_t i = 0; i < y->n; i++)
        yaml_drop(y->kids[i]); /* as deep as YAML_DEPTH_MAX */
    free(y->kids);
    free(y->key);
    free(y->text);
    free(y);
}

static void
reading_fini(struct reading *r)
{
    yaml_event_delete(&r->event);
    yaml_parser_delete(&r->parser);
}

static int
event_line(const struct reading *r)
{
    return (int)r->event.start_mark.line + 1;
}

static int
refuse(const struct reading *r, const char *text, struct err *e)
{
    return err_set(e, ERR_USER, "%s:%d: %s", r->name, event_line(r), text);
}

/* A byte that is no UTF-8 has an offset, everything else has a mark. */
static int
problem_line(const struct reading *r)
{
    int line = 1;

    if (r->parser.error != YAML_READER_ERROR)
        return (int)r->parser.problem_mark.line + 1;
    for (size_t i = 0; i < r->parser.problem_offset; i++)
        line += r->text[i] == '\n';
    return line;
}

static int
next_event(struct reading *r, struct err *e)
{
    const char *problem;

    yaml_event_delete(&r->event);
    if (yaml_parser_parse(&r->parser, &r->event))
        return 0;
    problem = r->parser.problem ? r->parser.problem : "it cannot be read";
    return err_set(e, ERR_USER, "%s:%d: %s", r->name, problem_line(r), problem);
}

/* Of a node's tag, only the core ones pass; *text tells a "!!str". */
static int
check_node(const struct reading *r, const yaml_char_t *anchor,
           const yaml_char_t *tag, bool *text, struct err *e)
{
    static const char *const core[] = { "str",  "int", "float", "bool",
                                        "null", "map", "seq" };
    const char *t = (const char *)tag;

    *text = false;
    if (anchor)
        return refuse(r, "anchors are not accepted; write the value out", e);
    if (!t)
        return 0;
    if (!strcmp(t, "!")) {
        *text = true;
        return 0;
    }
    if (str_starts(t, TAG_CORE))
        for (size_t i = 0; i < sizeof core / sizeof *core; i++)
            if (!strcmp(t + strlen(TAG_CORE), core[i])) {
                *text = i == 0;
                return 0;
            }
    return refuse(r, "this tag is not accepted; leave it out", e);
}

static struct yaml *
new_node(struct reading *r, enum yaml_kind kind, struct err *e)
{
    struct yaml *y;

    if (++r->nodes > YAML_NODES_MAX) {
        err_set(e, ERR_USER, "%s:%d: more than %d values", r->name,
                event_line(r), YAML_NODES_MAX);
        return NULL;
    }
    y = xcalloc(1, sizeof *y);
    y->kind = kind;
    y->line = event_line(r);
    return y;
}

static struct yaml *
read_scalar(struct reading *r, struct err *e)
{
    const char *text = (const char *)r->event.data.scalar.value;
    size_t n = r->event.data.scalar.length;
    bool is_text;
    struct yaml *y;

    if (check_node(r, r->event.data.scalar.anchor, r->event.data.scalar.tag,
                   &is_text, e))
        return NULL;
    if (memchr(text, '\0', n)) {
        refuse(r, "a NUL character is not accepted", e);
        return NULL;
    }
    y = new_node(r, YAML_SCALAR, e);
    if (!y)
        return NULL;
    y->text = xstrdup(text);
    y->quoted =
        is_text || r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return y;
}

static int
by_key_and_line(const void *a, const void *b)
{
    const struct yaml *x = *(struct yaml *const *)a;
    const struct yaml *y = *(struct yaml *const *)b;
    int order = strcmp(x->key, y->key);

    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static int
check_unique(const struct reading *r, const struct yaml *map, struct err *e)
{
    size_t size = map->n * sizeof *map->kids;
    defer_free struct yaml **sorted = xmalloc(size);

    if (map->n < 2)
        return 0;
    memcpy(sorted, map->kids, size);
    qsort(sorted, map->n, sizeof *sorted, by_key_and_line);
    for (size_t i = 1; i < map->n; i++)
        if (!strcmp(sorted[i - 1]->key, sorted[i]->key))
            return err_set(e, ERR_USER, "%s:%d: '%.*s' was given in line %d",
                           r->name, sorted[i]->line, QUOTE_MAX, sorted[i]->key,
                           sorted[i - 1]->line);
    return 0;
}

/* The event at hand is a map's key: it and its value. */
static struct yaml *
read_pair(struct reading *r, struct err *e)
{
    defer(yaml_free_ptr) struct yaml *key = NULL;
    struct yaml *value;

    if (r->event.type != YAML_SCALAR_EVENT) {
        refuse(r, "a key must be plain text", e);
        return NULL;
    }
    key = read_scalar(r, e);
    if (!key)
        return NULL;
    if (!*key->text) {
        refuse(r, "a key is missing before ':'", e);
        return NULL;
    }
    if (next_event(r, e))
        return NULL;
    value = read_node(r, e);
    if (!value)
        return NULL;
    value->key = take(key->text);
    value->line = key->line;
    return value;
}

/* Up to the end of the map or sequence y, to which the kids go. */
static int
read_kids(struct reading *r, struct yaml *y, struct err *e)
{
    yaml_event_type_t end =
        y->kind == YAML_MAP ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    struct kids kids = { 0 };
    int rc;

    if (++r->depth > YAML_DEPTH_MAX)
        return err_set(e, ERR_USER, "%s:%d: nested deeper than %d", r->name,
                       event_line(r), YAML_DEPTH_MAX);
    while (!(rc = next_event(r, e)) && r->event.type != end) {
        struct yaml *kid =
            y->kind == YAML_MAP ? read_pair(r, e) : read_node(r, e);

        rc = kid ? 0 : -1;
        if (rc)
            break;
        vec_push(&kids, kid);
    }
    y->kids = kids.p;
    y->n = kids.n;
    r->depth--;
    return rc;
}

static struct yaml *
read_collection(struct reading *r, enum yaml_kind kind,
                const yaml_char_t *anchor, const yaml_char_t *tag,
                struct err *e)
{
    defer(yaml_free_ptr) struct yaml *y = NULL;
    bool is_text;

    if (check_node(r, anchor, tag, &is_text, e))
        return NULL;
    y = new_node(r, kind, e);
    if (!y || read_kids(r, y, e))
        return NULL;
    if (kind == YAML_MAP && check_unique(r, y, e))
        return NULL;
    return take(y);
}

/* The event at hand begins the node. */
static struct yaml *
read_node(struct reading *r, struct err *e)
{
    yaml_event_t *v = &r->event;

    switch (v->type) {
    case YAML_SCALAR_EVENT: return read_scalar(r, e);
    case YAML_MAPPING_START_EVENT:
        return read_collection(r, YAML_MAP, v->data.mapping_start.anchor,
                               v->data.mapping_start.tag, e);
    case YAML_SEQUENCE_START_EVENT:
        return read_collection(r, YAML_SEQ, v->data.sequence_start.anchor,
                               v->data.sequence_start.tag, e);
    case YAML_ALIAS_EVENT:
        refuse(r, "aliases are not accepted; write the value out", e);
        return NULL;
    default: refuse(r, "a value is missing", e); return NULL;
    }
}

static struct yaml *
read_document(struct reading *r, struct err *e)
{
    defer(yaml_free_ptr) struct yaml *root = NULL;

    if (next_event(r, e) || next_event(r, e)) /* after the stream's start */
        return NULL;
    if (r->event.type == YAML_STREAM_END_EVENT)
        return new_node(r, YAML_MAP, e);
    if (next_event(r, e))
        return NULL;
    root = read_node(r, e);
    if (!root || next_event(r, e) || next_event(r, e))
        return NULL;
    if (r->event.type != YAML_STREAM_END_EVENT) {
        refuse(r, "a second document begins; only one is accepted", e);
        return NULL;
    }
    return take(root);
}

struct yaml *
yaml_parse(const char *text, size_t n, const char *name, struct err *e)
{
    defer(reading_fini) struct reading r = { .text = text, .name = name };

    if (!yaml_parser_initialize(&r.parser)) {
        err_set(e, ERR_BUG, "%s: the YAML parser does not start", name);
        return NULL;
    }
    if (n > DATA_FILE_MAX) {
        err_set(e, ERR_USER, "%s: longer than %u bytes", name, DATA_FILE_MAX);
        return NULL;
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    return read_document(&r, e);
}

struct yaml *
yaml_read(const char *path, struct err *e)
{
    defer(str_fini) struct str s = STR_INIT;

    if (fs_read(path, DATA_FILE_MAX, &s, e))
        return NULL;
    return yaml_parse(str_text(&s), s.n, path, e);
}

const struct yaml *
yaml_get(const struct yaml *y, const char *key)
{
    for (size_t i = 0; y && y->kind == YAML_MAP && i < y->n; i++)
        if (!strcmp(y->kids[i]->key, key))
            return y->kids[i];
    return NULL;
}

bool
yaml_is_null(const struct yaml *y)
{
    static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };

    if (y->kind != YAML_SCALAR || y->quoted)
        return false;
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        if (!strcmp(y->text, nulls[i]))
            return true;
    return false;
}
