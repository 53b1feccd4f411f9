/* The part of the VDDK's binary interface that we use (x86_64, releases 6.7
 * to 9.x), in our own words: names, numbers and layouts only.  Shared by the
 * copier and by the lab's library, and by nothing else. */
#ifndef COPY_VDDK_ABI_H
#define COPY_VDDK_ABI_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define VDDK_SECTOR 512u

typedef uint64_t vddk_error; /* only the low 16 bits are the code */
#define VDDK_CODE(err) ((unsigned)((err)&0xffff))

enum {
    VDDK_OK = 0,
    VDDK_FAIL = 1,
    VDDK_OUT_OF_MEMORY = 2, /* also: the host's NFC buffers are used up */
    VDDK_INVALID_ARG = 3,
    VDDK_FILE_NOT_FOUND = 4,
    VDDK_OBJECT_IS_BUSY = 5,
    VDDK_NOT_SUPPORTED = 6,
    VDDK_FILE_ACCESS_ERROR = 13,
    VDDK_FILE_ALREADY_LOCKED = 15,
    VDDK_HOST_NOT_CONNECTED = 26,
    VDDK_HOST_CONNECTION_LOST = 36,
    VDDK_INVALID_HANDLE = 1000,
    VDDK_INVALID_SESSION = 3047,
    VDDK_VM_NOT_FOUND = 4000,
    VDDK_CONN_REFUSED = 14009,
    VDDK_SOCKET_ERROR = 14010,
    VDDK_CONN_LOST = 14011,
    VDDK_SERVER_SHUTDOWN = 14014,
    VDDK_SERVER_NOT_AVAILABLE = 14015,
    VDDK_DISK_NOIO = 16002,
    VDDK_DISK_OUTOFRANGE = 16007,
    VDDK_INVALID_CONNECTION = 16054,
    VDDK_CANNOT_CONNECT = 18000,
    VDDK_ASYNC = 25000, /* accepted: the callback will come */
    VDDK_ASYNC_MIXED = 26000,
    VDDK_SSL_SECURITY = 30201,
};

enum { VDDK_OPEN_READ_ONLY = 4 };
enum { VDDK_CRED_UID = 1, VDDK_CRED_SESSIONID = 2 };
enum { VDDK_SPEC_VMX = 0 };

#define VDDK_MIN_CHUNK  128u    /* sectors: 64 KiB */
#define VDDK_MAX_CHUNKS 524288u /* per query: 32 GiB of smallest chunks */

struct vddk_connect_params {
    char *vmx_spec; /* "moref=vm-123" */
    char *server_name;
    char *thumb_print; /* SHA-1, colons, upper case */
    long private_use;
    int cred_type;
    union {
        struct {
            char *user_name, *password;
        } uid;
        struct {
            char *cookie, *user_name, *key;
        } session_id;
        void *reserved[3];
    } creds;
    uint32_t port;          /* 0: 443 */
    uint32_t nfc_host_port; /* 0: 902 */
    char *vim_api_ver;
    char reserved[8];
    void *state;
    union {
        struct {
            char *id, *datastore_moref, *ss_id;
        } object;
    } spec;
    int spec_type;
};

struct vddk_info {
    uint32_t bios_geometry[3], phys_geometry[3];
    uint64_t capacity; /* sectors */
    int adapter_type, num_links;
    char *parent_file_name_hint, *uuid;
    uint32_t logical_sector_size, physical_sector_size; /* library >= 7 */
};

struct vddk_block {
    uint64_t offset, length; /* sectors */
};

struct vddk_block_list {
    uint32_t num_blocks;
    struct vddk_block blocks[];
};

#if defined(__x86_64__)
_Static_assert(sizeof(struct vddk_connect_params) == 128, "ABI");
_Static_assert(offsetof(struct vddk_connect_params, creds) == 40, "ABI");
_Static_assert(offsetof(struct vddk_connect_params, port) == 64, "ABI");
_Static_assert(offsetof(struct vddk_connect_params, vim_api_ver) == 72, "ABI");
_Static_assert(offsetof(struct vddk_connect_params, state) == 88, "ABI");
_Static_assert(offsetof(struct vddk_connect_params, spec_type) == 120, "ABI");
_Static_assert(sizeof(struct vddk_info) == 64, "ABI");
_Static_assert(offsetof(struct vddk_info, capacity) == 24, "ABI");
_Static_assert(offsetof(struct vddk_info, uuid) == 48, "ABI");
_Static_assert(offsetof(struct vddk_block_list, blocks) == 8, "ABI");
#endif

typedef void *vddk_conn, *vddk_handle;
typedef void vddk_log_fn(const char *fmt, va_list args);
typedef void vddk_done_fn(void *data, vddk_error result);

/* X(member and symbol suffix, result, arguments): what we need of it; a
 * library that lacks one is older than 6.7. */
#define VDDK_FUNCTIONS(X)                                                     \
    X(InitEx, vddk_error,                                                     \
      (uint32_t major, uint32_t minor, vddk_log_fn * log, vddk_log_fn * warn, \
       vddk_log_fn * panic, const char *lib_dir, const char *config_file))    \
    X(Exit, void, (void))                                                     \
    X(ListTransportModes, const char *, (void))                               \
    X(AllocateConnectParams, struct vddk_connect_params *, (void))            \
    X(FreeConnectParams, void, (struct vddk_connect_params *))                \
    X(ConnectEx, vddk_error,                                                  \
      (const struct vddk_connect_params *, char read_only,                    \
       const char *snapshot_ref, const char *transport_modes, vddk_conn *))   \
    X(Disconnect, vddk_error, (vddk_conn))                                    \
    X(Open, vddk_error,                                                       \
      (vddk_conn, const char *path, uint32_t flags, vddk_handle *))           \
    X(Close, vddk_error, (vddk_handle))                                       \
    X(GetTransportMode, const char *, (vddk_handle))                          \
    X(GetInfo, vddk_error, (vddk_handle, struct vddk_info **))                \
    X(FreeInfo, void, (struct vddk_info *))                                   \
    X(Read, vddk_error,                                                       \
      (vddk_handle, uint64_t start, uint64_t num, uint8_t * buf))             \
    X(ReadAsync, vddk_error,                                                  \
      (vddk_handle, uint64_t start, uint64_t num, uint8_t * buf,              \
       vddk_done_fn * done, void *data))                                      \
    X(Wait, vddk_error, (vddk_handle))                                        \
    X(QueryAllocatedBlocks, vddk_error,                                       \
      (vddk_handle, uint64_t start, uint64_t num, uint64_t chunk,             \
       struct vddk_block_list **))                                            \
    X(FreeBlockList, vddk_error, (struct vddk_block_list *))                  \
    X(GetErrorText, char *, (vddk_error, const char *locale))                 \
    X(FreeErrorText, void, (char *))

#endif
