/* Extents against a bitmap; the block map against a model and against
 * damage. */
#include "base/fs.h"
#include "base/str.h"
#include "disk/disk.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define BITS      64
#define PAGE      4096
#define PAGES_AT  8192
#define PLAN_SIZE (300u * DISK_BLOCK + 512) /* one page of the map */

static char dir[] = "/tmp/disk_test.XXXXXX";
static char *path;

static int
setup(void **state)
{
    (void)state;
    path = xasprintf("%s/disk-2000.map", dir);
    return 0;
}

static int
teardown(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    fs_remove(path, &e);
    free(path);
    return e.class;
}

/* extents ----------------------------------------------------------------- */

static unsigned seed = 20261121;

static unsigned
draw(unsigned n)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % n;
}

static uint64_t
bits_of(const struct extents *x)
{
    uint64_t bits = 0;

    for (size_t i = 0; i < x->n; i++)
        for (uint64_t k = 0; k < x->p[i].length; k++)
            bits |= 1ull << (x->p[i].start + k);
    return bits;
}

static void
draw_extents(struct extents *x)
{
    x->n = 0;
    for (unsigned i = draw(8); i; i--) {
        uint64_t start = draw(BITS);

        vec_push(x, (struct extent){ start, draw((unsigned)(BITS - start)) });
    }
}

static void
assert_tidy(const struct extents *x)
{
    for (size_t i = 0; i < x->n; i++) {
        assert_true(x->p[i].length > 0);
        if (i)
            assert_true(x->p[i].start > x->p[i - 1].start + x->p[i - 1].length);
    }
}

static void
extents_are_sets(void **state)
{
    defer_extents struct extents a = { 0 };
    defer_extents struct extents b = { 0 };
    defer_extents struct extents c = { 0 };

    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t x, y;

        draw_extents(&a);
        draw_extents(&b);
        x = bits_of(&a);
        y = bits_of(&b);
        extents_sort(&a);
        extents_sort(&b);
        assert_tidy(&a);
        assert_int_equal(bits_of(&a), x);
        assert_int_equal(extents_total(&a), __builtin_popcountll(x));
        extents_union(&a, &b, &c);
        assert_tidy(&c);
        assert_int_equal(bits_of(&c), x | y);
        extents_intersect(&a, &b, &c);
        assert_tidy(&c);
        assert_int_equal(bits_of(&c), x & y);
        extents_subtract(&a, &b, &c);
        assert_tidy(&c);
        assert_int_equal(bits_of(&c), x & ~y);
    }
}

static void
rounding_goes_out_and_is_clipped(void **state)
{
    defer_extents struct extents x = { 0 };
    uint64_t size = 10 * DISK_BLOCK + 512;

    (void)state;
    vec_push(&x, (struct extent){ 9 * DISK_BLOCK + 700, 2 * DISK_BLOCK });
    vec_push(&x, (struct extent){ 512, 1 });
    vec_push(&x, (struct extent){ DISK_BLOCK, 512 });
    vec_push(&x, (struct extent){ 5 * DISK_BLOCK - 1, 2 });
    vec_push(&x, (struct extent){ size, 4096 });
    vec_push(&x, (struct extent){ 7 * DISK_BLOCK, 0 });
    extents_round(&x, size);
    assert_int_equal(x.n, 3);
    assert_int_equal(x.p[0].start, 0);
    assert_int_equal(x.p[0].length, 2 * DISK_BLOCK);
    assert_int_equal(x.p[1].start, 4 * DISK_BLOCK);
    assert_int_equal(x.p[1].length, 2 * DISK_BLOCK);
    assert_int_equal(x.p[2].start, 9 * DISK_BLOCK);
    assert_int_equal(x.p[2].length, DISK_BLOCK + 512);
}

