/* net: our client against our server on the loopback. */
#include "net_world.h"
#include "base/fs.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

/* Bytes as they are to the plain server, and all that it answers. */
static char *
talk(const char *head, size_t filler)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port = htons(httpd_port(plain)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    defer_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    static const char block[1 << 16];
    struct str said = { .max = 1 << 16 };
    char buf[4096];
    ssize_t n;

    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(fs_write_all(fd, head, strlen(head)), 0);
    for (size_t k; filler; filler -= k) {
        k = filler < sizeof block ? filler : sizeof block;
        assert_int_equal(fs_write_all(fd, block, k), 0);
    }
    shutdown(fd, SHUT_WR);
    while ((n = read(fd, buf, sizeof buf)) > 0)
        str_addn(&said, buf, (size_t)n);
    return str_take(&said);
}

/* Requests and answers ------------------------------------------------ */

static void
request_and_answer_arrive_whole(void **state)
{
    const char *const headers[] = { "X-Given: abc", NULL };
    defer_free char *url = url_of(plain, "/a%20b?arg=x%2Fy&z");
    struct http_req q = {
        .url = url, .headers = headers, .body = "b\0dy", .body_len = 4
    };
    struct http_opts o = { 0 };
    defer(http_res_fini) struct http_res r = { 0 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);
    const char *said = "POST /a b ?arg=x%2Fy&z arg=x/y given=abc type=(none) "
                       "body=";

    (void)state;
    assert_int_equal(http_do(h, &q, &r, &e), 0);
    assert_int_equal(r.status, 201);
    assert_string_equal(http_header(&r, "content-type"), "text/echo");
    assert_string_equal(http_header(&r, "X-TWO"), "a: b");
    assert_null(http_header(&r, "X-Tw"));
    assert_int_equal(r.body.n, strlen(said) + 4);
    assert_memory_equal(r.body.p, said, strlen(said));
    assert_memory_equal(r.body.p + strlen(said), "b\0dy", 4);
    assert_string_equal(http_peer_sha256(h), "");
}

static void
methods_follow_each_other_on_one_connection(void **state)
{
    static const struct {
        const char *method, *body, *said;
    } rows[] = {
        { NULL, "x", "POST / ?" },      { NULL, NULL, "GET / ?" },
        { "PUT", "x", "PUT / ?" },      { "HEAD", NULL, "" },
        { "DELETE", NULL, "DELETE /" }, { "GET", NULL, "GET / ?" },
        { "POST", NULL, "POST / ?" },   { "PATCH", "", "PATCH / ?" },
    };
    defer_free char *url = url_of(plain, "/");
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        defer(http_res_fini) struct http_res r = { 0 };
        struct http_req q = { .method = rows[i].method,
                              .url = url,
                              .body = rows[i].body };

        q.body_len = q.body ? strlen(q.body) : 0;
        assert_int_equal(http_do(h, &q, &r, &e), 0);
        assert_int_equal(r.status, 201);
        if (!str_starts(str_text(&r.body), rows[i].said))
            fail_msg("'%s'", str_text(&r.body));
        if (!*rows[i].said)
            assert_int_equal(r.body.n, 0);
    }
}

static void
redirect_is_not_followed(void **state)
{
    defer(http_res_fini) struct http_res r = { 0 };
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(get(&o, plain, "/redirect", &r, &e), 0);
    assert_int_equal(r.status, 302);
    assert_string_equal(http_header(&r, "location"), "/echo");
}

static void
proxy_of_the_environment_is_not_used(void **state)
{
    defer(http_res_fini) struct http_res r = { 0 };
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;
    int rc;

    (void)state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    rc = get(&o, plain, "/", &r, &e);
    unsetenv("http_proxy");
    assert_int_equal(rc, 0);
}

static void
answer_is_bounded(void **state)
{
    static const char *const paths[] = { "/big", "/headers" };
    struct http_opts o = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct http_res r;
        struct err e = ERR_INIT;

        assert_int_equal(get(&o, plain, paths[i], &r, &e), -1);
        assert_int_equal(e.class, ERR_REMOTE);
        assert_non_null(strstr(e.msg, "the answer is longer than"));
        assert_null(r.body.p);
        assert_null(r.headers);
    }
}

