/* Preloaded into a copier under test: keeps a journal of all that it does to
 * the files of one directory, so that a power cut can be played afterwards;
 * kills it, or fails a call, at the n-th such step; and lets its clock run
 * faster.  By the environment:
 *
 *   POWERCUT_DIR      the directory
 *   POWERCUT_JOURNAL  file to append records (struct record) to
 *   POWERCUT_KILL     N: SIGKILL before step N; -N: right after it
 *   POWERCUT_FAIL     N: from step N on ...
 *   POWERCUT_FAILS    ... so many steps fail ...
 *   POWERCUT_ERRNO    ... with this
 *   POWERCUT_SHORT    1: writes come back short
 *   POWERCUT_SLOW     milliseconds that each sync takes
 *   POWERCUT_LOST     file with what a file of the directory holds on disk ...
 *   POWERCUT_INODE    ... the one with this number, after a sync that failed:
 *                     it shows once the cache is dropped
 *   POWERCUT_WARP     seconds of its clock per second */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define FDS    1024

/* journal.py knows them by number. */
enum kind {
    CREATE = 1,
    WRITE,
    TRUNC,
    RENAME,
    UNLINK,
    SYNC,
    SYNC_FAILED,
    SYNC_DIR,
    DROP
};

struct record {
    uint32_t kind, length; /* of what follows: data, or a name */
    uint64_t inode, at;    /* at: offset, or the new size */
};

#define REAL(X)                                                \
    X(open64, int, (const char *, int, ...))                   \
    X(close, int, (int))                                       \
    X(pwrite64, ssize_t, (int, const void *, size_t, off64_t)) \
    X(write, ssize_t, (int, const void *, size_t))             \
    X(ftruncate64, int, (int, off64_t))                        \
    X(rename, int, (const char *, const char *))               \
    X(unlink, int, (const char *))                             \
    X(fsync, int, (int))                                       \
    X(fdatasync, int, (int))                                   \
    X(posix_fadvise64, int, (int, off64_t, off64_t, int))      \
    X(poll, int, (struct pollfd *, nfds_t, int))               \
    X(clock_gettime, int, (clockid_t, struct timespec *))

static struct {
#define X(name, result, args) result(*name) args;
    REAL(X)
#undef X
} real;

static char dir[4096];
static size_t dir_len;
static int journal = -1;
static long kill_at, fail_at, fails, fail_errno, shorten, slow, warp;
static uint64_t lost_inode;
static int64_t born_ns;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long steps;           /* under lock */
static uint64_t inodes[FDS]; /* under lock; 0: not watched */

static long
number(const char *name)
{
    const char *text = getenv(name);

    return text ? strtol(text, NULL, 10) : 0;
}