static void
small_gaps_are_filled(void **state)
{
    defer_extents struct extents x = { 0 };

    (void)state;
    extents_add(&x, 0, 10);
    extents_add(&x, 14, 6);
    extents_add(&x, 25, 5);
    extents_coalesce(&x, 5);
    assert_int_equal(x.n, 2);
    assert_int_equal(x.p[0].length, 20);
    assert_int_equal(x.p[1].start, 25);
}

static void
digest_tells_areas_apart(void **state)
{
    defer_extents struct extents a = { 0 };
    defer_extents struct extents b = { 0 };

    (void)state;
    assert_int_equal(extents_digest(&a), extents_digest(&b));
    extents_add(&a, 0, 512);
    assert_int_not_equal(extents_digest(&a), extents_digest(&b));
    extents_add(&b, 0, 512);
    assert_int_equal(extents_digest(&a), extents_digest(&b));
}

/* map --------------------------------------------------------------------- */

static struct map *
open_map(uint64_t size)
{
    struct err e = ERR_INIT;
    struct map *m = NULL;

    if (map_open(&m, path, "disk-uuid", size, "target", &e))
        fail_msg("%s", e.msg);
    return m;
}

static struct map_entry
get(struct map *m, uint64_t block)
{
    struct err e = ERR_INIT;
    struct map_entry x;

    if (map_get(m, block, &x, &e))
        fail_msg("%s", e.msg);
    return x;
}

static void
put(struct map *m, uint64_t block, uint64_t hash, uint8_t flags)
{
    struct map_change c = { block, { hash, flags } };
    struct err e = ERR_INIT;

    if (map_apply(m, &c, 1, &e))
        fail_msg("%s", e.msg);
}

static void
begin_all(struct map *m, const char *plan, bool zeroed)
{
    defer_extents struct extents x = { 0 };
    struct err e = ERR_INIT;

    extents_add(&x, 0, map_head(m)->size);
    if (map_begin(m, plan, 7, &x, zeroed, &e))
        fail_msg("%s", e.msg);
}

static void
flip(off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t c;

    assert_int_equal(fs_pread_all(fd, &c, 1, at), 0);
    c ^= 0x40;
    assert_int_equal(fs_pwrite_all(fd, &c, 1, at), 0);
    close(fd);
}

static void
map_keeps_what_was_applied(void **state)
{
    struct map *m = open_map(PLAN_SIZE);

    (void)state;
    assert_int_equal(get(m, 5).flags, 0);
    put(m, 5, 0x1122334455667788ull, MAP_COPIED);
    put(m, 300, 42, MAP_COPIED | MAP_ZERO);
    map_close(m);
    m = open_map(PLAN_SIZE);
    assert_int_equal(get(m, 5).hash, 0x1122334455667788ull);
    assert_int_equal(get(m, 5).flags, MAP_COPIED);
    assert_int_equal(get(m, 300).flags, MAP_COPIED | MAP_ZERO);
    assert_int_equal(get(m, 6).flags, 0);
    map_close(m);
}

static void
map_agrees_with_a_model(void **state)
{
    enum { BLOCKS = 100000, ROUNDS = 60, BATCH = 700 };
    struct map_entry *model = xcalloc(BLOCKS, sizeof *model);
    struct map *m = open_map((uint64_t)BLOCKS * DISK_BLOCK);

    (void)state;
    for (int r = 0; r < ROUNDS; r++) {
        struct map_change c[BATCH];
        struct err e = ERR_INIT;
        unsigned base = draw(BLOCKS - BATCH), n = 0;
        bool scattered = r % 2;

        for (unsigned i = 0; i < BATCH; i++) {
            uint64_t block = scattered ? draw(BLOCKS) : base + BATCH - 1 - i;
            struct map_entry x = { draw(1u << 20), 1 + draw(7) };

            for (unsigned k = 0; k < n; k++)
                if (c[k].block == block)
                    block = UINT64_MAX;
            if (block == UINT64_MAX)
                continue;
            model[block] = x;
            c[n++] = (struct map_change){ block, x };
        }
        assert_int_equal(map_apply(m, c, n, &e), 0);
        for (unsigned i = 0; i < 2000; i++) {
            unsigned at = draw(BLOCKS);

            assert_int_equal(get(m, at).hash, model[at].hash);
            assert_int_equal(get(m, at).flags, model[at].flags);
        }
    }
    map_close(m);
    m = open_map((uint64_t)BLOCKS * DISK_BLOCK);
    for (unsigned i = 0; i < BLOCKS; i++) {
        assert_int_equal(get(m, i).hash, model[i].hash);
        assert_int_equal(get(m, i).flags, model[i].flags);
    }
    map_close(m);
    free(model);
}

