/* The request: lines of text on stdin, read strictly. */
#include "copy/request.h"
#include "copy/pace.h"

#include <errno.h>
#include <string.h>

enum need {
    REQUIRED,
    OPTIONAL,
    COPY,
    MAY_COPY,
    MAY_VERIFY,
    EITHER,
    VDDK,
    MAY_VDDK,
    NBD,
    FILE_,
};
#define BIT(need)  (1u << (need))
#define FIRST_LINE "v2c-copy 1"

static const struct {
    const char *key, *what;
    enum need need;
} keys[KEY_COUNT] = {
#define FILE                     FILE_
#define K(name, key, need, what) [KEY_##name] = { key, what, need },
    REQUEST_KEYS(K)
#undef K
#undef FILE
};

/* The needs that a verb, and a source's kind, make must and may be there. */
struct wants {
    const char *name;
    unsigned must, may;
};

static const struct wants verb_copy = { "copy",
                                        BIT(REQUIRED) | BIT(COPY) | BIT(EITHER),
                                        BIT(OPTIONAL) | BIT(MAY_COPY) };
static const struct wants verb_verify = {
    "verify", BIT(REQUIRED), BIT(OPTIONAL) | BIT(MAY_VERIFY) | BIT(EITHER)
};
static const struct wants no_kind = { "", 0, 0 };
static const struct wants kinds[] = {
    { "vddk", BIT(VDDK), BIT(MAY_VDDK) },
    { "nbd", BIT(NBD), 0 },
    { "file", BIT(FILE_), 0 },
};

static const char *const plans[] = {
    [PLAN_ALLOCATED] = "allocated",
    [PLAN_ALL] = "all",
    [PLAN_LIST] = "list",
    [PLAN_COMPARE] = "compare",
};

static const char *const zeroes[] = {
    [ZEROES_PUNCH] = "punch",
    [ZEROES_KEEP] = "keep",
    [ZEROES_WRITE] = "write",
};

const char *
plan_name(enum plan_kind kind)
{
    return plans[kind];
}

const char *
request_text(const struct request *r, enum key key)
{
    return r->text[key] ? r->text[key] : "";
}

void
request_help(struct str *out)
{
    static const char *const when[] = {
        [REQUIRED] = "always",
        [OPTIONAL] = "optional",
        [COPY] = "copy",
        [MAY_COPY] = "copy, optional",
        [MAY_VERIFY] = "verify, optional",
        [EITHER] = "copy; verify, optional",
        [VDDK] = "vddk",
        [MAY_VDDK] = "vddk, optional",
        [NBD] = "nbd",
        [FILE_] = "file",
    };

    for (size_t i = 0; i < KEY_COUNT; i++)
        str_addf(out, "  %-18s %s (%s)\n", keys[i].key, keys[i].what,
                 when[keys[i].need]);
}

void
request_fini(struct request *r)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        free(r->text[i]);
    secret_free(r->password);
    extents_fini(&r->list);
    *r = (struct request){ 0 };
}

/* lines ------------------------------------------------------------------ */

struct lines {
    int fd;
    unsigned long number; /* of the line last read, 1-based */
    size_t at, n;         /* what is left of buf */
    char buf[65536];
    char line[COPY_LINE_MAX + 1];
};

static int
next_char(struct lines *l, char *c, struct err *e)
{
    if (l->at == l->n) {
        ssize_t n;

        do
            n = read(l->fd, l->buf, sizeof l->buf);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            return err_errno(e, errno, "reading the request");
        if (!n)
            return err_set(e, ERR_USER,
                           "the request breaks off after line %lu, without "
                           "its line 'end'",
                           l->number);
        l->at = 0;
        l->n = (size_t)n;
    }
    *c = l->buf[l->at++];
    return 0;
}

static int
next_line(struct lines *l, struct err *e)
{
    size_t n = 0;

    for (;;) {
        char c = 0;

        if (next_char(l, &c, e))
            return -1;
        if (c == '\n')
            break;
        if (n == COPY_LINE_MAX)
            return err_set(e, ERR_USER,
                           "line %lu of the request is longer than %u bytes",
                           l->number + 1, COPY_LINE_MAX);
        if ((unsigned char)c < 0x20 || c == 0x7f)
            return err_set(e, ERR_USER,
                           "line %lu of the request has a control character",
                           l->number + 1);
        l->line[n++] = c;
    }
    l->line[n] = '\0';
    l->number++;
    return 0;
}

/* keys ------------------------------------------------------------------- */

