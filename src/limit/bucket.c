/* A rate that processes share: a time in a mapped file, moved on by whoever
 * takes (the generic cell rate algorithm). */
#include "limit/limit.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define NS_PER_S     1000000000ull
#define OPEN_TRIES   3 /* others may make or replace it meanwhile */
#define NAME_CHARS   180
#define BUCKET_MAGIC "v2c rate1"

/* Never leaves its machine: the order of bytes is the processor's. */
struct shared {
    char magic[16];
    _Atomic uint64_t rate, configured; /* bytes/s; 0: no limit */
    _Atomic int64_t paid_until; /* clock_ns() until which the bytes given out
                                 * so far last, at the rate */
    uint64_t spare[3];
};
_Static_assert(sizeof(struct shared) == 64, "the file has 64 bytes");

struct bucket {
    struct shared *s;
};

static uint64_t
bounded(uint64_t rate)
{
    return !rate             ? 0
           : rate < RATE_MIN ? RATE_MIN
           : rate > RATE_MAX ? RATE_MAX
                             : rate;
}

/* files ------------------------------------------------------------------- */

static struct shared
fresh(void)
{
    return (struct shared){ .magic = BUCKET_MAGIC };
}

/* Whole or not at all, and never over one that is there. */
static int
make_new(const char *path, struct err *e)
{
    defer_free char *tmp = xasprintf("%s.new.%d", path, (int)getpid());
    struct shared s = fresh();
    int rc;

    if (fs_replace(tmp, &s, sizeof s, 0600, e))
        return -1;
    rc = link(tmp, path) && errno != EEXIST;
    if (rc)
        err_errno(e, errno, "creating %s", path);
    unlink(tmp);
    return rc ? -1 : 0;
}

/* NULL: sound.  Else what is wrong with its contents. */
static const char *
damage(int fd, const struct stat *st)
{
    struct shared s, good = fresh();

    if (st->st_size != sizeof s)
        return "it has another size";
    if (fs_pread_all(fd, &s, sizeof s, 0))
        return "it cannot be read";
    return memcmp(s.magic, good.magic, sizeof s.magic) ? "its head is another"
                                                       : NULL;
}

static int
check_owner(const char *path, const struct stat *st, struct err *e)
{
    if (!S_ISREG(st->st_mode) || (st->st_uid != geteuid() && geteuid()))
        return err_set(e, ERR_USER,
                       "the limit %s is no file of ours; remove it", path);
    return 0;
}

/* *fd stays -1 where it was made or replaced: it has to be opened then. */
static int
open_file(const char *path, bool make, int *fd, struct err *e)
{
    defer_close int f = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct shared s = fresh();
    const char *wrong;
    struct stat st;

    if (f < 0 && errno == ELOOP)
        return err_set(e, ERR_USER, "the limit %s is a link; remove it", path);
    if (f < 0 && errno == ENOENT && make)
        return make_new(path, e);
    if (f < 0 || fstat(f, &st))
        return err_errno(e, errno, "opening the limit %s", path);
    if (check_owner(path, &st, e))
        return -1;
    wrong = damage(f, &st);
    if (!wrong) {
        *fd = take_fd(f);
        return 0;
    }
    if (!make)
        return err_set(e, ERR_DAMAGED,
                       "the limit %s is damaged (%s); remove it, the next "
                       "round makes it anew",
                       path, wrong);
    log_warn("the limit %s is damaged (%s); making it anew, without what was "
             "set by hand",
             path, wrong);
    return fs_replace(path, &s, sizeof s, 0600, e);
}

int
bucket_open(const char *path, bool make, struct bucket **out, struct err *e)
{
    defer_close int fd = -1;
    void *p;

    for (int i = 0; fd < 0 && i < OPEN_TRIES; i++)
        if (open_file(path, make, &fd, e))
            return -1;
    if (fd < 0)
        return err_set(e, ERR_BUSY, "the limit %s is being replaced by others",
                       path);
    p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED,
             fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, errno, "mapping the limit %s", path);
    *out = xcalloc(1, sizeof **out);
    (*out)->s = p;
    return 0;
}

struct bucket *
bucket_private(uint64_t rate)
{
    struct bucket *b = xcalloc(1, sizeof *b);
    void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert(p != MAP_FAILED);
    b->s = p;
    atomic_store(&b->s->rate, bounded(rate));
    return b;
}

void
bucket_close(struct bucket *b)
{
    if (!b)
        return;
    munmap(b->s, sizeof *b->s);
    free(b);
}

char *
bucket_path(const char *dir, const char *prefix, const char *name)
{
    defer(str_fini) struct str s = STR_INIT;
    uint64_t sum = 14695981039346656037ull; /* FNV-1a */

    for (const char *p = name; *p; p++) {
        unsigned char c = (unsigned char)*p;

        sum = (sum ^ c) * 1099511628211ull;
        if (s.n >= NAME_CHARS)
            continue;
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                   "0123456789._-",
                   c))
            str_addc(&s, *p);
        else
            str_addf(&s, "%%%02X", c);
    }
    if (s.n >= NAME_CHARS) /* cut: two long ones must stay apart */
        str_addf(&s, "%%%016llx", (unsigned long long)sum);
    return xasprintf("%s/%s-%s.rate", dir, prefix, str_text(&s));
}

/* the rate ---------------------------------------------------------------- */

uint64_t
bucket_rate(const struct bucket *b)
{
    return bounded(atomic_load(&b->s->rate));
}

uint64_t
bucket_configured(const struct bucket *b)
{
    return bounded(atomic_load(&b->s->configured));
}

void
bucket_set(struct bucket *b, uint64_t rate)
{
    atomic_store(&b->s->rate, bounded(rate));
}

void
bucket_configure(struct bucket *b, uint64_t rate)
{
    if (atomic_exchange(&b->s->configured, bounded(rate)) != bounded(rate))
        bucket_set(b, rate);
}

/* Nanoseconds that n bytes last, rounded up; below 2^57. */
static int64_t
cost_ns(uint64_t n, uint64_t rate)
{
    return (int64_t)((n * NS_PER_S + rate - 1) / rate);
}

bool
bucket_take(struct bucket *b, uint64_t n, int64_t now, int64_t *ready)
{
    uint64_t rate = bucket_rate(b);
    int64_t until = atomic_load(&b->s->paid_until), from;

    assert(n <= BUCKET_MAX);
    if (!rate)
        return true;
    do {
        from = until > now ? until : now;
        /* No take leads there: it was at a slower rate, before a reboot, or
         * is garbage. */
        if (from - now > BURST_NS + cost_ns(BUCKET_MAX, rate))
            from = now;
        if (from - now > BURST_NS) {
            *ready = from - BURST_NS;
            return false;
        }
    } while (!atomic_compare_exchange_weak(&b->s->paid_until, &until,
                                           from + cost_ns(n, rate)));
    return true;
}