static void
map_of_another_disk_is_refused(void **state)
{
    static const struct {
        const char *disk, *target, *word;
        uint64_t size;
    } wrong[] = {
        { "other-uuid", "target", "other-uuid", PLAN_SIZE },
        { "disk-uuid", "other", "of target", PLAN_SIZE },
        { "disk-uuid", "target", "bytes", PLAN_SIZE + 512 },
    };

    (void)state;
    map_close(open_map(PLAN_SIZE));
    for (size_t i = 0; i < 3; i++) {
        struct err e = ERR_INIT;
        struct map *m;

        assert_int_equal(map_open(&m, path, wrong[i].disk, wrong[i].size,
                                  wrong[i].target, &e),
                         -1);
        assert_int_equal(e.class, ERR_DAMAGED);
        assert_non_null(strstr(e.msg, wrong[i].word));
    }
}

static void
map_has_one_writer(void **state)
{
    struct map *m = open_map(PLAN_SIZE), *second;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(
        map_open(&second, path, "disk-uuid", PLAN_SIZE, "target", &e), -1);
    assert_int_equal(e.class, ERR_BUSY);
    map_close(m);
    map_close(open_map(PLAN_SIZE));
}

static void
torn_page_is_dirty(void **state)
{
    uint64_t size = 3ull * MAP_PAGE_BLOCKS * DISK_BLOCK;
    struct map *m = open_map(size);
    defer_extents struct extents x = { 0 };
    struct map_summary s;
    struct err e = ERR_INIT;
    uint64_t first;

    (void)state;
    for (uint64_t i = 0; i < 3ull * MAP_PAGE_BLOCKS; i++)
        put(m, i, i, MAP_COPIED);
    map_close(m);
    flip(PAGES_AT + PAGE + 1234);
    assert_int_equal(map_summary(path, &s, &e), 0);
    assert_int_equal(s.torn, MAP_PAGE_BLOCKS);
    assert_int_equal(s.dirty, MAP_PAGE_BLOCKS);
    assert_int_equal(s.copied, 2 * MAP_PAGE_BLOCKS);
    extents_add(&x, 0, size);
    assert_int_equal(map_covers(path, &x, &first, &e), 0);
    assert_int_equal(first, (uint64_t)MAP_PAGE_BLOCKS * DISK_BLOCK);
    x.p[0].length = (uint64_t)MAP_PAGE_BLOCKS * DISK_BLOCK;
    assert_int_equal(map_covers(path, &x, &first, &e), 1);
    m = open_map(size);
    assert_int_equal(get(m, MAP_PAGE_BLOCKS).flags, MAP_DIRTY);
    assert_int_equal(map_dirty(m, false, &x, &e), 0);
    assert_int_equal(x.n, 1);
    assert_int_equal(x.p[0].start, (uint64_t)MAP_PAGE_BLOCKS * DISK_BLOCK);
    assert_int_equal(x.p[0].length, (uint64_t)MAP_PAGE_BLOCKS * DISK_BLOCK);
    put(m, MAP_PAGE_BLOCKS, 9, MAP_COPIED);
    map_close(m);
    m = open_map(size);
    assert_int_equal(get(m, MAP_PAGE_BLOCKS).flags, MAP_COPIED);
    assert_int_equal(get(m, MAP_PAGE_BLOCKS + 1).flags, MAP_DIRTY);
    map_close(m);
}

