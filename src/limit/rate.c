/* Rates as people write them: "200MB", "64KiB", "1.5Gbit", "none". */
#include "limit/limit.h"

#include <inttypes.h>
#include <string.h>

/* In thousandths of a byte, so that a fraction of three digits is exact. */
static const struct {
    const char *name;
    uint64_t unit;
} units[] = {
    { "B", 1000ull },         { "kB", 1000000ull },
    { "MB", 1000000000ull },  { "GB", 1000000000000ull },
    { "KiB", 1000ull << 10 }, { "MiB", 1000ull << 20 },
    { "GiB", 1000ull << 30 }, { "kbit", 125000ull },
    { "Mbit", 125000000ull }, { "Gbit", 125000000000ull },
};
#define UNITS (sizeof units / sizeof *units)

static int
refuse(const char *text, struct err *e)
{
    return err_set(e, ERR_USER,
                   "'%.40s' is no rate; give bytes or bits per second with "
                   "their unit, as 200MB, 64MiB or 1.5Gbit, or none",
                   text);
}

/* Digits, and at most three behind a point, as thousandths. */
static const char *
number(const char *p, uint64_t *out)
{
    uint64_t whole = 0, part = 0;
    size_t n = strspn(p, "0123456789"), places = 0;

    if (!n || n > 12)
        return NULL;
    for (; n; n--)
        whole = whole * 10 + (uint64_t)(*p++ - '0');
    if (*p == '.') {
        places = strspn(++p, "0123456789");
        if (!places || places > 3)
            return NULL;
    }
    for (size_t i = 0; i < 3; i++)
        part = part * 10 + (i < places ? (uint64_t)(*p++ - '0') : 0);
    *out = whole * 1000 + part;
    return p;
}

int
rate_parse(const char *text, uint64_t *rate, struct err *e)
{
    uint64_t n = 0;
    const char *p = number(text, &n);
    unsigned __int128 bytes;
    size_t i = 0, length;

    *rate = 0;
    if (!strcmp(text, "none") || !strcmp(text, "0"))
        return 0;
    if (!p)
        return refuse(text, e);
    p += *p == ' ';
    length = strcspn(p, "/");
    while (i < UNITS && (strlen(units[i].name) != length ||
                         strncmp(units[i].name, p, length)))
        i++;
    if (i == UNITS || (p[length] && strcmp(p + length, "/s")))
        return refuse(text, e);
    /* n has 50 bits, a unit 40 */
    bytes = (unsigned __int128)n * units[i].unit / 1000000;
    if (bytes < RATE_MIN || bytes > RATE_MAX)
        return err_set(e, ERR_USER,
                       "%.40s per second is not between 64KiB and 1024GiB",
                       text);
    *rate = (uint64_t)bytes;
    return 0;
}

/* In the largest unit that tells it exactly. */
void
rate_text(uint64_t rate, char out[RATE_TEXT_MAX])
{
    snprintf(out, RATE_TEXT_MAX, "none");
    for (size_t i = UNITS - 3; rate && i--;) { /* not in bits */
        uint64_t unit = units[i].unit / 1000, least = unit / 1000;
        int n;

        if (unit % 1024 == 0 || !least)
            least = unit;
        if (rate < unit || rate % least)
            continue;
        n = snprintf(out, RATE_TEXT_MAX, "%" PRIu64 ".%03u", rate / unit,
                     (unsigned)(rate % unit / least % 1000));
        while (out[n - 1] == '0')
            n--;
        n -= out[n - 1] == '.';
        snprintf(out + n, RATE_TEXT_MAX - (size_t)n, "%s", units[i].name);
        return;
    }
}
