/* Source: a raw file or block device on this machine. */
#include "copy/copy.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/source.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_THREADS 4

struct job {
    unsigned slot;
    uint32_t n;
    void *buf;
    off_t offset;
};

struct file {
    struct source base;
    int fd;
    uint64_t size;
    struct done *done;
    unsigned threads;
    pthread_t thread[FILE_THREADS];
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t some;  /* a job waits, or all are to end */
    bool end;
    unsigned first, n;
    struct job jobs[COPY_SLOTS_MAX]; /* ring */
};

/* Is there nothing in all of it?  To read what is not there costs as much as
 * data would, and hours where a sparse file is large. */
static bool
is_hole(int fd, const struct job *j)
{
    off_t end = j->offset + (off_t)j->n;
    off_t data = lseek(fd, j->offset, SEEK_DATA);
    struct stat st;

    if (data >= 0)
        return data >= end;
    return errno == ENXIO && !fstat(fd, &st) && st.st_size >= end;
}

/* errno; a file that ends early is EIO. */
static int
read_all(int fd, const struct job *j)
{
    char *p = j->buf;
    size_t left = j->n;
    off_t at = j->offset;

    if (is_hole(fd, j)) {
        memset(p, 0, left);
        return 0;
    }
    while (left) {
        ssize_t n = pread(fd, p, left, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? errno : EIO;
        p += n, at += n, left -= (size_t)n;
    }
    return 0;
}

static void *
reader(void *arg)
{
    struct file *f = arg;

    pthread_mutex_lock(&f->lock);
    for (;;) {
        struct job j;

        while (!f->n && !f->end)
            pthread_cond_wait(&f->some, &f->lock);
        if (f->end)
            break;
        j = f->jobs[f->first];
        f->first = (f->first + 1) % COPY_SLOTS_MAX;
        f->n--;
        pthread_mutex_unlock(&f->lock);
        done_post(f->done, j.slot, (uint64_t)read_all(f->fd, &j));
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static void
file_close(struct source *s)
{
    struct file *f = (struct file *)s;

    pthread_mutex_lock(&f->lock);
    f->end = true;
    pthread_cond_broadcast(&f->some);
    pthread_mutex_unlock(&f->lock);
    for (unsigned i = 0; i < f->threads; i++)
        pthread_join(f->thread[i], NULL);
    pthread_cond_destroy(&f->some);
    pthread_mutex_destroy(&f->lock);
    done_free(f->done);
    if (f->fd >= 0)
        close(f->fd);
    free(f);
}

static int
start(struct file *f, const char *path, struct err *e)
{
    off_t end;

    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0)
        return err_errno(e, errno, "opening the source %s", path);
    end = lseek(f->fd, 0, SEEK_END);
    if (end < 0)
        return err_errno(e, errno, "asking the size of the source %s", path);
    f->size = (uint64_t)end;
    f->done = done_new(e);
    if (!f->done)
        return -1;
    for (; f->threads < FILE_THREADS; f->threads++) {
        int rc = pthread_create(&f->thread[f->threads], NULL, reader, f);

        if (rc)
            return err_errno(e, rc, "starting a thread");
    }
    return 0;
}

static int
file_open(struct source **s, const struct request *r, struct err *e)
{
    struct file *f = xcalloc(1, sizeof *f);

    f->base.ops = &source_file;
    f->fd = -1;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->some, NULL);
    if (start(f, request_text(r, KEY_FILE), e)) {
        file_close(&f->base);
        return -1;
    }
    *s = &f->base;
    return 0;
}

static uint64_t
file_size(const struct source *s)
{
    return ((const struct file *)s)->size;
}

static const char *
file_transport(const struct source *s)
{
    return s->ops->kind;
}

static int
file_allocated(struct source *s, struct extents *out, struct err *e)
{
    struct file *f = (struct file *)s;
    off_t at = 0, size = (off_t)f->size;

    while (at < size) {
        off_t data = lseek(f->fd, at, SEEK_DATA), hole;

        if (data < 0 && errno == ENXIO)
            return 0;
        /* Block devices and some file systems do not know. */
        if (data < 0 && errno == EINVAL) {
            extents_add(out, (uint64_t)at, (uint64_t)(size - at));
            return 0;
        }
        hole = data < 0 ? -1 : lseek(f->fd, data, SEEK_HOLE);
        if (hole < 0)
            return err_errno(e, errno, "looking for holes of the source");
        if (stop_asked())
            return err_set(e, ERR_STOPPED, "stopped");
        if (hole > size)
            hole = size;
        if (hole <= data)
            return err_set(e, ERR_IO, "the source changed while it was mapped");
        extents_add_near(out, (uint64_t)data, (uint64_t)(hole - data),
                         COPY_HOLE_MIN);
        at = hole;
    }
    return 0;
}

static void
file_read(struct source *s, unsigned slot, void *buf, uint64_t offset,
          uint32_t n)
{
    struct file *f = (struct file *)s;

    pthread_mutex_lock(&f->lock);
    assert(f->n < COPY_SLOTS_MAX);
    f->jobs[(f->first + f->n++) % COPY_SLOTS_MAX] =
        (struct job){ slot, n, buf, (off_t)offset };
    pthread_cond_signal(&f->some);
    pthread_mutex_unlock(&f->lock);
}

static void
file_poll(const struct source *s, struct pollfd *p)
{
    p->fd = done_fd(((const struct file *)s)->done);
    p->events = POLLIN;
}

static void
file_ready(struct source *s, short revents)
{
    (void)s;
    (void)revents;
}

static bool
file_reap(struct source *s, struct read_result *out)
{
    struct done_item item;

    if (!done_take(((struct file *)s)->done, &item))
        return false;
    out->slot = item.slot;
    out->verdict = item.code ? READ_FAILED : READ_OK;
    if (item.code)
        err_errno(&out->err, (int)item.code, "pread");
    return true;
}

const struct source_ops source_file = {
    .kind = "file",
    .open = file_open,
    .close = file_close,
    .size = file_size,
    .transport = file_transport,
    .allocated = file_allocated,
    .read = file_read,
    .poll = file_poll,
    .ready = file_ready,
    .reap = file_reap,
};