static void
what_was_never_copied_is_found(void **state)
{
    uint64_t size = 4ull * MAP_PAGE_BLOCKS * DISK_BLOCK + 512;
    uint64_t last = 2ull * MAP_PAGE_BLOCKS * DISK_BLOCK;
    struct map *m = open_map(size);
    defer_extents struct extents x = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    begin_all(m, "base", true);
    assert_int_equal(map_dirty(m, true, &x, &e), 0);
    assert_int_equal(x.n, 1);
    assert_int_equal(x.p[0].length, size);
    put(m, 3, 1, MAP_COPIED);
    put(m, 4, 1, MAP_COPIED | MAP_DIRTY);
    put(m, 2 * MAP_PAGE_BLOCKS, 1, MAP_COPIED);
    assert_int_equal(map_dirty(m, true, &x, &e), 0);
    assert_int_equal(x.n, 3);
    assert_int_equal(x.p[0].length, 3 * DISK_BLOCK);
    assert_int_equal(x.p[1].start, 4 * DISK_BLOCK);
    assert_int_equal(x.p[1].length, last - 4 * DISK_BLOCK);
    assert_int_equal(x.p[2].start, last + DISK_BLOCK);
    assert_int_equal(x.p[2].length, size - last - DISK_BLOCK);
    assert_int_equal(map_holes_zero(m, &e), 0);
    assert_int_equal(map_dirty(m, true, &x, &e), 0);
    assert_int_equal(x.n, 1);
    assert_int_equal(x.p[0].length, DISK_BLOCK);
    map_close(m);
}

/* A page that ended up in another page's place is no page of this disk. */
static void
page_in_a_wrong_place_is_dirty(void **state)
{
    uint64_t size = 2ull * MAP_PAGE_BLOCKS * DISK_BLOCK;
    struct map *m = open_map(size);
    uint8_t page[PAGE];
    int fd;

    (void)state;
    put(m, 0, 1, MAP_COPIED);
    put(m, MAP_PAGE_BLOCKS, 2, MAP_COPIED);
    map_close(m);
    fd = open(path, O_RDWR);
    assert_int_equal(fs_pread_all(fd, page, PAGE, PAGES_AT), 0);
    assert_int_equal(fs_pwrite_all(fd, page, PAGE, PAGES_AT + PAGE), 0);
    close(fd);
    m = open_map(size);
    assert_int_equal(get(m, 0).flags, MAP_COPIED);
    assert_int_equal(get(m, MAP_PAGE_BLOCKS).flags, MAP_DIRTY);
    map_close(m);
}

static void
torn_header_leaves_the_one_before(void **state)
{
    struct map *m = open_map(PLAN_SIZE);
    struct err e = ERR_INIT;

    (void)state;
    begin_all(m, "first", false);
    begin_all(m, "second", false);
    map_close(m);
    /* Generations 1 (empty), 2 (first), 3 (second): the third is in slot 1. */
    flip(PAGE + 100);
    m = open_map(PLAN_SIZE);
    assert_string_equal(map_head(m)->plan, "first");
    begin_all(m, "third", false);
    map_close(m);
    flip(0 + 100);
    m = open_map(PLAN_SIZE);
    assert_string_equal(map_head(m)->plan, "third");
    map_close(m);
    flip(PAGE + 100);
    assert_int_equal(map_open(&m, path, "disk-uuid", PLAN_SIZE, "target", &e),
                     -1);
    assert_int_equal(e.class, ERR_DAMAGED);
}