static int
add_key(struct request *r, const char *key, const char *value,
        unsigned long number, struct err *e)
{
    /* No more of it: without its space a line may be a secret as a whole. */
    size_t of_key = strspn(key, "abcdefghijklmnopqrstuvwxyz.");
    size_t i = 0;

    while (i < KEY_COUNT && strcmp(keys[i].key, key))
        i++;
    if (i == KEY_COUNT)
        return err_set(e, ERR_USER,
                       "line %lu of the request: unknown key '%.*s'; "
                       "v2c-copy --help lists them",
                       number, (int)(of_key < 40 ? of_key : 40), key);
    if (r->text[i] || (i == KEY_PASSWORD && r->password))
        return err_set(e, ERR_USER,
                       "line %lu of the request: %s is given twice", number,
                       key);
    if (!*value)
        return err_set(e, ERR_USER, "line %lu of the request: %s has no value",
                       number, key);
    if (i == KEY_PASSWORD)
        r->password = secret_new(value);
    else
        r->text[i] = xstrdup(value);
    return 0;
}

static int
add_extent(struct request *r, char *text, unsigned long number, struct err *e)
{
    char *space = strchr(text, ' ');
    uint64_t start, n;

    if (!space)
        return err_set(e, ERR_USER,
                       "line %lu of the request: extent takes start and length",
                       number);
    *space = '\0';
    if (num_u64(text, 0, DISK_SIZE_MAX - 1, &start, "an extent's start", e) ||
        num_u64(space + 1, 1, DISK_SIZE_MAX, &n, "an extent's length", e))
        return err_wrap(e, "line %lu of the request", number);
    extents_add(&r->list, start, n);
    if (r->list.n > COPY_EXTENTS_MAX)
        return err_set(e, ERR_USER, "the request has more than %u extents",
                       COPY_EXTENTS_MAX);
    return 0;
}

static int
read_lines(struct lines *l, struct request *r, struct err *e)
{
    bool extents = false;

    if (next_line(l, e))
        return -1;
    if (strcmp(l->line, FIRST_LINE))
        return err_set(e, ERR_USER,
                       "the request does not begin with the line '%s'",
                       FIRST_LINE);
    for (;;) {
        char *value;

        if (next_line(l, e))
            return -1;
        if (!strcmp(l->line, "end"))
            return 0;
        value = strchr(l->line, ' ');
        if (value)
            *value++ = '\0';
        if (!strcmp(l->line, "extent")) {
            extents = true;
            if (add_extent(r, value ? value : l->line + strlen(l->line),
                           l->number, e))
                return -1;
            continue;
        }
        if (extents)
            return err_set(e, ERR_USER,
                           "line %lu of the request: keys come before extents",
                           l->number);
        if (add_key(r, l->line, value ? value : "", l->number, e))
            return -1;
    }
}

/* meaning ---------------------------------------------------------------- */

static bool
given(const struct request *r, enum key key)
{
    return r->text[key] || (key == KEY_PASSWORD && r->password);
}

static const struct wants *
find_kind(const struct request *r, const struct wants *verb, struct err *e)
{
    const char *kind = request_text(r, KEY_SOURCE_KIND);

    if (!*kind && !(verb->must & BIT(EITHER)))
        return &no_kind;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, kind))
            return &kinds[i];
    err_set(e, ERR_USER, "source.kind '%.40s' is none of vddk, nbd, file",
            kind);
    return NULL;
}

static int
misplaced(const struct wants *verb, const struct wants *kind, size_t key,
          struct err *e)
{
    if (keys[key].need < VDDK)
        return err_set(e, ERR_USER, "%s does not go with %s", keys[key].key,
                       verb->name);
    if (kind == &no_kind)
        return err_set(e, ERR_USER, "%s does not go without source.kind",
                       keys[key].key);
    return err_set(e, ERR_USER, "%s does not go with source.kind %s",
                   keys[key].key, kind->name);
}

static int
check_keys(const struct request *r, const struct wants *verb, struct err *e)
{
    const struct wants *kind = find_kind(r, verb, e);
    unsigned must, may;

    if (!kind)
        return -1;
    must = verb->must | kind->must;
    may = must | verb->may | kind->may;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if ((must & BIT(keys[i].need)) && !given(r, i))
            return err_set(e, ERR_USER, "the request lacks %s", keys[i].key);
        if (!(may & BIT(keys[i].need)) && given(r, i))
            return misplaced(verb, kind, i, e);
    }
    return 0;
}

static int
number(const struct request *r, enum key key, uint64_t min, uint64_t max,
       uint64_t otherwise, uint64_t *out, struct err *e)
{
    *out = otherwise;
    if (!r->text[key])
        return 0;
    return num_u64(r->text[key], min, max, out, keys[key].key, e);
}

static int
multiple(uint64_t n, uint64_t of, enum key key, struct err *e)
{
    if (n % of)
        return err_set(e, ERR_USER, "%s is no multiple of %llu", keys[key].key,
                       (unsigned long long)of);
    return 0;
}