/* Answers one connection, whatever is asked, with a body that never ends. */
static void *
serve_for_ever(void *listening)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    static const char block[1 << 16];
    defer_close int fd = accept(*(int *)listening, NULL, NULL);
    char asked[1024];

    if (read(fd, asked, sizeof asked) > 0)
        (void)!send(fd, head, sizeof head - 1, MSG_NOSIGNAL);
    while (send(fd, block, sizeof block, MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

static void
answer_of_unknown_length_is_bounded(void **state)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    defer_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof at;
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);
    struct http_res r;
    pthread_t t;

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(pthread_create(&t, NULL, serve_for_ever, &fd), 0);
    defer_free char *url =
        xasprintf("http://127.0.0.1:%u/", ntohs(at.sin_port));
    struct http_req q = { .url = url };

    assert_int_equal(http_do(h, &q, &r, &e), -1);
    pthread_join(t, NULL);
    assert_int_equal(e.class, ERR_REMOTE);
    assert_non_null(strstr(e.msg, "the answer is longer than"));
}

static void
header_of_two_lines_is_refused(void **state)
{
    const char *const headers[] = { "X: a\r\nEvil: b", NULL };
    defer_free char *url = url_of(plain, "/");
    struct http_req q = { .url = url, .headers = headers };
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);
    struct http_res r;
    int before = calls;

    (void)state;
    assert_int_equal(http_do(h, &q, &r, &e), -1);
    assert_int_equal(e.class, ERR_BUG);
    assert_int_equal(calls, before);
}

/* Failures of the way ------------------------------------------------- */

static void
refused_connection_is_a_net_error_without_secrets(void **state)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    defer_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof at;
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);
    struct http_res r;

    (void)state;
    /* bound, so nobody else takes it; but nobody listens */
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    defer_free char *url = xasprintf(
        "http://joe:hunter22@127.0.0.1:%u/sdk?token=abcd", ntohs(at.sin_port));
    struct http_req q = { .url = url };

    assert_int_equal(http_do(h, &q, &r, &e), -1);
    assert_int_equal(e.class, ERR_NET);
    assert_true(err_retryable(&e));
    assert_non_null(strstr(e.msg, "http://127.0.0.1:"));
    assert_non_null(strstr(e.msg, "/sdk: "));
    assert_non_null(strstr(e.msg, "Connection refused"));
    assert_null(strstr(e.msg, "hunter22"));
    assert_null(strstr(e.msg, "abcd"));
}

/* A thing asked for once is done once, even on a connection that was used
 * before, where a client might be tempted to ask again. */
static void
dropped_request_is_a_net_error_and_not_repeated(void **state)
{
    static const char *const bodies[] = { NULL, "x" };
    const struct httpd *servers[] = { plain, tls };

    (void)state;
    for (int i = 0; i < 4; i++) {
        const struct httpd *d = servers[i / 2];
        struct http_opts o = { .ca_file = here.file };
        struct err e = ERR_INIT;
        defer_free char *fine = url_of(d, "/"), *drop = url_of(d, "/drop");
        defer(http_free_ptr) struct http *h = http_new(&o, &e);
        defer(http_res_fini) struct http_res r = { 0 };
        struct http_req first = { .url = fine };
        struct http_req q = { .url = drop,
                              .body = bodies[i % 2],
                              .body_len = i % 2 };
        struct http_res none;
        int before;

        assert_int_equal(http_do(h, &first, &r, &e), 0);
        before = calls;
        assert_int_equal(http_do(h, &q, &none, &e), -1);
        assert_int_equal(e.class, ERR_NET);
        assert_int_equal(calls, before + 1);
    }
}

static void
late_answer_is_a_net_error(void **state)
{
    struct http_opts o = { .timeout_ms = 100 };
    struct http_res r;
    struct err e = ERR_INIT;
    int rc;

    (void)state;
    rc = get(&o, plain, "/slow", &r, &e);
    sem_wait(&entered);
    sem_post(&release);
    assert_int_equal(rc, -1);
    assert_int_equal(e.class, ERR_NET);
    assert_non_null(strstr(e.msg, "timed out"));
}

static void
bad_urls_are_the_users_errors(void **state)
{
    static const char *const bad[] = { "", "ftp://127.0.0.1/", "file:///etc",
                                       "http://", "127.0.0.1/x" };
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct http_req q = { .url = bad[i] };
        struct http_res r;

        if (!http_do(h, &q, &r, &e))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(e.class, ERR_USER);
    }
}

/* Server -------------------------------------------------------------- */

static void
body_is_bounded(void **state)
{
    defer_free char *declared =
        xasprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %u\r\n\r\n",
                  HTTPD_BODY_MAX + 1);
    defer_free char *chunked = xasprintf(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "%x\r\n",
        2 * HTTPD_BODY_MAX);
    int before = calls;

    (void)state;
    defer_free char *said = talk(declared, 0);
    assert_true(str_starts(said, "HTTP/1.1 413 "));
    /* of unknown length: it is read, but not kept, and never handled */
    defer_free char *said2 = talk(chunked, HTTPD_BODY_MAX + (1 << 20));
    assert_null(strstr(said2, "201"));
    assert_int_equal(calls, before);
}

