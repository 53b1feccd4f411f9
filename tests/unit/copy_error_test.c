/* VDDK's error codes against the table of the facts; how long a lost
 * connection is tried. */
#include "base/clock.h"
#include "copy/report.h"
#include "copy/source.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Every code that section 5.8 of the facts names, with what they say is to be
 * done: (f)or good, (a)gain on the handle, (s)hrink, (r)econnect, reconnect
 * (o)nce. */
static void
every_code_has_a_class_and_an_action(void **state)
{
    static const enum vddk_action actions[] = {
        ['f'] = VDDK_GIVE_UP, ['a'] = VDDK_AGAIN,     ['s'] = VDDK_FEWER,
        ['r'] = VDDK_ANEW,    ['o'] = VDDK_ANEW_ONCE,
    };
    static const struct {
        unsigned code;
        const char *class;
        char at_open, at_read;
        bool hint;
    } rows[] = {
        { 1, "remote", 'f', 'a', true },
        { 2, "busy", 'r', 's', true },
        { 3, "bug", 'f', 'f', false },
        { 4, "notfound", 'f', 'f', true },
        { 5, "busy", 'r', 'a', false },
        { 6, "remote", 'f', 'f', true },
        { 7, "remote", 'f', 'a', true },
        { 8, "remote", 'f', 'f', true },
        { 9, "remote", 'f', 'f', false },
        { 10, "busy", 'r', 'a', false },
        { 11, "remote", 'f', 'f', false },
        { 12, "remote", 'f', 'f', false },
        { 13, "remote", 'o', 'o', true },
        { 15, "busy", 'r', 'a', true },
        { 21, "remote", 'f', 'f', false },
        { 24, "bug", 'f', 'f', false },
        { 26, "net", 'r', 'r', true },
        { 27, "remote", 'f', 'f', true },
        { 32, "remote", 'f', 'f', true },
        { 36, "net", 'r', 'r', true },
        { 1000, "bug", 'f', 'f', false },
        { 1002, "busy", 'r', 'f', true },
        { 2000, "notfound", 'f', 'f', true },
        { 3047, "auth", 'f', 'o', true },
        { 4000, "notfound", 'f', 'f', true },
        { 13000, "notfound", 'f', 'f', true },
        { 13012, "notfound", 'f', 'f', true },
        { 13024, "notfound", 'f', 'f', true },
        { 14003, "net", 'r', 'r', true },
        { 14004, "net", 'r', 'r', true },
        { 14005, "net", 'r', 'r', true },
        { 14006, "net", 'r', 'r', true },
        { 14007, "net", 'r', 'r', true },
        { 14008, "net", 'r', 'r', true },
        { 14009, "net", 'r', 'r', true },
        { 14010, "net", 'r', 'r', true },
        { 14011, "net", 'r', 'r', true },
        { 14012, "net", 'r', 'r', true },
        { 14013, "net", 'r', 'r', true },
        { 14014, "net", 'r', 'r', true },
        { 14015, "net", 'r', 'r', true },
        { 16000, "remote", 'f', 'f', false },
        { 16001, "bug", 'f', 'f', false },
        { 16002, "remote", 'r', 'a', true },
        { 16003, "remote", 'f', 'f', true },
        { 16006, "remote", 'f', 'f', true },
        { 16007, "damaged", 'f', 'f', true },
        { 16008, "remote", 'f', 'f', true },
        { 16012, "remote", 'f', 'f', true },
        { 16013, "remote", 'f', 'f', false },
        { 16014, "auth", 'f', 'f', true },
        { 16027, "busy", 'f', 'f', true },
        { 16030, "remote", 'f', 'f', true },
        { 16052, "auth", 'f', 'f', true },
        { 16053, "remote", 'f', 'f', true },
        { 16054, "net", 'r', 'r', true },
        { 16063, "remote", 'f', 'f', true },
        { 16064, "remote", 'f', 'f', true },
        { 16067, "damaged", 'f', 'f', true },
        { 16068, "remote", 'f', 'f', true },
        { 18000, "net", 'r', 'r', true },
        { 25000, "bug", 'f', 'f', false },
        { 26000, "bug", 'f', 'f', false },
        { 30001, "net", 'r', 'r', true },
        { 30035, "auth", 'f', 'f', true },
        { 30100, "net", 'r', 'r', true },
        { 30201, "auth", 'f', 'f', true },
        { 30202, "net", 'r', 'r', true },
        { 99999, "remote", 'f', 'f', false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct vddk_meaning is = vddk_meaning(rows[i].code);

        if (strcmp(err_class_name(is.class), rows[i].class) ||
            is.at_open != actions[(int)rows[i].at_open] ||
            is.at_read != actions[(int)rows[i].at_read] ||
            rows[i].hint != (*is.hint != '\0'))
            fail_msg("code %u: class %s, at open %d, at read %d, '%s'",
                     rows[i].code, err_class_name(is.class), is.at_open,
                     is.at_read, is.hint);
    }
}

static void
pauses_grow_until_patience_ends(void **state)
{
    struct comeback c = { .patience_ms = 60000 };
    int64_t last = 0;
    struct err e;
    int rc = 0;

    (void)state;
    for (int i = 0; i < 5; i++) {
        int64_t before = clock_ms();

        err_set(&e, ERR_NET, "lost");
        assert_int_equal(comeback_after(&c, &e), 0);
        /* three to five quarters of twice the one before */
        assert_true(c.due_ms - before > last * 6 / 5);
        last = c.due_ms - before;
    }
    assert_true(last >= 6000 && last <= 11000);
    c.since_ms -= 60000;
    rc = comeback_after(&c, &e);
    assert_int_equal(rc, -1);
    assert_int_equal(e.class, ERR_NET);
    assert_non_null(strstr(e.msg, "given up after 60 s and 6 tries: lost"));
    /* A good answer makes the next loss a new one. */
    comeback_worked(&c);
    assert_int_equal(comeback_after(&c, &e), 0);
    assert_true(c.due_ms - clock_ms() <= 1000);
}

static void
nothing_is_tried_beyond_patience(void **state)
{
    struct comeback c = { .patience_ms = 100 };
    struct err e;

    (void)state;
    err_set(&e, ERR_NET, "lost");
    assert_int_equal(comeback_after(&c, &e), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_class_and_an_action),
        cmocka_unit_test(pauses_grow_until_patience_ends),
        cmocka_unit_test(nothing_is_tried_beyond_patience),
    };

    report_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
