/* base: errors, strings, files, locks, processes, time, secrets. */
#include "base/clock.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/secret.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char dir[] = "/tmp/base_test.XXXXXX";

static int
make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int
remove_dir(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return fs_remove_tree(dir, &e);
}

/* err ------------------------------------------------------------------ */

static void
err_is_wrapped_in_front(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(err_errno(&e, ENOSPC, "writing %s", "x"), -1);
    assert_int_equal(err_wrap(&e, "disk %d", 3), -1);
    assert_string_equal(e.msg, "disk 3: writing x: No space left on device");
    assert_int_equal(e.class, ERR_NOSPACE);
    assert_int_equal(e.code, ENOSPC);
    assert_false(err_retryable(&e));
}

static void
err_is_one_line(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    err_set(&e, ERR_NET, "a\nb\tc\x7f");
    assert_string_equal(e.msg, "a b c ");
    assert_true(err_retryable(&e));
}

static void
err_class_has_a_name_and_back(void **state)
{
    (void)state;
    for (enum err_class c = ERR_NONE; c <= ERR_STOPPED; c++)
        assert_int_equal(err_class_parse(err_class_name(c)), c);
    assert_int_equal(err_class_parse("nonsense"), ERR_BUG);
}

static void
err_has_no_secret(void **state)
{
    struct secret *s = secret_new("hunter22");
    struct err e = ERR_INIT;

    (void)state;
    err_set(&e, ERR_AUTH, "login with %s", secret_reveal(s));
    assert_string_equal(e.msg, "login with ********");
    /* nor the half that fits at its end */
    err_set(&e, ERR_AUTH, "%*s", ERR_MSG_MAX + 2, "hunter22");
    assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
    assert_null(strstr(e.msg, "hunt"));
    secret_free(s);
}

static void
secret_is_starred_until_it_is_freed(void **state)
{
    char text[] = "a hunter22 b hunter22";
    struct secret *s = secret_new("hunter22");

    (void)state;
    secret_redact(text);
    assert_string_equal(text, "a ******** b ********");
    secret_free(s);
    char again[] = "hunter22";
    secret_redact(again);
    assert_string_equal(again, "hunter22");
    assert_null(secret_new(NULL));
    assert_string_equal(secret_reveal(NULL), "");
}

/* str ------------------------------------------------------------------ */

static void
json_text_is_valid_utf8(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "a\"b\\c\n", "\"a\\\"b\\\\c\\u000a\"" },
        { "gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"" },
        { "\xff", "\"\\ufffd\"" },
        { "\xc3", "\"\\ufffd\"" },
        { "\xc0\xaf", "\"\\ufffd\\ufffd\"" },            /* overlong */
        { "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"" }, /* surrogate */
        { "\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        defer(str_fini) struct str s = STR_INIT;

        str_add_json(&s, rows[i].in);
        assert_string_equal(str_text(&s), rows[i].out);
    }
}

static void
capped_string_fails_and_stays(void **state)
{
    defer(str_fini) struct str s = { .max = 4 };

    (void)state;
    str_add(&s, "abcd");
    assert_false(s.failed);
    str_addf(&s, "%d", 5);
    str_add(&s, "");
    assert_true(s.failed);
    assert_string_equal(str_text(&s), "abcd");
}

static void
num_u64_takes_whole_numbers_only(void **state)
{
    static const char *const bad[] = { "",
                                       " 1",
                                       "1 ",
                                       "+1",
                                       "-1",
                                       "1x",
                                       "0x1",
                                       "18446744073709551616",
                                       "99999999999999999999999" };
    struct err e = ERR_INIT;
    uint64_t v = 7;

    (void)state;
    assert_int_equal(
        num_u64("18446744073709551615", 0, UINT64_MAX, &v, "n", &e), 0);
    assert_true(v == UINT64_MAX);
    v = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(num_u64(bad[i], 0, UINT64_MAX, &v, "n", &e), -1);
        assert_int_equal(e.class, ERR_USER);
        assert_true(v == 7);
    }
    assert_int_equal(num_u64(NULL, 0, 9, &v, "n", &e), -1);
    assert_int_equal(num_u64("1", 2, 3, &v, "size", &e), -1);
    assert_string_equal(e.msg, "size: 1 is not between 2 and 3");
    assert_int_equal(num_u64("4", 2, 3, &v, "size", &e), -1);
}

static void
num_i64_takes_a_sign(void **state)
{
    struct err e = ERR_INIT;
    int64_t v = 0;

    (void)state;
    assert_int_equal(num_i64("-12", -20, 0, &v, "n", &e), 0);
    assert_int_equal(v, -12);
    assert_int_equal(num_i64("--1", -20, 0, &v, "n", &e), -1);
    assert_int_equal(num_i64("-21", -20, 0, &v, "n", &e), -1);
}

/* fs ------------------------------------------------------------------- */

