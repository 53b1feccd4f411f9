/* Source: a disk of a VM's snapshot, by VMware's library (VDDK), which the
 * user provides. */
#include "copy/copy.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/source.h"
#include "copy/vddk_abi.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"

#include <assert.h>
#include <dlfcn.h>
#include <string.h>

#define API_MAJOR          6
#define API_MINOR          5
#define DEFAULT_TRANSPORTS "nbdssl:nbd"
#define LOG_LINE_MAX       1024
#define UUID_MAX           128

/* Every call that may take its time is timed. */
#define TIMED(doing, call) (hang_begin(doing), timed(call))

struct vddk_functions {
#define X(name, result, args) result(*name) args;
    VDDK_FUNCTIONS(X)
#undef X
};

struct vddk;
struct vddk_slot {
    struct vddk *v;
    unsigned slot;
};

struct vddk {
    struct source base;
    const struct request *req;
    struct vddk_functions f;
    bool inited;
    struct vddk_connect_params *params;
    vddk_conn conn;
    vddk_handle disk;
    uint64_t size;       /* 0: it was never open */
    char uuid[UUID_MAX]; /* of the disk, as the library has it; "" */
    struct done *done;
    char transport[64];
    unsigned in_flight; /* reads that were accepted or refused, not reaped */
    enum vddk_action action; /* that the last error while opening asks for */
    bool lost;               /* connection and handle are to be made anew */
    bool once;               /* that was done for a code that allows it once */
    struct comeback back;
    char *texts[6]; /* what params point at; kept until Disconnect */
    unsigned n_texts;
    struct vddk_slot slots[COPY_SLOTS_MAX];
};

static vddk_error
timed(vddk_error rc)
{
    hang_end();
    return rc;
}

/* log -------------------------------------------------------------------- */

/* Lines that frighten and say nothing. */
static const char *const noise[] = {
    "Get CEIP status failed",
    "VDDK_PhoneHome",
};

static void
log_line(enum log_level level, const char *fmt, va_list args)
{
    char line[LOG_LINE_MAX];
    int n = vsnprintf(line, sizeof line, fmt, args);

    if (n < 0)
        return;
    for (size_t i = 0; i < sizeof noise / sizeof *noise; i++)
        if (strstr(line, noise[i]))
            return;
    n = (int)strlen(line);
    while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        line[--n] = '\0';
    if (n)
        log_at(level, "vddk: %s", line);
}

static void
on_log(const char *fmt, va_list args)
{
    log_line(LOG_INFO, fmt, args);
}

static void
on_warning(const char *fmt, va_list args)
{
    log_line(LOG_WARN, fmt, args);
}

static void
on_panic(const char *fmt, va_list args)
{
    log_line(LOG_ERROR, fmt, args);
}

/* errors ----------------------------------------------------------------- */

static int
vddk_failed(struct vddk *v, vddk_error rc, const char *doing, struct err *e)
{
    unsigned code = VDDK_CODE(rc);
    struct vddk_meaning is = vddk_meaning(code);
    char *text = v->f.GetErrorText(rc, NULL);

    v->action = is.at_open;
    err_set(e, is.class, "%s: VDDK error %u (%s)%s%s", doing, code,
            text ? text : "no text", *is.hint ? "; " : "", is.hint);
    e->code = (int)code;
    if (text)
        v->f.FreeErrorText(text);
    return -1;
}

/* loading ---------------------------------------------------------------- */

static const char *const places[] = { "lib64/", "" };
static const int series[] = { 9, 8, 7, 6 };

static void *
load_from(const char *dir, bool *found, struct err *e)
{
    for (size_t k = 0; k < sizeof places / sizeof *places; k++)
        for (size_t i = 0; i < sizeof series / sizeof *series; i++) {
            defer_free char *path = xasprintf("%s/%slibvixDiskLib.so.%d", dir,
                                              places[k], series[i]);
            void *lib;
            const char *why;

            if (!fs_exists(path))
                continue;
            *found = true;
            lib = dlopen(path, RTLD_NOW);
            if (lib)
                return lib;
            why = dlerror();
            err_set(e, ERR_USER,
                    "loading %s: %s; LD_LIBRARY_PATH has to hold its "
                    "directory",
                    path, why ? why : "unknown error");
        }
    return NULL;
}

