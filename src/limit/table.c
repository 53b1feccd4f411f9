/* The table of slots: its file, its rows, its locks. */
#include "limit/table.h"
#include "base/clock.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define ROW_MAGIC     "v2cslot"
#define LOCK_PAUSE_MS 2

static struct flock
byte_of(unsigned row, short type)
{
    return (struct flock){ .l_type = type,
                           .l_whence = SEEK_SET,
                           .l_start = (off_t)row * ROW_BYTES,
                           .l_len = 1 };
}

static int
open_table(const char *path, struct err *e)
{
    defer_close int fd =
        open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;

    if (fd < 0 && errno == ELOOP)
        return err_set(e, ERR_USER, "%s is a link; remove it", path);
    if (fd < 0 || fstat(fd, &st))
        return err_errno(e, errno, "opening %s", path);
    if (!S_ISREG(st.st_mode) || (st.st_uid != geteuid() && geteuid()))
        return err_set(e, ERR_USER, "%s is no file of ours; remove it", path);
    return take_fd(fd);
}

int
slots_open(const char *dir, struct slots **out, struct err *e)
{
    defer(slots_close_ptr) struct slots *s = xcalloc(1, sizeof *s);

    s->path = xasprintf("%s/slots", dir);
    s->fd = -1;
    if (fs_mkdirs(dir, 0700, e))
        return -1;
    s->fd = open_table(s->path, e);
    if (s->fd < 0)
        return -1;
    *out = take(s);
    return 0;
}

void
slots_close(struct slots *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->path);
    free(s);
}

int
table_lock(struct slots *s, int64_t wait_ms, struct err *e)
{
    int64_t end = clock_ms() + wait_ms;
    struct flock lock = byte_of(0, F_WRLCK);

    while (fcntl(s->fd, F_OFD_SETLK, &lock)) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return err_errno(e, errno, "locking %s", s->path);
        if (clock_ms() >= end)
            return err_set(e, ERR_BUSY, "%s is in use by another process",
                           s->path);
        clock_pause(LOCK_PAUSE_MS);
    }
    return 0;
}

void
table_unlock(struct slots *s)
{
    struct flock lock = byte_of(0, F_UNLCK);

    fcntl(s->fd, F_OFD_SETLK, &lock);
}

/* What cannot be asked counts as alive: rather one slot too few. */
static bool
alive(const struct slots *s, unsigned row)
{
    struct flock lock = byte_of(row, F_WRLCK);

    return fcntl(s->fd, F_OFD_GETLK, &lock) || lock.l_type != F_UNLCK;
}

/* Written by another release, by nobody, or by somebody else: all texts get an
 * end, all numbers bounds. */
static bool
sound(struct row *r)
{
    if (memcmp(r->magic, ROW_MAGIC, sizeof r->magic))
        return false;
    if (r->kind == ROW_PLACE) {
        struct place *p = &r->place;

        p->name[SLOT_NAME_MAX - 1] = '\0';
        return p->kind < SLOT_KINDS && p->limit >= 0 &&
               p->limit <= SLOT_LIMIT_MAX && p->configured >= 0 &&
               p->configured <= SLOT_LIMIT_MAX && p->lowered >= 0 &&
               p->lowered <= SLOT_LIMIT_MAX;
    }
    for (int i = 0; i < SLOT_KINDS; i++)
        r->copier.names[i][SLOT_NAME_MAX - 1] = '\0';
    r->copier.who[SLOT_NAME_MAX - 1] = '\0';
    return r->kind == ROW_COPIER;
}

int
table_load(struct slots *s, struct rows *rows, struct err *e)
{
    struct stat st;
    unsigned n;

    if (fstat(s->fd, &st))
        return err_errno(e, errno, "reading %s", s->path);
    n = st.st_size / ROW_BYTES < ROWS_MAX ? (unsigned)(st.st_size / ROW_BYTES)
                                          : ROWS_MAX;
    rows->p = xcalloc(n + 1, sizeof *rows->p);
    rows->n = rows->cap = n ? n : 1;
    if (n && fs_pread_all(s->fd, rows->p, (size_t)n * ROW_BYTES, 0))
        return err_errno(e, errno, "reading %s", s->path);
    for (unsigned i = 0; i < rows->n; i++) {
        struct row *r = &rows->p[i];

        if (!i || !sound(r) || (r->kind == ROW_COPIER && !alive(s, i)))
            r->kind = ROW_FREE;
    }
    return 0;
}

int
table_write(struct slots *s, unsigned row, const struct row *r, struct err *e)
{
    struct row copy = *r;

    memcpy(copy.magic, ROW_MAGIC, sizeof copy.magic);
    if (fs_pwrite_all(s->fd, &copy, sizeof copy, (off_t)row * ROW_BYTES))
        return err_errno(e, errno, "writing %s", s->path);
    return 0;
}

static int
full(const struct slots *s, struct err *e)
{
    return err_set(e, ERR_NOSPACE,
                   "%s is full; remove it when no migration runs", s->path);
}

/* A row that says nothing may be locked all the same, when its contents were
 * lost: its copier lives, and the row stays his. */
int
table_claim(struct slots *s, const struct rows *rows, unsigned *row, int *fd,
            struct err *e)
{
    defer_close int f = open_table(s->path, e);

    if (f < 0)
        return -1;
    for (unsigned i = 1; i < ROWS_MAX; i++) {
        struct flock lock = byte_of(i, F_WRLCK);

        if (i < rows->n && rows->p[i].kind != ROW_FREE)
            continue;
        if (fcntl(f, F_OFD_SETLK, &lock))
            continue;
        *row = i;
        *fd = take_fd(f);
        return 0;
    }
    return full(s, e);
}

static struct row *
make_place(struct slots *s, struct rows *rows, const struct row *new,
           struct err *e)
{
    for (unsigned i = 1; i < ROWS_MAX; i++) {
        if (i == rows->n)
            vec_push(rows, (struct row){ 0 });
        if (rows->p[i].kind != ROW_FREE || alive(s, i))
            continue;
        rows->p[i] = *new;
        return table_write(s, i, new, e) ? NULL : &rows->p[i];
    }
    full(s, e);
    return NULL;
}

struct row *
table_place(struct slots *s, struct rows *rows, enum slot_kind kind,
            const char *name, bool make, struct err *e)
{
    struct row new = { .kind = ROW_PLACE, .place.kind = kind };

    err_clear(e);
    table_name(new.place.name, name);
    for (unsigned i = 1; i < rows->n; i++) {
        struct row *r = &rows->p[i];

        if (r->kind == ROW_PLACE && r->place.kind == kind &&
            !strcmp(r->place.name, new.place.name))
            return r;
    }
    return make ? make_place(s, rows, &new, e) : NULL;
}

void
table_name(char out[SLOT_NAME_MAX], const char *name)
{
    size_t n = 0, k;

    while (name[n] && (k = utf8_len(name + n)) && n + k < SLOT_NAME_MAX)
        n += k;
    memset(out, 0, SLOT_NAME_MAX);
    memcpy(out, name, n);
}
