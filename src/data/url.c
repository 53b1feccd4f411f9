/* URLs: percent-encoding and "host:port". */
#include "data/data.h"

#include <string.h>

#define HOST_MAX 253

static bool
is_unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c >= '0' && c <= '9') || (c && strchr("-._~", c));
}

void
url_encode(struct str *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (is_unreserved(c))
            str_addc(out, (char)c);
        else
            str_addf(out, "%%%02X", c);
    }
}

void
url_decode(char *text)
{
    char *to = text;

    for (; *text; to++) {
        int high = *text == '%' ? hex_digit(text[1]) : -1;
        int low = high >= 0 ? hex_digit(text[2]) : -1;

        /* %00 would cut the string short */
        if (low >= 0 && (high | low)) {
            *to = (char)(high * 16 + low);
            text += 3;
        } else {
            *to = *text++;
        }
    }
    *to = '\0';
}

static int
bad_host(const char *text, struct err *e)
{
    const char *at = strrchr(text, '@'); /* before it may be a password */

    return err_set(e, ERR_USER,
                   "'%.80s' is no host; write host, host:port or [v6]:port",
                   at ? at + 1 : text);
}

int
url_host_port(const char *text, char **host, uint16_t *port, struct err *e)
{
    bool v6 = *text == '[';
    const char *start = text + v6;
    size_t n = strcspn(start, v6 ? "]" : ":");
    const char *rest = start + n;
    uint64_t value = 0;

    if (v6 && *rest++ != ']')
        return bad_host(text, e);
    if (!n || n > HOST_MAX || (*rest && *rest != ':'))
        return bad_host(text, e);
    for (size_t i = 0; i < n; i++)
        if (!is_unreserved((unsigned char)start[i]) &&
            !(v6 && strchr(":%", start[i])))
            return bad_host(text, e);
    if (*rest && strchr(rest + 1, ':'))
        return bad_host(text, e);
    if (*rest && num_u64(rest + 1, 1, UINT16_MAX, &value, "port", e))
        return err_wrap(e, "%.80s", text);
    *host = xstrndup(start, n);
    *port = (uint16_t)value;
    return 0;
}