/* The next header would be written over it, and could be torn. */
static void
header_in_a_wrong_place_does_not_count(void **state)
{
    struct map *m = open_map(PLAN_SIZE);
    struct err e = ERR_INIT;
    uint8_t slot[PAGE];
    int fd;

    (void)state;
    begin_all(m, "first", false);
    map_close(m);
    fd = open(path, O_RDWR);
    assert_int_equal(fs_pread_all(fd, slot, PAGE, 0), 0);
    assert_int_equal(fs_pwrite_all(fd, slot, PAGE, PAGE), 0);
    close(fd);
    map_close(open_map(PLAN_SIZE));
    flip(0 + 100);
    assert_int_equal(map_open(&m, path, "disk-uuid", PLAN_SIZE, "target", &e),
                     -1);
    assert_int_equal(e.class, ERR_DAMAGED);
}

static void
zeroes_have_their_hash(void **state)
{
    static const uint8_t zeroes[DISK_BLOCK];

    (void)state;
    for (size_t n = 512; n <= DISK_BLOCK; n += 512)
        assert_int_equal(disk_zero_hash(n), disk_hash(zeroes, n));
}

static void
new_round_marks_before_it_is_named(void **state)
{
    struct map *m = open_map(PLAN_SIZE);

    (void)state;
    begin_all(m, "base", true);
    assert_string_equal(map_head(m)->born, "base");
    assert_true(map_head(m)->zeroed);
    put(m, 1, 11, MAP_COPIED);
    put(m, 2, 22, MAP_DIRTY | MAP_COPIED);
    begin_all(m, "delta", true);
    assert_string_equal(map_head(m)->plan, "delta");
    assert_string_equal(map_head(m)->born, "");
    assert_int_equal(get(m, 1).flags, MAP_COPIED | MAP_DIRTY);
    assert_int_equal(get(m, 1).hash, 11);
    assert_int_equal(get(m, 2).flags, MAP_DIRTY);
    assert_int_equal(get(m, 3).flags, 0);
    /* The first plan's id coming back does not make it the born one. */
    begin_all(m, "base", true);
    assert_string_equal(map_head(m)->born, "");
    map_close(m);
}

static void
zeroed_is_a_matter_of_birth(void **state)
{
    struct map *m = open_map(PLAN_SIZE);

    (void)state;
    begin_all(m, "base", false);
    assert_false(map_head(m)->zeroed);
    begin_all(m, "next", true);
    assert_false(map_head(m)->zeroed);
    map_close(m);
}

static void
holes_of_a_zeroed_target_count(void **state)
{
    struct map *m = open_map(PLAN_SIZE);
    defer_extents struct extents x = { 0 };
    struct map_summary s;
    struct err e = ERR_INIT;

    (void)state;
    begin_all(m, "base", true);
    put(m, 7, 77, MAP_COPIED);
    extents_add(&x, 0, PLAN_SIZE);
    assert_int_equal(map_covers(path, &x, NULL, &e), 0);
    assert_int_equal(map_holes_zero(m, &e), 0);
    assert_int_equal(map_covers(path, &x, NULL, &e), 1);
    assert_int_equal(get(m, 8).flags, MAP_COPIED | MAP_ZERO);
    assert_int_equal(get(m, 8).hash, disk_zero_hash(DISK_BLOCK));
    assert_int_equal(get(m, 300).hash, disk_zero_hash(512));
    assert_int_equal(map_summary(path, &s, &e), 0);
    assert_int_equal(s.blocks, 301);
    assert_int_equal(s.copied, 301);
    assert_int_equal(s.zero, 300);
    begin_all(m, "delta", true);
    assert_int_equal(get(m, 8).flags, MAP_COPIED | MAP_ZERO | MAP_DIRTY);
    assert_int_equal(map_covers(path, &x, NULL, &e), 0);
    map_close(m);
}

