/* The lab's VDDK library against a disk service in this process; its clients
 * are processes of their own (labvddk_client.c). */
#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "lab/disk/disk.h"
#include "lab/nfc/nfc.h"
#include "labvddk_client.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DISK_BYTES (48ull * LDISK_BLOCK + 3 * 512)
#define PATH       "[ds] web/web.vmdk"
#define DONE_MS    60000

static const char *library, *self;
static char dir[] = "/tmp/labvddk_test.XXXXXX";
static char *lib_dir;
static struct lab_nfc *nfc;

/* The world of each test: one disk, and a snapshot that is open to all. */
static struct {
    pthread_mutex_t lock; /* guards what follows */
    struct ldisk *disk;
    unsigned version;
} world = { .lock = PTHREAD_MUTEX_INITIALIZER };

#define ok(call)                              \
    do {                                      \
        if ((call) != 0)                      \
            fail_msg("%s: %s", #call, e.msg); \
    } while (0)

static unsigned
judge(const struct lab_nfc_request *q)
{
    bool cookie = !strcmp(q->cookie, LOGIN_COOKIE);
    bool login = !strcmp(q->user, LOGIN_USER) && !strcmp(q->password, "p w");

    if (strcmp(q->server, LOGIN_SERVER) || strcmp(q->vmx_spec, LOGIN_VM) ||
        q->port != 443 || !q->read_only || q->flags != 4)
        return 4000;
    if (strcmp(q->thumbprint, LOGIN_THUMB))
        return 1;
    if (!cookie && !login)
        return 3047;
    if (strcmp(q->snapshot, "snapshot-7"))
        return 13;
    return strcmp(q->path, PATH) ? 4 : 0;
}

static void
resolve(void *ctx, const struct lab_nfc_request *q, struct lab_nfc_answer *a)
{
    (void)ctx;
    a->code = judge(q);
    if (a->code)
        return;
    pthread_mutex_lock(&world.lock);
    lab_nfc_grant(a, world.disk, world.version, "6000-uuid");
    pthread_mutex_unlock(&world.lock);
}

static int
start_all(void **state)
{
    defer_free char *lab = NULL;
    struct err e = ERR_INIT;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    /* longer than a socket's address may be */
    lib_dir = xasprintf("%s/%0100d", dir, 0);
    lab = xasprintf("%s/lab", lib_dir);
    nfc = lab_nfc_start(lab, resolve, NULL, &e);
    if (!nfc)
        fprintf(stderr, "%s\n", e.msg);
    return nfc ? 0 : -1;
}

static int
stop_all(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    lab_nfc_stop(nfc);
    free(lib_dir);
    return fs_remove_tree(dir, &e);
}

/* Data in the blocks 1, 4 and 5 before the snapshot, and 40 by it. */
static int
make_disk(void **state)
{
    static char block[LDISK_BLOCK];
    static unsigned count;
    defer_free char *name = xasprintf("disk%u", count++);
    struct err e = ERR_INIT;
    unsigned first, second;
    struct ldisk *d;

    (void)state;
    memset(block, 'x', sizeof block);
    d = ldisk_new(dir, name, DISK_BYTES, &e);
    if (!d || ldisk_write(d, block, LDISK_BLOCK, LDISK_BLOCK, &e) ||
        ldisk_write(d, block, LDISK_BLOCK, 4 * LDISK_BLOCK, &e) ||
        ldisk_snapshot(d, &first, &e) ||
        ldisk_write(d, block, 512, 5 * LDISK_BLOCK + 1024, &e) ||
        ldisk_write(d, block, 512, 40 * LDISK_BLOCK, &e) ||
        ldisk_snapshot(d, &second, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return -1;
    }
    pthread_mutex_lock(&world.lock);
    world.disk = d;
    world.version = second;
    pthread_mutex_unlock(&world.lock);
    return 0;
}

static int
free_disk(void **state)
{
    (void)state;
    lab_nfc_fault_clear(nfc, -1);
    lab_nfc_set_latency(nfc, 0);
    lab_nfc_set_link(nfc, 0);
    lab_nfc_set_buffers(nfc, 0);
    ldisk_free(world.disk);
    return 0;
}

/* Clients ----------------------------------------------------------------- */

static void
start_client(const char *part, const char *file, struct proc *p)
{
    const char *argv[] = { self,    library, part,
                           lib_dir, PATH,    "moref=snapshot-7",
                           file,    NULL };
    const char *keep[] = { "ASAN_OPTIONS", "TSAN_OPTIONS", NULL };
    struct proc_opts o = { .argv = argv,
                           .keep = keep,
                           .in = PROC_PIPE,
                           .out = PROC_PIPE,
                           .err = PROC_PIPE };
    struct err e = ERR_INIT;

    ok(proc_start(&o, p, &e));
}

/* Reads its stderr to the end, then its status. */
static int
end_client(struct proc *p, struct str *errors)
{
    char buf[4096];
    int status = -1;
    ssize_t n;

    while ((n = read(p->err, buf, sizeof buf)) > 0)
        str_addn(errors, buf, (size_t)n);
    assert_int_equal(proc_wait(p, DONE_MS, &status), 1);
    proc_close(p);
    return status;
}

static void
play(const char *part)
{
    struct proc p = PROC_INIT;
    struct str errors = STR_INIT;
    int status;

    start_client(part, NULL, &p);
    status = end_client(&p, &errors);
    if (status)
        fail_msg("%s: status %d: %s", part, status, str_text(&errors));
    str_fini(&errors);
}

/* The library must end it with this line. */
static void
play_badly(const char *part, const char *line)
{
    struct proc p = PROC_INIT;
    struct str errors = STR_INIT;
    int status;

    start_client(part, NULL, &p);
    status = end_client(&p, &errors);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT ||
        !strstr(str_text(&errors), line))
        fail_msg("%s: status %d: %s", part, status, str_text(&errors));
    str_fini(&errors);
}

static int
add_fault(enum lab_fault_op op, unsigned code, uint64_t after, uint64_t every,
          uint64_t count)
{
    struct lab_fault f = { op, code, "web", after, every, count };
    struct err e = ERR_INIT;
    int id = lab_nfc_fault(nfc, &f, &e);

    assert_true(id >= 0);
    return id;
}

/* Reading ----------------------------------------------------------------- */

static _Atomic bool guest_stops;

static void *
guest_main(void *arg)
{
    unsigned long long i = 0;
    char sector[512];
    struct err e = ERR_INIT;

    while (!guest_stops) {
        memset(sector, (int)++i, sizeof sector);
        if (ldisk_write(world.disk, sector, 512,
                        i * 7919 % (DISK_BYTES / 512) * 512, &e))
            return &guest_stops;
    }
    return arg;
}

static void
same_files(const char *a, const char *b)
{
    struct str x = STR_INIT, y = STR_INIT;
    struct err e = ERR_INIT;

    ok(fs_read(a, DISK_BYTES, &x, &e));
    ok(fs_read(b, DISK_BYTES, &y, &e));
    assert_int_equal(x.n, DISK_BYTES);
    assert_int_equal(y.n, DISK_BYTES);
    assert_memory_equal(x.p, y.p, x.n);
    str_fini(&x);
    str_fini(&y);
}

static void
snapshot_is_read_while_the_guest_writes(void **state)
{
    defer_free char *read_file = xasprintf("%s/read", dir);
    defer_free char *truth = xasprintf("%s/truth", dir);
    struct str errors = STR_INIT;
    struct proc p = PROC_INIT;
    struct err e = ERR_INIT;
    void *failed;
    pthread_t guest;

    (void)state;
    lab_nfc_set_latency(nfc, 500);
    ok(ldisk_dump(world.disk, world.version, truth, &e));
    guest_stops = false;
    assert_int_equal(pthread_create(&guest, NULL, guest_main, NULL), 0);
    start_client("read-all", read_file, &p);
    if (end_client(&p, &errors))
        fail_msg("%s", str_text(&errors));
    guest_stops = true;
    pthread_join(guest, &failed);
    assert_null(failed);
    same_files(read_file, truth);
    assert_true(ldisk_drop(world.disk, world.version, &e) == 0);
    str_fini(&errors);
}

static void
answers_come_in_another_order(void **state)
{
    struct lab_nfc_stats s;

    (void)state;
    lab_nfc_set_latency(nfc, 200000);
    play("order");
    lab_nfc_stats(nfc, &s);
    assert_true(s.in_flight_max >= 32);
    assert_true(s.reads >= 64 && s.bytes >= 64 * 512);
    assert_int_equal(s.open_now, 0);
}

static void
link_is_paced(void **state)
{
    (void)state;
    lab_nfc_set_link(nfc, 10000000);
    play("link");
}

static void
bad_arguments_are_answered(void **state)
{
    (void)state;
    play("arguments");
    add_fault(LAB_FAULT_HANG, 0, 0, 0, 1);
    play("mixed");
}

static void
allocated_blocks_are_told(void **state)
{
    (void)state;
    play("query");
}

static void
bad_logins_fail_at_open(void **state)
{
    (void)state;
    play("refused");
}

/* Holding ----------------------------------------------------------------- */

static void
await_open(unsigned want)
{
    struct lab_nfc_stats s;

    for (int i = 0; i < DONE_MS; i++) {
        lab_nfc_stats(nfc, &s);
        if (s.open_now == want)
            return;
        usleep(1000);
    }
    fail_msg("%u disks are open, not %u", s.open_now, want);
}

static void
open_disk_is_held_until_its_client_dies(void **state)
{
    struct proc p = PROC_INIT;
    struct err e = ERR_INIT;
    char c;

    (void)state;
    start_client("hold", NULL, &p);
    assert_int_equal(read(p.out, &c, 1), 1);
    assert_int_equal(ldisk_drop(world.disk, world.version, &e), -1);
    assert_int_equal(e.class, ERR_BUSY);
    proc_stop(&p, SIGKILL, DONE_MS);
    await_open(0);
    ok(ldisk_drop(world.disk, world.version, &e));
}

static void
cut_connection_fails_reads(void **state)
{
    struct proc p = PROC_INIT;
    struct str errors = STR_INIT;
    char c;

    (void)state;
    start_client("hold", NULL, &p);
    assert_int_equal(read(p.out, &c, 1), 1);
    lab_nfc_cut(nfc);
    assert_int_equal(write(p.in, "g", 1), 1);
    if (end_client(&p, &errors))
        fail_msg("%s", str_text(&errors));
    str_fini(&errors);
}

/* Faults ------------------------------------------------------------------ */

static void
faults_strike_as_told(void **state)
{
    int id;

    (void)state;
    add_fault(LAB_FAULT_OPEN, 14009, 0, 0, 1);
    play("open-fault");
    id = add_fault(LAB_FAULT_READ, 14011, 1, 2, 2);
    play("read-fault");
    assert_int_equal(lab_nfc_fault_hits(nfc, id), 2);
    add_fault(LAB_FAULT_CALLBACK, 14014, 0, 1, 1);
    play("callback-fault");
    add_fault(LAB_FAULT_HANG, 0, 0, 0, 1);
    play("hang");
    add_fault(LAB_FAULT_CORRUPT, 0, 0, 0, 1);
    play("corrupt");
    add_fault(LAB_FAULT_HANG, 0, 0, 0, 1);
    lab_nfc_set_buffers(nfc, 65536);
    play("buffers");
}

static void
fault_table_is_bounded(void **state)
{
    struct lab_fault f = { .op = LAB_FAULT_OPEN };
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i < LAB_NFC_FAULTS; i++)
        assert_true(lab_nfc_fault(nfc, &f, &e) >= 0);
    assert_int_equal(lab_nfc_fault(nfc, &f, &e), -1);
    lab_nfc_fault_clear(nfc, 5);
    assert_int_equal(lab_nfc_fault(nfc, &f, &e), 5);
    assert_int_equal(lab_fault_op_parse("query-bad"), LAB_FAULT_QUERY_BAD);
    assert_int_equal(lab_fault_op_parse("quer"), -1);
}