static int
load(struct vddk *v, const char *dir, struct err *e)
{
    bool found = false;
    /* Never unloaded: its threads may outlive Exit. */
    void *lib = load_from(dir, &found, e);

    if (!lib && found)
        return -1;
    if (!lib)
        return err_set(e, ERR_USER,
                       "no VDDK in %s: looked for libvixDiskLib.so.9, .8, .7 "
                       "and .6 there and in its lib64; unpack VMware's "
                       "tarball and name the directory "
                       "vmware-vix-disklib-distrib",
                       dir);
#define X(name, result, args)                                                 \
    *(void **)&v->f.name = dlsym(lib, "VixDiskLib_" #name);                   \
    if (!v->f.name)                                                           \
        return err_set(e, ERR_USER,                                           \
                       "the VDDK in %s lacks VixDiskLib_%s: 6.7 or newer is " \
                       "needed",                                              \
                       dir, #name);
    VDDK_FUNCTIONS(X)
#undef X
    return 0;
}

/* opening ---------------------------------------------------------------- */

/* The library is not told that it may not write to them. */
static char *
keep(struct vddk *v, const char *prefix, const char *text)
{
    assert(v->n_texts < sizeof v->texts / sizeof *v->texts);
    v->texts[v->n_texts] = xasprintf("%s%s", prefix, text);
    return v->texts[v->n_texts++];
}

static int
fill_params(struct vddk *v, struct err *e)
{
    const struct request *r = v->req;
    struct vddk_connect_params *p = v->f.AllocateConnectParams();

    if (!p)
        return err_set(e, ERR_REMOTE, "VDDK gave no connect parameters");
    v->params = p;
    p->vmx_spec = keep(v, "moref=", request_text(r, KEY_VM));
    p->server_name = keep(v, "", request_text(r, KEY_SERVER));
    p->thumb_print = keep(v, "", request_text(r, KEY_THUMBPRINT));
    p->cred_type = VDDK_CRED_UID;
    p->creds.uid.user_name = keep(v, "", request_text(r, KEY_USER));
    p->creds.uid.password = keep(v, "", secret_reveal(r->password));
    p->port = r->port;
    p->spec_type = VDDK_SPEC_VMX;
    return 0;
}

static int
connect_to(struct vddk *v, struct err *e)
{
    const char *modes = request_text(v->req, KEY_TRANSPORTS);
    const char *snapshot = request_text(v->req, KEY_SNAPSHOT);
    vddk_error rc =
        TIMED("connecting to the source",
              v->f.ConnectEx(v->params, 1, *snapshot ? snapshot : NULL,
                             *modes ? modes : DEFAULT_TRANSPORTS, &v->conn));

    if (VDDK_CODE(rc) == VDDK_OK)
        return 0;
    v->conn = NULL;
    return vddk_failed(v, rc, "connecting to the source", e);
}

/* One that was open before has to be the same. */
static int
check_disk(struct vddk *v, const struct vddk_info *info, struct err *e)
{
    uint64_t size = info->capacity * VDDK_SECTOR;
    const char *uuid = info->uuid ? info->uuid : "";

    v->action = VDDK_GIVE_UP;
    if (info->capacity > DISK_SIZE_MAX / VDDK_SECTOR)
        return err_set(e, ERR_REMOTE,
                       "the source claims %llu sectors: no disk has as many",
                       (unsigned long long)info->capacity);
    if (v->size && v->size != size)
        return err_set(e, ERR_DAMAGED,
                       "the source has %llu bytes now, it had %llu; a disk "
                       "that was resized has to be copied anew",
                       (unsigned long long)size, (unsigned long long)v->size);
    if (v->size && strncmp(v->uuid, uuid, sizeof v->uuid - 1))
        return err_set(e, ERR_DAMAGED,
                       "the source has another uuid now (%.40s, it had "
                       "%.40s): it is another disk",
                       uuid, v->uuid);
    v->size = size;
    snprintf(v->uuid, sizeof v->uuid, "%s", uuid);
    return 0;
}

static int
open_disk(struct vddk *v, struct err *e)
{
    const char *path = request_text(v->req, KEY_PATH), *mode;
    struct vddk_info *info = NULL;
    vddk_error rc;
    int same;

    rc = TIMED("opening the source",
               v->f.Open(v->conn, path, VDDK_OPEN_READ_ONLY, &v->disk));
    if (VDDK_CODE(rc) != VDDK_OK) {
        v->disk = NULL;
        vddk_failed(v, rc, "opening the source", e);
        return err_wrap(e, "%s", path);
    }
    rc = TIMED("asking the size of the source", v->f.GetInfo(v->disk, &info));
    if (VDDK_CODE(rc) != VDDK_OK || !info)
        return vddk_failed(v, rc, "asking the size of the source", e);
    same = check_disk(v, info, e);
    v->f.FreeInfo(info);
    mode = v->f.GetTransportMode(v->disk);
    snprintf(v->transport, sizeof v->transport, "%s", mode ? mode : "unknown");
    return same;
}

/* Also after a loss: who does not, leaves sessions on the host. */
static void
hang_up(struct vddk *v)
{
    if (v->disk) {
        (void)TIMED("closing the source", v->f.Wait(v->disk));
        (void)TIMED("closing the source", v->f.Close(v->disk));
    }
    if (v->conn)
        (void)TIMED("closing the source", v->f.Disconnect(v->conn));
    v->disk = v->conn = NULL;
}

static void
vddk_close(struct source *s)
{
    struct vddk *v = (struct vddk *)s;

    hang_up(v);
    if (v->params)
        v->f.FreeConnectParams(v->params);
    if (v->inited) {
        hang_begin("ending VDDK");
        v->f.Exit();
        hang_end();
    }
    for (unsigned i = 0; i < v->n_texts; i++) {
        explicit_bzero(v->texts[i], strlen(v->texts[i]));
        free(v->texts[i]);
    }
    done_free(v->done);
    free(v);
}

/* An error that asks for another connection: is there to be one?  Then when
 * it is due, or why not. */
static int
try_anew(struct vddk *v, enum vddk_action action, struct err *e)
{
    if (action != VDDK_ANEW && (action != VDDK_ANEW_ONCE || v->once))
        return -1;
    v->once |= action == VDDK_ANEW_ONCE;
    return comeback_after(&v->back, e);
}

/* 1: it is open; 0: there will be another try; -1: it is given up. */
static int
open_once(struct vddk *v, struct err *e)
{
    if (!connect_to(v, e) && !open_disk(v, e))
        return 1;
    hang_up(v);
    return try_anew(v, v->action, e);
}

/* The first time, or anew while there is nothing else to do. */
static int
open_patiently(struct vddk *v, struct err *e)
{
    int rc;

    while (!(rc = open_once(v, e)))
        if (comeback_wait(&v->back, e))
            return -1;
    return rc > 0 ? 0 : -1;
}

static int
start(struct vddk *v, struct err *e)
{
    const char *dir = request_text(v->req, KEY_LIBDIR);
    vddk_error rc;

    v->done = done_new(e);
    if (!v->done || load(v, dir, e))
        return -1;
    rc = TIMED("starting VDDK",
               v->f.InitEx(API_MAJOR, API_MINOR, on_log, on_warning, on_panic,
                           dir, v->req->text[KEY_CONFIG]));
    if (VDDK_CODE(rc) != VDDK_OK)
        return vddk_failed(v, rc, "starting VDDK", e);
    v->inited = true;
    if (fill_params(v, e) || open_patiently(v, e))
        return -1;
    comeback_worked(&v->back);
    log_info("source opened by %s, of %s", v->transport,
             v->f.ListTransportModes());
    return 0;
}

static int
vddk_open(struct source **s, const struct request *r, struct err *e)
{
    struct vddk *v = xcalloc(1, sizeof *v);

    v->base.ops = &source_vddk;
    v->req = r;
    v->back.patience_ms = r->timeout_ms;
    for (unsigned i = 0; i < COPY_SLOTS_MAX; i++)
        v->slots[i] = (struct vddk_slot){ v, i };
    if (start(v, e)) {
        vddk_close(&v->base);
        return -1;
    }
    *s = &v->base;
    return 0;
}

static uint64_t
vddk_size(const struct source *s)
{
    return ((const struct vddk *)s)->size;
}

static const char *
vddk_transport(const struct source *s)
{
    return ((const struct vddk *)s)->transport;
}

/* getting it back --------------------------------------------------------- */

static void
note_back(struct vddk *v)
{
    v->lost = false;
    report_reconnected(v->transport, clock_ms() - v->back.since_ms);
}

/* A read failed so: is there to be another connection? */
static enum read_verdict
lose(struct vddk *v, enum vddk_action action, struct err *e)
{
    /* the first of those in flight speaks for all */
    if (!v->lost && try_anew(v, action, e))
        return READ_FAILED;
    v->lost = true;
    return READ_LOST;
}

static int
vddk_mend(struct source *s, struct err *e)
{
    struct vddk *v = (struct vddk *)s;
    int rc;

    if (!v->lost)
        return 1;
    if (v->in_flight)
        return 0;
    hang_up(v);
    if (!comeback_due(&v->back))
        return 0;
    rc = open_once(v, e);
    if (rc > 0)
        note_back(v);
    return rc;
}

/* allocation -------------------------------------------------------------- */

static int
query(void *ctx, uint64_t start, uint64_t sectors, struct extents *out,
      struct err *e)
{
    struct vddk *v = ctx;
    struct vddk_block_list *list = NULL;
    vddk_error rc;
    int taken;

    for (;;) {
        rc = TIMED("asking what is allocated",
                   v->f.QueryAllocatedBlocks(v->disk, start, sectors,
                                             VDDK_MIN_CHUNK, &list));
        if (VDDK_CODE(rc) == VDDK_OK && list)
            break;
        vddk_failed(v, rc, "asking what is allocated", e);
        if (vddk_meaning(VDDK_CODE(rc)).at_read != VDDK_ANEW)
            return -1;
        if (comeback_after(&v->back, e))
            return -2;
        hang_up(v);
        if (comeback_wait(&v->back, e) || open_patiently(v, e))
            return -2;
        note_back(v);
    }
    comeback_worked(&v->back);
    taken = vddk_blocks(list, start, sectors, out, e);
    v->f.FreeBlockList(list);
    return taken;
}

static int
vddk_source_allocated(struct source *s, struct extents *out, struct err *e)
{
    return vddk_allocated(((struct vddk *)s)->size, query, s, out, e);
}

/* reading ---------------------------------------------------------------- */

/* On VDDK's threads, or ours within ReadAsync. */
static void
on_read(void *data, vddk_error result)
{
    struct vddk_slot *s = data;

    done_post(s->v->done, s->slot, result);
}

static void
vddk_read(struct source *s, unsigned slot, void *buf, uint64_t offset,
          uint32_t n)
{
    struct vddk *v = (struct vddk *)s;
    vddk_error rc =
        TIMED("reading the source",
              v->f.ReadAsync(v->disk, offset / VDDK_SECTOR, n / VDDK_SECTOR,
                             buf, on_read, &v->slots[slot]));

    v->in_flight++;
    /* Refused: there will be no callback. */
    if (VDDK_CODE(rc) != VDDK_ASYNC)
        done_post(v->done, slot, VDDK_CODE(rc) == VDDK_OK ? VDDK_FAIL : rc);
}

static void
vddk_poll(const struct source *s, struct pollfd *p)
{
    p->fd = done_fd(((const struct vddk *)s)->done);
    p->events = POLLIN;
}

static void
vddk_ready(struct source *s, short revents)
{
    (void)s;
    (void)revents;
}

static enum read_verdict
verdict(struct vddk *v, vddk_error rc, struct err *e)
{
    enum vddk_action action = vddk_meaning(VDDK_CODE(rc)).at_read;

    if (VDDK_CODE(rc) == VDDK_OK) {
        if (!v->lost) { /* else it is of the connection before */
            comeback_worked(&v->back);
            v->once = false;
        }
        return READ_OK;
    }
    vddk_failed(v, rc, "ReadAsync", e);
    switch (action) {
    case VDDK_AGAIN: return READ_RETRY;
    case VDDK_FEWER: return READ_SHRINK;
    case VDDK_ANEW:
    case VDDK_ANEW_ONCE: return lose(v, action, e);
    default: return READ_FAILED;
    }
}

static bool
vddk_reap(struct source *s, struct read_result *out)
{
    struct vddk *v = (struct vddk *)s;
    struct done_item item;

    if (!done_take(v->done, &item))
        return false;
    v->in_flight--;
    out->slot = item.slot;
    out->verdict = verdict(v, item.code, &out->err);
    return true;
}

const struct source_ops source_vddk = {
    .kind = "vddk",
    .open = vddk_open,
    .close = vddk_close,
    .size = vddk_size,
    .transport = vddk_transport,
    .allocated = vddk_source_allocated,
    .read = vddk_read,
    .poll = vddk_poll,
    .ready = vddk_ready,
    .reap = vddk_reap,
    .mend = vddk_mend,
};
