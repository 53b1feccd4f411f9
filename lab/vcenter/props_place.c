/* Properties of folders, datacenters, clusters, hosts, pools, datastores and
 * networks, and what all entities have. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lab/vcenter/inside.h"

#define STORE_CAPACITY (8ll << 40)
#define STORE_FREE     (6ll << 40)
#define HOST_MEMORY    (256ll << 30)

static void
push_ent(const struct world *w, struct val *array, const struct ent *e)
{
    struct moref m;

    moref_of(w, e, &m);
    val_push(array, val_ref(m.type, m.id));
}

/* Children of one kind; -1: all of them. */
static struct val *
kids(const struct world *w, const struct ent *e, int kind)
{
    struct val *a = val_array("moref");

    for (size_t i = 0; e && i < e->kids.n; i++)
        if (kind < 0 || (int)e->kids.p[i]->kind == kind)
            push_ent(w, a, e->kids.p[i]);
    return a;
}

static bool
uses(const struct vm *vm, const struct ent *e)
{
    if (vm->host == e || vm->pool == e || vm->datastore == e)
        return true;
    for (size_t i = 0; i < vm->nics.n; i++)
        if (vm->nics.p[i].network == e)
            return true;
    return false;
}

static struct val *
vms_of(const struct world *w, const struct ent *e)
{
    struct val *a = val_array("moref");

    for (size_t i = 0; i < w->vms.n; i++)
        if (uses(w->vms.p[i], e))
            push_ent(w, a, w->vms.p[i]->ent);
    return a;
}

static struct val *
ref(const struct world *w, const struct ent *e)
{
    struct moref m;

    if (!e)
        return NULL;
    moref_of(w, e, &m);
    return val_ref(m.type, m.id);
}

static struct val *
prop_folder(struct call *c, const struct ent *e, const char *name)
{
    struct val *a;

    if (!strcmp(name, "childEntity"))
        return kids(c->w, e, -1);
    if (strcmp(name, "childType"))
        return NULL;
    a = val_array("string");
    val_push(a, val_scalar("string", "Folder"));
    if (!e->parent)
        val_push(a, val_scalar("string", "Datacenter"));
    else if (!strcmp(e->name, "host"))
        val_push(a, val_scalar("string", "ComputeResource"));
    else if (!strcmp(e->name, "datastore"))
        val_push(a, val_scalar("string", "Datastore"));
    else if (!strcmp(e->name, "network"))
        val_push(a, val_scalar("string", "Network"));
    else
        val_push(a, val_scalar("string", "VirtualMachine"));
    return a;
}

static struct val *
prop_datacenter(struct call *c, const struct ent *e, const char *name)
{
    static const char *const folders[][2] = {
        { "vmFolder", "vm" },
        { "hostFolder", "host" },
        { "datastoreFolder", "datastore" },
        { "networkFolder", "network" },
    };

    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (!strcmp(name, folders[i][0]))
            return ref(c->w, ent_kid(e, folders[i][1]));
    if (!strcmp(name, "datastore") || !strcmp(name, "network"))
        return kids(c->w, ent_kid(e, name), -1);
    return NULL;
}

static struct val *
prop_cluster(struct call *c, const struct ent *e, const char *name)
{
    const struct ent *dc = ent_datacenter(e);

    if (!strcmp(name, "resourcePool"))
        return ref(c->w, ent_first(e, ENT_POOL));
    if (!strcmp(name, "host"))
        return kids(c->w, e, ENT_HOST);
    if (!strcmp(name, "datastore") || !strcmp(name, "network"))
        return kids(c->w, ent_kid(dc, name), -1);
    return NULL;
}

static struct val *
host_runtime(void)
{
    struct val *r = val_object("HostRuntimeInfo");

    val_str(r, "connectionState", "connected");
    val_str(r, "powerState", "poweredOn");
    val_bool(r, "inMaintenanceMode", false);
    return r;
}

static struct val *
host_product(void)
{
    struct val *a = val_object("AboutInfo");

    val_str(a, "name", "VMware ESXi");
    val_str(a, "fullName", "VMware ESXi 8.0.2 build-22380479");
    val_str(a, "vendor", "VMware, Inc.");
    val_str(a, "version", "8.0.2");
    val_str(a, "build", "22380479");
    val_str(a, "osType", "vmnix-x86");
    val_str(a, "productLineId", "embeddedEsx");
    val_str(a, "apiType", "HostAgent");
    val_str(a, "apiVersion", "8.0.2.0");
    return a;
}

