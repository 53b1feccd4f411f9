/* The library as a whole: start, end, configuration, texts. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "lab/vddk/vddk.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define OUR_MAJOR  8u
#define OUR_MINOR  0u
#define CONFIG_MAX 65536u /* bytes */

struct lib lib = { .lock = PTHREAD_MUTEX_INITIALIZER };

vddk_error
vddk_fail(unsigned code)
{
    return code ? 5ull << 32 | code : VDDK_OK;
}

void
vddk_log(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (lib.log)
        lib.log(fmt, ap);
    va_end(ap);
}

void
vddk_warn(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (lib.warn)
        lib.warn(fmt, ap);
    va_end(ap);
}

/* Configuration ----------------------------------------------------------- */

/* The one of these that the line sets, with its value; or -1. */
static int
config_line(const char *line, uint64_t *value)
{
    static const char *const names[] = {
        "vixDiskLib.nfcAio.Session.BufSizeIn64KB",
        "vixDiskLib.nfcAio.Session.BufCount",
        "lab.anyThread",
    };
    struct err e = ERR_INIT;

    for (int i = 0; i < 3; i++) {
        size_t n = strlen(names[i]);

        if (strncmp(line, names[i], n) || line[n] != '=')
            continue;
        if (!num_u64(line + n + 1, 0, UINT16_MAX, value, names[i], &e))
            return i;
        vddk_warn("configuration: %s\n", e.msg);
    }
    return -1;
}

/* As the real one, does without a file that cannot be read. */
static void
read_config(const char *path)
{
    uint64_t values[3] = { 1, 4, 0 }, v;
    struct str text = STR_INIT;
    struct err e = ERR_INIT;
    char *rest, *line;

    if (fs_read(path, CONFIG_MAX, &text, &e)) {
        vddk_warn("configuration: %s\n", e.msg);
    } else {
        rest = text.p;
        while (rest && (line = strsep(&rest, "\r\n"))) {
            int i = config_line(line, &v);

            if (i >= 0)
                values[i] = v;
        }
    }
    lib.big_buffers = values[0] * values[1] > 256;
    lib.any_thread = values[2];
    str_fini(&text);
}

/* Start and end ----------------------------------------------------------- */

static int
map_shared(void)
{
    defer_free char *path = xasprintf("%s/%s", lib.dir, LAB_NFC_SHARED);
    defer_close int fd = open(path, O_RDWR | O_CLOEXEC);
    void *p = MAP_FAILED;

    if (fd >= 0)
        p = mmap(NULL, sizeof *lib.shared, PROT_READ | PROT_WRITE, MAP_SHARED,
                 fd, 0);
    if (p == MAP_FAILED) {
        vddk_warn("no lab at %s (%m); start it first\n", lib.dir);
        return -1;
    }
    lib.shared = p;
    if (lib.shared->magic != WIRE_MAGIC)
        rule_broken("the lab at %s is of another build", lib.dir);
    return 0;
}

vddk_error
VixDiskLib_InitEx(uint32_t major, uint32_t minor, vddk_log_fn *log_fn,
                  vddk_log_fn *warn_fn, vddk_log_fn *panic_fn,
                  const char *lib_dir, const char *config_file)
{
    if (atomic_load(&lib.state))
        rule_broken("InitEx for the second time");
    if (major > OUR_MAJOR || (major == OUR_MAJOR && minor > OUR_MINOR) ||
        !lib_dir)
        return vddk_fail(VDDK_INVALID_ARG);
    lib.log = log_fn, lib.warn = warn_fn, lib.panic = panic_fn;
    lib.pid = getpid();
    free(lib.dir);
    lib.dir = xasprintf("%s/lab", lib_dir);
    if (config_file)
        read_config(config_file);
    if (map_shared())
        return vddk_fail(VDDK_HOST_NOT_CONNECTED);
    if (chatter_start())
        return vddk_fail(VDDK_OUT_OF_MEMORY);
    atomic_store(&lib.state, 1);
    return VDDK_OK;
}

void
VixDiskLib_Exit(void)
{
    rule_enter("Exit");
    if (lib.connected)
        rule_broken("Exit before Disconnect");
    atomic_store(&lib.state, 2);
    chatter_stop();
    conn_bury();
    gift_bury();
    munmap(lib.shared, sizeof *lib.shared);
    free(take(lib.dir));
}

const char *
VixDiskLib_ListTransportModes(void)
{
    rule_enter("ListTransportModes");
    return "file:nbdssl:nbd";
}

struct vddk_connect_params *
VixDiskLib_AllocateConnectParams(void)
{
    return gift_new(GIFT_PARAMS, sizeof(struct vddk_connect_params));
}

void
VixDiskLib_FreeConnectParams(struct vddk_connect_params *p)
{
    gift_free(GIFT_PARAMS, p);
}

/* Texts ------------------------------------------------------------------- */

static const struct {
    unsigned code;
    const char *text;
} texts[] = {
    { VDDK_OK, "The operation was successful" },
    { VDDK_FAIL, "Unknown error" },
    { VDDK_OUT_OF_MEMORY, "Memory allocation failed. Out of memory." },
    { VDDK_INVALID_ARG, "One of the parameters was invalid" },
    { VDDK_FILE_NOT_FOUND, "A file was not found" },
    { VDDK_OBJECT_IS_BUSY, "The object is busy" },
    { VDDK_NOT_SUPPORTED, "The operation is not supported" },
    { VDDK_FILE_ACCESS_ERROR, "You do not have access rights to this file" },
    { VDDK_FILE_ALREADY_LOCKED, "The file is already locked" },
    { VDDK_HOST_NOT_CONNECTED, "The host is not connected" },
    { VDDK_HOST_CONNECTION_LOST, "The connection to the host was lost" },
    { VDDK_INVALID_HANDLE, "The handle is not valid" },
    { VDDK_INVALID_SESSION, "The session is not authenticated" },
    { VDDK_VM_NOT_FOUND, "The virtual machine cannot be found" },
    { VDDK_CONN_REFUSED, "The server refused connection" },
    { VDDK_SOCKET_ERROR, "Error in TCP socket" },
    { VDDK_CONN_LOST, "The connection was lost" },
    { VDDK_SERVER_SHUTDOWN, "The server is shutting down" },
    { VDDK_SERVER_NOT_AVAILABLE, "The server is not available" },
    { VDDK_DISK_NOIO, "Reading or writing the disk failed" },
    { VDDK_DISK_OUTOFRANGE, "The sectors are beyond the end of the disk" },
    { VDDK_INVALID_CONNECTION, "The connection is not valid" },
    { VDDK_CANNOT_CONNECT, "Cannot connect to the host" },
    { VDDK_ASYNC, "The operation goes on in the background" },
    { VDDK_ASYNC_MIXED, "Reading in both modes at a time is not supported" },
    { VDDK_SSL_SECURITY, "The certificate of the host could not be verified" },
};

char *
VixDiskLib_GetErrorText(vddk_error err, const char *locale)
{
    defer_free char *other = xasprintf("Error %u", VDDK_CODE(err));
    const char *text = other;
    char *out;

    (void)locale;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].code == VDDK_CODE(err))
            text = texts[i].text;
    out = gift_new(GIFT_TEXT, strlen(text) + 1);
    memcpy(out, text, strlen(text));
    return out;
}

void
VixDiskLib_FreeErrorText(char *text)
{
    gift_free(GIFT_TEXT, text);
}
