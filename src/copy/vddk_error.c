/* VDDK's error codes: what each means for us, and what is done about it. */
#include "copy/source.h"

#define GIVE_UP VDDK_GIVE_UP
#define AGAIN   VDDK_AGAIN
#define SHRINK  VDDK_FEWER
#define ANEW    VDDK_ANEW
#define ONCE    VDDK_ANEW_ONCE

#define PORT_902  "port 902 of the ESXi host has to be reachable by its name"
#define FEWER     "fewer disks of this host at a time"
#define REREAD    "the VM's configuration has to be read again"
#define THE_CHAIN "the disk's chain of files is broken on the datastore"
#define LICENCE   "the licence does not allow it"
#define NETWORK   "the network, or the host's management agent"

static const struct {
    unsigned from, to;
    struct vddk_meaning is;
} codes[] = {
    /* At Open it is a wrong thumbprint or login; at a read nobody knows. */
    { 1,
      1,
      { ERR_REMOTE, GIVE_UP, AGAIN, "check thumbprint, user, password" } },
    /* Also: the host's NFC buffers are used up. */
    { 2, 2, { ERR_BUSY, ANEW, SHRINK, FEWER } },
    { 3, 3, { ERR_BUG, GIVE_UP, GIVE_UP, "" } },
    { 4, 4, { ERR_NOTFOUND, GIVE_UP, GIVE_UP, REREAD } },
    { 5, 5, { ERR_BUSY, ANEW, AGAIN, "" } },
    { 6,
      6,
      { ERR_REMOTE, GIVE_UP, GIVE_UP,
        "an independent disk cannot be read by snapshot" } },
    { 7, 7, { ERR_REMOTE, GIVE_UP, AGAIN, "look at the datastore" } },
    { 8,
      8,
      { ERR_REMOTE, GIVE_UP, GIVE_UP,
        "the source's datastore or VDDK's temporary directory is full" } },
    { 9, 9, { ERR_REMOTE, GIVE_UP, GIVE_UP, "" } },
    { 10, 10, { ERR_BUSY, ANEW, AGAIN, "" } },
    { 11, 12, { ERR_REMOTE, GIVE_UP, GIVE_UP, "" } },
    /* Older libraries say so of the network as well. */
    { 13,
      13,
      { ERR_REMOTE, ONCE, ONCE,
        "check the snapshot's id, the account's rights and the way to port "
        "902 of the ESXi host" } },
    { 15,
      15,
      { ERR_BUSY, ANEW, AGAIN,
        "another backup, or no snapshot given for a running VM" } },
    { 21, 21, { ERR_REMOTE, GIVE_UP, GIVE_UP, "" } },
    { 24, 24, { ERR_BUG, GIVE_UP, GIVE_UP, "" } },
    { 26, 26, { ERR_NET, ANEW, ANEW, NETWORK } },
    { 27,
      27,
      { ERR_REMOTE, GIVE_UP, GIVE_UP, "a name on the way is no UTF-8" } },
    { 32, 32, { ERR_REMOTE, GIVE_UP, GIVE_UP, LICENCE } },
    { 36, 36, { ERR_NET, ANEW, ANEW, NETWORK } },
    { 1000, 1000, { ERR_BUG, GIVE_UP, GIVE_UP, "" } },
    { 1002, 1002, { ERR_BUSY, ANEW, GIVE_UP, FEWER } },
    { 2000, 2000, { ERR_NOTFOUND, GIVE_UP, GIVE_UP, REREAD } },
    /* In the middle the session ran out: connecting anew logs in.  At Open
     * the login is wrong, and asking again would lock the account. */
    { 3047, 3047, { ERR_AUTH, GIVE_UP, ONCE, "check user and password" } },
    { 4000,
      4000,
      { ERR_NOTFOUND, GIVE_UP, GIVE_UP, "check the VM's managed object id" } },
    { 13000,
      13024,
      { ERR_NOTFOUND, GIVE_UP, GIVE_UP, "the snapshot may be gone: " REREAD } },
    /* NFC: name resolution, port 902, lost connections, maintenance. */
    { 14003, 14015, { ERR_NET, ANEW, ANEW, PORT_902 } },
    { 16000, 16000, { ERR_REMOTE, GIVE_UP, GIVE_UP, "" } },
    { 16001, 16001, { ERR_BUG, GIVE_UP, GIVE_UP, "" } },
    { 16002, 16002, { ERR_REMOTE, ANEW, AGAIN, "look at the datastore" } },
    { 16003, 16006, { ERR_REMOTE, GIVE_UP, GIVE_UP, THE_CHAIN } },
    { 16007,
      16007,
      { ERR_DAMAGED, GIVE_UP, GIVE_UP, "the disk was resized: copy it anew" } },
    { 16008, 16012, { ERR_REMOTE, GIVE_UP, GIVE_UP, THE_CHAIN } },
    { 16013, 16013, { ERR_REMOTE, GIVE_UP, GIVE_UP, "" } },
    { 16014,
      16014,
      { ERR_AUTH, GIVE_UP, GIVE_UP,
        "the disk is encrypted: the account needs cryptographic rights" } },
    { 16027, 16027, { ERR_BUSY, GIVE_UP, GIVE_UP, FEWER } },
    { 16030, 16030, { ERR_REMOTE, GIVE_UP, GIVE_UP, THE_CHAIN } },
    { 16052,
      16052,
      { ERR_AUTH, GIVE_UP, GIVE_UP,
        "the disk is encrypted: its key server does not know the key" } },
    { 16053,
      16053,
      { ERR_REMOTE, GIVE_UP, GIVE_UP,
        "VDDK could not start a part of itself; see its log lines" } },
    { 16054, 16054, { ERR_NET, ANEW, ANEW, NETWORK } },
    { 16063, 16063, { ERR_REMOTE, GIVE_UP, GIVE_UP, THE_CHAIN } },
    { 16064, 16064, { ERR_REMOTE, GIVE_UP, GIVE_UP, LICENCE } },
    { 16067,
      16067,
      { ERR_DAMAGED, GIVE_UP, GIVE_UP, "the disk was resized: copy it anew" } },
    { 16068, 16068, { ERR_REMOTE, GIVE_UP, GIVE_UP, THE_CHAIN } },
    { 18000, 18000, { ERR_NET, ANEW, ANEW, NETWORK } },
    { 25000, 26000, { ERR_BUG, GIVE_UP, GIVE_UP, "" } },
    { 30035,
      30035,
      { ERR_AUTH, GIVE_UP, GIVE_UP, "check the server's certificate" } },
    { 30201,
      30201,
      { ERR_AUTH, GIVE_UP, GIVE_UP,
        "check the thumbprint against the server's certificate" } },
    { 30001, 30202, { ERR_NET, ANEW, ANEW, NETWORK } },
};

/* The first row that fits counts. */
struct vddk_meaning
vddk_meaning(unsigned code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (code >= codes[i].from && code <= codes[i].to)
            return codes[i].is;
    return (struct vddk_meaning){ ERR_REMOTE, VDDK_GIVE_UP, VDDK_GIVE_UP, "" };
}