/* Beyond pages that the file does not hold, in the middle of the last one. */
static void
what_is_left_is_found_behind_holes(void **state)
{
    uint64_t last = 3ull * MAP_PAGE_BLOCKS + 7;
    uint64_t size = last * DISK_BLOCK + 512, left, first = 1;
    struct map *m = open_map(size);
    defer_extents struct extents x = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    begin_all(m, "base", true);
    extents_add(&x, 0, size);
    assert_int_equal(map_left(m, &x, &left, &first, &e), 0);
    assert_int_equal(left, size);
    assert_int_equal(first, 0);
    put(m, MAP_PAGE_BLOCKS, 1, MAP_COPIED);
    put(m, last, 1, MAP_COPIED);
    assert_int_equal(map_left(m, &x, &left, NULL, &e), 0);
    assert_int_equal(left, size - DISK_BLOCK - 512);
    assert_int_equal(map_holes_zero(m, &e), 0);
    assert_int_equal(map_left(m, &x, &left, &first, &e), 0);
    assert_int_equal(left, 0);
    put(m, last, 1, MAP_COPIED | MAP_DIRTY);
    assert_int_equal(map_left(m, &x, &left, &first, &e), 0);
    assert_int_equal(left, 512);
    assert_int_equal(first, last * DISK_BLOCK);
    map_close(m);
}

static void
a_round_marks_behind_holes(void **state)
{
    uint64_t at = 2ull * MAP_PAGE_BLOCKS + 7;
    struct map *m = open_map((at + 9) * DISK_BLOCK);

    (void)state;
    begin_all(m, "base", false);
    put(m, at, 1, MAP_COPIED);
    begin_all(m, "delta", false);
    assert_int_equal(get(m, at).flags, MAP_COPIED | MAP_DIRTY);
    assert_int_equal(get(m, at + 1).flags, 0);
    map_close(m);
}

static void
prove(struct map *m, uint64_t block, bool good)
{
    struct map_proof p = { block, good };
    struct err e = ERR_INIT;

    if (map_prove(m, &p, 1, &e))
        fail_msg("%s", e.msg);
}

static void
proof_lasts_until_the_next_write(void **state)
{
    struct map_summary s;
    struct err e = ERR_INIT;
    struct map *m = open_map(PLAN_SIZE);

    (void)state;
    begin_all(m, "base", false);
    put(m, 1, 11, MAP_COPIED);
    put(m, 2, 22, MAP_COPIED);
    prove(m, 1, true);
    prove(m, 3, true); /* never copied */
    assert_int_equal(get(m, 1).flags, MAP_COPIED | MAP_VERIFIED);
    assert_int_equal(get(m, 1).hash, 11);
    assert_int_equal(get(m, 3).flags, 0);
    map_close(m);
    assert_int_equal(map_summary(path, &s, &e), 0);
    assert_int_equal(s.copied, 2);
    assert_int_equal(s.verified, 1);
    m = open_map(PLAN_SIZE);
    begin_all(m, "delta", false);
    assert_int_equal(get(m, 1).flags, MAP_COPIED | MAP_DIRTY);
    prove(m, 1, true); /* it may have been written to */
    assert_int_equal(get(m, 1).flags, MAP_COPIED | MAP_DIRTY);
    put(m, 1, 11, MAP_COPIED);
    prove(m, 1, true);
    put(m, 1, 12, MAP_COPIED);
    assert_int_equal(get(m, 1).flags, MAP_COPIED);
    map_close(m);
}

static void
what_differs_is_owed(void **state)
{
    struct err e = ERR_INIT;
    defer_extents struct extents x = { 0 };
    struct map_look look;
    struct map *m = open_map(PLAN_SIZE);

    (void)state;
    begin_all(m, "base", true);
    put(m, 1, 11, MAP_COPIED);
    assert_int_equal(map_holes_zero(m, &e), 0);
    assert_int_equal(map_look(m, 300, &look, &e), 0);
    assert_true(look.implied);
    assert_int_equal(look.flags, MAP_COPIED | MAP_ZERO);
    prove(m, 1, true);
    prove(m, 1, false);
    prove(m, 300, false);
    prove(m, 7, true);
    map_close(m);
    m = open_map(PLAN_SIZE);
    assert_int_equal(get(m, 1).flags, MAP_DIRTY);
    assert_int_equal(get(m, 1).hash, 0);
    assert_int_equal(get(m, 300).flags, MAP_DIRTY);
    assert_int_equal(get(m, 7).flags, MAP_COPIED | MAP_ZERO | MAP_VERIFIED);
    assert_int_equal(get(m, 7).hash, disk_zero_hash(DISK_BLOCK));
    assert_int_equal(map_look(m, 7, &look, &e), 0);
    assert_false(look.implied);
    assert_int_equal(map_dirty(m, false, &x, &e), 0);
    assert_int_equal(extents_total(&x), DISK_BLOCK + 512);
    map_close(m);
}

