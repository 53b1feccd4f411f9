/* Image files: made by qemu-img, written through qemu-nbd. */
#include "cloud/cloud.h"
#include "base/clock.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define IMG_TIMEOUT_MS     120000 /* qemu-img on a slow share */
#define SERVE_TIMEOUT_MS   30000
#define GREETING_S         1
#define UNSERVE_TIMEOUT_MS 300000 /* closing may have to write metadata */
#define UNSERVE_AGAIN_MS   2000   /* between two signals */
#define LOCK_PAUSE_MS      200    /* the server before us is still closing */
#define OUTPUT_MAX         65536

/* 1.1 is what every CloudStack host reads; no lazy refcounts, so that a crash
 * costs at most leaked clusters. */
#define QCOW2_OPTIONS "compat=1.1"

int
qemu_create(const char *path, enum disk_format format, uint64_t size,
            struct err *e)
{
    defer(str_fini) struct str said = { .max = OUTPUT_MAX };
    defer_free char *tmp = xasprintf("%s.new", path);
    defer_free char *bytes = xasprintf("%" PRIu64, size);
    defer_free char *copy = xstrdup(path);
    const char *const raw[] = { "qemu-img", "create", "-q",  "-f",
                                "raw",      tmp,      bytes, NULL };
    const char *const qcow2[] = { "qemu-img", "create", "-q",          "-f",
                                  "qcow2",    "-o",     QCOW2_OPTIONS, tmp,
                                  bytes,      NULL };
    struct proc_opts opts = { .argv = format == FORMAT_QCOW2 ? qcow2 : raw };
    defer_close int fd = -1;

    if (fs_remove(tmp, e) || proc_run(&opts, IMG_TIMEOUT_MS, &said, e))
        return err_wrap(e, "creating the replica %s", path);
    fd = open(tmp, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) || rename(tmp, path))
        return err_errno(e, errno, "creating the replica %s", path);
    return fs_sync_dir(dirname(copy), e);
}

int
qemu_size(const char *path, enum disk_format format, uint64_t *size,
          struct err *e)
{
    defer(str_fini) struct str said = { .max = OUTPUT_MAX };
    const char *argv[] = { "qemu-img", "info",
                           "-U",       "--output=json",
                           "-f",       format_names[format],
                           path,       NULL };
    struct proc_opts opts = { .argv = argv };
    defer_json json_t *info = NULL;

    if (proc_run(&opts, IMG_TIMEOUT_MS, &said, e))
        return err_wrap(e, "looking at the replica %s", path);
    info = json_parse(str_text(&said), said.n, "qemu-img info", e);
    if (!info)
        return -1;
    *size = (uint64_t)json_num(info, "virtual-size", 0);
    return 0;
}

/* A server that greets has opened its image, and obeys signals: one that only
 * listens may yet lose them. */
static bool
answers(const char *dir, const char *name)
{
    defer_free char *path = xasprintf("%s/%s", dir, name);
    defer_close int there = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    defer_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = GREETING_S };
    char greeting[8];

    /* the directory's path may be longer than a socket's may be */
    snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/%.60s", there,
             name);
    return fd >= 0 &&
           !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) &&
           !connect(fd, (struct sockaddr *)&at, sizeof at) &&
           recv(fd, greeting, sizeof greeting, MSG_WAITALL) ==
               sizeof greeting &&
           !memcmp(greeting, "NBDMAGIC", sizeof greeting);
}

static void
read_error(int fd, char *out, size_t size)
{
    ssize_t n = read(fd, out, size - 1);

    while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == ' '))
        n--;
    out[n > 0 ? n : 0] = '\0';
}

/* qemu-nbd takes a buffer for each request and gives it back.  By default the
 * C library takes those above 128 KiB from the kernel anew each time, page by
 * page, which costs as much as writing them.  So they are kept: at most 64 MiB
 * that are not in use. */
static const char *const server_env[] = {
    "MALLOC_MMAP_THRESHOLD_=33554432",
    "MALLOC_TRIM_THRESHOLD_=67108864",
    NULL,
};

