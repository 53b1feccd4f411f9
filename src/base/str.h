/* The one growing string, and the strict parsers of numbers. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Always NUL-terminated once something was added.  A builder for text from
 * outside is given a cap; past it `failed` sticks and nothing is added. */
struct str {
    char *p;     /* NULL when nothing was added; see str_text */
    size_t n;    /* bytes, without the NUL */
    size_t cap;  /* bytes allocated */
    size_t max;  /* 0: no cap */
    bool failed; /* something did not fit */
};

#define STR_INIT \
    {            \
        0        \
    }

void str_add(struct str *s, const char *text);
void str_addn(struct str *s, const void *bytes, size_t n);
void str_addc(struct str *s, char c);
void str_addf(struct str *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* text as a JSON string, quotes included; bad UTF-8 becomes U+FFFD */
void str_add_json(struct str *s, const char *text);
/* text with & < > " ' escaped */
void str_add_xml(struct str *s, const char *text);
/* "" rather than NULL */
const char *str_text(const struct str *s);
/* The caller frees what it takes; the builder is empty again. */
char *str_take(struct str *s);
void str_fini(struct str *s);

/* Whole-string decimal parsers.  `what` names the thing in the error. */
int num_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out,
            const char *what, struct err *e);
int num_i64(const char *text, int64_t min, int64_t max, int64_t *out,
            const char *what, struct err *e);

/* Value of a hex digit in either case; -1 if it is none. */
int hex_digit(char c);

/* Bytes of the valid UTF-8 sequence at p, 0 if there is none. */
size_t utf8_len(const char *p);

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* Number of single-letter edits between a and b; for "did you mean". */
size_t str_distance(const char *a, const char *b);

#endif
