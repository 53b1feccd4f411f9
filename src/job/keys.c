/* A YAML map into a struct, by a table of its keys. */
#include "job/job.h"
#include "base/clock.h"
#include "limit/limit.h"

#include <string.h>
#include <strings.h>

#define NEAR_ENOUGH 4 /* edits between a wrong key and the one we propose */

/* VEC of unknown elements: the layout of every VEC. */
struct anyvec {
    char *p;
    size_t n, cap;
};

static const char *
nearest(const struct key *table, const char *name)
{
    const char *best = NULL;
    size_t least = NEAR_ENOUGH;

    for (const struct key *k = table; k->name; k++) {
        size_t d = str_distance(k->name, name);

        if (d < least || (d == least && !best)) {
            least = d;
            best = k->name;
        }
    }
    return best;
}

static int
unknown(const struct key *table, const struct yaml *y, const char *file,
        struct err *e)
{
    defer(str_fini) struct str known = STR_INIT;
    const char *near = nearest(table, y->key);

    if (near)
        return err_set(e, ERR_USER,
                       "%s:%d: unknown key '%s'; did you mean '%s'?", file,
                       y->line, y->key, near);
    for (const struct key *k = table; k->name; k++)
        str_addf(&known, "%s%s", known.n ? ", " : "", k->name);
    return err_set(e, ERR_USER, "%s:%d: unknown key '%s'; known here: %s", file,
                   y->line, y->key, str_text(&known));
}

static int
load_bool(const char *text, bool *out)
{
    static const struct {
        const char *text;
        bool value;
    } words[] = { { "true", true }, { "false", false }, { "yes", true },
                  { "no", false },  { "on", true },     { "off", false } };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(words[i].text, text)) {
            *out = words[i].value;
            return 0;
        }
    return -1;
}

static int
load_choice(const struct key *k, const char *text, int *out, struct err *e)
{
    defer(str_fini) struct str all = STR_INIT;

    for (int i = 0; k->choices[i]; i++) {
        if (*k->choices[i] && !strcasecmp(k->choices[i], text)) {
            *out = i;
            return 0;
        }
        if (*k->choices[i])
            str_addf(&all, "%s%s", all.n ? ", " : "", k->choices[i]);
    }
    return err_set(e, ERR_USER, "'%.40s' is none of %s", text, str_text(&all));
}

static int
load_rate(const char *text, int64_t *to, struct err *e)
{
    uint64_t rate;

    if (rate_parse(text, &rate, e))
        return -1;
    *to = rate ? (int64_t)rate : RATE_NONE;
    return 0;
}

static int
load_scalar(const struct key *k, const struct yaml *y, void *to, struct err *e)
{
    bool b = false;

    if (y->kind != YAML_SCALAR)
        return err_set(e, ERR_USER, "one value is expected here");
    switch (k->kind) {
    case KEY_TEXT:
        free(*(char **)to);
        *(char **)to = xstrdup(y->text);
        return 0;
    case KEY_SECRET:
        secret_free(*(struct secret **)to);
        *(struct secret **)to = secret_new(y->text);
        return 0;
    case KEY_INT: return num_i64(y->text, k->min, k->max, to, "value", e);
    case KEY_TIME: return clock_parse(y->text, to, e);
    case KEY_RATE: return load_rate(y->text, to, e);
    case KEY_CHOICE: return load_choice(k, y->text, to, e);
    case KEY_BOOL:
    case KEY_TRI:
        if (load_bool(y->text, &b))
            return err_set(e, ERR_USER, "'%.40s' is neither true nor false",
                           y->text);
        if (k->kind == KEY_BOOL)
            *(bool *)to = b;
        else
            *(int *)to = b ? TRI_YES : TRI_NO;
        return 0;
    default: return err_set(e, ERR_BUG, "key of unknown kind %d", k->kind);
    }
}

static int
load_each(const struct key *k, const struct yaml *y, const char *file,
          struct anyvec *v, struct err *e)
{
    if (y->kind != YAML_MAP)
        return err_set(e, ERR_USER, "%s:%d: %s: a map is expected here", file,
                       y->line, k->name);
    for (size_t i = 0; i < y->n; i++) {
        char *item;

        v->p = xrealloc(v->p, (v->n + 1) * k->size);
        item = v->p + v->n++ * k->size;
        v->cap = v->n;
        memset(item, 0, k->size);
        *(char **)item = xstrdup(y->kids[i]->key);
        *(int *)(item + sizeof(char *)) = y->kids[i]->line;
        if (keys_load(k->sub, y->kids[i], file, item, e))
            return -1;
    }
    return 0;
}