/* 0: it serves; 1: the image is still locked by the server before it. */
static int
start_server(const char *const *argv, const char *dir, const char *name,
             struct cloud_export *out, struct err *e)
{
    struct proc_opts opts = { .argv = argv,
                              .env = server_env,
                              .in = -1,
                              .out = -1,
                              .err = PROC_PIPE,
                              .cwd = dir,
                              .death_signal = SIGTERM };
    int64_t deadline = clock_ms() + SERVE_TIMEOUT_MS;
    char said[512], how[64];
    int status;

    if (proc_start(&opts, &out->server, e))
        return -1;
    while (clock_ms() < deadline) {
        if (proc_wait(&out->server, 10, &status)) {
            read_error(out->server.err, said, sizeof said);
            proc_close(&out->server);
            proc_describe(status, how, sizeof how);
            err_set(e, ERR_IO, "qemu-nbd: %s: %s", how, said);
            return strstr(said, "lock") ? 1 : -1;
        }
        if (answers(dir, name))
            return 0;
    }
    proc_stop(&out->server, SIGTERM, 1000);
    return err_set(e, ERR_IO, "qemu-nbd does not listen after %d s",
                   SERVE_TIMEOUT_MS / 1000);
}

/* Bytes that come from this host's page cache prove little; not every file
 * system can do without. */
static bool
reads_directly(const char *path)
{
    defer_close int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

    return fd >= 0;
}

int
qemu_serve(const char *path, enum disk_format format, const char *dir,
           const char *name, bool read_back, struct cloud_export *out,
           struct err *e)
{
    defer_free char *file = xasprintf("%s/%s", dir, name);
    /* absolute, as it must be, and yet short enough for a socket's address */
    defer_free char *address = xasprintf("/proc/self/cwd/%s", name);
    /* writeback: a write is stable after a flush, which the copier asks for;
     * no detect-zeroes: the copier has seen the zeroes itself */
    const char *const argv[] = {
        "qemu-nbd",
        "--persistent",
        "--shared=8",
        read_back && reads_directly(path) ? "--cache=none"
                                          : "--cache=writeback",
        read_back ? "--read-only" : "--discard=unmap",
        "--format",
        format_names[format],
        "--socket",
        address,
        path,
        NULL,
    };
    int64_t deadline = clock_ms() + SERVE_TIMEOUT_MS;
    int rc;

    *out = (struct cloud_export){ .server = PROC_INIT };
    do {
        if (fs_remove(file, e))
            return -1;
        rc = start_server(argv, dir, name, out, e);
    } while (rc > 0 && clock_ms() < deadline &&
             (clock_pause(LOCK_PAUSE_MS), true));
    if (rc) {
        if (rc > 0)
            e->class = ERR_BUSY;
        return err_wrap(e, "serving the replica %s", path);
    }
    out->uri = xasprintf("nbd+unix:///?socket=%s", name);
    return 0;
}

/* qemu-nbd may miss a signal that comes while a client is on its way out; one
 * that is closing heeds no other. */
static bool
end_server(struct proc *server, int *status)
{
    for (int ms = 0; ms < UNSERVE_TIMEOUT_MS; ms += UNSERVE_AGAIN_MS) {
        kill(server->pid, SIGTERM);
        if (proc_wait(server, UNSERVE_AGAIN_MS, status))
            return true;
    }
    return false;
}

int
cloud_unserve(struct cloud_export *x, struct err *e)
{
    char how[64], said[512];
    int status = 0, rc = 0;

    if (x->server.pid) {
        if (!end_server(&x->server, &status))
            rc = err_set(e, ERR_IO,
                         "qemu-nbd does not close the replica after %d s",
                         UNSERVE_TIMEOUT_MS / 1000);
        else if (status) {
            read_error(x->server.err, said, sizeof said);
            proc_describe(status, how, sizeof how);
            rc = err_set(e, ERR_IO, "qemu-nbd: %s: %s", how, said);
        }
    }
    proc_stop(&x->server, SIGKILL, 1000);
    free(x->uri);
    x->uri = NULL;
    return rc;
}