static void
chunked_body_over_the_bound_is_413(void **state)
{
    defer_free char *url = url_of(plain, "/");
    const char *const headers[] = { "Transfer-Encoding: chunked", NULL };
    size_t n = HTTPD_BODY_MAX + 1;
    defer_free char *body = xcalloc(1, n);
    struct http_req q = {
        .url = url, .headers = headers, .body = body, .body_len = n
    };
    defer(http_res_fini) struct http_res r = { 0 };
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;
    defer(http_free_ptr) struct http *h = http_new(&o, &e);
    int before = calls;

    (void)state;
    if (http_do(h, &q, &r, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(r.status, 413);
    assert_int_equal(calls, before);
}

static void
nul_in_the_url_is_refused(void **state)
{
    int before = calls;

    (void)state;
    defer_free char *said =
        talk("GET /a%00b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 0);
    assert_true(str_starts(said, "HTTP/1.1 400 "));
    assert_int_equal(calls, before);
}

static void
bad_header_of_a_handler_is_never_sent(void **state)
{
    struct http_opts o = { 0 };
    struct http_res r;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(get(&o, plain, "/bad-header", &r, &e), -1);
    assert_int_equal(e.class, ERR_NET);
}

static void
taken_port_is_an_error(void **state)
{
    struct httpd_opts o = { .handler = serve, .port = httpd_port(plain) };
    struct err e = ERR_INIT;

    (void)state;
    assert_null(httpd_start(&o, &e));
    assert_non_null(strstr(e.msg, "127.0.0.1 port"));
    assert_non_null(strstr(e.msg, "Address already in use"));
}

static void
unusable_options_are_the_users_errors(void **state)
{
    struct httpd_opts no_address = { .handler = serve, .bind = "nonsense" };
    struct httpd_opts no_key = { .handler = serve,
                                 .cert_pem = here.cert,
                                 .key_pem = elsewhere.key };
    struct err e = ERR_INIT;

    (void)state;
    assert_null(httpd_start(&no_address, &e));
    assert_int_equal(e.class, ERR_USER);
    assert_null(httpd_start(&no_key, &e));
    assert_int_equal(e.class, ERR_USER);
    assert_non_null(strstr(e.msg, "certificate"));
}

static void *
ask_lasting(void *d)
{
    struct http_opts o = { 0 };
    struct err e = ERR_INIT;
    struct http_res r;
    defer_free char *url =
        xasprintf("http://127.0.0.1:%u/lasting", (unsigned)httpd_port(d));
    defer(http_free_ptr) struct http *h = http_new(&o, &e);
    struct http_req q = { .url = url };

    /* the stop may cut the answer off; that is not looked at here */
    if (!http_do(h, &q, &r, &e))
        http_res_fini(&r);
    return NULL;
}

static void
stop_waits_for_running_handlers(void **state)
{
    struct httpd *d = start(NULL);
    pthread_t t;

    (void)state;
    finished = false;
    assert_int_equal(pthread_create(&t, NULL, ask_lasting, d), 0);
    sem_wait(&entered);
    httpd_stop(d);
    assert_true(finished);
    pthread_join(t, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_and_answer_arrive_whole),
        cmocka_unit_test(methods_follow_each_other_on_one_connection),
        cmocka_unit_test(redirect_is_not_followed),
        cmocka_unit_test(proxy_of_the_environment_is_not_used),
        cmocka_unit_test(answer_is_bounded),
        cmocka_unit_test(answer_of_unknown_length_is_bounded),
        cmocka_unit_test(header_of_two_lines_is_refused),
        cmocka_unit_test(refused_connection_is_a_net_error_without_secrets),
        cmocka_unit_test(dropped_request_is_a_net_error_and_not_repeated),
        cmocka_unit_test(late_answer_is_a_net_error),
        cmocka_unit_test(bad_urls_are_the_users_errors),
        cmocka_unit_test(body_is_bounded),
        cmocka_unit_test(chunked_body_over_the_bound_is_413),
        cmocka_unit_test(nul_in_the_url_is_refused),
        cmocka_unit_test(bad_header_of_a_handler_is_never_sent),
        cmocka_unit_test(taken_port_is_an_error),
        cmocka_unit_test(unusable_options_are_the_users_errors),
        cmocka_unit_test(stop_waits_for_running_handlers),
    };

    return cmocka_run_group_tests_name("net", tests, world_start, world_stop);
}