int
keys_load(const struct key *table, const struct yaml *map, const char *file,
          void *out, struct err *e)
{
    if (yaml_is_null(map))
        return 0;
    if (map->kind != YAML_MAP)
        return err_set(e, ERR_USER, "%s:%d: a map of keys is expected here",
                       file, map->line);
    for (size_t i = 0; i < map->n; i++) {
        const struct yaml *y = map->kids[i];
        const struct key *k = table;
        char *to;

        while (k->name && strcmp(k->name, y->key))
            k++;
        if (!k->name)
            return unknown(table, y, file, e);
        if (yaml_is_null(y))
            continue;
        to = (char *)out + k->offset;
        if (k->kind == KEY_GROUP) {
            *(int *)to = y->line;
            if (keys_load(k->sub, y, file, to, e))
                return -1;
        } else if (k->kind == KEY_EACH) {
            if (load_each(k, y, file, (struct anyvec *)to, e))
                return -1;
        } else if (load_scalar(k, y, to, e))
            return err_wrap(e, "%s:%d: %s", file, y->line, k->name);
    }
    return 0;
}

static void
free_each(const struct key *k, struct anyvec *v)
{
    for (size_t i = 0; i < v->n; i++) {
        keys_free(k->sub, v->p + i * k->size);
        free(*(char **)(v->p + i * k->size));
    }
    vec_fini(v);
}

void
keys_free(const struct key *table, void *s)
{
    for (const struct key *k = table; k->name; k++) {
        void *at = (char *)s + k->offset;

        switch (k->kind) {
        case KEY_TEXT:
            free(*(char **)at);
            *(char **)at = NULL;
            break;
        case KEY_SECRET:
            secret_free(*(struct secret **)at);
            *(struct secret **)at = NULL;
            break;
        case KEY_GROUP: keys_free(k->sub, at); break;
        case KEY_EACH: free_each(k, at); break;
        default: break;
        }
    }
}

static json_t *
each_json(const struct key *k, const struct anyvec *v)
{
    json_t *all = v->n ? json_object() : NULL;

    for (size_t i = 0; i < v->n; i++) {
        const char *item = v->p + i * k->size;

        json_object_set_new(all, *(char *const *)item, keys_json(k->sub, item));
    }
    return all;
}

static json_t *
rate_json(int64_t rate)
{
    char text[RATE_TEXT_MAX];

    rate_text(rate > 0 ? (uint64_t)rate : 0, text);
    return rate ? json_string(text) : NULL;
}

static json_t *
key_json(const struct key *k, const void *at)
{
    int choice =
        k->kind == KEY_CHOICE || k->kind == KEY_TRI ? *(const int *)at : 0;
    char when[CLOCK_TEXT_MAX];

    switch (k->kind) {
    case KEY_TEXT:
        return *(char *const *)at ? json_string(*(char *const *)at) : NULL;
    case KEY_INT: return json_integer(*(const int64_t *)at);
    case KEY_RATE: return rate_json(*(const int64_t *)at);
    case KEY_BOOL: return json_boolean(*(const bool *)at);
    case KEY_TRI: return choice ? json_boolean(choice == TRI_YES) : NULL;
    case KEY_CHOICE:
        return *k->choices[choice] ? json_string(k->choices[choice]) : NULL;
    case KEY_TIME:
        if (!*(const int64_t *)at)
            return NULL;
        clock_text(*(const int64_t *)at, when);
        return json_string(when);
    case KEY_GROUP: return *(const int *)at ? keys_json(k->sub, at) : NULL;
    case KEY_EACH: return each_json(k, at);
    case KEY_SECRET: break;
    }
    return NULL;
}

json_t *
keys_json(const struct key *table, const void *s)
{
    json_t *o = json_object();

    for (const struct key *k = table; k->name; k++) {
        json_t *v = key_json(k, (const char *)s + k->offset);

        if (v)
            json_object_set_new(o, k->name, v);
    }
    return o;
}
