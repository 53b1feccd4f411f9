/* Opening a disk at the lab's disk service. */
#include "base/mem.h"
#include "base/str.h"
#include "lab/vddk/vddk.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ANSWER_S 60 /* seconds to wait for one */
#define FDS_MAX  (2 * LAYERS_MAX)

static int
dial(void)
{
    defer_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct timeval limit = { .tv_sec = ANSWER_S };
    defer_close int dir_fd = -1;
    struct sockaddr_un a;

    if (fd < 0 || wire_address(lib.dir, &a, &dir_fd) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) ||
        connect(fd, (struct sockaddr *)&a, sizeof a)) {
        vddk_warn("NBD_ClientOpen: couldn't connect: %s\n", strerror(errno));
        return -1;
    }
    return take_fd(fd);
}

static int
send_request(const struct handle *h, uint32_t flags)
{
    const struct conn *c = h->conn;
    struct wire_request head = {
        .magic = WIRE_MAGIC,
        .port = c->port,
        .nfc_port = c->nfc_port,
        .flags = flags,
        .read_only = c->read_only,
    };
    struct str s = { .max = WIRE_REQUEST_MAX };
    ssize_t n = -1;

    str_addn(&s, &head, sizeof head);
    for (int i = 0; i < WIRE_STRINGS; i++) {
        const char *text = i == WIRE_PATH ? h->path : c->strings[i];

        str_addn(&s, text, strlen(text) + 1);
    }
    if (!s.failed)
        n = send(h->socket, s.p, s.n, MSG_NOSIGNAL);
    str_fini(&s);
    return n < 0 ? -1 : 0;
}

/* The number of descriptors that came, or -1. */
static int
receive_answer(int from, struct wire_answer *w, int fds[FDS_MAX])
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = { w, sizeof *w };
    struct msghdr m = { .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.space,
                        .msg_controllen = sizeof control };
    ssize_t n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
    size_t bytes = 0;

    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        bytes = c->cmsg_len - CMSG_LEN(0);
        memcpy(fds, CMSG_DATA(c), bytes);
    }
    if (n != sizeof *w || w->magic != WIRE_MAGIC)
        return -1;
    return (int)(bytes / sizeof *fds);
}

/* Takes over the descriptor of the data; maps the bitmap. */
static int
add_layer(struct handle *h, int data, int bitmap)
{
    struct layer *l = &h->chain[h->layers];
    size_t *bytes = &h->bitmap_bytes[h->layers++];
    struct stat st;
    void *p;

    *l = (struct layer){ .fd = data };
    if (fstat(data, &st))
        return -1;
    l->size = (uint64_t)st.st_size;
    if (bitmap < 0)
        return 0;
    *bytes = layers_bitmap_bytes(l->size);
    if (fstat(bitmap, &st) || (uint64_t)st.st_size < *bytes)
        return -1;
    p = mmap(NULL, *bytes, PROT_READ, MAP_SHARED, bitmap, 0);
    if (p == MAP_FAILED)
        return -1;
    l->bits = p;
    return 0;
}

static unsigned
add_layers(struct handle *h, const int *fds, int n)
{
    unsigned code = VDDK_OK;

    for (int i = 0; i < n; i += 2) {
        int bitmap = i + 1 < n ? fds[i + 1] : -1;

        if (add_layer(h, fds[i], bitmap))
            code = VDDK_DISK_NOIO;
        if (bitmap >= 0)
            close(bitmap);
    }
    return code;
}

static unsigned
ask(struct handle *h, uint32_t flags)
{
    struct wire_answer w;
    int fds[FDS_MAX], n;

    h->cuts = atomic_load(&lib.shared->cuts);
    h->socket = dial();
    if (h->socket < 0)
        return VDDK_CONN_REFUSED;
    if (send_request(h, flags))
        return VDDK_SOCKET_ERROR;
    n = receive_answer(h->socket, &w, fds);
    if (n < 0)
        return VDDK_CONN_LOST;
    if (w.code)
        return w.code;
    if (n != (int)(2 * w.layers) - 1)
        return VDDK_SOCKET_ERROR;
    h->size = w.size;
    memcpy(h->uuid, w.uuid, sizeof h->uuid);
    h->uuid[sizeof h->uuid - 1] = '\0';
    return add_layers(h, fds, n);
}

unsigned
handle_open(struct handle *h, uint32_t flags)
{
    unsigned code;

    sleep_until(answer_due(0));
    code = ask(h, flags);
    if (code)
        handle_close(h);
    else
        atomic_fetch_add(&lib.shared->opens, 1);
    return code;
}

void
handle_close(struct handle *h)
{
    for (size_t i = 0; i < h->layers; i++) {
        if (h->chain[i].bits)
            munmap((void *)h->chain[i].bits, h->bitmap_bytes[i]);
        close(h->chain[i].fd);
    }
    h->layers = 0;
    if (h->socket >= 0)
        close(h->socket);
    h->socket = -1;
}
