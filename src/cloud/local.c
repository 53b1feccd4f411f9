/* Target `local`: image files in a directory, a libvirt domain beside them. */
#include "cloud/cloud.h"
#include "base/fs.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

struct local {
    const struct spec *spec;
};

static void *
local_open(const struct config *c, const struct spec *s, struct err *e)
{
    const char *path = s->target.local.path;
    struct local *l;
    struct stat st;

    (void)c;
    errno = 0;
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        err_set(e, ERR_USER,
                "%s:%d: target.local.path: %s: %s; name a directory that "
                "exists",
                s->file, s->target.local.line, path,
                strerror(errno ? errno : ENOTDIR));
        return NULL;
    }
    if (access(path, W_OK | X_OK)) {
        err_errno(e, errno, "target.local.path: %s is not writable", path);
        return NULL;
    }
    l = xcalloc(1, sizeof *l);
    l->spec = s;
    return l;
}

static void
local_close(void *cloud)
{
    free(cloud);
}

/* "<VM>_<moref>_disk<unit>.qcow2", as vmware-to-cloudstack names it. */
static char *
replica_path(const struct local *l, const struct cloud_vm *vm,
             const struct cloud_disk *d)
{
    defer_free char *base = job_dir_name(vm->name, vm->moref);
    defer_free char *name = xstrdup(d->name);

    job_sanitize(name);
    return xasprintf("%s/%s_disk%s.%s", l->spec->target.local.path, base, name,
                     format_names[l->spec->target.local.format]);
}

/* Bytes still to come, when the replicas are full. */
static uint64_t
space_needed(const struct local *l, const struct cloud_vm *vm)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < vm->disks.n; i++) {
        defer_free char *path = replica_path(l, vm, &vm->disks.p[i]);
        uint64_t size = vm->disks.p[i].size, have;
        struct stat st;

        have = stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512;
        sum += have < size ? size - have : 0;
    }
    return sum;
}

static int
local_check(void *cloud, const struct cloud_vm *vm, struct err *e)
{
    const struct local *l = cloud;
    const char *path = l->spec->target.local.path;
    uint64_t need = space_needed(l, vm), have;
    struct statvfs fs;

    if (statvfs(path, &fs))
        return err_errno(e, errno, "free space of %s", path);
    have = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (have >= need)
        return 0;
    if (!l->spec->target.local.overcommit)
        return err_set(e, ERR_NOSPACE,
                       "%s: %" PRIu64
                       " MiB are free, the disks of %s need %" PRIu64
                       " MiB; make room, or set target.local.overcommit if "
                       "they are mostly empty",
                       path, have >> 20, vm->name, (need >> 20) + 1);
    log_warn("%s: %" PRIu64 " MiB are free, the disks may need %" PRIu64 " MiB",
             path, have >> 20, (need >> 20) + 1);
    return 0;
}

static int
local_find_disk(void *cloud, const struct cloud_vm *vm, struct cloud_disk *d,
                bool *there, struct err *e)
{
    const struct local *l = cloud;
    uint64_t size;

    free(d->path);
    d->path = replica_path(l, vm, d);
    *there = fs_exists(d->path);
    if (!*there)
        return 0;
    if (qemu_size(d->path, l->spec->target.local.format, &size, e))
        return -1;
    if (size != d->size)
        return err_set(e, ERR_DAMAGED,
                       "the replica %s has %" PRIu64
                       " bytes, the source disk %" PRIu64
                       "; move it away to start over",
                       d->path, size, d->size);
    return 0;
}

static int
local_create_disk(void *cloud, const struct cloud_disk *d, struct err *e)
{
    const struct local *l = cloud;

    return qemu_create(d->path, l->spec->target.local.format, d->size, e);
}

/* Inode numbers are used again; with the time of birth they are not. */
static char *
local_identity(void *cloud, const struct cloud_disk *d, struct err *e)
{
    struct statx x;

    (void)cloud;
    if (statx(AT_FDCWD, d->path, 0, STATX_INO | STATX_BTIME, &x)) {
        err_errno(e, errno, "looking at the replica %s", d->path);
        return NULL;
    }
    if (!(x.stx_mask & STATX_BTIME))
        x.stx_btime.tv_sec = x.stx_btime.tv_nsec = 0;
    return xasprintf("file %" PRIu64 " born %" PRIi64 ".%09u %s",
                     (uint64_t)x.stx_ino, (int64_t)x.stx_btime.tv_sec,
                     x.stx_btime.tv_nsec, d->path);
}

static int
local_serve_disk(void *cloud, const struct cloud_disk *d, const char *dir,
                 const char *name, bool read_back, struct cloud_export *out,
                 struct err *e)
{
    const struct local *l = cloud;

    if (qemu_serve(d->path, l->spec->target.local.format, dir, name, read_back,
                   out, e))
        return -1;
    out->zeroes = (enum zeroes)l->spec->target.local.zeroes;
    return 0;
}

static int
local_import(void *cloud, const struct cloud_vm *vm, char **result,
             struct err *e)
{
    const struct local *l = cloud;
    defer(str_fini) struct str xml = STR_INIT;
    defer_free char *base = job_dir_name(vm->name, vm->moref);
    defer_free char *path =
        xasprintf("%s/%s.xml", l->spec->target.local.path, base);

    domain_xml(&xml, vm, l->spec->target.local.format);
    if (fs_replace(path, str_text(&xml), xml.n, 0644, e))
        return err_wrap(e, "writing the domain of %s", vm->name);
    *result = take(path);
    return 0;
}

const struct cloud_ops cloud_local = {
    .name = "local",
    .open = local_open,
    .close = local_close,
    .check = local_check,
    .find_disk = local_find_disk,
    .create_disk = local_create_disk,
    .identity = local_identity,
    .serve_disk = local_serve_disk,
    .import = local_import,
};
