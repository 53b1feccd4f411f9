/* The clients of labvddk_test. */
#include "labvddk_client.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "copy/vddk_abi.h"

#define MEMBER(name, result, args) result(*name) args;
static struct {
    VDDK_FUNCTIONS(MEMBER)
} vddk;

static char *lib_dir, *path, *snapshot, *file;
static vddk_conn conn;
static vddk_handle disk;
static uint64_t capacity; /* sectors */

/* Ends the client; the test shows the line. */
#define must(what)                                             \
    do {                                                       \
        if (!(what)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
            _exit(1);                                          \
        }                                                      \
    } while (0)
#define code(call) VDDK_CODE(call)

static _Atomic unsigned log_lines, long_lines, percents, other_threads;
static pthread_t main_thread;

static void
count_log(const char *fmt, va_list args)
{
    char line[8192];
    int n = vsnprintf(line, sizeof line, fmt, args);

    must(n > 0 && line[n - 1] == '\n');
    log_lines++;
    long_lines += n > 2000;
    percents += strstr(line, "100% of") != NULL;
    other_threads += !pthread_equal(pthread_self(), main_thread);
}

static void
load(const char *library)
{
    void *so = dlopen(library, RTLD_NOW);

    must(so);
#define LOAD(name, result, args)                           \
    *(void **)&vddk.name = dlsym(so, "VixDiskLib_" #name); \
    must(vddk.name);
    VDDK_FUNCTIONS(LOAD)
}

static struct vddk_connect_params *
params(void)
{
    struct vddk_connect_params *p = vddk.AllocateConnectParams();

    p->vmx_spec = (char *)LOGIN_VM;
    p->server_name = (char *)LOGIN_SERVER;
    p->thumb_print = (char *)LOGIN_THUMB;
    p->cred_type = VDDK_CRED_UID;
    p->creds.uid.user_name = (char *)LOGIN_USER;
    p->creds.uid.password = (char *)"p w";
    p->port = 443;
    return p;
}

static void
init(void)
{
    must(!vddk.InitEx(6, 5, count_log, count_log, count_log, lib_dir, NULL));
}

static void
login(void)
{
    struct vddk_connect_params *p = params();

    init();
    must(!vddk.ConnectEx(p, 1, snapshot, "san:nbd:nbdssl", &conn));
    vddk.FreeConnectParams(p);
}

static void
open_disk(void)
{
    struct vddk_info *info;

    login();
    must(!vddk.Open(conn, path, VDDK_OPEN_READ_ONLY, &disk));
    must(!vddk.GetInfo(disk, &info));
    capacity = info->capacity;
    must(!strcmp(info->uuid, "6000-uuid"));
    must(info->logical_sector_size == 512);
    vddk.FreeInfo(info);
    must(!strcmp(vddk.GetTransportMode(disk), "nbd"));
}

static void
leave(void)
{
    must(!vddk.Close(disk));
    must(!vddk.Disconnect(conn));
    vddk.Exit();
}

/* Reading asynchronously -------------------------------------------------- */

#define DEPTH 16u
#define READS 64u

struct slot {
    uint8_t *buf;
    uint64_t start, n;
    unsigned number; /* as it was submitted */
    vddk_error result;
};

static sem_t done;
static pthread_mutex_t finished_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot *finished[READS];
static unsigned n_finished, n_on_caller;

static void
note(void *data, vddk_error result)
{
    struct slot *s = data;

    s->result = result;
    pthread_mutex_lock(&finished_lock);
    finished[n_finished++ % READS] = s;
    n_on_caller += pthread_equal(pthread_self(), main_thread) != 0;
    pthread_mutex_unlock(&finished_lock);
    sem_post(&done);
}

static struct slot *
take_finished(void)
{
    struct slot *s;

    while (sem_wait(&done))
        ;
    pthread_mutex_lock(&finished_lock);
    s = finished[--n_finished];
    pthread_mutex_unlock(&finished_lock);
    return s;
}

static void
submit(struct slot *s)
{
    must(vddk.ReadAsync(disk, s->start, s->n, s->buf, note, s) == VDDK_ASYNC);
}

/* The whole disk into a file, DEPTH reads of odd sizes at a time. */
static void
part_read_all(void)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    uint64_t at = 0, sizes[] = { 128, 1, 129, 2048, 300 };
    struct slot slots[DEPTH] = { 0 }, *free_slots[DEPTH];
    unsigned n_free = DEPTH, busy = 0;

    must(fd >= 0);
    open_disk();
    for (unsigned i = 0; i < DEPTH; i++) {
        slots[i].buf = xmalloc(2048 * VDDK_SECTOR);
        free_slots[i] = &slots[i];
    }
    for (unsigned k = 0; at < capacity || busy; k++) {
        struct slot *s;

        if (at < capacity && n_free) {
            s = free_slots[--n_free];
            s->start = at;
            s->n = sizes[k % 5] < capacity - at ? sizes[k % 5] : capacity - at;
            at += s->n;
            busy++;
            submit(s);
            continue;
        }
        s = take_finished();
        must(!s->result);
        must(!fs_pwrite_all(fd, s->buf, s->n * VDDK_SECTOR,
                            (off_t)(s->start * VDDK_SECTOR)));
        free_slots[n_free++] = s;
        busy--;
    }
    must(!vddk.Wait(disk));
    for (unsigned i = 0; i < DEPTH; i++)
        free(slots[i].buf);
    close(fd);
    leave();
}

