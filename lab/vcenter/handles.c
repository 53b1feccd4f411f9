/* Who may open which disk through the disk service. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "copy/vddk_abi.h"
#include "lab/vcenter/inside.h"

/* VDDK error codes that only the lab names */
enum {
    VDDK_TOO_MANY_HANDLES = 1002,
    VDDK_AUTH_FAIL = 3014,
    VDDK_NEED_KEY = 16014,
};

static unsigned
judge_login(struct vcenter *v, const struct lab_nfc_request *q)
{
    if (strcmp(q->thumbprint, v->sha1))
        return VDDK_FAIL;
    if (q->port && q->port != httpd_port(v->httpd))
        return VDDK_FAIL;
    if (session_credentials(v, q->user, q->password, q->cookie))
        return 0;
    return q->cookie[0] ? VDDK_INVALID_SESSION : VDDK_AUTH_FAIL;
}

static const struct vm *
find_vm(struct vcenter *v, const char *spec)
{
    if (!str_starts(spec, "moref="))
        return NULL;
    for (size_t i = 0; i < v->w->vms.n; i++)
        if (!strcmp(v->w->vms.p[i]->ent->id, spec + 6))
            return v->w->vms.p[i];
    return NULL;
}

/* The disk that this path means, and its version. */
static unsigned
find_disk(const struct vm *vm, const struct snap *s, const char *path,
          const struct vm_disk **disk, unsigned *version)
{
    char is[512];

    for (size_t i = 0; i < vm->disks.n; i++) {
        const struct vm_disk *d = vm->disks.p[i];
        const struct snap_disk *sd = s ? snap_disk(s, d->key) : NULL;

        *version = sd && sd->frozen ? sd->version : LDISK_NOW;
        vm_disk_path(vm, d, *version, is, sizeof is);
        if (strcmp(is, path))
            continue;
        *disk = d;
        if (!vm_disk_freezes(d) || d->shared)
            return VDDK_NOT_SUPPORTED;
        return s && !sd ? VDDK_FILE_NOT_FOUND : 0;
    }
    return VDDK_FILE_NOT_FOUND;
}

static unsigned
judge(struct vcenter *v, const struct lab_nfc_request *q,
      const struct vm_disk **disk, unsigned *version)
{
    const struct snap *s = NULL;
    const struct vm *vm;
    unsigned code = judge_login(v, q);

    if (code)
        return code;
    vm = find_vm(v, q->vmx_spec);
    if (!vm)
        return VDDK_VM_NOT_FOUND;
    if (!q->read_only)
        return VDDK_FILE_ACCESS_ERROR;
    if (q->snapshot[0]) {
        s = world_snap(v->w, q->snapshot);
        if (!s || s->vm != vm)
            return VDDK_FILE_NOT_FOUND;
    } else if (vm->power != VM_OFF || vm->snaps.n) {
        return vm->power != VM_OFF ? VDDK_FILE_ALREADY_LOCKED
                                   : VDDK_FILE_ACCESS_ERROR;
    }
    if (vm->encrypted)
        return VDDK_NEED_KEY;
    return find_disk(vm, s, q->path, disk, version);
}

void
vcenter_resolve(void *ctx, const struct lab_nfc_request *q,
                struct lab_nfc_answer *a)
{
    struct vcenter *v = ctx;
    const struct vm_disk *d = NULL;
    struct lab_nfc_stats stats = { 0 };
    unsigned version = LDISK_NOW, code;

    if (v->nfc)
        lab_nfc_stats(v->nfc, &stats);
    world_lock(v->w);
    code = judge(v, q, &d, &version);
    if (!code && stats.open_now >= VCENTER_HANDLES_MAX)
        code = VDDK_TOO_MANY_HANDLES;
    if (code)
        a->code = code;
    else
        lab_nfc_grant(a, d->disk, version, d->uuid);
    world_unlock(v->w);
    if (code)
        log_info("open of %s %s refused: code %u", q->vmx_spec, q->path, code);
}