static void
library_can_crash(void **state)
{
    struct proc p = PROC_INIT;
    struct str errors = STR_INIT;
    int status;

    (void)state;
    add_fault(LAB_FAULT_CRASH, 0, 0, 0, 0);
    start_client("crash", NULL, &p);
    status = end_client(&p, &errors);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    str_fini(&errors);
}

/* Rules ------------------------------------------------------------------- */

static void
broken_rules_end_the_client(void **state)
{
    static const struct {
        const char *part, *line;
        bool hang; /* its reads */
    } rows[] = {
        { "init-twice", "lab vddk: InitEx for the second time" },
        { "use-after-close", "lab vddk: Read after Close" },
        { "close-pending", "lab vddk: Close with 1 reads pending", true },
        { "disconnect-open", "lab vddk: Disconnect before Close" },
        { "exit-connected", "lab vddk: Exit before Disconnect" },
        { "free-twice", "lab vddk: FreeInfo twice" },
        { "null-login", "lab vddk: ConnectEx: password is NULL" },
        { "other-thread", "lab vddk: QueryAllocatedBlocks on another thread" },
        { "two-threads", "lab vddk: Read while Read runs", true },
        { "call-in-callback", "lab vddk: Wait within a callback" },
        { "forked", "lab vddk: Read after a fork" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].hang)
            add_fault(LAB_FAULT_HANG, 0, 0, 0, 0);
        play_badly(rows[i].part, rows[i].line);
        lab_nfc_fault_clear(nfc, -1);
    }
}

#define WITH_DISK(test) \
    cmocka_unit_test_setup_teardown(test, make_disk, free_disk)

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_DISK(snapshot_is_read_while_the_guest_writes),
        WITH_DISK(answers_come_in_another_order),
        WITH_DISK(link_is_paced),
        WITH_DISK(bad_arguments_are_answered),
        WITH_DISK(allocated_blocks_are_told),
        WITH_DISK(bad_logins_fail_at_open),
        WITH_DISK(open_disk_is_held_until_its_client_dies),
        WITH_DISK(cut_connection_fails_reads),
        WITH_DISK(faults_strike_as_told),
        WITH_DISK(fault_table_is_bounded),
        WITH_DISK(library_can_crash),
        WITH_DISK(broken_rules_end_the_client),
    };

    if (argc > 2)
        return client_main(argc, argv);
    if (argc < 2) {
        fprintf(stderr, "usage: labvddk_test LIBRARY\n");
        return 2;
    }
    self = argv[0];
    library = argv[1];
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("labvddk", tests, start_all, stop_all);
}
