/* TLS of our client: who is let through, and that nobody else is told what
 * we wanted. */
#include "net_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 3

static void
right_pin_is_accepted_in_each_form(void **state)
{
    char bare[65],
        *to = bare, *const forms[] = { here.sha1, here.sha256, bare };

    (void)state;
    for (const char *p = here.sha256; *p; p++)
        if (*p != ':')
            *to++ = *p >= 'A' ? (char)(*p | 0x20) : *p;
    *to = '\0';
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct http_opts o = { .thumbprint = forms[i] };
        defer(http_res_fini) struct http_res r = { 0 };
        struct err e = ERR_INIT;

        if (get(&o, tls, "/", &r, &e))
            fail_msg("%s", e.msg);
        assert_int_equal(r.status, 201);
    }
}

static void
right_pin_needs_no_host_name(void **state)
{
    struct http_opts o = { .thumbprint = elsewhere.sha256 };
    defer(http_res_fini) struct http_res r = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(get(&o, foreign, "/", &r, &e), 0);
}

static void
wrong_pin_is_refused_before_the_request(void **state)
{
    const char *const wrong[] = { elsewhere.sha1, elsewhere.sha256 };
    const char *const seen[] = { here.sha1, here.sha256 };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct http_opts o = { .thumbprint = wrong[i] };
        struct http_res r;
        struct err e = ERR_INIT;
        int before = calls;

        assert_int_equal(get(&o, tls, "/", &r, &e), -1);
        assert_int_equal(e.class, ERR_AUTH);
        assert_non_null(strstr(e.msg, seen[i]));
        assert_non_null(strstr(e.msg, wrong[i]));
        assert_int_equal(calls, before);
    }
}

static void
pin_is_checked_on_every_connection(void **state)
{
    struct http_opts o = { .thumbprint = here.sha256 };
    defer_free char *good = url_of(tls, "/"), *bad = url_of(foreign, "/");
    struct http_req q = { .url = good }, q2 = { .url = bad };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        struct http_res r;

        assert_int_equal(http_do(h, &q, &r, &e), 0);
        http_res_fini(&r);
        assert_string_equal(http_peer_sha1(h), here.sha1);
        assert_string_equal(http_peer_sha256(h), here.sha256);
        assert_int_equal(http_do(h, &q2, &r, &e), -1);
        assert_int_equal(e.class, ERR_AUTH);
        assert_string_equal(http_peer_sha256(h), elsewhere.sha256);
    }
}

static void
text_that_is_no_pin_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "AB",
        "AB:CD",
        "xyz",
        "00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:0",
        "00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:",
        "000000000000000000000000000000000000000g",
        "00000000000000000000000000000000000000000000000000000000000000000",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct http_opts o = { .thumbprint = bad[i] };
        struct err e = ERR_INIT;

        if (http_new(&o, &e))
            fail_msg("accepted: '%s'", bad[i]);
        assert_int_equal(e.class, ERR_USER);
    }
}

static void
right_ca_is_accepted(void **state)
{
    struct http_opts o = { .ca_file = here.file };
    defer(http_res_fini) struct http_res r = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    if (get(&o, tls, "/", &r, &e))
        fail_msg("%s", e.msg);
}

static void
unknown_ca_is_refused_and_the_way_out_named(void **state)
{
    const char *const files[] = { elsewhere.file, NULL };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct http_opts o = { .ca_file = files[i] };
        struct http_res r;
        struct err e = ERR_INIT;
        int before = calls;

        assert_int_equal(get(&o, tls, "/", &r, &e), -1);
        assert_int_equal(e.class, ERR_AUTH);
        assert_non_null(strstr(e.msg, "is not trusted (self"));
        assert_non_null(strstr(e.msg, "give a CA file"));
        assert_non_null(strstr(e.msg, here.sha256));
        assert_int_equal(calls, before);
    }
}

static void
certificate_of_another_host_is_refused(void **state)
{
    struct http_opts o = { .ca_file = elsewhere.file };
    struct http_res r;
    struct err e = ERR_INIT;
    int before = calls;

    (void)state;
    assert_int_equal(get(&o, foreign, "/", &r, &e), -1);
    assert_int_equal(e.class, ERR_AUTH);
    assert_non_null(strstr(e.msg, "another host name"));
    assert_int_equal(calls, before);
}

static void
missing_ca_file_is_named(void **state)
{
    struct http_opts o = { .ca_file = "/nowhere/ca.pem" };
    struct err e = ERR_INIT;

    (void)state;
    assert_null(http_new(&o, &e));
    assert_int_equal(e.class, ERR_NOTFOUND);
    assert_non_null(strstr(e.msg, "/nowhere/ca.pem"));
}

static void
insecure_takes_all_and_still_tells_the_fingerprint(void **state)
{
    struct http_opts o = { .insecure = true };
    defer_free char *url = url_of(foreign, "/");
    struct http_req q = { .url = url };
    defer(http_res_fini) struct http_res r = { 0 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);

    (void)state;
    assert_int_equal(http_do(h, &q, &r, &e), 0);
    assert_string_equal(http_peer_sha1(h), elsewhere.sha1);
    assert_string_equal(http_peer_sha256(h), elsewhere.sha256);
}

static void
plain_server_behind_https_is_a_net_error(void **state)
{
    defer_free char *url =
        xasprintf("https://127.0.0.1:%u/", (unsigned)httpd_port(plain));
    struct http_req q = { .url = url };
    struct http_opts o = { .thumbprint = here.sha256 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);
    struct http_res r;

    (void)state;
    assert_int_equal(http_do(h, &q, &r, &e), -1);
    assert_int_equal(e.class, ERR_NET);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_pin_is_accepted_in_each_form),
        cmocka_unit_test(right_pin_needs_no_host_name),
        cmocka_unit_test(wrong_pin_is_refused_before_the_request),
        cmocka_unit_test(pin_is_checked_on_every_connection),
        cmocka_unit_test(text_that_is_no_pin_is_refused),
        cmocka_unit_test(right_ca_is_accepted),
        cmocka_unit_test(unknown_ca_is_refused_and_the_way_out_named),
        cmocka_unit_test(certificate_of_another_host_is_refused),
        cmocka_unit_test(missing_ca_file_is_named),
        cmocka_unit_test(insecure_takes_all_and_still_tells_the_fingerprint),
        cmocka_unit_test(plain_server_behind_https_is_a_net_error),
    };

    return cmocka_run_group_tests_name("tls", tests, world_start, world_stop);
}
