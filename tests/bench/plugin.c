/* nbdkit plugin that reads by a VDDK library as nbdkit's own vddk plugin does
 * (Debian ships nbdkit without it): one handle for each connection, one thread
 * that alone calls the library, requests that wait for the callback. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/vec.h"
#include "copy/vddk_abi.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define API_MAJOR  6
#define API_MINOR  5
#define WINDOW     ((uint64_t)VDDK_MAX_CHUNKS * VDDK_MIN_CHUNK) /* sectors */
#define TRANSPORTS "nbdssl:nbd"

#define MEMBER(name, result, args) result(*name) args;
static struct {
    VDDK_FUNCTIONS(MEMBER)
} vddk;

static struct {
    char *libdir, *server, *user, *password, *thumbprint, *vm, *path;
    uint32_t port;
} conf;

enum command_kind { COMMAND_READ, COMMAND_STOP };

struct command {
    enum command_kind kind;
    struct command *next;
    void *buf;
    uint64_t offset; /* bytes */
    uint32_t count;
    vddk_error result;
    sem_t done;
};

struct handle {
    pthread_t thread; /* the only one that calls the library */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct command *first, **last; /* guarded by lock */
    sem_t opened;
    bool failed;
    vddk_conn conn;
    vddk_handle disk;
    uint64_t size;                        /* bytes */
    struct VEC(struct vddk_block) in_use; /* known once it is open; sectors */
};

/* The library ------------------------------------------------------------- */

static void
no_log(const char *fmt, va_list args)
{
    (void)fmt;
    (void)args;
}

static int
load(void)
{
    char *path = xasprintf("%s/lib64/libvixDiskLib.so.8", conf.libdir);
    void *so = dlopen(path, RTLD_NOW);

    free(path);
    if (!so) {
        nbdkit_error("%s", dlerror());
        return -1;
    }
#define LOAD(name, result, args)                           \
    *(void **)&vddk.name = dlsym(so, "VixDiskLib_" #name); \
    if (!vddk.name) {                                      \
        nbdkit_error("the library lacks %s", #name);       \
        return -1;                                         \
    }
    VDDK_FUNCTIONS(LOAD)
    return 0;
}

static int
failed(const char *call, vddk_error rc)
{
    if (VDDK_CODE(rc) == VDDK_OK)
        return 0;
    nbdkit_error("%s: VDDK error %u", call, VDDK_CODE(rc));
    return -1;
}

/* nbdkit may have forked before this and will not after. */
static int
bench_after_fork(void)
{
    return load() || failed("InitEx",
                            vddk.InitEx(API_MAJOR, API_MINOR, no_log, no_log,
                                        no_log, conf.libdir, NULL))
               ? -1
               : 0;
}

static void
bench_unload(void)
{
    char **texts[] = { &conf.libdir,     &conf.server, &conf.user,
                       &conf.thumbprint, &conf.vm,     &conf.path };

    if (vddk.Exit)
        vddk.Exit();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(*texts[i]);
    if (conf.password)
        explicit_bzero(conf.password, strlen(conf.password));
    free(conf.password);
}

/* Configuration ----------------------------------------------------------- */

static int
bench_config(const char *key, const char *value)
{
    static const struct {
        const char *key;
        char **to;
    } texts[] = {
        { "libdir", &conf.libdir },
        { "server", &conf.server },
        { "user", &conf.user },
        { "vm", &conf.vm },
        { "thumbprint", &conf.thumbprint },
        { "path", &conf.path },
    };

    if (!strcmp(key, "password"))
        return nbdkit_read_password(value, &conf.password);
    if (!strcmp(key, "port"))
        return nbdkit_parse_uint32_t(key, value, &conf.port);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(key, texts[i].key))
            continue;
        free(*texts[i].to);
        *texts[i].to = xstrdup(value);
        return 0;
    }
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

static int
bench_config_complete(void)
{
    if (conf.libdir && conf.server && conf.user && conf.password &&
        conf.thumbprint && conf.vm && conf.path)
        return 0;
    nbdkit_error("needed: libdir, server, user, password, thumbprint, vm, "
                 "path");
    return -1;
}

/* One disk, on its own thread --------------------------------------------- */

static int
login(struct handle *h)
{
    struct vddk_connect_params *p = vddk.AllocateConnectParams();
    vddk_error rc;

    p->vmx_spec = conf.vm;
    p->server_name = conf.server;
    p->thumb_print = conf.thumbprint;
    p->cred_type = VDDK_CRED_UID;
    p->creds.uid.user_name = conf.user;
    p->creds.uid.password = conf.password;
    p->port = conf.port;
    rc = vddk.ConnectEx(p, 1, NULL, TRANSPORTS, &h->conn);
    vddk.FreeConnectParams(p);
    return failed("ConnectEx", rc);
}

static int
ask_size(struct handle *h)
{
    struct vddk_info *info;

    if (failed("GetInfo", vddk.GetInfo(h->disk, &info)))
        return -1;
    h->size = info->capacity * VDDK_SECTOR;
    vddk.FreeInfo(info);
    return 0;
}

/* A tail that is no whole chunk counts as in use. */
static int
ask_allocation(struct handle *h)
{
    uint64_t sectors = h->size / VDDK_SECTOR, n;
    uint64_t whole = sectors / VDDK_MIN_CHUNK * VDDK_MIN_CHUNK;
    struct vddk_block_list *list;

    for (uint64_t at = 0; at < whole; at += n) {
        n = whole - at < WINDOW ? whole - at : WINDOW;
        if (failed("QueryAllocatedBlocks",
                   vddk.QueryAllocatedBlocks(h->disk, at, n, VDDK_MIN_CHUNK,
                                             &list)))
            return -1;
        for (uint32_t i = 0; i < list->num_blocks; i++)
            vec_push(&h->in_use, list->blocks[i]);
        vddk.FreeBlockList(list);
    }
    if (whole < sectors)
        vec_push(&h->in_use, (struct vddk_block){ whole, sectors - whole });
    return 0;
}

static int
open_disk(struct handle *h)
{
    if (login(h))
        return -1;
    if (failed("Open",
               vddk.Open(h->conn, conf.path, VDDK_OPEN_READ_ONLY, &h->disk))) {
        vddk.Disconnect(h->conn);
        return -1;
    }
    if (!ask_size(h) && !ask_allocation(h))
        return 0;
    vddk.Close(h->disk);
    vddk.Disconnect(h->conn);
    return -1;
}

static void
on_read(void *data, vddk_error result)
{
    struct command *c = data;

    c->result = result;
    sem_post(&c->done);
}

static struct command *
next_command(struct handle *h)
{
    struct command *c;

    pthread_mutex_lock(&h->lock);
    while (!h->first)
        pthread_cond_wait(&h->work, &h->lock);
    c = h->first;
    h->first = c->next;
    if (!h->first)
        h->last = &h->first;
    pthread_mutex_unlock(&h->lock);
    return c;
}

static void *
worker(void *arg)
{
    struct handle *h = arg;
    struct command *c;

    h->failed = open_disk(h) != 0;
    sem_post(&h->opened);
    if (h->failed)
        return NULL;
    while ((c = next_command(h))->kind == COMMAND_READ) {
        vddk_error rc =
            vddk.ReadAsync(h->disk, c->offset / VDDK_SECTOR,
                           c->count / VDDK_SECTOR, c->buf, on_read, c);

        if (VDDK_CODE(rc) != VDDK_ASYNC)
            on_read(c, rc);
    }
    vddk.Wait(h->disk);
    vddk.Close(h->disk);
    vddk.Disconnect(h->conn);
    sem_post(&c->done);
    return NULL;
}

static vddk_error
command(struct handle *h, struct command *c)
{
    sem_init(&c->done, 0, 0);
    pthread_mutex_lock(&h->lock);
    *h->last = c;
    h->last = &c->next;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
    while (sem_wait(&c->done))
        ;
    sem_destroy(&c->done);
    return c->result;
}

/* What nbdkit calls ------------------------------------------------------- */

static void
handle_free(struct handle *h)
{
    pthread_join(h->thread, NULL);
    sem_destroy(&h->opened);
    pthread_cond_destroy(&h->work);
    pthread_mutex_destroy(&h->lock);
    vec_fini(&h->in_use);
    free(h);
}

static void *
bench_open(int readonly)
{
    struct handle *h = xcalloc(1, sizeof *h);

    (void)readonly;
    h->last = &h->first;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->work, NULL);
    sem_init(&h->opened, 0, 0);
    if (pthread_create(&h->thread, NULL, worker, h))
        abort();
    while (sem_wait(&h->opened))
        ;
    if (!h->failed)
        return h;
    handle_free(h);
    return NULL;
}

