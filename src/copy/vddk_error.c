/* VDDK's error codes: what each means for us. */
#include "copy/copy.h"
#include "copy/vddk_abi.h"

static const struct {
    unsigned from, to;
    struct vddk_meaning is;
} codes[] = {
    /* At Open it is a wrong thumbprint or login; at a read nobody knows. */
    { VDDK_FAIL,
      VDDK_FAIL,
      { ERR_REMOTE, READ_RETRY, "check thumbprint, user and password" } },
    { VDDK_OUT_OF_MEMORY,
      VDDK_OUT_OF_MEMORY,
      { ERR_BUSY, READ_SHRINK, "fewer disks of this host at a time" } },
    { VDDK_INVALID_ARG, VDDK_INVALID_ARG, { ERR_BUG, READ_FAILED, "" } },
    { VDDK_FILE_NOT_FOUND,
      VDDK_FILE_NOT_FOUND,
      { ERR_NOTFOUND, READ_FAILED,
        "the snapshot may be gone: read the VM's configuration again" } },
    { VDDK_OBJECT_IS_BUSY, VDDK_OBJECT_IS_BUSY, { ERR_BUSY, READ_RETRY, "" } },
    { VDDK_NOT_SUPPORTED,
      VDDK_NOT_SUPPORTED,
      { ERR_REMOTE, READ_FAILED,
        "an independent disk cannot be read by snapshot" } },
    { VDDK_FILE_ACCESS_ERROR,
      VDDK_FILE_ACCESS_ERROR,
      { ERR_REMOTE, READ_RETRY,
        "check the snapshot's id, the account's rights and the way to port "
        "902 of the ESXi host" } },
    { VDDK_FILE_ALREADY_LOCKED,
      VDDK_FILE_ALREADY_LOCKED,
      { ERR_BUSY, READ_RETRY,
        "another backup, or no snapshot given for a running VM" } },
    { VDDK_HOST_NOT_CONNECTED,
      VDDK_HOST_NOT_CONNECTED,
      { ERR_NET, READ_RETRY, "" } },
    { 32, 32, { ERR_REMOTE, READ_FAILED, "the licence does not allow it" } },
    { VDDK_HOST_CONNECTION_LOST,
      VDDK_HOST_CONNECTION_LOST,
      { ERR_NET, READ_RETRY, "" } },
    { VDDK_INVALID_HANDLE, VDDK_INVALID_HANDLE, { ERR_BUG, READ_FAILED, "" } },
    { 1002,
      1002,
      { ERR_BUSY, READ_FAILED, "fewer disks of this host at a time" } },
    { 2000, 2000, { ERR_NOTFOUND, READ_FAILED, "" } },
    { VDDK_INVALID_SESSION,
      VDDK_INVALID_SESSION,
      { ERR_AUTH, READ_FAILED, "log in anew" } },
    { VDDK_VM_NOT_FOUND,
      VDDK_VM_NOT_FOUND,
      { ERR_NOTFOUND, READ_FAILED, "check the VM's managed object id" } },
    { 14005, 14005, { ERR_REMOTE, READ_FAILED, "" } },
    /* NFC: name resolution, port 902, lost connections, maintenance. */
    { 14006,
      VDDK_SERVER_NOT_AVAILABLE,
      { ERR_NET, READ_RETRY,
        "port 902 of the ESXi host has to be reachable by its name" } },
    { VDDK_DISK_NOIO, VDDK_DISK_NOIO, { ERR_REMOTE, READ_RETRY, "" } },
    { VDDK_DISK_OUTOFRANGE,
      VDDK_DISK_OUTOFRANGE,
      { ERR_DAMAGED, READ_FAILED, "the disk was resized: copy it anew" } },
    { 16014,
      16014,
      { ERR_AUTH, READ_FAILED,
        "the disk is encrypted: the account needs cryptographic rights" } },
    { 16027,
      16027,
      { ERR_BUSY, READ_FAILED, "fewer disks of this host at a time" } },
    { VDDK_INVALID_CONNECTION,
      VDDK_INVALID_CONNECTION,
      { ERR_NET, READ_RETRY, "" } },
    { 16064,
      16064,
      { ERR_REMOTE, READ_FAILED, "the licence does not allow it" } },
    { VDDK_CANNOT_CONNECT, VDDK_CANNOT_CONNECT, { ERR_NET, READ_RETRY, "" } },
    { VDDK_ASYNC_MIXED, VDDK_ASYNC_MIXED, { ERR_BUG, READ_FAILED, "" } },
    { 30035,
      30035,
      { ERR_AUTH, READ_FAILED, "check the server's certificate" } },
    { VDDK_SSL_SECURITY,
      VDDK_SSL_SECURITY,
      { ERR_AUTH, READ_FAILED,
        "check the thumbprint against the server's certificate" } },
    { 30001, 30202, { ERR_NET, READ_RETRY, "" } },
};

/* The first row that fits counts. */
struct vddk_meaning
vddk_meaning(unsigned code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (code >= codes[i].from && code <= codes[i].to)
            return codes[i].is;
    return (struct vddk_meaning){ ERR_REMOTE, READ_FAILED, "" };
}