static int64_t
now_ns(void)
{
    struct timespec t;

    real.clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
start(void)
{
    const char *where = getenv("POWERCUT_DIR");
    const char *file = getenv("POWERCUT_JOURNAL");

    if (real.open64)
        return;
#define X(name, result, args) *(void **)&real.name = dlsym(RTLD_NEXT, #name);
    REAL(X)
#undef X
    born_ns = now_ns();
    kill_at = number("POWERCUT_KILL");
    fail_at = number("POWERCUT_FAIL");
    fails = number("POWERCUT_FAILS");
    fail_errno = number("POWERCUT_ERRNO");
    shorten = number("POWERCUT_SHORT");
    slow = number("POWERCUT_SLOW");
    warp = number("POWERCUT_WARP");
    lost_inode = (uint64_t)number("POWERCUT_INODE");
    if (!where || !file)
        return;
    snprintf(dir, sizeof dir, "%s", where);
    dir_len = strlen(dir);
    journal =
        real.open64(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0)
        abort();
}

__attribute__((constructor)) static void
constructor(void)
{
    start();
}

/* the journal ------------------------------------------------------------ */

static void
record(enum kind kind, uint64_t inode, uint64_t at, const void *data, size_t n)
{
    struct record r = { (uint32_t)kind, (uint32_t)n, inode, at };
    struct iovec v[2] = { { &r, sizeof r }, { (void *)(uintptr_t)data, n } };

    if (writev(journal, v, 2) != (ssize_t)(sizeof r + n))
        abort();
}

/* The name within the directory; NULL for another's. */
static const char *
watched(const char *path)
{
    if (journal < 0 || strncmp(path, dir, dir_len) || path[dir_len] != '/')
        return NULL;
    return path + dir_len + 1;
}

static uint64_t
inode_of(int fd)
{
    return journal >= 0 && fd >= 0 && fd < FDS ? inodes[fd] : 0;
}

static void
die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Takes the lock; true if the step is to fail, with errno set. */
static bool
enter(void)
{
    pthread_mutex_lock(&lock);
    if (++steps == kill_at)
        die();
    if (fail_at && steps >= fail_at && steps < fail_at + fails) {
        errno = (int)fail_errno;
        return true;
    }
    return false;
}

static void
leave(void)
{
    int saved = errno;

    if (steps == -kill_at)
        die();
    pthread_mutex_unlock(&lock);
    errno = saved;
}

/* What is written is in the journal before it is done, what is synced after:
 * a kill in between leaves the journal with the less that is certain. */

static int
open_watched(const char *path, int flags, mode_t mode)
{
    const char *name = watched(path);
    struct stat st;
    bool creates;
    int fd;

    if (!name && (journal < 0 || strcmp(path, dir)))
        return real.open64(path, flags, mode);
    creates = (flags & O_CREAT) && stat(path, &st);
    if (!creates) {
        pthread_mutex_lock(&lock);
    } else if (enter()) {
        leave();
        return -1;
    }
    fd = real.open64(path, flags, mode);
    if (fd >= 0 && fd < FDS && !fstat(fd, &st)) {
        inodes[fd] = st.st_ino;
        if (creates)
            record(CREATE, st.st_ino, 0, name, strlen(name));
        else if (flags & O_TRUNC)
            record(TRUNC, st.st_ino, 0, NULL, 0);
    }
    if (creates)
        leave();
    else
        pthread_mutex_unlock(&lock);
    return fd;
}

EXPORT int
open64(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode = 0;

    start();
    va_start(ap, flags);
    if (flags & (O_CREAT | __O_TMPFILE))
        mode = va_arg(ap, mode_t);
    va_end(ap);
    return open_watched(path, flags, mode);
}

EXPORT int
open(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode = 0;

    start();
    va_start(ap, flags);
    if (flags & (O_CREAT | __O_TMPFILE))
        mode = va_arg(ap, mode_t);
    va_end(ap);
    return open_watched(path, flags, mode);
}

EXPORT int
close(int fd)
{
    start();
    if (inode_of(fd)) {
        pthread_mutex_lock(&lock);
        inodes[fd] = 0;
        pthread_mutex_unlock(&lock);
    }
    return real.close(fd);
}

static size_t
shorter(size_t n)
{
    return shorten && n > 1 && steps % 2 ? n - n / 3 : n;
}

EXPORT ssize_t
pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
    ssize_t rc = -1;

    start();
    if (!inode_of(fd))
        return real.pwrite64(fd, buf, n, at);
    if (!enter()) {
        n = shorter(n);
        record(WRITE, inodes[fd], (uint64_t)at, buf, n);
        rc = real.pwrite64(fd, buf, n, at);
    }
    leave();
    return rc;
}

EXPORT ssize_t
pwrite(int fd, const void *buf, size_t n, off_t at)
{
    return pwrite64(fd, buf, n, at);
}

EXPORT ssize_t
write(int fd, const void *buf, size_t n)
{
    ssize_t rc = -1;

    start();
    if (!inode_of(fd))
        return real.write(fd, buf, n);
    if (!enter()) {
        off64_t at = fcntl(fd, F_GETFL) & O_APPEND ? lseek64(fd, 0, SEEK_END)
                                                   : lseek64(fd, 0, SEEK_CUR);

        n = shorter(n);
        record(WRITE, inodes[fd], (uint64_t)at, buf, n);
        rc = real.write(fd, buf, n);
    }
    leave();
    return rc;
}

