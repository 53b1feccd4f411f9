/* The lab's disk service: a thread per connection, a connection per open
 * disk. */
#include "lab/nfc/nfc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "copy/vddk_abi.h"
#include "lab/disk/disk.h"
#include "lab/disk/layers.h"
#include "lab/nfc/knobs.h"
#include "lab/nfc/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#define CONNS_MAX           1024u /* at the same time */
#define VDDK_TOO_MANY_FILES 16027u
#define FDS_MAX             (2 * LAYERS_MAX)

struct conn {
    struct lab_nfc *nfc;
    struct conn *next;
    int fd;
};

struct lab_nfc {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    pthread_t acceptor;
    char *dir;
    int listener, lock_fd;
    lab_nfc_resolve *resolve;
    void *ctx;
    struct wire_shared *shared;
    struct conn *conns;
    unsigned n_conns, open_now, open_max;
    bool stopping;
};

struct wire_shared *
nfc_shared(struct lab_nfc *n)
{
    return n->shared;
}

struct lab_nfc *
nfc_lock(struct lab_nfc *n)
{
    pthread_mutex_lock(&n->lock);
    return n;
}

void
nfc_unlock(struct lab_nfc **n)
{
    pthread_mutex_unlock(&(*n)->lock);
}

void
nfc_open_counts(struct lab_nfc *n, struct lab_nfc_stats *s)
{
    defer(nfc_unlock) struct lab_nfc *locked = nfc_lock(n);

    s->open_now = locked->open_now;
    s->open_max = locked->open_max;
}

/* One request ------------------------------------------------------------ */

static int
parse(const char *buf, size_t n, struct lab_nfc_request *q)
{
    const char *s[WIRE_STRINGS], *p = buf + sizeof(struct wire_request);
    const struct wire_request *head = (const void *)buf;

    if (n <= sizeof *head || head->magic != WIRE_MAGIC || buf[n - 1])
        return -1;
    for (int i = 0; i < WIRE_STRINGS; i++) {
        if (p >= buf + n)
            return -1;
        s[i] = p;
        p += strlen(p) + 1;
    }
    *q = (struct lab_nfc_request){
        .server = s[WIRE_SERVER],
        .thumbprint = s[WIRE_THUMBPRINT],
        .user = s[WIRE_USER],
        .password = s[WIRE_PASSWORD],
        .cookie = s[WIRE_COOKIE],
        .vmx_spec = s[WIRE_VMX_SPEC],
        .snapshot = s[WIRE_SNAPSHOT],
        .path = s[WIRE_PATH],
        .transports = s[WIRE_TRANSPORTS],
        .port = head->port,
        .nfc_port = head->nfc_port,
        .flags = head->flags,
        .read_only = head->read_only,
    };
    return 0;
}

void
lab_nfc_grant(struct lab_nfc_answer *a, struct ldisk *disk, unsigned version,
              const char *uuid)
{
    struct err e = ERR_INIT;

    a->code = VDDK_FILE_NOT_FOUND;
    if (ldisk_hold(disk, version, &a->layers, &e)) {
        log_warn("nfc: %s", e.msg);
        return;
    }
    a->code = 0;
    a->disk = disk;
    a->version = version;
    a->size = ldisk_version_size(disk, version);
    snprintf(a->uuid, sizeof a->uuid, "%s", uuid ? uuid : "");
}

/* Opens all files of the chain; the number of them, or -1. */
static int
open_layers(char *list, int fds[FDS_MAX])
{
    int n = 0;

    for (char *p = list, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        *end = '\0';
        if (!*p)
            continue;
        fds[n] = open(p, O_RDONLY | O_CLOEXEC);
        if (fds[n] < 0) {
            log_error("nfc: opening %s: %s", p, strerror(errno));
            while (n)
                close(fds[--n]);
            return -1;
        }
        n++;
    }
    return n;
}

static void
send_answer(int to, const struct wire_answer *w, const int *fds, int n)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = { 0 };
    struct iovec iov = { (void *)w, sizeof *w };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    size_t bytes = (size_t)n * sizeof *fds;

    if (n) {
        m.msg_control = control.space;
        m.msg_controllen = CMSG_SPACE(bytes);
        CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, bytes);
    }
    /* A client which is gone is seen by the read that follows. */
    if (sendmsg(to, &m, MSG_NOSIGNAL) < 0)
        log_debug("nfc: answering: %s", strerror(errno));
}

static void
answer(struct conn *c, struct lab_nfc_answer *a)
{
    struct wire_answer w = { .magic = WIRE_MAGIC, .code = a->code };
    int fds[FDS_MAX], n = 0;

    if (!w.code) {
        n = open_layers(a->layers.p, fds);
        if (n < 0)
            w.code = VDDK_TOO_MANY_FILES, n = 0;
        w.layers = (uint32_t)(n + 1) / 2;
        w.size = a->size;
        memcpy(w.uuid, a->uuid, sizeof w.uuid);
    }
    send_answer(c->fd, &w, fds, n);
    while (n)
        close(fds[--n]);
}

