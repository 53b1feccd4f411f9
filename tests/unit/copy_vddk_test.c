/* v2c-copy against the lab's VDDK and disk service: every byte of a snapshot,
 * and every fault of the lab.  Arguments: the copier, the library.  Needs
 * qemu-nbd. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "copy/copy.h"
#include "copy_world.h"
#include "lab/disk/disk.h"
#include "lab/nfc/nfc.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE     (200ull * DISK_BLOCK + 512)
#define PATH     "[ds] web/web.vmdk"
#define PASSWORD "pass word-8"
#define OUT_MAX  (1u << 20)

static const char *copier, *library;
static char dir[] = "/tmp/copy_vddk.XXXXXX";
static char *libdir;
static struct lab_nfc *nfc;
static struct ldisk *disk;
static unsigned version;

#define ok(call)                              \
    do {                                      \
        if ((call) != 0)                      \
            fail_msg("%s: %s", #call, e.msg); \
    } while (0)

static void
resolve(void *ctx, const struct lab_nfc_request *q, struct lab_nfc_answer *a)
{
    (void)ctx;
    if (strcmp(q->vmx_spec, "moref=vm-12") || strcmp(q->server, "vc.test") ||
        strcmp(q->thumbprint, "AA:BB") || strcmp(q->snapshot, "snapshot-7"))
        a->code = 1;
    else if (strcmp(q->user, "admin") || strcmp(q->password, PASSWORD))
        a->code = 3047;
    else if (strcmp(q->path, PATH))
        a->code = 4;
    else
        lab_nfc_grant(a, disk, version, "6000-uuid");
}

/* Data, zeroes and holes, in a base and in a layer above it. */
static int
fill(struct err *e)
{
    static uint8_t block[DISK_BLOCK];
    unsigned first;

    for (unsigned i = 0; i < 200; i++) {
        if (i % 5 == 3 || (i > 60 && i < 120))
            continue;
        memset(block, i % 7 ? (int)(1 + i % 250) : 0, sizeof block);
        if (ldisk_write(disk, block, DISK_BLOCK, i * (uint64_t)DISK_BLOCK, e))
            return -1;
    }
    memset(block, 0xaa, sizeof block);
    return ldisk_snapshot(disk, &first, e) ||
                   ldisk_write(disk, block, 1024, 70 * DISK_BLOCK + 512, e) ||
                   ldisk_write(disk, block, 512, SIZE - 512, e) ||
                   ldisk_snapshot(disk, &version, e)
               ? -1
               : 0;
}

static int
start_lab(void **state)
{
    struct err e = ERR_INIT;
    defer_free char *lib64 = NULL, *link = NULL, *lab = NULL;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    libdir = xasprintf("%s/vddk", dir);
    lib64 = xasprintf("%s/lib64", libdir);
    link = xasprintf("%s/libvixDiskLib.so.8", lib64);
    lab = xasprintf("%s/lab", libdir);
    if (!fs_mkdirs(lib64, 0700, &e) && !symlink(library, link)) {
        nfc = lab_nfc_start(lab, resolve, NULL, &e);
        disk = ldisk_new(dir, "web", SIZE, &e);
    }
    if (!nfc || !disk || fill(&e)) {
        fprintf(stderr, "%s\n", e.msg);
        return -1;
    }
    return 0;
}

static int
stop_lab(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    lab_nfc_stop(nfc);
    ldisk_free(disk);
    free(libdir);
    return fs_remove_tree(dir, &e);
}

/* one run ------------------------------------------------------------------ */

struct run {
    char *target, *socket, *map, *keys; /* keys: more lines of the request */
    struct proc server;
    struct str out, err;
    int code;
};