EXPORT int
ftruncate64(int fd, off64_t size)
{
    int rc = -1;

    start();
    if (!inode_of(fd))
        return real.ftruncate64(fd, size);
    if (!enter()) {
        record(TRUNC, inodes[fd], (uint64_t)size, NULL, 0);
        rc = real.ftruncate64(fd, size);
    }
    leave();
    return rc;
}

EXPORT int
ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

EXPORT int
rename(const char *from, const char *to)
{
    const char *a, *b;
    char both[512];
    int rc = -1, n;

    start();
    a = watched(from);
    b = watched(to);
    if (!a || !b)
        return real.rename(from, to);
    if (!enter()) {
        n = snprintf(both, sizeof both, "%s/%s", a, b);
        record(RENAME, 0, 0, both, (size_t)n);
        rc = real.rename(from, to);
    }
    leave();
    return rc;
}

EXPORT int
unlink(const char *path)
{
    const char *name;
    int rc = -1;

    start();
    name = watched(path);
    if (!name)
        return real.unlink(path);
    if (!enter()) {
        record(UNLINK, 0, 0, name, strlen(name));
        rc = real.unlink(path);
    }
    leave();
    return rc;
}

/* Nothing has to reach the disk of the machine that tests. */
static int
sync_watched(int fd)
{
    struct stat st;
    bool bad;
    int saved, rc;

    if (slow)
        real.poll(NULL, 0, (int)slow);
    bad = enter();
    saved = errno;
    rc = bad ? -1 : 0;
    if (!fstat(fd, &st))
        record(bad                   ? SYNC_FAILED
               : S_ISDIR(st.st_mode) ? SYNC_DIR
                                     : SYNC,
               st.st_ino, 0, NULL, 0);
    errno = saved;
    leave();
    return rc;
}

EXPORT int
fsync(int fd)
{
    start();
    return inode_of(fd) ? sync_watched(fd) : real.fsync(fd);
}

EXPORT int
fdatasync(int fd)
{
    start();
    return inode_of(fd) ? sync_watched(fd) : real.fdatasync(fd);
}

/* What the cache showed is gone; the disk has this. */
static void
show_disk(int fd)
{
    const char *path = getenv("POWERCUT_LOST");
    int from = real.open64(path, O_RDONLY | O_CLOEXEC);
    char buf[4096];
    off64_t at = 0;
    ssize_t n;

    if (from < 0 || real.ftruncate64(fd, 0))
        abort();
    for (; (n = read(from, buf, sizeof buf)) > 0; at += n)
        if (real.pwrite64(fd, buf, (size_t)n, at) != n)
            abort();
    real.close(from);
}

EXPORT int
posix_fadvise64(int fd, off64_t at, off64_t n, int advice)
{
    start();
    if (!inode_of(fd))
        return real.posix_fadvise64(fd, at, n, advice);
    pthread_mutex_lock(&lock);
    if (advice == POSIX_FADV_DONTNEED && inodes[fd] == lost_inode) {
        show_disk(fd);
        record(DROP, lost_inode, 0, NULL, 0);
        lost_inode = 0;
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

EXPORT int
posix_fadvise(int fd, off_t at, off_t n, int advice)
{
    return posix_fadvise64(fd, at, n, advice);
}

/* the clock ---------------------------------------------------------------- */

EXPORT int
clock_gettime(clockid_t which, struct timespec *t)
{
    int64_t ns;
    int rc;

    start();
    rc = real.clock_gettime(which, t);
    if (rc || which != CLOCK_MONOTONIC || warp <= 1)
        return rc;
    ns = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
    ns = born_ns + (ns - born_ns) * warp;
    t->tv_sec = (time_t)(ns / 1000000000);
    t->tv_nsec = (long)(ns % 1000000000);
    return 0;
}

EXPORT int
poll(struct pollfd *fds, nfds_t n, int ms)
{
    start();
    if (ms > 0 && warp > 1)
        ms = (int)((ms + warp - 1) / warp);
    return real.poll(fds, n, ms);
}
