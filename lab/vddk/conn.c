/* Connections and open disks. */
#include "base/mem.h"
#include "base/str.h"
#include "lab/vddk/vddk.h"

#include <string.h>

#define OPEN_SINGLE_LINK 2u

static struct conn *
enter_conn(const char *fn, vddk_conn p)
{
    struct conn *c = p;

    rule_enter(fn);
    if (!c)
        rule_broken("%s without a connection", fn);
    if (c->magic == CLOSED_MAGIC)
        rule_broken("%s after Disconnect", fn);
    if (c->magic != CONN_MAGIC)
        rule_broken("%s of something that is no connection", fn);
    rule_thread(fn, c);
    return c;
}

struct handle *
handle_enter(const char *fn, vddk_handle p)
{
    struct handle *h = p;
    const char *other = NULL;

    rule_enter(fn);
    if (!h)
        rule_broken("%s without a handle", fn);
    if (h->magic == CLOSED_MAGIC)
        rule_broken("%s after Close", fn);
    if (h->magic != HANDLE_MAGIC)
        rule_broken("%s of something that is no handle", fn);
    if (!atomic_compare_exchange_strong(&h->inside, &other, fn))
        rule_broken("%s while %s runs on the handle", fn, other);
    return h;
}

void
handle_leave(struct handle **h)
{
    atomic_store(&(*h)->inside, NULL);
}

bool
handle_fault(const struct handle *h, enum lab_fault_op op, unsigned *code)
{
    return wire_fault(lib.shared, op, h->path, code);
}

/* Connecting -------------------------------------------------------------- */

/* The first mode of the list that we have; like the real one falls back
 * without a word. */
static const char *
transport_of(const char *modes)
{
    defer_free char *copy = xstrdup(modes ? modes : "");
    char *rest = copy, *mode;

    while ((mode = strsep(&rest, ":"))) {
        if (!strcmp(mode, "nbd"))
            return "nbd";
        if (!strcmp(mode, "nbdssl"))
            break;
    }
    return "nbdssl";
}

/* The real library crashes on these. */
static const char *
must_have(const char *text, const char *name)
{
    if (!text)
        rule_broken("ConnectEx: %s is NULL", name);
    return text;
}

static void
keep(struct conn *c, enum wire_string i, const char *text)
{
    c->strings[i] = xstrdup(text ? text : "");
}

static void
keep_login(struct conn *c, const struct vddk_connect_params *p)
{
    bool uid = p->cred_type == VDDK_CRED_UID;

    if (uid) {
        keep(c, WIRE_USER, must_have(p->creds.uid.user_name, "userName"));
        keep(c, WIRE_PASSWORD, must_have(p->creds.uid.password, "password"));
        keep(c, WIRE_COOKIE, NULL);
        return;
    }
    keep(c, WIRE_COOKIE, must_have(p->creds.session_id.cookie, "cookie"));
    keep(c, WIRE_USER, p->creds.session_id.user_name);
    keep(c, WIRE_PASSWORD, p->creds.session_id.key);
}

static struct conn *
conn_new(const struct vddk_connect_params *p, bool read_only,
         const char *snapshot, const char *modes)
{
    struct conn *c = xcalloc(1, sizeof *c);

    if (snapshot && str_starts(snapshot, "moref="))
        snapshot += strlen("moref=");
    c->magic = CONN_MAGIC;
    c->thread = pthread_self();
    c->port = p->port;
    c->nfc_port = p->nfc_host_port;
    c->read_only = read_only;
    c->transport = transport_of(modes);
    keep(c, WIRE_VMX_SPEC, must_have(p->vmx_spec, "vmxSpec"));
    keep(c, WIRE_SERVER, must_have(p->server_name, "serverName"));
    keep(c, WIRE_THUMBPRINT, must_have(p->thumb_print, "thumbPrint"));
    keep_login(c, p);
    keep(c, WIRE_SNAPSHOT, snapshot);
    keep(c, WIRE_TRANSPORTS, modes);
    return c;
}

static vddk_error
connect_ex(const struct vddk_connect_params *p, bool read_only,
           const char *snapshot, const char *modes, vddk_conn *out)
{
    struct conn *c;
    unsigned code;

    if (!p || !out)
        return vddk_fail(VDDK_INVALID_ARG);
    if (p->cred_type != VDDK_CRED_UID && p->cred_type != VDDK_CRED_SESSIONID)
        return vddk_fail(VDDK_INVALID_ARG);
    if (p->spec_type != VDDK_SPEC_VMX)
        return vddk_fail(VDDK_NOT_SUPPORTED);
    if (wire_fault(lib.shared, LAB_FAULT_HANG_CONNECT, "", &code))
        sleep_until(INT64_MAX);
    if (wire_fault(lib.shared, LAB_FAULT_CONNECT, "", &code))
        return vddk_fail(code);
    c = conn_new(p, read_only, snapshot, modes);
    pthread_mutex_lock(&lib.lock);
    c->next = lib.conns;
    lib.conns = c;
    lib.connected++;
    pthread_mutex_unlock(&lib.lock);
    chatter_about(c->strings[WIRE_SERVER]);
    *out = c;
    return VDDK_OK;
}

