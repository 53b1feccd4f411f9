/* Run specs: one VM in a document, or many under `vms`. */
#include "job/rows.h"

#include <string.h>

#define SECONDS_MAX (366 * 86400)

#define TIMEOUT_MAX 86400 /* seconds, as the copier's */

const char *const format_names[] = { "qcow2", "raw", NULL };
const char *const zeroes_names[] = { "punch", "keep", "write", NULL };

typedef __typeof__(((struct spec *)0)->vm) vm;
static const struct key vm_keys[] = {
    TEXT(vm, name), TEXT(vm, moref), TEXT(vm, uuid), TEXT(vm, path), { NULL },
};

typedef __typeof__(((struct spec *)0)->migration) migration;
static const struct key migration_keys[] = {
    INT(migration, delta_interval, -1, SECONDS_MAX),
    INT(migration, finalize_delta_interval, -1, SECONDS_MAX),
    INT(migration, finalize_window, -1, SECONDS_MAX),
    INT(migration, finalize_settle_seconds, -1, 3600),
    TIME(migration, finalize_at),
    INT(migration, readers, 0, 256),
    INT(migration, copier_timeout, 0, TIMEOUT_MAX),
    RATE(migration, rate),
    RATE(migration, rate_per_disk),
    TRI(migration, run_virt_v2v),
    CHOICE(migration, snapshot_quiesce, quiesce_names),
    CHOICE(migration, shutdown_mode, shutdown_names),
    CHOICE(migration, base_plan, base_plan_names),
    CHOICE(migration, verify, verify_names),
    INT(migration, verify_sample, 1, 100),
    INT(migration, parallel_disks, -1, 64),
    FLAG(migration, start_vm_after_import),
    { NULL },
};

typedef __typeof__(((struct spec *)0)->target) target;
typedef __typeof__(((struct spec *)0)->target.local) local;
static const struct key local_keys[] = {
    TEXT(local, path),
    CHOICE(local, format, format_names),
    CHOICE(local, zeroes, zeroes_names),
    FLAG(local, overcommit),
    { NULL },
};

static const struct key target_keys[] = {
    GROUP(target, cloudstack, placement_keys),
    GROUP(target, local, local_keys),
    { NULL },
};

typedef struct spec_disk disk;
static const struct key disk_keys[] = {
    TEXT(disk, storageid),
    TEXT(disk, diskofferingid),
    { NULL },
};

typedef struct spec spec;
static const struct key spec_keys[] = {
    GROUP(spec, vm, vm_keys),
    GROUP(spec, migration, migration_keys),
    GROUP(spec, target, target_keys),
    EACH(spec, disks, disk_keys, disk),
    { NULL },
};

static void
spec_free(struct spec *s)
{
    if (!s)
        return;
    keys_free(spec_keys, s);
    free(s->file);
    free(s);
}

DEFER_FN(spec_free_ptr, struct spec, spec_free)

void
specs_fini(struct specs *s)
{
    for (size_t i = 0; i < s->n; i++)
        spec_free(s->p[i]);
    vec_fini(s);
}

json_t *
spec_json(const struct spec *s)
{
    return keys_json(spec_keys, s);
}

const char *
spec_vm(const struct spec *s)
{
    return s->vm.name    ? s->vm.name
           : s->vm.moref ? s->vm.moref
           : s->vm.uuid  ? s->vm.uuid
                         : s->vm.path;
}

static void
fill(char **to, const char *from)
{
    if ((!*to || !**to) && from) {
        free(*to);
        *to = xstrdup(from);
    }
}

static void
default_placement(struct spec *s, const struct placement *d)
{
    struct placement *p = &s->target.cloudstack;

    fill(&p->zoneid, d->zoneid);
    fill(&p->clusterid, d->clusterid);
    fill(&p->storageid, d->storageid);
    fill(&p->networkid, d->networkid);
    fill(&p->serviceofferingid, d->serviceofferingid);
    fill(&p->diskofferingid, d->diskofferingid);
    fill(&p->ostypeid, d->ostypeid);
    fill(&p->boottype, d->boottype);
    fill(&p->bootmode, d->bootmode);
    fill(&p->rootdiskcontroller, d->rootdiskcontroller);
    fill(&p->nicadapter, d->nicadapter);
}

