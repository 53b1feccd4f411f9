/* Managed objects: which there are, and where their properties come from. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lab/vcenter/inside.h"
#include "lab/vcenter/wsdl.h"

/* The singletons. */
static const struct {
    const char *type, *vcenter, *esxi;
} services[] = {
    { "ServiceInstance", "ServiceInstance", "ServiceInstance" },
    { "PropertyCollector", "propertyCollector", "ha-property-collector" },
    { "SessionManager", "SessionManager", "ha-sessionmgr" },
    { "SearchIndex", "SearchIndex", "ha-searchindex" },
    { "ViewManager", "ViewManager", "ViewManager" },
};

#define SERVICES (sizeof services / sizeof *services)

const char *
service_id(const struct world *w, const char *type)
{
    for (size_t i = 0; i < SERVICES; i++)
        if (!strcmp(services[i].type, type))
            return w->esxi ? services[i].esxi : services[i].vcenter;
    return "";
}

const char *
ent_type(const struct world *w, const struct ent *e)
{
    switch (e->kind) {
    case ENT_FOLDER: return "Folder";
    case ENT_DATACENTER: return "Datacenter";
    case ENT_CLUSTER:
        return w->esxi ? "ComputeResource" : "ClusterComputeResource";
    case ENT_HOST: return "HostSystem";
    case ENT_POOL: return "ResourcePool";
    case ENT_DATASTORE: return "Datastore";
    case ENT_NETWORK: return "Network";
    case ENT_PORTGROUP: return "DistributedVirtualPortgroup";
    case ENT_VM: return "VirtualMachine";
    }
    return "ManagedEntity";
}

void
moref_of(const struct world *w, const struct ent *e, struct moref *m)
{
    snprintf(m->type, sizeof m->type, "%s", ent_type(w, e));
    snprintf(m->id, sizeof m->id, "%s", e->id);
}

static struct filter *
filter_of(struct session *s, const char *id)
{
    for (size_t i = 0; s && i < s->filters.n; i++)
        if (!strcmp(s->filters.p[i]->id, id))
            return s->filters.p[i];
    return NULL;
}

const char *
object_type(struct call *c, const char *id)
{
    const struct ent *e = world_ent(c->w, id);

    if (e)
        return ent_type(c->w, e);
    for (size_t i = 0; i < SERVICES; i++)
        if (!strcmp(c->w->esxi ? services[i].esxi : services[i].vcenter, id))
            return services[i].type;
    if (world_snap(c->w, id))
        return "VirtualMachineSnapshot";
    if (world_task(c->w, id))
        return "Task";
    if (c->s && view_of(c->s, id))
        return "ContainerView";
    if (c->s && collector_of(c->s, id))
        return "PropertyCollector";
    if (filter_of(c->s, id))
        return "PropertyFilter";
    return NULL;
}

bool
object_exists(struct call *c, const struct moref *m)
{
    const char *type = object_type(c, m->id);

    return type && !strcmp(type, m->type);
}

static struct val *
about(const struct world *w)
{
    struct val *a = val_object("AboutInfo");
    bool x = w->esxi;
    char uuid[40];

    world_uuid(w, "", "instance", uuid);
    val_str(a, "name", x ? "VMware ESXi" : "VMware vCenter Server");
    val_str(a, "fullName",
            x ? "VMware ESXi 8.0.2 build-22380479"
              : "VMware vCenter Server 8.0.2 build-22385739");
    val_str(a, "vendor", "VMware, Inc.");
    val_str(a, "version", "8.0.2");
    val_str(a, "build", x ? "22380479" : "22385739");
    val_str(a, "localeVersion", "INTL");
    val_str(a, "localeBuild", "000");
    val_str(a, "osType", x ? "vmnix-x86" : "linux-x64");
    val_str(a, "productLineId", x ? "embeddedEsx" : "vpx");
    val_str(a, "apiType", x ? "HostAgent" : "VirtualCenter");
    val_str(a, "apiVersion", "8.0.2.0");
    if (!x)
        val_str(a, "instanceUuid", uuid);
    val_str(a, "licenseProductName",
            x ? "VMware ESX Server" : "VMware VirtualCenter Server");
    val_str(a, "licenseProductVersion", "8.0");
    return a;
}

