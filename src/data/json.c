/* JSON: strict reading, atomic writing, members with defaults. */
#include "base/fs.h"
#include "data/data.h"

#include <errno.h>
#include <string.h>

/* The parser quotes what it stumbled over, which may be a secret. */
static int
refuse(struct err *e, enum err_class class, const char *what,
       const json_error_t *je)
{
    const char *quote = strstr(je->text, " near '");
    int n = quote ? (int)(quote - je->text) : (int)strlen(je->text);

    return err_set(e, class, "%s:%d:%d: %.*s", what, je->line, je->column, n,
                   je->text);
}

static json_t *
parse(const char *text, size_t n, const char *what, enum err_class class,
      struct err *e)
{
    json_error_t je;
    json_t *v;

    if (n > JSON_BYTES_MAX) {
        err_set(e, class, "%s: longer than %u bytes", what, JSON_BYTES_MAX);
        return NULL;
    }
    v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
    if (!v)
        refuse(e, class, what, &je);
    return v;
}

json_t *
json_parse(const char *text, size_t n, const char *what, struct err *e)
{
    return parse(text, n, what, ERR_REMOTE, e);
}

json_t *
json_read(const char *path, struct err *e)
{
    defer(str_fini) struct str s = STR_INIT;

    if (fs_read(path, DATA_FILE_MAX, &s, e))
        return NULL;
    return parse(str_text(&s), s.n, path, ERR_DAMAGED, e);
}

int
json_replace(const char *path, const json_t *v, int mode, struct err *e)
{
    defer_free char *text = json_dumps(v, JSON_INDENT(2));
    size_t n;

    if (!text)
        return err_set(e, ERR_BUG, "%s: the value is not JSON", path);
    n = strlen(text);
    text[n] = '\n'; /* in place of the NUL: the length goes along */
    return fs_replace(path, text, n + 1, (mode_t)mode, e);
}

int
json_write_line(int fd, const json_t *v, const char *what, struct err *e)
{
    defer_free char *text = json_dumps(v, JSON_COMPACT);
    size_t n;

    if (!text)
        return err_set(e, ERR_BUG, "%s: the value is not JSON", what);
    n = strlen(text);
    text[n] = '\n'; /* in place of the NUL: the length goes along */
    if (fs_write_all(fd, text, n + 1))
        return err_errno(e, errno, "writing %s", what);
    return 0;
}

const char *
json_str(const json_t *o, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : otherwise;
}

int64_t
json_num(const json_t *o, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(o, key);

    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

bool
json_flag(const json_t *o, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(o, key);

    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}