/* Many at once: far out of order, one of them on the caller's own thread. */
static void
part_order(void)
{
    static uint8_t buf[READS][512];
    struct slot slots[READS];
    unsigned far = 0;

    open_disk();
    for (unsigned i = 0; i < READS; i++) {
        slots[i] = (struct slot){ buf[i], i % capacity, 1, i, 0 };
        submit(&slots[i]);
    }
    must(!vddk.Wait(disk));
    must(n_finished == READS);
    must(n_on_caller == 1);
    for (unsigned i = 0; i < READS; i++)
        far += abs((int)finished[i]->number - (int)i) >= 8;
    must(far >= 8);
    leave();
}

/* 2 MiB through a link of 10 MB/s take their time, at once or not. */
static void
part_link(void)
{
    static uint8_t buf[2][1 << 20];
    struct slot s[2];
    struct timespec a, b;

    open_disk();
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (unsigned i = 0; i < 2; i++) {
        s[i] = (struct slot){ buf[i], 0, 2048, i, 0 };
        submit(&s[i]);
    }
    must(!vddk.Wait(disk));
    clock_gettime(CLOCK_MONOTONIC, &b);
    must((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec >=
         200000000);
    leave();
}

/* Arguments --------------------------------------------------------------- */

static void
part_arguments(void)
{
    static uint8_t buf[4097];
    struct slot s = { buf, 0, 1, 0, 0 };
    char *text;

    open_disk();
    must(code(vddk.Read(disk, 0, 0, buf)) == VDDK_INVALID_ARG);
    must(code(vddk.Read(disk, 0, 1, NULL)) == VDDK_INVALID_ARG);
    must(code(vddk.Read(disk, capacity, 1, buf)) == VDDK_DISK_OUTOFRANGE);
    must(code(vddk.Read(disk, 1, UINT64_MAX, buf)) == VDDK_DISK_OUTOFRANGE);
    must(code(vddk.ReadAsync(disk, 0, 0, buf, note, &s)) == VDDK_INVALID_ARG);
    must(!vddk.Read(disk, capacity - 1, 1, buf + 1));
    text = vddk.GetErrorText(vddk.Read(disk, 0, 0, buf), NULL);
    must(strstr(text, "parameters"));
    vddk.FreeErrorText(text);
    leave();
    must(percents == 1 && long_lines == 1 && other_threads == log_lines);
}

/* The one that is pending hangs. */
static void
part_mixed(void)
{
    static uint8_t buf[512];
    struct slot s = { buf, 0, 1, 0, 0 };

    open_disk();
    submit(&s);
    must(code(vddk.Read(disk, 0, 1, buf)) == VDDK_ASYNC_MIXED);
    _exit(0);
}

static unsigned
query(uint64_t start, uint64_t n, uint64_t chunk)
{
    struct vddk_block_list *list;
    vddk_error rc = vddk.QueryAllocatedBlocks(disk, start, n, chunk, &list);

    if (!rc)
        vddk.FreeBlockList(list);
    return code(rc);
}

static void
part_query(void)
{
    struct vddk_block_list *list;
    uint64_t whole;

    open_disk();
    whole = capacity / 128 * 128;
    must(capacity % 128);
    must(query(0, 128, 64) == VDDK_INVALID_ARG);
    must(query(1, 128, 128) == VDDK_INVALID_ARG);
    must(query(0, 129, 128) == VDDK_INVALID_ARG);
    must(query(0, 0, 128) == VDDK_INVALID_ARG);
    must(query(whole, capacity - whole, 128) == VDDK_INVALID_ARG);
    must(query(whole, 128, 128) == VDDK_INVALID_ARG);
    must(query(0, 128 * (VDDK_MAX_CHUNKS + 1ull), 128) == VDDK_INVALID_ARG);
    must(query(0, 128, 128) == VDDK_OK);
    /* blocks 1, 4, 5 and 40 hold data */
    must(!vddk.QueryAllocatedBlocks(disk, 0, whole, 128, &list));
    must(list->num_blocks == 3);
    must(list->blocks[0].offset == 128 && list->blocks[0].length == 128);
    must(list->blocks[1].offset == 512 && list->blocks[1].length == 256);
    must(list->blocks[2].offset == 5120 && list->blocks[2].length == 128);
    vddk.FreeBlockList(list);
    must(!vddk.QueryAllocatedBlocks(disk, 256, 512, 256, &list));
    must(list->num_blocks == 1);
    must(list->blocks[0].offset == 512 && list->blocks[0].length == 256);
    vddk.FreeBlockList(list);
    leave();
}

/* What only shows at Open -------------------------------------------------- */

static void
open_fails(struct vddk_connect_params *p, const char *snap, const char *name,
           unsigned want)
{
    must(!vddk.ConnectEx(p, 1, snap, NULL, &conn));
    must(code(vddk.Open(conn, name, VDDK_OPEN_READ_ONLY, &disk)) == want);
    must(!vddk.Disconnect(conn));
}

static void
part_refused(void)
{
    struct vddk_connect_params *p = params();

    must(code(vddk.InitEx(9, 0, NULL, NULL, NULL, lib_dir, NULL)) ==
         VDDK_INVALID_ARG);
    init();
    open_fails(p, NULL, path, VDDK_FILE_ACCESS_ERROR);
    open_fails(p, snapshot, "[ds] other.vmdk", VDDK_FILE_NOT_FOUND);
    p->thumb_print = (char *)"CC:DD";
    open_fails(p, snapshot, path, VDDK_FAIL);
    p->thumb_print = (char *)LOGIN_THUMB;
    p->creds.uid.password = (char *)"wrong";
    open_fails(p, snapshot, path, VDDK_INVALID_SESSION);
    p->cred_type = VDDK_CRED_SESSIONID;
    p->creds.session_id.cookie = (char *)LOGIN_COOKIE;
    p->creds.session_id.user_name = NULL;
    p->creds.session_id.key = NULL;
    must(!vddk.ConnectEx(p, 1, snapshot, "nbdssl:nbd", &conn));
    must(!vddk.Open(conn, path, VDDK_OPEN_READ_ONLY, &disk));
    must(!strcmp(vddk.GetTransportMode(disk), "nbdssl"));
    vddk.FreeConnectParams(p);
    leave();
}

/* Faults: the test made the rule ------------------------------------------ */

static void
part_open_fault(void)
{
    login();
    must(code(vddk.Open(conn, path, VDDK_OPEN_READ_ONLY, &disk)) ==
         VDDK_CONN_REFUSED);
    must(!vddk.Open(conn, path, VDDK_OPEN_READ_ONLY, &disk));
    leave();
}

static void
part_read_fault(void)
{
    static uint8_t buf[512];

    open_disk();
    must(!vddk.Read(disk, 0, 1, buf));
    must(code(vddk.Read(disk, 0, 1, buf)) == VDDK_CONN_LOST);
    must(!vddk.Read(disk, 0, 1, buf));
    must(code(vddk.Read(disk, 0, 1, buf)) == VDDK_CONN_LOST);
    must(!vddk.Read(disk, 0, 1, buf));
    must(!vddk.Read(disk, 0, 1, buf));
    leave();
}

static void
part_callback_fault(void)
{
    static uint8_t buf[512];
    struct slot s = { buf, 0, 1, 0, 0 };

    open_disk();
    submit(&s);
    must(!vddk.Wait(disk));
    must(code(s.result) == VDDK_SERVER_SHUTDOWN);
    submit(&s);
    must(!vddk.Wait(disk));
    must(!s.result);
    leave();
}

static void
part_hang(void)
{
    static uint8_t buf[3][512];
    struct slot s[3];

    open_disk();
    for (unsigned i = 0; i < 3; i++) {
        s[i] = (struct slot){ buf[i], 0, 1, i, 0 };
        submit(&s[i]);
    }
    for (unsigned i = 0; i < 2; i++)
        must(take_finished() != &s[0]);
    _exit(0);
}

/* The first one hangs, so that the second finds the buffers in use. */
static void
part_buffers(void)
{
    static uint8_t buf[2][65536];
    struct slot s[2];

    open_disk();
    for (unsigned i = 0; i < 2; i++) {
        s[i] = (struct slot){ buf[i], 0, 128, i, 0 };
        submit(&s[i]);
    }
    must(take_finished() == &s[1]);
    must(code(s[1].result) == VDDK_OUT_OF_MEMORY);
    _exit(0);
}

static void
part_corrupt(void)
{
    static uint8_t wrong[512], right[512], again[512];

    open_disk();
    must(!vddk.Read(disk, 512, 1, wrong));
    must(!vddk.Read(disk, 512, 1, right));
    must(!vddk.Read(disk, 512, 1, again));
    must(memcmp(wrong, right, sizeof wrong));
    must(!memcmp(right, again, sizeof right));
    leave();
}

/* Tells the test that the disk is open, then waits to be killed or told. */
static void
part_hold(void)
{
    static uint8_t buf[512];
    char c;

    open_disk();
    must(write(1, "o", 1) == 1);
    must(read(0, &c, 1) == 1);
    must(code(vddk.Read(disk, 0, 1, buf)) == VDDK_CONN_LOST);
    leave();
}

/* Broken rules: the library ends these ------------------------------------ */

static void
part_init_twice(void)
{
    init();
    vddk.InitEx(6, 5, NULL, NULL, NULL, lib_dir, NULL);
}

static void
part_use_after_close(void)
{
    uint8_t buf[512];

    open_disk();
    must(!vddk.Close(disk));
    vddk.Read(disk, 0, 1, buf);
}

static void
part_close_pending(void)
{
    static uint8_t buf[512];
    struct slot s = { buf, 0, 1, 0, 0 };

    open_disk();
    submit(&s);
    vddk.Close(disk);
}

static void
part_disconnect_open(void)
{
    open_disk();
    vddk.Disconnect(conn);
}

static void
part_exit_connected(void)
{
    login();
    vddk.Exit();
}

static void
part_free_twice(void)
{
    struct vddk_info *info;

    open_disk();
    must(!vddk.GetInfo(disk, &info));
    vddk.FreeInfo(info);
    vddk.FreeInfo(info);
}

static void
part_null_login(void)
{
    struct vddk_connect_params *p = params();

    init();
    p->creds.uid.password = NULL;
    vddk.ConnectEx(p, 1, snapshot, "nbd", &conn);
}

static void *
query_main(void *arg)
{
    query(0, 128, 128);
    return arg;
}

static void
part_other_thread(void)
{
    pthread_t t;

    open_disk();
    must(!pthread_create(&t, NULL, query_main, NULL));
    pthread_join(t, NULL);
}

static void *
read_main(void *arg)
{
    static uint8_t buf[512];

    for (;;)
        vddk.Read(disk, 0, 1, buf);
    return arg;
}

static void
part_two_threads(void)
{
    static uint8_t buf[512];
    pthread_t t;

    open_disk();
    must(!pthread_create(&t, NULL, read_main, NULL));
    for (;;)
        vddk.Read(disk, 0, 1, buf);
}

static void
call_back(void *data, vddk_error result)
{
    (void)data;
    (void)result;
    vddk.Wait(disk);
}

static void
part_call_in_callback(void)
{
    static uint8_t buf[512];

    open_disk();
    must(vddk.ReadAsync(disk, 0, 1, buf, call_back, NULL) == VDDK_ASYNC);
    vddk.Wait(disk);
}

static void
part_forked(void)
{
    int status;
    pid_t pid;

    open_disk();
    pid = fork();
    if (!pid) {
        uint8_t buf[512];

        vddk.Read(disk, 0, 1, buf);
        _exit(0);
    }
    must(waitpid(pid, &status, 0) == pid);
    must(WIFSIGNALED(status));
    abort();
}

static void
part_crash(void)
{
    static uint8_t buf[512];

    open_disk();
    vddk.Read(disk, 0, 1, buf);
}

static const struct {
    const char *name;
    void (*run)(void);
} parts[] = {
    { "read-all", part_read_all },
    { "order", part_order },
    { "link", part_link },
    { "arguments", part_arguments },
    { "mixed", part_mixed },
    { "query", part_query },
    { "refused", part_refused },
    { "open-fault", part_open_fault },
    { "read-fault", part_read_fault },
    { "callback-fault", part_callback_fault },
    { "hang", part_hang },
    { "buffers", part_buffers },
    { "corrupt", part_corrupt },
    { "hold", part_hold },
    { "init-twice", part_init_twice },
    { "use-after-close", part_use_after_close },
    { "close-pending", part_close_pending },
    { "disconnect-open", part_disconnect_open },
    { "exit-connected", part_exit_connected },
    { "free-twice", part_free_twice },
    { "null-login", part_null_login },
    { "other-thread", part_other_thread },
    { "two-threads", part_two_threads },
    { "call-in-callback", part_call_in_callback },
    { "forked", part_forked },
    { "crash", part_crash },
};

int
client_main(int argc, char **argv)
{
    must(argc >= 6);
    lib_dir = argv[3], path = argv[4], snapshot = argv[5];
    file = argc > 6 ? argv[6] : NULL;
    main_thread = pthread_self();
    sem_init(&done, 0, 0);
    load(argv[1]);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(parts[i].name, argv[2])) {
            parts[i].run();
            return 0;
        }
    return 2;
}