struct val *
service_content(const struct world *w)
{
    struct val *s = val_object("ServiceContent");

    val_link(s, "rootFolder", "Folder", w->ents.p[0]->id);
    val_link(s, "propertyCollector", "PropertyCollector",
             service_id(w, "PropertyCollector"));
    val_link(s, "viewManager", "ViewManager", service_id(w, "ViewManager"));
    val_put(s, "about", about(w));
    val_link(s, "sessionManager", "SessionManager",
             service_id(w, "SessionManager"));
    val_link(s, "searchIndex", "SearchIndex", service_id(w, "SearchIndex"));
    return s;
}

static struct val *
scalar_time(int64_t wall)
{
    char text[CLOCK_TEXT_MAX];

    clock_text(wall, text);
    return val_scalar("dateTime", text);
}

static struct val *
prop_session_manager(struct call *c, const char *name)
{
    if (!strcmp(name, "currentSession"))
        return c->s ? session_val(c->s) : NULL;
    if (!strcmp(name, "defaultLocale"))
        return val_scalar("string", "en");
    if (!strcmp(name, "sessionList")) {
        struct val *a = val_array("UserSession");

        for (size_t i = 0; i < c->v->sessions.n; i++)
            val_push(a, session_val(c->v->sessions.p[i]));
        return a;
    }
    return NULL;
}

static struct val *
prop_view(struct call *c, const char *id, const char *name)
{
    const struct view *view = view_of(c->s, id);
    struct morefs members = { 0 };
    struct val *a = NULL;

    if (!strcmp(name, "container"))
        return val_ref(view->container.type, view->container.id);
    if (!strcmp(name, "recursive"))
        return val_scalar("boolean", view->recursive ? "true" : "false");
    if (!strcmp(name, "type") && view->types.n) {
        a = val_array("string");
        for (size_t i = 0; i < view->types.n; i++)
            val_push(a, val_scalar("string", view->types.p[i]));
    }
    if (!strcmp(name, "view")) {
        a = val_array("moref");
        view_members(c, view, &members);
        for (size_t i = 0; i < members.n; i++)
            val_push(a, val_ref(members.p[i].type, members.p[i].id));
        vec_fini(&members);
    }
    return a;
}

static struct val *
prop_collector(struct call *c, const char *id, const char *name)
{
    struct val *a = NULL;

    if (strcmp(name, "filter"))
        return NULL;
    for (size_t i = 0; i < c->s->filters.n; i++) {
        if (strcmp(c->s->filters.p[i]->collector, id))
            continue;
        if (!a)
            a = val_array("moref");
        val_push(a, val_ref("PropertyFilter", c->s->filters.p[i]->id));
    }
    return a;
}

struct val *
object_prop(struct call *c, const struct moref *m, const char *name)
{
    const struct ent *e = world_ent(c->w, m->id);
    const struct filter *f;

    if (e)
        return e->kind == ENT_VM &&
                       !wsdl_field(wsdl_type("ManagedEntity"), name)
                   ? prop_vm(e->vm, name)
                   : prop_entity(c, e, name);
    if (!strcmp(m->type, "VirtualMachineSnapshot"))
        return prop_snapshot(world_snap(c->w, m->id), name);
    if (!strcmp(m->type, "Task"))
        return strcmp(name, "info") ? NULL : task_info(world_task(c->w, m->id));
    if (!strcmp(m->type, "ContainerView"))
        return prop_view(c, m->id, name);
    if (!strcmp(m->type, "PropertyCollector"))
        return prop_collector(c, m->id, name);
    if (!strcmp(m->type, "SessionManager"))
        return prop_session_manager(c, name);
    if (!strcmp(m->type, "ServiceInstance") && !strcmp(name, "content"))
        return service_content(c->w);
    if (!strcmp(m->type, "ServiceInstance") && !strcmp(name, "serverClock"))
        return scalar_time(clock_wall_ms());
    f = filter_of(c->s, m->id);
    if (f && !strcmp(name, "partialUpdates"))
        return val_scalar("boolean", f->partial ? "true" : "false");
    return NULL;
}