static struct run *
new_run(void)
{
    static unsigned count;
    struct run *r = xcalloc(1, sizeof *r);
    const char *argv[] = {
        "qemu-nbd", "-t", "-f", "raw", "-k", NULL, NULL, NULL
    };
    int fd;

    count++;
    r->target = xasprintf("%s/%u.raw", dir, count);
    r->socket = xasprintf("%s/%u.sock", dir, count);
    r->map = xasprintf("%s/%u.map", dir, count);
    fd = open(r->target, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    close(fd);
    argv[5] = r->socket;
    argv[6] = r->target;
    r->server = (struct proc)PROC_INIT;
    copy_world_server(argv, r->socket, &r->server);
    return r;
}

static void
free_run(struct run *r)
{
    proc_stop(&r->server, SIGTERM, COPY_WORLD_MS);
    str_fini(&r->out);
    str_fini(&r->err);
    free(r->target);
    free(r->socket);
    free(r->map);
    free(r->keys);
    free(r);
}

static int
request_file(const struct run *r, const char *password)
{
    defer_free char *path = xasprintf("%s.request", r->map);
    struct str text = STR_INIT;
    struct err e = ERR_INIT;
    int fd;

    str_addf(&text,
             "v2c-copy 1\nsource.kind vddk\nsource.libdir %s\n"
             "source.server vc.test\nsource.user admin\nsource.password %s\n"
             "source.thumbprint AA:BB\nsource.vm vm-12\n"
             "source.snapshot snapshot-7\nsource.path " PATH "\n"
             "target.uri nbd+unix:///?socket=%s\ntarget.zeroed yes\n"
             "target.id t\ndisk.id d\ndisk.size %llu\nmap %s\nplan.id base\n"
             "plan allocated\nrequest 65536\n%send\n",
             libdir, password, r->socket, SIZE, r->map, r->keys ? r->keys : "");
    ok(fs_replace(path, str_text(&text), text.n, 0600, &e));
    str_fini(&text);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int
out_file(const struct run *r, const char *name)
{
    defer_free char *path = xasprintf("%s.%s", r->map, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static void
slurp(const struct run *r, const char *name, struct str *out)
{
    defer_free char *path = xasprintf("%s.%s", r->map, name);
    struct err e = ERR_INIT;

    str_fini(out);
    ok(fs_read(path, OUT_MAX, out, &e));
}

static void
start_copy(const struct run *r, const char *password, struct proc *p)
{
    defer_close int in = request_file(r, password);
    defer_close int out = out_file(r, "out"), err = out_file(r, "err");
    const char *argv[] = { copier, "copy", NULL };
    struct proc_opts opts = { .argv = argv, .in = in, .out = out, .err = err };
    struct err e = ERR_INIT;

    ok(proc_start(&opts, p, &e));
}

/* Until it has said so. */
static void
await(struct run *r, const char *text)
{
    int64_t end = clock_ms() + COPY_WORLD_MS;

    do {
        if (clock_ms() > end)
            fail_msg("'%s' was not said: %s", text, str_text(&r->out));
        clock_pause(10);
        slurp(r, "out", &r->out);
    } while (!strstr(str_text(&r->out), text));
}

static void
copy(struct run *r, const char *password)
{
    struct proc p = PROC_INIT;
    int status;

    start_copy(r, password, &p);
    assert_int_equal(proc_wait(&p, COPY_WORLD_MS, &status), 1);
    slurp(r, "out", &r->out);
    slurp(r, "err", &r->err);
    if (!WIFEXITED(status))
        fail_msg("the copier crashed: %s", str_text(&r->err));
    r->code = WEXITSTATUS(status);
    assert_null(strstr(str_text(&r->out), PASSWORD));
    assert_null(strstr(str_text(&r->err), PASSWORD));
}

static void
assert_done(struct run *r)
{
    defer_free char *dump = xasprintf("%s.dump", r->map);
    struct str want = STR_INIT, got = STR_INIT;
    struct err e = ERR_INIT;

    copy(r, PASSWORD);
    if (r->code != COPY_DONE)
        fail_msg("%s%s", str_text(&r->out), str_text(&r->err));
    assert_non_null(strstr(str_text(&r->out), "\"result\":\"done\""));
    ok(ldisk_dump(disk, version, dump, &e));
    ok(fs_read(dump, SIZE, &want, &e));
    ok(fs_read(r->target, SIZE, &got, &e));
    assert_int_equal(got.n, SIZE);
    assert_memory_equal(got.p, want.p, SIZE);
    str_fini(&want);
    str_fini(&got);
}

static void
assert_failed(struct run *r, const char *class, const char *text)
{
    defer_free char *wanted = xasprintf("\"class\":\"%s\"", class);

    if (r->code != COPY_FAILED || !strstr(str_text(&r->out), wanted) ||
        !strstr(str_text(&r->out), text))
        fail_msg("wanted class %s and '%s', exit code %d: %s%s", class, text,
                 r->code, str_text(&r->out), str_text(&r->err));
}

static int
fault(enum lab_fault_op op, unsigned code, uint64_t after, uint64_t count)
{
    struct lab_fault f = {
        .op = op, .code = code, .after = after, .count = count
    };
    struct err e = ERR_INIT;
    int id = lab_nfc_fault(nfc, &f, &e);

    if (id < 0)
        fail_msg("%s", e.msg);
    return id;
}

/* tests ----------------------------------------------------------------------
 */

static int
calm(void **state)
{
    (void)state;
    lab_nfc_fault_clear(nfc, -1);
    lab_nfc_set_buffers(nfc, 0);
    lab_nfc_set_latency(nfc, 0);
    return 0;
}

static void
a_snapshot_is_copied(void **state)
{
    struct run *r = new_run();

    (void)state;
    lab_nfc_set_latency(nfc, 300);
    assert_done(r);
    assert_non_null(strstr(str_text(&r->out), "\"transport\":\"nbdssl\""));
    assert_non_null(strstr(str_text(&r->out), "\"mode\":\"allocated\""));
    /* Holes of a mebibyte and more were left alone. */
    assert_null(strstr(str_text(&r->out), "\"plan\":13107712"));
    assert_null(strstr(str_text(&r->err), "PhoneHome"));
    free_run(r);
}

static void
what_is_allocated_may_be_unknown(void **state)
{
    static const enum lab_fault_op ops[] = { LAB_FAULT_QUERY,
                                             LAB_FAULT_QUERY_BAD };

    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (unsigned after = 0; after < 2; after++) {
            struct run *r = new_run();
            int id = fault(ops[i], 6, after, 1);

            assert_done(r);
            assert_int_equal(lab_nfc_fault_hits(nfc, id), 1);
            assert_non_null(strstr(str_text(&r->out), "\"warn\""));
            assert_non_null(strstr(str_text(&r->out), "\"plan\":13107712"));
            lab_nfc_fault_clear(nfc, -1);
            free_run(r);
        }
}

static void
faults_that_pass_are_survived(void **state)
{
    static const struct {
        enum lab_fault_op op;
        unsigned code;
    } rows[] = {
        { LAB_FAULT_READ, 14011 },     { LAB_FAULT_READ, 2 },
        { LAB_FAULT_CALLBACK, 14010 }, { LAB_FAULT_CALLBACK, 2 },
        { LAB_FAULT_CALLBACK, 1 },     { LAB_FAULT_SLOW, 300 },
        { LAB_FAULT_LOG, 50 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run *r = new_run();
        int id = fault(rows[i].op, rows[i].code, 7, 3);

        assert_done(r);
        assert_int_equal(lab_nfc_fault_hits(nfc, id), 3);
        /* The results are alone on stdout. */
        assert_null(strstr(str_text(&r->out), "on stdout"));
        if (rows[i].op == LAB_FAULT_LOG)
            assert_non_null(strstr(str_text(&r->err), "on stdout"));
        lab_nfc_fault_clear(nfc, -1);
        free_run(r);
    }
}

static void
short_buffers_are_adapted_to(void **state)
{
    struct run *r = new_run();

    (void)state;
    lab_nfc_set_latency(nfc, 2000);
    lab_nfc_set_buffers(nfc, 5 * DISK_BLOCK);
    assert_done(r);
    assert_non_null(strstr(str_text(&r->out), "short of buffers"));
    free_run(r);
}

static void
faults_that_last_have_a_class(void **state)
{
    static const struct {
        enum lab_fault_op op;
        unsigned code, after;
        const char *class, *text;
    } rows[] = {
        { LAB_FAULT_CONNECT, 14008, 0, "net", "VDDK error 14008" },
        { LAB_FAULT_OPEN, 1, 0, "remote", "thumbprint" },
        { LAB_FAULT_OPEN, 15, 0, "busy", PATH },
        { LAB_FAULT_OPEN, 30201, 0, "auth", "\"code\":30201" },
        { LAB_FAULT_INFO, 1000, 0, "bug", "VDDK error 1000" },
        { LAB_FAULT_CAPACITY, 8, 0, "damaged", "disk.size" },
        { LAB_FAULT_CALLBACK, 3047, 20, "auth", "check user and password" },
        { LAB_FAULT_CALLBACK, 13, 20, "remote", "port 902" },
        { LAB_FAULT_CALLBACK, 14011, 20, "net", "given up after" },
        { LAB_FAULT_QUERY, 14011, 1, "net", "given up after" },
        { LAB_FAULT_READ, 16007, 20, "damaged", "reading the source at" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run *r = new_run();

        r->keys = xstrdup("timeout 2\n");
        fault(rows[i].op, rows[i].code, rows[i].after, 0);
        copy(r, PASSWORD);
        assert_failed(r, rows[i].class, rows[i].text);
        /* The same request goes on from there. */
        lab_nfc_fault_clear(nfc, -1);
        assert_done(r);
        free_run(r);
    }
}

static void
assert_said(const struct run *r, const char *text)
{
    if (!strstr(str_text(&r->out), text))
        fail_msg("'%s' is not in %s%s", text, str_text(&r->out),
                 str_text(&r->err));
}

static void
lost_connections_come_back(void **state)
{
    static const unsigned codes[] = { 26,    36,    14009, 14010, 14011,
                                      14014, 14015, 16054, 18000, 30100 };
    struct lab_nfc_stats before, after;

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        struct run *r = new_run();
        struct lab_fault f = { .op =
                                   i % 2 ? LAB_FAULT_READ : LAB_FAULT_CALLBACK,
                               .code = codes[i],
                               .every = 61 };
        struct err e = ERR_INIT;

        lab_nfc_stats(nfc, &before);
        assert_true(lab_nfc_fault(nfc, &f, &e) >= 0);
        assert_done(r);
        lab_nfc_stats(nfc, &after);
        assert_true(after.opens - before.opens >= 2);
        assert_said(r, "\"event\":\"reconnected\",\"transport\":\"nbdssl\"");
        lab_nfc_fault_clear(nfc, -1);
        free_run(r);
    }
}

/* Refused for some seconds, at the connection's loss and at each Open; what
 * was asked for allocation comes again as well. */
static void
a_host_in_maintenance_is_waited_for(void **state)
{
    static const enum lab_fault_op ops[] = { LAB_FAULT_READ, LAB_FAULT_QUERY };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct run *r = new_run();

        fault(ops[i], 14015, 1, 1);
        fault(LAB_FAULT_OPEN, 14015, 1, 2);
        assert_done(r);
        assert_said(r, "VDDK error 14015");
        assert_said(r, "\"event\":\"reconnected\"");
        assert_null(strstr(str_text(&r->out), "\"plan\":13107712"));
        lab_nfc_fault_clear(nfc, -1);
        free_run(r);
    }
}

static void
what_may_pass_once_is_tried_once(void **state)
{
    static const unsigned codes[] = { 13, 3047 };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct run *r = new_run();

        /* twice, with good reads in between */
        r->keys = xstrdup("readers 4\n");
        fault(LAB_FAULT_CALLBACK, codes[i], 20, 1);
        fault(LAB_FAULT_READ, codes[i], 90, 1);
        assert_done(r);
        assert_said(r, "\"event\":\"reconnected\"");
        lab_nfc_fault_clear(nfc, -1);
        free_run(r);
        /* for good: no third time */
        r = new_run();
        fault(LAB_FAULT_CALLBACK, codes[i], 20, 0);
        copy(r, PASSWORD);
        assert_int_equal(r->code, COPY_FAILED);
        assert_null(strstr(str_text(&r->out), "given up after"));
        lab_nfc_fault_clear(nfc, -1);
        free_run(r);
    }
}

static void
another_disk_is_not_read_on(void **state)
{
    struct run *r = new_run();

    (void)state;
    fault(LAB_FAULT_READ, 14011, 20, 1);
    fault(LAB_FAULT_CAPACITY, 8, 1, 0);
    copy(r, PASSWORD);
    assert_failed(r, "damaged", "the source has 13111808 bytes now");
    lab_nfc_fault_clear(nfc, -1);
    assert_done(r);
    free_run(r);
}

static void
calls_that_hang_are_given_up(void **state)
{
    static const struct {
        enum lab_fault_op op;
        unsigned after;
        const char *text;
    } rows[] = {
        { LAB_FAULT_HANG_CONNECT, 0, "connecting to the source: no answer" },
        { LAB_FAULT_HANG_OPEN, 0, "opening the source: no answer for 1 s" },
        { LAB_FAULT_HANG_QUERY, 0, "asking what is allocated: no answer" },
        { LAB_FAULT_HANG_QUERY, 1, "asking what is allocated: no answer" },
        { LAB_FAULT_HANG_CLOSE, 0, "closing the source: no answer for 1 s" },
        { LAB_FAULT_HANG_OPEN, 1, "opening the source: no answer for 1 s" },
        /* its connection is lost, but it never comes back to say so */
        { LAB_FAULT_HANG, 12, "no answer from the source for 1 s" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run *r = new_run();

        r->keys = xstrdup("timeout 1\n");
        fault(rows[i].op, 0, rows[i].after, 1);
        if (rows[i].op != LAB_FAULT_HANG_QUERY && rows[i].after)
            fault(LAB_FAULT_READ, 14011, 20, 1);
        copy(r, PASSWORD);
        assert_failed(r, "net", rows[i].text);
        lab_nfc_fault_clear(nfc, -1);
        assert_done(r);
        free_run(r);
    }
}

/* The copier is alone when it is asked to stop, and waits for a call, or for
 * the time of the next try. */
static void
stop_is_heard_while_the_source_is_away(void **state)
{
    static const struct {
        enum lab_fault_op op;
        const char *said; /* then it is stopped */
        int code;
    } rows[] = {
        { LAB_FAULT_OPEN, "connecting again", COPY_STOPPED },
        { LAB_FAULT_HANG_OPEN, "\"event\":\"waiting\"", COPY_FAILED },
        { LAB_FAULT_READ, "connecting again in", COPY_STOPPED },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run *r = new_run();
        struct proc p = PROC_INIT;
        int status;

        fault(rows[i].op, 14015, 0, 0);
        start_copy(r, PASSWORD, &p);
        await(r, rows[i].said);
        kill(p.pid, SIGTERM);
        assert_int_equal(proc_wait(&p, COPY_WORLD_MS, &status), 1);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), rows[i].code);
        lab_nfc_fault_clear(nfc, -1);
        assert_done(r);
        free_run(r);
    }
}

static void
a_read_that_hangs_is_given_up(void **state)
{
    struct run *r = new_run();

    (void)state;
    r->keys = xstrdup("timeout 1\n");
    fault(LAB_FAULT_HANG, 0, 12, 1);
    copy(r, PASSWORD);
    assert_failed(r, "net", "no answer from the source for 1 s");
    lab_nfc_fault_clear(nfc, -1);
    assert_done(r);
    free_run(r);
}

static void
a_crash_of_the_library_costs_a_restart(void **state)
{
    struct run *r = new_run();
    defer_close int in = request_file(r, PASSWORD);
    const char *argv[] = { copier, "copy", NULL };
    struct proc_opts opts = { .argv = argv, .in = in, .out = -1, .err = -1 };
    struct proc p = PROC_INIT;
    struct err e = ERR_INIT;
    int status;

    (void)state;
    fault(LAB_FAULT_CRASH, 0, 12, 1);
    ok(proc_start(&opts, &p, &e));
    assert_int_equal(proc_wait(&p, COPY_WORLD_MS, &status), 1);
    assert_true(WIFSIGNALED(status));
    lab_nfc_fault_clear(nfc, -1);
    assert_done(r);
    free_run(r);
}

static void
a_wrong_password_is_named_without_it(void **state)
{
    struct run *r = new_run();

    (void)state;
    copy(r, "wrong-" PASSWORD);
    assert_failed(r, "auth", "opening the source");
    assert_null(strstr(str_text(&r->out), "wrong-"));
    assert_null(strstr(str_text(&r->err), "wrong-"));
    free_run(r);
}

#define TEST(f) cmocka_unit_test_setup(f, calm)

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_snapshot_is_copied),
        TEST(what_is_allocated_may_be_unknown),
        TEST(faults_that_pass_are_survived),
        TEST(short_buffers_are_adapted_to),
        TEST(faults_that_last_have_a_class),
        TEST(lost_connections_come_back),
        TEST(a_host_in_maintenance_is_waited_for),
        TEST(what_may_pass_once_is_tried_once),
        TEST(another_disk_is_not_read_on),
        TEST(calls_that_hang_are_given_up),
        TEST(stop_is_heard_while_the_source_is_away),
        TEST(a_read_that_hangs_is_given_up),
        TEST(a_crash_of_the_library_costs_a_restart),
        TEST(a_wrong_password_is_named_without_it),
    };

    if (argc != 3) {
        fprintf(stderr, "usage: copy_vddk_test COPIER LIBRARY\n");
        return 2;
    }
    copier = argv[1];
    library = realpath(argv[2], NULL);
    return cmocka_run_group_tests(tests, start_lab, stop_lab);
}