static void
positive(int64_t *v, int64_t otherwise)
{
    if (*v <= 0)
        *v = otherwise;
}

static void
default_migration(struct spec *s, const struct config *c)
{
    migration *m = &s->migration;

    positive(&m->delta_interval, 300);
    positive(&m->finalize_delta_interval, 30);
    positive(&m->finalize_window, 600);
    positive(&m->parallel_disks, c->migration.parallel_disks);
    positive(&m->verify_sample, c->migration.verify_sample);
    positive(&m->finalize_settle_seconds, c->migration.finalize_settle_seconds);
    if (!m->rate)
        m->rate = c->limits.rate_per_vm;
    if (!m->rate_per_disk)
        m->rate_per_disk = c->limits.rate_per_disk;
    if (!m->snapshot_quiesce)
        m->snapshot_quiesce = c->migration.snapshot_quiesce;
    if (!m->shutdown_mode)
        m->shutdown_mode = c->migration.shutdown_mode;
    if (!m->base_plan)
        m->base_plan = BASE_AUTO;
    if (!m->verify)
        m->verify = c->migration.verify;
    if (m->run_virt_v2v == TRI_ABSENT)
        m->run_virt_v2v = c->virt.run_virt_v2v ? TRI_YES : TRI_NO;
}

static int
check_vm(const struct spec *s, struct err *e)
{
    int n = !!s->vm.name + !!s->vm.moref + !!s->vm.uuid + !!s->vm.path;

    if (n == 0 || !*spec_vm(s))
        return err_set(e, ERR_USER,
                       "%s:%d: vm.name is missing (or vm.moref, vm.uuid, "
                       "vm.path)",
                       s->file, s->line);
    if (n > 1)
        return err_set(e, ERR_USER,
                       "%s:%d: give only one of vm.name, vm.moref, vm.uuid "
                       "and vm.path",
                       s->file, s->vm.line);
    return 0;
}

static int
check_target(const struct spec *s, struct err *e)
{
    const local *l = &s->target.local;

    if (l->line && s->target.cloudstack.line)
        return err_set(e, ERR_USER,
                       "%s:%d: give only one of target.local and "
                       "target.cloudstack",
                       s->file, s->target.line);
    if (!l->line)
        return 0;
    if (!l->path || *l->path != '/')
        return err_set(e, ERR_USER,
                       "%s:%d: target.local.path must be an absolute path",
                       s->file, l->line);
    return 0;
}

static int
load_one(const struct yaml *y, const char *file, const struct config *c,
         struct specs *out, struct err *e)
{
    defer(spec_free_ptr) struct spec *s = xcalloc(1, sizeof *s);

    s->file = xstrdup(file);
    s->line = y->line;
    if (keys_load(spec_keys, y, file, s, e) || check_vm(s, e) ||
        check_target(s, e))
        return -1;
    if (!s->target.local.line)
        default_placement(s, &c->defaults);
    s->migration.line = s->migration.line ? s->migration.line : s->line;
    default_migration(s, c);
    vec_push(out, take(s));
    return 0;
}

int
spec_read(const char *path, const struct config *c, struct specs *out,
          struct err *e)
{
    defer(yaml_free_ptr) struct yaml *y = yaml_read(path, e);
    const struct yaml *vms;

    if (!y)
        return -1;
    vms = yaml_get(y, "vms");
    if (!vms || yaml_is_null(vms) || (vms->kind == YAML_SEQ && !vms->n))
        return load_one(y, path, c, out, e);
    if (vms->kind != YAML_SEQ)
        return err_set(e, ERR_USER, "%s:%d: vms: a list is expected here", path,
                       vms->line);
    if (y->n > 1)
        return err_set(e, ERR_USER,
                       "%s:%d: unknown key '%s' beside 'vms'; move it into "
                       "each VM",
                       path, y->kids[y->kids[0] == vms]->line,
                       y->kids[y->kids[0] == vms]->key);
    for (size_t i = 0; i < vms->n; i++)
        if (load_one(vms->kids[i], path, c, out, e))
            return -1;
    return 0;
}