static void
bench_close(void *handle)
{
    struct command stop = { .kind = COMMAND_STOP };

    command(handle, &stop);
    handle_free(handle);
}

static int64_t
bench_get_size(void *handle)
{
    return (int64_t)((struct handle *)handle)->size;
}

static int
bench_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                 uint32_t *maximum)
{
    (void)handle;
    *minimum = VDDK_SECTOR;
    *preferred = 4096;
    *maximum = 0xffffffff;
    return 0;
}

static int
bench_pread(void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
    struct command read = {
        .kind = COMMAND_READ, .buf = buf, .offset = offset, .count = count
    };

    (void)flags;
    return failed("ReadAsync", command(handle, &read));
}

static int
bench_can_extents(void *handle)
{
    (void)handle;
    return 1;
}

static int
add_extent(struct nbdkit_extents *to, uint64_t start, uint64_t end,
           uint32_t type)
{
    return start < end ? nbdkit_add_extent(to, start, end - start, type) : 0;
}

/* The first block that ends after this byte. */
static size_t
find_block(const struct handle *h, uint64_t offset)
{
    size_t low = 0, high = h->in_use.n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct vddk_block *b = &h->in_use.p[mid];

        if ((b->offset + b->length) * VDDK_SECTOR > offset)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static int
bench_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
              struct nbdkit_extents *extents)
{
    const uint32_t hole = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
    const struct handle *h = handle;
    uint64_t at = offset, end = offset + count;

    (void)flags;
    for (size_t i = find_block(h, offset); at < end && i < h->in_use.n; i++) {
        const struct vddk_block *b = &h->in_use.p[i];
        uint64_t start = b->offset * VDDK_SECTOR;
        uint64_t stop = start + b->length * VDDK_SECTOR;

        start = start < at ? at : start < end ? start : end;
        stop = stop < end ? stop : end;
        if (add_extent(extents, at, start, hole) ||
            add_extent(extents, start, stop, 0))
            return -1;
        at = stop > start ? stop : start;
    }
    return add_extent(extents, at, end, hole);
}

static struct nbdkit_plugin plugin = {
    .name = "labvddk",
    .longname = "v2c bench: a VDDK library as source",
    .unload = bench_unload,
    .config = bench_config,
    .config_complete = bench_config_complete,
    .after_fork = bench_after_fork,
    .open = bench_open,
    .close = bench_close,
    .get_size = bench_get_size,
    .block_size = bench_block_size,
    .pread = bench_pread,
    .can_extents = bench_can_extents,
    .extents = bench_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