static void
count_open(struct lab_nfc *n, int by)
{
    defer(nfc_unlock) struct lab_nfc *locked = nfc_lock(n);

    locked->open_now += (unsigned)by;
    if (locked->open_now > locked->open_max)
        locked->open_max = locked->open_now;
}

/* Serves one disk until its client has gone. */
static void
serve(struct conn *c)
{
    struct lab_nfc_answer a = { .code = VDDK_FAIL };
    defer_free char *buf = xmalloc(WIRE_REQUEST_MAX);
    struct lab_nfc_request q;
    ssize_t n = recv(c->fd, buf, WIRE_REQUEST_MAX, 0);

    if (n <= 0 || parse(buf, (size_t)n, &q)) {
        log_warn("nfc: a request that is none");
        return;
    }
    c->nfc->resolve(c->nfc->ctx, &q, &a);
    log_debug("nfc: open %s of %s at %s: %u", q.path, q.vmx_spec, q.snapshot,
              a.code);
    if (a.disk)
        count_open(c->nfc, 1);
    answer(c, &a);
    while (a.disk && recv(c->fd, buf, WIRE_REQUEST_MAX, 0) > 0)
        ;
    if (a.disk) {
        ldisk_release(a.disk, a.version);
        count_open(c->nfc, -1);
    }
    str_fini(&a.layers);
}

/* Connections ------------------------------------------------------------ */

static void *
conn_main(void *arg)
{
    struct conn *c = arg;
    struct lab_nfc *n = c->nfc;

    serve(c);
    pthread_mutex_lock(&n->lock);
    for (struct conn **p = &n->conns; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    close(c->fd);
    free(c);
    n->n_conns--;
    pthread_cond_broadcast(&n->idle);
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

static void
start_conn(struct lab_nfc *n, int fd)
{
    defer(nfc_unlock) struct lab_nfc *locked = nfc_lock(n);
    struct conn *c;
    pthread_t t;

    if (locked->stopping || n->n_conns == CONNS_MAX) {
        close(fd);
        return;
    }
    c = xcalloc(1, sizeof *c);
    *c = (struct conn){ n, n->conns, fd };
    if (pthread_create(&t, NULL, conn_main, c)) {
        log_error("nfc: no thread for a connection");
        close(fd);
        free(c);
        return;
    }
    pthread_detach(t);
    n->conns = c;
    n->n_conns++;
}

static void *
accept_main(void *arg)
{
    struct lab_nfc *n = arg;

    for (;;) {
        int fd = accept4(n->listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0)
            start_conn(n, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            usleep(10000);
        else if (errno != EINTR && errno != ECONNABORTED)
            return NULL;
    }
}

static int
listen_at(const char *dir, struct err *e)
{
    defer_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    defer_free char *path = xasprintf("%s/%s", dir, LAB_NFC_SOCKET);
    defer_close int dir_fd = -1;
    struct sockaddr_un a;

    if (fs_remove(path, e))
        return -1;
    if (fd < 0 || wire_address(dir, &a, &dir_fd) ||
        bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 128))
        return err_errno(e, errno, "listening at %s", path);
    return take_fd(fd);
}

static void
destroy(struct lab_nfc *n)
{
    if (n->listener >= 0)
        close(n->listener);
    if (n->lock_fd >= 0)
        close(n->lock_fd);
    knobs_unmap(n->shared);
    pthread_cond_destroy(&n->idle);
    pthread_mutex_destroy(&n->lock);
    free(n->dir);
    free(n);
}

static int
start(struct lab_nfc *n, struct err *e)
{
    defer_free char *lock = xasprintf("%s/nfc.lock", n->dir);

    if (fs_mkdirs(n->dir, 0700, e) || fs_lock(lock, "a lab", &n->lock_fd, e))
        return -1;
    n->shared = knobs_map(n->dir, e);
    if (!n->shared)
        return -1;
    n->listener = listen_at(n->dir, e);
    if (n->listener < 0)
        return -1;
    errno = pthread_create(&n->acceptor, NULL, accept_main, n);
    return errno ? err_errno(e, errno, "starting a thread") : 0;
}

struct lab_nfc *
lab_nfc_start(const char *dir, lab_nfc_resolve *resolve, void *ctx,
              struct err *e)
{
    struct lab_nfc *n = xcalloc(1, sizeof *n);

    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->idle, NULL);
    n->dir = xstrdup(dir);
    n->listener = n->lock_fd = -1;
    n->resolve = resolve;
    n->ctx = ctx;
    if (start(n, e)) {
        err_wrap(e, "starting the disk service");
        destroy(n);
        return NULL;
    }
    return n;
}

void
lab_nfc_stop(struct lab_nfc *n)
{
    if (!n)
        return;
    lab_nfc_cut(n);
    pthread_mutex_lock(&n->lock);
    n->stopping = true;
    pthread_mutex_unlock(&n->lock);
    shutdown(n->listener, SHUT_RDWR);
    pthread_join(n->acceptor, NULL);
    pthread_mutex_lock(&n->lock);
    for (struct conn *c = n->conns; c; c = c->next)
        shutdown(c->fd, SHUT_RDWR);
    while (n->n_conns)
        pthread_cond_wait(&n->idle, &n->lock);
    pthread_mutex_unlock(&n->lock);
    destroy(n);
}
