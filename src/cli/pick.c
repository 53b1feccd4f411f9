/* Which records a command speaks of: specs, narrowed by names and morefs. */
#include "cli/cli.h"

#include <string.h>

static bool
has(const struct texts *t, const char *text)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->p[i], text))
            return true;
    return false;
}

static bool
fits(const struct spec *s, const struct record *r)
{
    const char *slash = s->vm.path ? strrchr(s->vm.path, '/') : NULL;

    if (s->vm.name)
        return !strcmp(s->vm.name, r->vm_name);
    if (s->vm.moref)
        return !strcmp(s->vm.moref, r->vm_moref);
    if (s->vm.uuid)
        return !strcmp(s->vm.uuid, r->uuid) ||
               !strcmp(s->vm.uuid, r->instance_uuid);
    return !strcmp(slash ? slash + 1 : s->vm.path, r->vm_name);
}

/* The one record of a spec; two of one name are an error. */
static int
pick_one(const struct pick *p, const struct spec *s, struct picks *out,
         struct err *e)
{
    struct picked one = { .vm = NULL };

    for (size_t i = 0; i < out->founds.n; i++) {
        struct found *f = &out->founds.p[i];

        if (!fits(s, f->record) ||
            (p->vm_ids.n && !has(&p->vm_ids, f->record->vm_moref)))
            continue;
        if (one.found)
            return err_set(e, ERR_USER,
                           "there are two migrations of %s (%s and %s); "
                           "choose with --vm-id",
                           f->record->vm_name, one.found->record->vm_moref,
                           f->record->vm_moref);
        one.found = f;
    }
    if (p->vm_ids.n && !one.found)
        return 0;
    one.vm = xstrdup(one.found ? one.found->record->vm_name : spec_vm(s));
    if (p->vms.n && !has(&p->vms, one.vm)) {
        free(one.vm);
        return 0;
    }
    vec_push(&out->vms, one);
    return 0;
}

static int
check_names(const struct pick *p, const struct picks *out, struct err *e)
{
    for (size_t i = 0; i < p->vms.n; i++) {
        bool found = false;

        for (size_t j = 0; j < out->vms.n; j++)
            found |= !strcmp(p->vms.p[i], out->vms.p[j].vm);
        if (!found)
            return err_set(e, ERR_USER, "--vm %s: no spec names that VM",
                           p->vms.p[i]);
    }
    return 0;
}

static int
by_vm(const void *a, const void *b)
{
    const struct picked *x = a, *y = b;

    return strcmp(x->vm, y->vm);
}

int
picks_read(const struct pick *p, struct picks *out, struct err *e)
{
    const char *dir = p->control_dir;

    memset(out, 0, sizeof *out);
    if (!p->specs.n)
        return err_set(e, ERR_USER, "no spec is given; name one with --spec");
    out->config = config_read(p->config, e);
    if (!out->config) {
        /* the directory suffices to look at what is there */
        if (!dir || p->config)
            return -1;
        err_clear(e);
        out->config = xcalloc(1, sizeof *out->config);
    }
    if (!dir)
        dir = out->config->migration.control_dir;
    for (size_t i = 0; i < p->specs.n; i++)
        if (spec_read(p->specs.p[i], out->config, &out->specs, e))
            return -1;
    if (store_find(dir, NULL, NULL, &out->founds, e))
        return -1;
    for (size_t i = 0; i < out->specs.n; i++)
        if (pick_one(p, out->specs.p[i], out, e))
            return -1;
    if (out->vms.n)
        qsort(out->vms.p, out->vms.n, sizeof *out->vms.p, by_vm);
    return check_names(p, out, e);
}

void
picks_fini(struct picks *p)
{
    for (size_t i = 0; i < p->vms.n; i++)
        free(p->vms.p[i].vm);
    vec_fini(&p->vms);
    founds_fini(&p->founds);
    specs_fini(&p->specs);
    config_free(p->config);
}