static struct val *
host_summary(struct call *c, const struct ent *e)
{
    struct val *s = val_object("HostListSummary"),
               *cfg = val_object("HostConfigSummary"),
               *hw = val_object("HostHardwareSummary");
    char uuid[40];

    world_uuid(c->w, "4c4c4544", e->id, uuid);
    val_str(hw, "vendor", "Lab");
    val_str(hw, "model", "Lab Host");
    val_str(hw, "uuid", uuid);
    val_int(hw, "memorySize", HOST_MEMORY);
    val_str(hw, "cpuModel", "Lab CPU");
    val_int(hw, "cpuMhz", 2400);
    val_int(hw, "numCpuPkgs", 2);
    val_int(hw, "numCpuCores", 32);
    val_int(hw, "numCpuThreads", 64);
    val_int(hw, "numNics", 2);
    val_int(hw, "numHBAs", 1);
    val_str(cfg, "name", e->name);
    val_int(cfg, "port", 443);
    val_str(cfg, "sslThumbprint", c->v->sha1);
    val_put(cfg, "product", host_product());
    val_bool(cfg, "vmotionEnabled", false);
    val_bool(cfg, "faultToleranceEnabled", false);
    val_link(s, "host", "HostSystem", e->id);
    val_put(s, "hardware", hw);
    val_put(s, "runtime", host_runtime());
    val_put(s, "config", cfg);
    val_put(s, "quickStats", val_object("HostListSummaryQuickStats"));
    val_str(s, "overallStatus", "green");
    val_bool(s, "rebootRequired", false);
    return s;
}

static struct val *
prop_host(struct call *c, const struct ent *e, const char *name)
{
    const struct ent *dc = ent_datacenter(e);

    if (!strcmp(name, "runtime"))
        return host_runtime();
    if (!strcmp(name, "summary"))
        return host_summary(c, e);
    if (!strcmp(name, "vm"))
        return vms_of(c->w, e);
    if (!strcmp(name, "datastore") || !strcmp(name, "network"))
        return kids(c->w, ent_kid(dc, name), -1);
    return NULL;
}

static struct val *
prop_pool(struct call *c, const struct ent *e, const char *name)
{
    if (!strcmp(name, "owner"))
        return ref(c->w, e->parent);
    if (!strcmp(name, "vm"))
        return vms_of(c->w, e);
    if (!strcmp(name, "resourcePool"))
        return kids(c->w, e, ENT_POOL);
    return NULL;
}

static struct val *
prop_datastore(struct call *c, const struct ent *e, const char *name)
{
    struct val *s;
    char url[80], uuid[40];

    if (!strcmp(name, "vm"))
        return vms_of(c->w, e);
    if (strcmp(name, "summary"))
        return NULL;
    world_uuid(c->w, "", e->id, uuid);
    snprintf(url, sizeof url, "ds:///vmfs/volumes/%s/", uuid);
    s = val_object("DatastoreSummary");
    val_link(s, "datastore", "Datastore", e->id);
    val_str(s, "name", e->name);
    val_str(s, "url", url);
    val_int(s, "capacity", STORE_CAPACITY);
    val_int(s, "freeSpace", STORE_FREE);
    val_int(s, "uncommitted", 0);
    val_bool(s, "accessible", true);
    val_bool(s, "multipleHostAccess", true);
    val_str(s, "type", "VMFS");
    val_str(s, "maintenanceMode", "normal");
    return s;
}

static struct val *
prop_network(struct call *c, const struct ent *e, const char *name)
{
    struct val *s;

    if (!strcmp(name, "vm"))
        return vms_of(c->w, e);
    if (!strcmp(name, "key") && e->kind == ENT_PORTGROUP)
        return val_scalar("string", e->id);
    if (strcmp(name, "summary"))
        return NULL;
    s = val_object("NetworkSummary");
    val_link(s, "network", ent_type(c->w, e), e->id);
    val_str(s, "name", e->name);
    val_bool(s, "accessible", true);
    val_str(s, "ipPoolName", "");
    return s;
}

static struct val *
recent_tasks(const struct world *w, const struct ent *e)
{
    struct val *a = val_array("moref");

    for (size_t i = 0; i < w->tasks.n; i++)
        if (w->tasks.p[i]->vm == e->vm && e->vm)
            val_push(a, val_ref("Task", w->tasks.p[i]->id));
    return a;
}

struct val *
prop_place(struct call *c, const struct ent *e, const char *name)
{
    switch (e->kind) {
    case ENT_FOLDER: return prop_folder(c, e, name);
    case ENT_DATACENTER: return prop_datacenter(c, e, name);
    case ENT_CLUSTER: return prop_cluster(c, e, name);
    case ENT_HOST: return prop_host(c, e, name);
    case ENT_POOL: return prop_pool(c, e, name);
    case ENT_DATASTORE: return prop_datastore(c, e, name);
    case ENT_NETWORK:
    case ENT_PORTGROUP: return prop_network(c, e, name);
    case ENT_VM: return prop_vm(e->vm, name);
    }
    return NULL;
}

struct val *
prop_entity(struct call *c, const struct ent *e, const char *name)
{
    struct val *a;

    if (!strcmp(name, "name"))
        return val_scalar("string", e->name);
    if (!strcmp(name, "parent"))
        return ref(c->w, e->parent);
    if (!strcmp(name, "overallStatus") || !strcmp(name, "configStatus"))
        return val_scalar("ManagedEntityStatus", "green");
    if (!strcmp(name, "recentTask"))
        return recent_tasks(c->w, e);
    if (!strcmp(name, "effectiveRole")) {
        a = val_array("int");
        val_push(a, val_integer(-1));
        return a;
    }
    if (!strcmp(name, "alarmActionsEnabled"))
        return val_scalar("boolean", "true");
    return prop_place(c, e, name);
}
