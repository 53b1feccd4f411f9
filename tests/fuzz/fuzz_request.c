/* The copier's requests: any text. */
#include "fuzz.h"
#include "copy/pace.h"
#include "copy/request.h"

#include <sys/mman.h>
#include <unistd.h>

/* In the seeds the value of source.password, and nowhere else. */
#define PASSWORD "s3cr3t"

static bool
holds(const uint8_t *data, size_t n, const char *text)
{
    return memmem(data, n, text, strlen(text));
}

/* Only where it is plain that it was meant as one. */
static bool
has_password(const uint8_t *data, size_t n)
{
    static const char key[] = "\nsource.password";
    const uint8_t *at = memmem(data, n, key, sizeof key - 1);
    size_t off = at ? (size_t)(at - data) + sizeof key : n;

    if (off + sizeof PASSWORD > n)
        return false;
    return !memcmp(data + off, PASSWORD, sizeof PASSWORD - 1) &&
           !holds(data, off, PASSWORD) &&
           !holds(data + off + 1, n - off - 1, PASSWORD);
}

static void
check_extents(const struct request *r)
{
    uint64_t end = 0;

    for (size_t i = 0; i < r->list.n; i++) {
        const struct extent *x = &r->list.p[i];

        check(x->length && x->start % DISK_BLOCK == 0);
        check(!i || x->start > end);
        end = x->start + x->length;
        check(end <= r->disk_size);
        check(end % DISK_BLOCK == 0 || end == r->disk_size);
    }
    check(!r->list.n || r->plan == PLAN_LIST || r->listed);
}

static void
check_request(const struct request *r)
{
    check(r->disk_size && r->disk_size % DISK_SECTOR == 0);
    check(r->disk_size <= DISK_SIZE_MAX);
    check(r->slots && r->slots <= COPY_SLOTS_MAX);
    check(r->bytes && r->bytes % DISK_BLOCK == 0);
    check(r->bytes <= PACE_REQUEST_MAX);
    check(r->gap <= PACE_REQUEST_MAX || r->gap == COPY_GAP_AUTO);
    check(r->rate <= COPY_RATE_MAX && r->timeout_ms >= 1000);
    check(!r->text[KEY_PASSWORD] && (!r->uncopied || r->plan == PLAN_LIST));
    for (size_t i = 0; i < KEY_COUNT; i++)
        check(!r->text[i] || (*r->text[i] && !strpbrk(r->text[i], "\n\r\t")));
    check(!r->listed || r->plan == PLAN_ALLOCATED);
    for (size_t i = 0; i < 4; i++)
        check(*request_text(r, (enum key[]){ KEY_TARGET_URI, KEY_TARGET_ID,
                                             KEY_DISK_ID, KEY_MAP }[i]));
    check_extents(r);
}

static void
read_it(int file, const uint8_t *data, size_t n, bool verify)
{
    struct err e = ERR_INIT;
    struct request r;

    check(!lseek(file, 0, SEEK_SET));
    if (verify ? request_read_verify(file, &r, &e)
               : request_read(file, &r, &e)) {
        check(e.class == ERR_USER && *e.msg && !strpbrk(e.msg, "\n\r"));
        check(!has_password(data, n) || !strstr(e.msg, PASSWORD));
        return;
    }
    check_request(&r);
    check(verify || (*request_text(&r, KEY_PLAN_ID) && !r.compare));
    check(!verify || (r.sample >= 1 && r.sample <= 100));
    request_fini(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int file = -1;

    if (file < 0)
        file = memfd_create("request", MFD_CLOEXEC);
    check(file >= 0 && !ftruncate(file, 0));
    check(pwrite(file, data, n, 0) == (ssize_t)n);
    read_it(file, data, n, false);
    read_it(file, data, n, true);
    return 0;
}