vddk_error
VixDiskLib_ConnectEx(const struct vddk_connect_params *p, char read_only,
                     const char *snapshot, const char *modes, vddk_conn *out)
{
    vddk_error rc;

    rule_enter("ConnectEx");
    rule_serial("ConnectEx");
    rc = connect_ex(p, read_only, snapshot, modes, out);
    rule_serial_end();
    return rc;
}

vddk_error
VixDiskLib_Disconnect(vddk_conn p)
{
    struct conn *c = enter_conn("Disconnect", p);

    rule_serial("Disconnect");
    if (c->open)
        rule_broken("Disconnect before Close");
    c->magic = CLOSED_MAGIC;
    pthread_mutex_lock(&lib.lock);
    lib.connected--;
    pthread_mutex_unlock(&lib.lock);
    rule_serial_end();
    return VDDK_OK;
}

void
conn_bury(void)
{
    for (struct conn *c = take(lib.conns), *next; c; c = next) {
        next = c->next;
        for (int i = 0; i < WIRE_STRINGS; i++)
            free(c->strings[i]);
        free(c);
    }
    for (struct handle *h = take(lib.handles), *next; h; h = next) {
        next = h->next;
        free(h->path);
        free(h);
    }
}

/* Opening ----------------------------------------------------------------- */

static unsigned
open_disk(struct conn *c, const char *path, uint32_t flags, struct handle *h)
{
    unsigned code;

    if (!path)
        return VDDK_INVALID_ARG;
    h->magic = HANDLE_MAGIC;
    h->conn = c;
    h->path = xstrdup(path);
    h->socket = -1;
    if (!c->read_only && !(flags & VDDK_OPEN_READ_ONLY))
        return VDDK_NOT_SUPPORTED;
    if (flags & OPEN_SINGLE_LINK)
        return VDDK_NOT_SUPPORTED;
    if (lib.big_buffers)
        return VDDK_FAIL;
    if (handle_fault(h, LAB_FAULT_HANG_OPEN, &code))
        sleep_until(INT64_MAX);
    if (handle_fault(h, LAB_FAULT_OPEN, &code))
        return code;
    return handle_open(h, flags);
}

vddk_error
VixDiskLib_Open(vddk_conn p, const char *path, uint32_t flags, vddk_handle *out)
{
    struct conn *c = enter_conn("Open", p);
    struct handle *h = xcalloc(1, sizeof *h);
    unsigned code;

    rule_serial("Open");
    code = out ? open_disk(c, path, flags, h) : VDDK_INVALID_ARG;
    if (code) {
        free(h->path);
        free(h);
    } else {
        pool_init(&h->pool);
        c->open++;
        pthread_mutex_lock(&lib.lock);
        h->next = lib.handles;
        lib.handles = h;
        pthread_mutex_unlock(&lib.lock);
        chatter_about(path);
        *out = h;
    }
    rule_serial_end();
    return vddk_fail(code);
}

vddk_error
VixDiskLib_Close(vddk_handle p)
{
    struct handle *h = handle_enter("Close", p);
    unsigned code;

    rule_thread("Close", h->conn);
    rule_serial("Close");
    if (handle_fault(h, LAB_FAULT_HANG_CLOSE, &code))
        sleep_until(INT64_MAX);
    pool_fini(&h->pool);
    handle_close(h);
    h->conn->open--;
    h->magic = CLOSED_MAGIC;
    rule_serial_end();
    return VDDK_OK;
}

/* About a disk ------------------------------------------------------------ */

const char *
VixDiskLib_GetTransportMode(vddk_handle p)
{
    defer_leave struct handle *h = handle_enter("GetTransportMode", p);
    unsigned code;

    return handle_fault(h, LAB_FAULT_TRANSPORT, &code) ? "file"
                                                       : h->conn->transport;
}

vddk_error
VixDiskLib_GetInfo(vddk_handle p, struct vddk_info **out)
{
    defer_leave struct handle *h = handle_enter("GetInfo", p);
    unsigned code, more = 0;
    struct vddk_info *info;

    if (!out)
        return vddk_fail(VDDK_INVALID_ARG);
    if (handle_fault(h, LAB_FAULT_INFO, &code))
        return vddk_fail(code);
    handle_fault(h, LAB_FAULT_CAPACITY, &more);
    info = gift_new(GIFT_INFO, sizeof *info + sizeof h->uuid);
    info->capacity = h->size / VDDK_SECTOR + more;
    info->phys_geometry[0] = (uint32_t)(info->capacity / (255 * 63));
    info->phys_geometry[1] = 255;
    info->phys_geometry[2] = 63;
    memcpy(info->bios_geometry, info->phys_geometry,
           sizeof info->bios_geometry);
    info->adapter_type = 3;
    info->num_links = (int)h->layers;
    info->uuid = (char *)(info + 1);
    memcpy(info->uuid, h->uuid, sizeof h->uuid);
    info->logical_sector_size = info->physical_sector_size = VDDK_SECTOR;
    *out = info;
    return VDDK_OK;
}

void
VixDiskLib_FreeInfo(struct vddk_info *info)
{
    gift_free(GIFT_INFO, info);
}