static void
only_an_old_map_is_verified(void **state)
{
    struct err e = ERR_INIT;
    struct map *m;

    (void)state;
    assert_int_equal(
        map_open_old(&m, path, "disk-uuid", PLAN_SIZE, "target", &e), -1);
    assert_int_equal(e.class, ERR_NOTFOUND);
    assert_false(fs_exists(path));
    map_close(open_map(PLAN_SIZE));
    assert_int_equal(
        map_open_old(&m, path, "disk-uuid", PLAN_SIZE, "target", &e), 0);
    map_close(m);
}

static void
foreign_file_is_no_map(void **state)
{
    struct err e = ERR_INIT;
    struct map *m;

    (void)state;
    assert_int_equal(fs_replace(path, "hello", 5, 0600, &e), 0);
    assert_int_equal(map_open(&m, path, "disk-uuid", PLAN_SIZE, "target", &e),
                     -1);
    assert_int_equal(e.class, ERR_DAMAGED);
    assert_int_equal(
        map_summary("/nonexistent/map", &(struct map_summary){ 0 }, &e), -1);
    assert_int_equal(e.class, ERR_NOTFOUND);
}

static void
ids_have_a_bound(void **state)
{
    char id[MAP_TARGET_ID_MAX + 1];
    struct err e = ERR_INIT;
    struct map *m;

    (void)state;
    memset(id, 'x', sizeof id);
    id[MAP_TARGET_ID_MAX] = '\0';
    assert_int_equal(map_open(&m, path, "disk-uuid", PLAN_SIZE, id, &e), -1);
    assert_int_equal(e.class, ERR_USER);
    assert_false(fs_exists(path));
}

#define MAP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents_are_sets),
        cmocka_unit_test(rounding_goes_out_and_is_clipped),
        cmocka_unit_test(small_gaps_are_filled),
        cmocka_unit_test(digest_tells_areas_apart),
        MAP_TEST(map_keeps_what_was_applied),
        MAP_TEST(map_agrees_with_a_model),
        MAP_TEST(map_of_another_disk_is_refused),
        MAP_TEST(map_has_one_writer),
        MAP_TEST(torn_page_is_dirty),
        MAP_TEST(what_was_never_copied_is_found),
        MAP_TEST(page_in_a_wrong_place_is_dirty),
        MAP_TEST(torn_header_leaves_the_one_before),
        MAP_TEST(header_in_a_wrong_place_does_not_count),
        cmocka_unit_test(zeroes_have_their_hash),
        MAP_TEST(new_round_marks_before_it_is_named),
        MAP_TEST(zeroed_is_a_matter_of_birth),
        MAP_TEST(holes_of_a_zeroed_target_count),
        MAP_TEST(proof_lasts_until_the_next_write),
        MAP_TEST(what_differs_is_owed),
        MAP_TEST(only_an_old_map_is_verified),
        MAP_TEST(what_is_left_is_found_behind_holes),
        MAP_TEST(a_round_marks_behind_holes),
        MAP_TEST(foreign_file_is_no_map),
        MAP_TEST(ids_have_a_bound),
    };
    struct err e = ERR_INIT;
    int rc;

    if (!mkdtemp(dir))
        return 1;
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    return fs_remove_tree(dir, &e) ? 1 : rc;
}
