/* Reads one JSON object by a table of its keys. */
#include "lab/world/conf.h"

#include <stdbool.h>
#include <string.h>

static int
bad(struct err *e, const char *what, const char *key, const char *wanted)
{
    return err_set(e, ERR_USER, "world file: %s: %s must be %s", what, key,
                   wanted);
}

static int
choose(const struct conf_key *k, const json_t *v, void *at, const char *what,
       struct err *e)
{
    const char *text = json_string_value(v);

    for (int i = 0; text && k->choices[i]; i++) {
        if (!strcmp(text, k->choices[i])) {
            *(int *)at = i;
            return 0;
        }
    }
    return bad(e, what, k->name, "one of the words for it (see docs/lab.md)");
}

static int
set(const struct conf_key *k, const json_t *v, void *at, const char *what,
    struct err *e)
{
    switch (k->kind) {
    case CONF_TEXT:
        if (!json_is_string(v))
            return bad(e, what, k->name, "text");
        *(const char **)at = json_string_value(v);
        return 0;
    case CONF_NUM:
        if (!json_is_integer(v) || json_integer_value(v) < k->min ||
            json_integer_value(v) > k->max)
            return err_set(e, ERR_USER,
                           "world file: %s: %s must be a number from %lld to "
                           "%lld",
                           what, k->name, (long long)k->min, (long long)k->max);
        *(int64_t *)at = json_integer_value(v);
        return 0;
    case CONF_FLAG:
        if (!json_is_boolean(v))
            return bad(e, what, k->name, "true or false");
        *(bool *)at = json_is_true(v);
        return 0;
    case CONF_CHOICE: return choose(k, v, at, what, e);
    case CONF_ARRAY:
        if (!json_is_array(v))
            return bad(e, what, k->name, "an array");
        *(const json_t **)at = v;
        return 0;
    case CONF_OBJECT:
        if (!json_is_object(v))
            return bad(e, what, k->name, "an object");
        *(const json_t **)at = v;
        return 0;
    }
    return err_set(e, ERR_BUG, "world file: %s: no such kind", k->name);
}

int
conf_read(const json_t *o, const struct conf_key *keys, size_t n, void *out,
          const char *what, struct err *e)
{
    const char *name;
    json_t *v;

    if (!json_is_object(o))
        return err_set(e, ERR_USER, "world file: %s must be an object", what);
    json_object_foreach((json_t *)(uintptr_t)o, name, v)
    {
        size_t i = 0;

        while (i < n && strcmp(keys[i].name, name))
            i++;
        if (i == n)
            return err_set(e, ERR_USER,
                           "world file: %s: unknown key \"%s\" (see "
                           "docs/lab.md for those that are known)",
                           what, name);
        if (set(&keys[i], v, (char *)out + keys[i].offset, what, e))
            return -1;
    }
    return 0;
}
