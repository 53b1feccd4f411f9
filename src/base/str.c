/* The one growing string, and the strict parsers of numbers. */
#include "base/str.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static bool
make_room(struct str *s, size_t n)
{
    size_t want = s->n + n + 1;

    if (s->failed || (s->max && s->n + n > s->max)) {
        s->failed = true;
        return false;
    }
    if (want > s->cap) {
        size_t cap = s->cap ? s->cap : 64;

        while (cap < want)
            cap *= 2;
        s->p = xrealloc(s->p, cap);
        s->cap = cap;
    }
    return true;
}

void
str_addn(struct str *s, const void *bytes, size_t n)
{
    if (!make_room(s, n))
        return;
    if (n)
        memcpy(s->p + s->n, bytes, n);
    s->n += n;
    s->p[s->n] = '\0';
}

void
str_add(struct str *s, const char *text)
{
    str_addn(s, text, strlen(text));
}

void
str_addc(struct str *s, char c)
{
    str_addn(s, &c, 1);
}

void
str_addf(struct str *s, const char *fmt, ...)
{
    va_list ap, again;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0)
        s->failed = true;
    else if (make_room(s, (size_t)n)) {
        vsnprintf(s->p + s->n, (size_t)n + 1, fmt, again);
        s->n += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

size_t
utf8_len(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t n = *p < 0x80                  ? 1
               : *p >= 0xc2 && *p <= 0xdf ? 2
               : *p >= 0xe0 && *p <= 0xef ? 3
               : *p >= 0xf0 && *p <= 0xf4 ? 4
                                          : 0;

    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

void
str_add_json(struct str *s, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    str_addc(s, '"');
    while (*p) {
        size_t n = utf8_len((const char *)p);

        if (*p == '"' || *p == '\\')
            str_addf(s, "\\%c", *p);
        else if (*p < 0x20)
            str_addf(s, "\\u%04x", *p);
        else if (n)
            str_addn(s, p, n);
        else
            str_add(s, "\\ufffd");
        p += n ? n : 1;
    }
    str_addc(s, '"');
}

void
str_add_xml(struct str *s, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': str_add(s, "&amp;"); break;
        case '<': str_add(s, "&lt;"); break;
        case '>': str_add(s, "&gt;"); break;
        case '"': str_add(s, "&quot;"); break;
        case '\'': str_add(s, "&apos;"); break;
        default: str_addc(s, *text);
        }
    }
}

const char *
str_text(const struct str *s)
{
    return s->p ? s->p : "";
}

char *
str_take(struct str *s)
{
    char *p = s->p ? s->p : xstrdup("");

    *s = (struct str){ .max = s->max };
    return p;
}

void
str_fini(struct str *s)
{
    free(s->p);
    *s = (struct str)STR_INIT;
}

int
num_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out,
        const char *what, struct err *e)
{
    uint64_t v = 0;

    if (!text || !*text)
        return err_set(e, ERR_USER, "%s: a number is missing", what);
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9')
            return err_set(e, ERR_USER, "%s: '%.40s' is not a number", what,
                           text);
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return err_set(e, ERR_USER, "%s: '%.40s' is too big", what, text);
    }
    if (v < min || v > max)
        return err_set(e, ERR_USER,
                       "%s: %" PRIu64 " is not between %" PRIu64
                       " and %" PRIu64,
                       what, v, min, max);
    *out = v;
    return 0;
}

int
num_i64(const char *text, int64_t min, int64_t max, int64_t *out,
        const char *what, struct err *e)
{
    bool neg = text && *text == '-';
    uint64_t v;

    if (num_u64(text && neg ? text + 1 : text, 0, INT64_MAX, &v, what, e))
        return -1;
    *out = neg ? -(int64_t)v : (int64_t)v;
    if (*out < min || *out > max)
        return err_set(e, ERR_USER,
                       "%s: %" PRId64 " is not between %" PRId64
                       " and %" PRId64,
                       what, *out, min, max);
    return 0;
}

int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
str_starts(const char *s, const char *prefix)
{
    return !strncmp(s, prefix, strlen(prefix));
}

bool
str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && !strcmp(s + n - m, suffix);
}

#define DISTANCE_MAX 63

size_t
str_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), row[DISTANCE_MAX + 1];

    if (n > DISTANCE_MAX || m > DISTANCE_MAX)
        return DISTANCE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}
