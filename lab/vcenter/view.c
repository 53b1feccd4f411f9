/* Container views and the search index. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lab/vcenter/inside.h"
#include "lab/vcenter/wsdl.h"

struct view *
view_of(struct session *s, const char *id)
{
    for (size_t i = 0; i < s->views.n; i++)
        if (!strcmp(s->views.p[i]->id, id))
            return s->views.p[i];
    return NULL;
}

static bool
wanted(const struct view *view, const char *type)
{
    for (size_t i = 0; i < view->types.n; i++)
        if (wsdl_is_a(type, view->types.p[i]))
            return true;
    return !view->types.n;
}

static void
add_below(const struct world *w, const struct view *view, const struct ent *e,
          struct morefs *out)
{
    for (size_t i = 0; i < e->kids.n; i++) {
        const struct ent *k = e->kids.p[i];
        struct moref m;

        moref_of(w, k, &m);
        if (wanted(view, m.type))
            vec_push(out, m);
        if (view->recursive)
            add_below(w, view, k, out);
    }
}

void
view_members(struct call *c, const struct view *view, struct morefs *out)
{
    const struct ent *e = world_ent(c->w, view->container.id);

    if (e)
        add_below(c->w, view, e, out);
}

int
m_create_view(struct call *c)
{
    struct view *view;
    struct moref at;

    read_moref(xml_kid(c->q, "container"), &at);
    if (!object_exists(c, &at))
        return fault_gone(c, &at);
    if (!world_ent(c->w, at.id))
        return fault_argument(c, "container");
    for (const struct xml *x = xml_kid(c->q, "type"); x; x = xml_next(x))
        if (!wsdl_is_a(x->text, "ManagedEntity"))
            return fault_argument(c, "type");
    if (c->s->views.n >= VIEWS_MAX)
        return wfault_system(&c->fault, "too many views");
    view = xcalloc(1, sizeof *view);
    snprintf(view->id, sizeof view->id, "session[%s]%s-%u", c->s->key,
             c->s->key, ++c->s->next_id);
    view->container = at;
    view->recursive = arg_flag(c, "recursive", false);
    for (const struct xml *x = xml_kid(c->q, "type"); x; x = xml_next(x))
        vec_push(&view->types, xstrdup(x->text));
    vec_push(&c->s->views, view);
    answer_ref(c, "ContainerView", view->id);
    return 0;
}

int
m_destroy_view(struct call *c)
{
    size_t kept = 0;

    for (size_t i = 0; i < c->s->views.n; i++) {
        struct view *v = c->s->views.p[i];

        if (strcmp(v->id, c->self.id))
            c->s->views.p[kept++] = v;
        else
            view_free(v);
    }
    c->s->views.n = kept;
    return 0;
}

int
m_find_path(struct call *c)
{
    const struct ent *e = world_by_path(c->w, arg(c, "inventoryPath"));
    struct moref m;

    if (!e || !e->parent)
        return 0;
    moref_of(c->w, e, &m);
    answer_ref(c, m.type, m.id);
    return 0;
}

static int
find_uuid(struct call *c, bool all)
{
    const char *uuid = arg(c, "uuid"), *dc = arg(c, "datacenter");
    bool instance = arg_flag(c, "instanceUuid", false);

    if (!arg_flag(c, "vmSearch", false))
        return 0;
    for (size_t i = 0; i < c->w->vms.n; i++) {
        const struct vm *vm = c->w->vms.p[i];

        if (strcasecmp(instance ? vm->instance_uuid : vm->uuid, uuid) ||
            (dc && strcmp(vm->datacenter->id, dc)))
            continue;
        answer_ref(c, "VirtualMachine", vm->ent->id);
        if (!all)
            break;
    }
    return 0;
}

int
m_find_uuid(struct call *c)
{
    return find_uuid(c, false);
}

int
m_find_all_uuid(struct call *c)
{
    return find_uuid(c, true);
}

int
m_find_child(struct call *c)
{
    const struct ent *e, *kid;
    struct moref at;

    read_moref(xml_kid(c->q, "entity"), &at);
    if (!object_exists(c, &at))
        return fault_gone(c, &at);
    e = world_ent(c->w, at.id);
    kid = e ? ent_kid(e, arg(c, "name")) : NULL;
    if (kid)
        answer_ref(c, ent_type(c->w, kid), kid->id);
    return 0;
}
