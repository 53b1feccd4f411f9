/* QueryChangedDiskAreas. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lab/vcenter/inside.h"

static int
file_fault(struct call *c, const struct vm_disk *d, unsigned version,
           const char *key)
{
    char path[512];

    vm_disk_path(c->vm, d, version, path, sizeof path);
    wfault_set(&c->fault, "FileFault", "Error caused by file %.200s", path);
    wfault_field(&c->fault, "file", NULL, path);
    snprintf(c->fault.message_key, sizeof c->fault.message_key, "%s",
             key ? key : "");
    return -1;
}

/* Which version of the disk the client asks about. */
static int
find_version(struct call *c, const struct vm_disk *d, unsigned *version)
{
    const struct xml *x = xml_kid(c->q, "snapshot");
    const struct snap_disk *sd;
    const struct snap *s;
    struct moref m;

    *version = LDISK_NOW;
    if (!x)
        return c->vm->power == VM_OFF ? 0 : file_fault(c, d, LDISK_NOW, NULL);
    read_moref(x, &m);
    s = world_snap(c->w, m.id);
    if (!s || strcmp(m.type, "VirtualMachineSnapshot"))
        return fault_gone(c, &m);
    if (s->vm != c->vm)
        return fault_argument(c, "snapshot");
    sd = snap_disk(s, d->key);
    if (!sd || !sd->frozen)
        return fault_argument(c, "deviceKey");
    *version = sd->version;
    return 0;
}

static int
area_fault(struct call *c, const struct vm_disk *d, unsigned version,
           const struct err *e)
{
    if (e->class == ERR_NOTFOUND)
        return file_fault(c, d, version, "vim.hostd.vmsvc.cbt.noTrack");
    if (e->class == ERR_DAMAGED)
        return file_fault(c, d, version,
                          "vim.hostd.vmsvc.cbt.cannotGetChanges");
    if (e->class == ERR_USER)
        return fault_argument(c, "changeId");
    return wfault_system(&c->fault, e->msg);
}

static void
remove_area(struct ldisk_areas *a, size_t at)
{
    for (size_t i = at; i + 1 < a->n; i++)
        a->p[i] = a->p[i + 1];
    if (a->n)
        a->n--;
}

/* Answers that a broken server gave; see vcenter.h. */
static void
bend(const char *how, uint64_t size, uint64_t *start, uint64_t *length,
     struct ldisk_areas *a)
{
    struct ldisk_area swap;

    if (!strcmp(how, "cbt:zero-length"))
        *length = 0;
    else if (!strcmp(how, "cbt:wrong-start"))
        *start += 65536;
    else if (!strcmp(how, "cbt:beyond"))
        vec_push(a, (struct ldisk_area){ size, 65536 });
    else if (!strcmp(how, "cbt:empty"))
        a->n = 0;
    else if (!strcmp(how, "cbt:missing"))
        remove_area(a, a->n / 2);
    else if (!strcmp(how, "cbt:unsorted") && a->n > 1) {
        swap = a->p[0];
        a->p[0] = a->p[a->n - 1];
        a->p[a->n - 1] = swap;
    }
}

static void
write_areas(struct call *c, uint64_t start, uint64_t length,
            const struct ldisk_areas *a)
{
    str_addf(&c->out,
             "<returnval><startOffset>%" PRIu64 "</startOffset><length>%" PRIu64
             "</length>",
             start, length);
    for (size_t i = 0; i < a->n; i++)
        str_addf(&c->out,
                 "<changedArea><start>%" PRIu64 "</start><length>%" PRIu64
                 "</length></changedArea>",
                 a->p[i].start, a->p[i].length);
    str_add(&c->out, "</returnval>");
}

int
m_changed_areas(struct call *c)
{
    struct ldisk_areas areas = { 0 };
    struct err e = ERR_INIT;
    const struct vm_disk *d;
    unsigned version;
    int64_t key, offset;
    uint64_t start, length = 0, size;
    int rc;

    if (num_i64(arg(c, "deviceKey"), INT32_MIN, INT32_MAX, &key, "deviceKey",
                &e) ||
        num_i64(arg(c, "startOffset"), INT64_MIN, INT64_MAX, &offset,
                "startOffset", &e))
        return fault_argument(c, "deviceKey");
    d = vm_disk(c->vm, (int)key);
    if (!d || !vm_disk_tracks(d))
        return fault_argument(c, "deviceKey");
    if (find_version(c, d, &version))
        return -1;
    size = ldisk_size(d->disk);
    if (offset < 0 || (uint64_t)offset >= size)
        return fault_argument(c, "startOffset");
    if (!ldisk_tracked(d->disk))
        return file_fault(c, d, version, "vim.hostd.vmsvc.cbt.noTrack");
    start = (uint64_t)offset;
    rc = ldisk_changes(d->disk, version, arg(c, "changeId"), start,
                       c->w->area_limit, &areas, &length, &e);
    if (rc) {
        rc = area_fault(c, d, version, &e);
    } else {
        bend(c->rule.fault.type, size, &start, &length, &areas);
        write_areas(c, start, length, &areas);
    }
    vec_fini(&areas);
    return rc;
}