static int
read_numbers(struct request *r, struct err *e)
{
    uint64_t port, slots, bytes, gap, timeout, sample;

    if (number(r, KEY_PORT, 1, UINT16_MAX, 0, &port, e) ||
        number(r, KEY_DISK_SIZE, DISK_SECTOR, DISK_SIZE_MAX, 0, &r->disk_size,
               e) ||
        multiple(r->disk_size, DISK_SECTOR, KEY_DISK_SIZE, e) ||
        number(r, KEY_READERS, 1, COPY_SLOTS_MAX, COPY_SLOTS_MAX, &slots, e) ||
        number(r, KEY_REQUEST, DISK_BLOCK, PACE_REQUEST_MAX, PACE_REQUEST_MAX,
               &bytes, e) ||
        multiple(bytes, DISK_BLOCK, KEY_REQUEST, e) ||
        number(r, KEY_GAP, 0, PACE_REQUEST_MAX, COPY_GAP_AUTO, &gap, e) ||
        number(r, KEY_RATE, 0, COPY_RATE_MAX, 0, &r->rate, e) ||
        number(r, KEY_TIMEOUT, 1, COPY_TIMEOUT_MAX, COPY_TIMEOUT_DEFAULT,
               &timeout, e) ||
        number(r, KEY_SAMPLE, 1, 100, 100, &sample, e) ||
        number(r, KEY_SEED, 0, INT64_MAX, 0, &r->seed, e))
        return -1;
    r->port = (uint16_t)port;
    r->slots = (unsigned)slots;
    r->bytes = (uint32_t)bytes;
    r->gap = (uint32_t)gap;
    r->sample = (unsigned)sample;
    r->timeout_ms = (int64_t)timeout * 1000;
    return 0;
}

static int
yes_or_no(const struct request *r, enum key key, bool *out, struct err *e)
{
    const char *text = r->text[key] ? r->text[key] : "no";

    *out = !strcmp(text, "yes");
    if (!*out && strcmp(text, "no"))
        return err_set(e, ERR_USER, "%s '%.40s' is neither yes nor no",
                       keys[key].key, text);
    return 0;
}

static int
read_zeroes(struct request *r, struct err *e)
{
    const char *text = r->text[KEY_TARGET_ZEROES];

    for (size_t i = 0; text && i < sizeof zeroes / sizeof *zeroes; i++)
        if (!strcmp(zeroes[i], text)) {
            r->zeroes = (enum zeroes)i;
            return 0;
        }
    return text ? err_set(e, ERR_USER,
                          "target.zeroes '%.40s' is none of punch, keep, write",
                          text)
                : 0;
}

static int
read_words(struct request *r, const struct wants *verb, struct err *e)
{
    const char *plan = given(r, KEY_PLAN) ? r->text[KEY_PLAN] : "all";
    bool verify = verb == &verb_verify;
    size_t i = 0;

    while (i < sizeof plans / sizeof *plans && strcmp(plans[i], plan))
        i++;
    if (i == sizeof plans / sizeof *plans)
        return err_set(e, ERR_USER,
                       "plan '%.40s' is none of allocated, all, list, compare",
                       plan);
    r->plan = (enum plan_kind)i;
    if (verify && r->plan != PLAN_ALL && r->plan != PLAN_LIST)
        return err_set(e, ERR_USER, "plan %s does not go with verify", plan);
    r->compare = verify && given(r, KEY_SOURCE_KIND);
    if (read_zeroes(r, e) || yes_or_no(r, KEY_TARGET_ZEROED, &r->zeroed, e) ||
        yes_or_no(r, KEY_AGAIN, &r->again, e) ||
        yes_or_no(r, KEY_UNCOPIED, &r->uncopied, e) ||
        yes_or_no(r, KEY_LISTED, &r->listed, e))
        return -1;
    if (r->uncopied && r->plan != PLAN_LIST)
        return err_set(e, ERR_USER, "uncopied goes with plan list only");
    if (r->listed && r->plan != PLAN_ALLOCATED)
        return err_set(e, ERR_USER, "listed goes with plan allocated only");
    return 0;
}

static int
check_list(struct request *r, struct err *e)
{
    if (r->list.n && r->plan != PLAN_LIST && !r->listed)
        return err_set(e, ERR_USER, "extents do not go with plan %s",
                       plan_name(r->plan));
    for (size_t i = 0; i < r->list.n; i++)
        if (r->list.p[i].start >= r->disk_size)
            return err_set(e, ERR_USER,
                           "the extent at %llu begins past the disk's %llu "
                           "bytes",
                           (unsigned long long)r->list.p[i].start,
                           (unsigned long long)r->disk_size);
    extents_round(&r->list, r->disk_size);
    return 0;
}

static int
read_request(int fd, const struct wants *verb, struct request *r, struct err *e)
{
    struct lines l = { .fd = fd };
    int rc;

    *r = (struct request){ 0 };
    rc = read_lines(&l, r, e);
    /* The password was in there. */
    explicit_bzero(&l, sizeof l);
    if (rc || check_keys(r, verb, e) || read_numbers(r, e) ||
        read_words(r, verb, e) || check_list(r, e)) {
        request_fini(r);
        return -1;
    }
    return 0;
}

int
request_read(int fd, struct request *r, struct err *e)
{
    return read_request(fd, &verb_copy, r, e);
}

int
request_read_verify(int fd, struct request *r, struct err *e)
{
    return read_request(fd, &verb_verify, r, e);
}