static void
replaced_file_is_whole_and_private(void **state)
{
    defer_free char *path = xasprintf("%s/state.json", dir);
    defer(str_fini) struct str s = STR_INIT;
    struct err e = ERR_INIT;
    struct stat st;

    (void)state;
    assert_int_equal(fs_replace(path, "older text", 10, 0644, &e), 0);
    assert_int_equal(fs_replace(path, "new", 3, 0600, &e), 0);
    assert_int_equal(fs_read(path, 100, &s, &e), 0);
    assert_string_equal(str_text(&s), "new");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void
failed_replacement_leaves_nothing_behind(void **state)
{
    defer_free char *sub = xasprintf("%s/sub", dir);
    defer_free char *inner = xasprintf("%s/sub/inner", dir);
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(fs_mkdirs(inner, 0700, &e), 0);
    /* a directory is in the way of the rename */
    assert_int_equal(fs_replace(inner, "x", 1, 0600, &e), -1);
    assert_true(str_starts(e.msg, "renaming "));
    assert_int_equal(fs_remove_tree(inner, &e), 0);
    assert_int_equal(rmdir(sub), 0); /* so it is empty */
}

static void
read_is_bounded(void **state)
{
    defer_free char *path = xasprintf("%s/long", dir);
    defer(str_fini) struct str s = STR_INIT;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(fs_replace(path, "12345", 5, 0600, &e), 0);
    assert_int_equal(fs_read(path, 4, &s, &e), -1);
    assert_int_equal(e.class, ERR_USER);
    assert_int_equal(fs_read("/nowhere/at/all", 4, &s, &e), -1);
    assert_int_equal(e.class, ERR_NOTFOUND);
}

static void
busy_lock_names_its_holder(void **state)
{
    defer_free char *path = xasprintf("%s/lock", dir);
    defer_close int first = -1, second = -1;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(fs_lock(path, "worker 17 on nova", &first, &e), 0);
    assert_int_equal(fs_lock(path, "other", &second, &e), -1);
    assert_int_equal(e.class, ERR_BUSY);
    assert_non_null(strstr(e.msg, "is held by worker 17 on nova"));
    close(take_fd(first));
    assert_int_equal(fs_lock(path, "other", &second, &e), 0);
}

static void
tree_is_removed_without_following_links(void **state)
{
    defer_free char *tree = xasprintf("%s/tree", dir);
    defer_free char *kept = xasprintf("%s/kept", dir);
    defer_free char *file = xasprintf("%s/kept/file", dir);
    defer_free char *link = xasprintf("%s/tree/link", dir);
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(fs_mkdirs(tree, 0700, &e), 0);
    assert_int_equal(fs_mkdirs(kept, 0700, &e), 0);
    assert_int_equal(fs_replace(file, "x", 1, 0600, &e), 0);
    assert_int_equal(symlink(kept, link), 0);
    assert_int_equal(fs_remove_tree(tree, &e), 0);
    assert_false(fs_exists(tree));
    assert_true(fs_exists(file));
}

/* proc ----------------------------------------------------------------- */

static void
child_sees_a_clean_environment(void **state)
{
    const char *const argv[] = { "env", NULL };
    const char *const env[] = { "GIVEN=1", NULL };
    const char *const keep[] = { "KEPT", NULL };
    struct proc_opts o = { .argv = argv, .env = env, .keep = keep };
    defer(str_fini) struct str out = STR_INIT;
    struct err e = ERR_INIT;

    (void)state;
    setenv("LEAKED", "secret", 1);
    setenv("KEPT", "2", 1);
    assert_int_equal(proc_run(&o, 10000, &out, &e), 0);
    assert_non_null(strstr(str_text(&out), "GIVEN=1\n"));
    assert_non_null(strstr(str_text(&out), "KEPT=2\n"));
    assert_non_null(strstr(str_text(&out), "PATH="));
    assert_null(strstr(str_text(&out), "LEAKED"));
}

static void
child_has_three_descriptors(void **state)
{
    const char *const argv[] = { "sh", "-c", "ls /proc/$$/fd; true", NULL };
    struct proc_opts o = { .argv = argv };
    defer(str_fini) struct str out = STR_INIT;
    defer_close int leaked = fcntl(0, F_DUPFD, 3);
    struct err e = ERR_INIT;

    (void)state;
    assert_true(leaked > 2);
    assert_int_equal(proc_run(&o, 10000, &out, &e), 0);
    assert_string_equal(str_text(&out), "0\n1\n2\n");
}

static void
missing_program_is_an_error_of_the_start(void **state)
{
    const char *const argv[] = { "no-such-program", NULL };
    struct proc_opts o = { .argv = argv };
    struct err e = ERR_INIT;
    struct proc p;

    (void)state;
    assert_int_equal(proc_start(&o, &p, &e), -1);
    assert_int_equal(e.class, ERR_NOTFOUND);
    assert_int_equal(p.pid, 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void
failure_quotes_the_last_line(void **state)
{
    const char *const argv[] = { "sh", "-c", "echo a >&2; echo b >&2; exit 3",
                                 NULL };
    struct proc_opts o = { .argv = argv };
    defer(str_fini) struct str out = STR_INIT;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(proc_run(&o, 10000, &out, &e), -1);
    assert_string_equal(e.msg, "sh: exit code 3: b");
}

static void
run_ends_with_its_time(void **state)
{
    const char *const argv[] = { "sleep", "600", NULL };
    struct proc_opts o = { .argv = argv };
    defer(str_fini) struct str out = STR_INIT;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(proc_run(&o, 50, &out, &e), -1);
    assert_non_null(strstr(e.msg, "sleep: no end within"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void
lost_exit_status_is_no_success(void **state)
{
    const char *const argv[] = { "true", NULL };
    struct proc_opts o = { .argv = argv };
    struct err e = ERR_INIT;
    int status = 0;
    struct proc p;

    (void)state;
    assert_int_equal(proc_start(&o, &p, &e), 0);
    assert_int_equal(waitpid(p.pid, NULL, 0), p.pid);
    assert_int_equal(proc_wait(&p, 1000, &status), 1);
    assert_int_not_equal(status, 0);
}

/* In a child of ours: starts the program, tells its pid and ends. */
static void
start_and_end(const struct proc_opts *o, int tell)
{
    struct err e = ERR_INIT;
    struct proc p;

    if (proc_start(o, &p, &e) || fs_write_all(tell, &p.pid, sizeof p.pid))
        _exit(1);
    _exit(0);
}

/* The grandchild becomes ours when its parent ends, so that we see how it
 * died. */
static void
child_dies_with_its_parent(void **state)
{
    const char *const argv[] = { "sleep", "600", NULL };
    struct proc_opts o = { .argv = argv, .death_signal = SIGUSR1 };
    struct proc p = PROC_INIT;
    int tell[2], status, ended;
    pid_t parent;

    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
    parent = fork();
    if (parent == 0)
        start_and_end(&o, tell[1]);
    assert_int_equal(waitpid(parent, &status, 0), parent);
    assert_int_equal(status, 0);
    assert_int_equal(read(tell[0], &p.pid, sizeof p.pid), sizeof p.pid);
    ended = proc_wait(&p, 30000, &status);
    proc_stop(&p, SIGKILL, 1000);
    assert_int_equal(ended, 1);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGUSR1);
    close(tell[0]);
    close(tell[1]);
}

/* clock ---------------------------------------------------------------- */

static void
times_are_parsed(void **state)
{
    static const struct {
        const char *text;
        int64_t s; /* -1: refused */
    } rows[] = {
        { "1970-01-02T00:00:00Z", 86400 },
        { "1970-01-02T02:00:00+02:00", 86400 },
        { "1970-01-01T17:00:00-0700", 86400 },
        { "1970-01-02T00:00", 86400 },
        { "1970-01-02T00:00:00", 86400 },
        { "2026-11-21T23:55:40Z", 1795305340 },
        { "1970-01-02", -1 },
        { "1970-01-02T00:00:00+2", -1 },
        { "1970-01-02T00:00:00 Z", -1 },
        { "1970-13-02T00:00:00Z", -1 },
        { "", -1 },
    };
    char text[CLOCK_TEXT_MAX];
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t ms = -1;

        if (clock_parse(rows[i].text, &ms, &e))
            ms = -1000;
        assert_int_equal(ms, rows[i].s * 1000);
    }
    clock_text(1795305340000, text);
    assert_string_equal(text, "2026-11-21T23:55:40Z");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_is_wrapped_in_front),
        cmocka_unit_test(err_is_one_line),
        cmocka_unit_test(err_class_has_a_name_and_back),
        cmocka_unit_test(err_has_no_secret),
        cmocka_unit_test(secret_is_starred_until_it_is_freed),
        cmocka_unit_test(json_text_is_valid_utf8),
        cmocka_unit_test(capped_string_fails_and_stays),
        cmocka_unit_test(num_u64_takes_whole_numbers_only),
        cmocka_unit_test(num_i64_takes_a_sign),
        cmocka_unit_test(replaced_file_is_whole_and_private),
        cmocka_unit_test(failed_replacement_leaves_nothing_behind),
        cmocka_unit_test(read_is_bounded),
        cmocka_unit_test(busy_lock_names_its_holder),
        cmocka_unit_test(tree_is_removed_without_following_links),
        cmocka_unit_test(child_sees_a_clean_environment),
        cmocka_unit_test(child_has_three_descriptors),
        cmocka_unit_test(missing_program_is_an_error_of_the_start),
        cmocka_unit_test(failure_quotes_the_last_line),
        cmocka_unit_test(run_ends_with_its_time),
        cmocka_unit_test(lost_exit_status_is_no_success),
        cmocka_unit_test(child_dies_with_its_parent),
        cmocka_unit_test(times_are_parsed),
    };

    return cmocka_run_group_tests_name("base", tests, make_dir, remove_dir);
}
