/* Where VMs go: one ops table per kind of target, and what they share. */
#ifndef CLOUD_CLOUD_H
#define CLOUD_CLOUD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/proc.h"
#include "base/vec.h"
#include "job/job.h"

/* The VM as a target has to build it. */
struct cloud_disk {
    const char *name;  /* of the disk in the record: "0", "scsi1:0" */
    int64_t key;       /* the source's device key */
    uint64_t size;     /* bytes */
    const char *bus;   /* "scsi", "sata", "nvme", "ide" */
    const char *model; /* the source's controller type */
    int controller;    /* bus number of that controller */
    bool boot;
    char *path; /* of the replica; set by find_disk */
};

struct cloud_nic {
    const char *label, *mac, *network;
    const char *type; /* "VirtualVmxnet3" */
};

struct cloud_vm {
    const char *name, *moref, *uuid;
    const char *guest_id; /* vSphere's: "ubuntu64Guest" */
    bool efi, secure_boot;
    int cpus, cores_per_socket;
    uint64_t memory_mb;
    struct VEC(struct cloud_disk) disks; /* the boot disk first */
    struct VEC(struct cloud_nic) nics;
};

/* A replica that is open for writing, through an NBD server of ours. */
struct cloud_export {
    struct proc server;
    char *uri; /* relative to the directory it was started in */
    enum zeroes zeroes;
};

struct cloud_ops {
    const char *name; /* "local" */
    /* Everything that can be refused is refused here; touches nothing.
     * The spec outlives what open returns. */
    void *(*open)(const struct config *c, const struct spec *s, struct err *e);
    void (*close)(void *cloud);
    int (*check)(void *cloud, const struct cloud_vm *vm, struct err *e);
    /* Sets d->path and tells whether the replica is there.  One of another
     * size is ERR_DAMAGED. */
    int (*find_disk)(void *cloud, const struct cloud_vm *vm,
                     struct cloud_disk *d, bool *there, struct err *e);
    /* Makes it at d->path, where none is, reading as zeroes. */
    int (*create_disk)(void *cloud, const struct cloud_disk *d, struct err *e);
    /* Tells one replica from another one at the same place. */
    char *(*identity)(void *cloud, const struct cloud_disk *d, struct err *e);
    /* Serves it on the socket file `name` in the directory dir; read_back:
     * only to be read, past this host's caches where that can be had. */
    int (*serve_disk)(void *cloud, const struct cloud_disk *d, const char *dir,
                      const char *name, bool read_back,
                      struct cloud_export *out, struct err *e);
    /* The replicas are complete and closed.  May be called again after a
     * crash at any point.  *result: what was made, caller frees. */
    int (*import)(void *cloud, const struct cloud_vm *vm, char **result,
                  struct err *e);
};

/* Ends the server and waits until it has closed the replica; ERR_IO if it did
 * not end well. */
int cloud_unserve(struct cloud_export *x, struct err *e);

/* local.c: files in a directory, and a libvirt domain beside them. */
extern const struct cloud_ops cloud_local;

/* qemu.c: what all targets that are image files share. */

/* Creates an image that reads as zeroes; a crash leaves all or nothing. */
int qemu_create(const char *path, enum disk_format format, uint64_t size,
                struct err *e);
/* Virtual size, bytes. */
int qemu_size(const char *path, enum disk_format format, uint64_t *size,
              struct err *e);
/* *out is for cloud_unserve also when this fails. */
int qemu_serve(const char *path, enum disk_format format, const char *dir,
               const char *name, bool read_back, struct cloud_export *out,
               struct err *e);

/* domain.c */
/* A libvirt domain with the source's hardware. */
void domain_xml(struct str *out, const struct cloud_vm *vm,
                enum disk_format format);

#endif
