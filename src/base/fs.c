/* Files. */
#include "base/fs.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>

int
fs_read(const char *path, size_t max, struct str *out, struct err *e)
{
    defer_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t start = out->n;
    char buf[16384];
    ssize_t n;

    if (fd < 0)
        return err_errno(e, errno, "reading %s", path);
    while ((n = read(fd, buf, sizeof buf)) > 0) {
        if (out->n - start + (size_t)n > max)
            return err_set(e, ERR_USER, "%s: longer than %zu bytes", path, max);
        str_addn(out, buf, (size_t)n);
    }
    if (n < 0)
        return err_errno(e, errno, "reading %s", path);
    return 0;
}

int
fs_sync_dir(const char *path, struct err *e)
{
    defer_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd))
        return err_errno(e, errno, "syncing the directory %s", path);
    return 0;
}

static int
write_new(const char *path, const void *data, size_t n, mode_t mode,
          struct err *e)
{
    defer_close int fd =
        open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    if (fd < 0)
        return err_errno(e, errno, "creating %s", path);
    if (fs_write_all(fd, data, n) || fsync(fd))
        return err_errno(e, errno, "writing %s", path);
    return 0;
}

int
fs_replace(const char *path, const void *data, size_t n, mode_t mode,
           struct err *e)
{
    defer_free char *tmp = xasprintf("%s.tmp.%d", path, (int)getpid());
    defer_free char *copy = xstrdup(path);

    if (write_new(tmp, data, n, mode, e)) {
        unlink(tmp);
        return -1;
    }
    if (rename(tmp, path)) {
        err_errno(e, errno, "renaming %s to %s", tmp, path);
        unlink(tmp);
        return -1;
    }
    return fs_sync_dir(dirname(copy), e);
}

int
fs_mkdirs(const char *path, mode_t mode, struct err *e)
{
    defer_free char *p = xstrdup(path);
    struct stat st;

    for (char *s = p + 1;; s++) {
        char c = *s;

        if (c && c != '/')
            continue;
        *s = '\0';
        if (mkdir(p, mode) && errno != EEXIST)
            return err_errno(e, errno, "creating the directory %s", p);
        if (!c)
            break;
        *s = c;
    }
    if (stat(path, &st))
        return err_errno(e, errno, "creating the directory %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_USER, "%s is not a directory", path);
    return 0;
}

bool
fs_exists(const char *path)
{
    return !access(path, F_OK);
}

int
fs_remove(const char *path, struct err *e)
{
    if (unlink(path) && errno != ENOENT)
        return err_errno(e, errno, "removing %s", path);
    return 0;
}

int
fs_remove_tree(const char *path, struct err *e)
{
    struct stat st;
    struct dirent *d;
    DIR *dir;
    int rc = 0;

    if (lstat(path, &st))
        return errno == ENOENT ? 0 : err_errno(e, errno, "removing %s", path);
    if (!S_ISDIR(st.st_mode))
        return fs_remove(path, e);
    dir = opendir(path);
    if (!dir)
        return err_errno(e, errno, "removing %s", path);
    while (!rc && (d = readdir(dir))) {
        defer_free char *sub = xasprintf("%s/%s", path, d->d_name);

        if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
            rc = fs_remove_tree(sub, e);
    }
    closedir(dir);
    if (!rc && rmdir(path))
        rc = err_errno(e, errno, "removing %s", path);
    return rc;
}

int
fs_lock(const char *path, const char *who, int *fd, struct err *e)
{
    defer_close int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    char holder[128];
    ssize_t n;

    if (f < 0)
        return err_errno(e, errno, "opening the lock %s", path);
    if (fcntl(f, F_OFD_SETLK, &whole)) {
        if (errno != EAGAIN && errno != EACCES)
            return err_errno(e, errno, "locking %s", path);
        n = pread(f, holder, sizeof holder - 1, 0);
        holder[n > 0 ? n : 0] = '\0';
        return err_set(e, ERR_BUSY, "%s is held by %s", path,
                       *holder ? holder : "another process");
    }
    if (ftruncate(f, 0) || fs_pwrite_all(f, who, strlen(who), 0))
        return err_errno(e, errno, "writing the lock %s", path);
    *fd = take_fd(f);
    return 0;
}

bool
fs_locked(const char *path)
{
    defer_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct flock whole = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

    return fd >= 0 && !fcntl(fd, F_OFD_GETLK, &whole) &&
           whole.l_type != F_UNLCK;
}

int
fs_pread_all(int fd, void *buf, size_t n, off_t off)
{
    char *p = buf;

    while (n) {
        ssize_t k = pread(fd, p, n, off);

        if (k < 0 && errno == EINTR)
            continue;
        if (k == 0)
            errno = EIO;
        if (k <= 0)
            return -1;
        p += k, off += k, n -= (size_t)k;
    }
    return 0;
}

int
fs_pwrite_all(int fd, const void *buf, size_t n, off_t off)
{
    const char *p = buf;

    while (n) {
        ssize_t k = pwrite(fd, p, n, off);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return -1;
        p += k, off += k, n -= (size_t)k;
    }
    return 0;
}

int
fs_write_all(int fd, const void *buf, size_t n)
{
    const char *p = buf;

    while (n) {
        ssize_t k = write(fd, p, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return -1;
        p += k, n -= (size_t)k;
    }
    return 0;
}
