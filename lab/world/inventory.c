/* The inventory tree: folders, datacenters, hosts, datastores, networks. */
#include "lab/world/world.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Identifiers by kind; ESXi has fixed ones. */
static const struct {
    enum ent_kind kind;
    const char *vcenter, *esxi; /* with a %u: numbered */
} ids[] = {
    { ENT_FOLDER, "group-f%u", "group-f%u" },
    { ENT_DATACENTER, "datacenter-%u", "ha-datacenter" },
    { ENT_CLUSTER, "domain-c%u", "ha-compute-res" },
    { ENT_HOST, "host-%u", "ha-host" },
    { ENT_POOL, "resgroup-%u", "ha-root-pool" },
    { ENT_DATASTORE, "datastore-%u", "5f2b6a3c-8d41e9f0-0c1d-%012u" },
    { ENT_NETWORK, "network-%u", "HaNetwork-%u" },
    { ENT_PORTGROUP, "dvportgroup-%u", "dvportgroup-%u" },
    { ENT_VM, "vm-%u", "%u" },
};

static const struct {
    const char *name, *vcenter, *esxi;
} folders[] = {
    { "vm", "group-v%u", "ha-folder-vm" },
    { "host", "group-h%u", "ha-folder-host" },
    { "datastore", "group-s%u", "ha-folder-datastore" },
    { "network", "group-n%u", "ha-folder-network" },
};

#define FOLDERS (sizeof folders / sizeof *folders)

static void
make_id(struct world *w, struct ent *ent, const char *form)
{
    snprintf(ent->id, sizeof ent->id, form, w->next_id++);
}

/* "/", "\" and "%" are stored %-escaped. */
static char *
escaped_name(const char *name)
{
    struct str s = STR_INIT;

    for (; *name; name++) {
        if (strchr("/\\%", *name))
            str_addf(&s, "%%%02x", (unsigned char)*name);
        else
            str_addc(&s, *name);
    }
    return str_take(&s);
}

struct ent *
ent_new(struct world *w, enum ent_kind kind, const char *name,
        struct ent *parent)
{
    struct ent *ent = xcalloc(1, sizeof *ent);

    ent->kind = kind;
    ent->name = escaped_name(name);
    ent->parent = parent;
    if (parent)
        vec_push(&parent->kids, ent);
    vec_push(&w->ents, ent);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i].kind == kind)
            make_id(w, ent, w->esxi ? ids[i].esxi : ids[i].vcenter);
    if (!parent)
        snprintf(ent->id, sizeof ent->id, "%s",
                 w->esxi ? "ha-folder-root" : "group-d1");
    return ent;
}

struct ent *
world_ent(const struct world *w, const char *id)
{
    for (size_t i = 0; i < w->ents.n; i++)
        if (!strcmp(w->ents.p[i]->id, id))
            return w->ents.p[i];
    return NULL;
}

struct ent *
ent_kid(const struct ent *e, const char *name)
{
    for (size_t i = 0; i < e->kids.n; i++)
        if (!strcmp(e->kids.p[i]->name, name))
            return e->kids.p[i];
    return NULL;
}

struct ent *
ent_first(const struct ent *e, enum ent_kind kind)
{
    for (size_t i = 0; i < e->kids.n; i++)
        if (e->kids.p[i]->kind == kind)
            return e->kids.p[i];
    return NULL;
}

struct ent *
world_datacenter(struct world *w, const char *name)
{
    struct ent *root = w->ents.p[0], *dc = ent_kid(root, name), *cluster;

    if (dc)
        return dc;
    dc = ent_new(w, ENT_DATACENTER, name, root);
    for (size_t i = 0; i < FOLDERS; i++)
        make_id(w, ent_new(w, ENT_FOLDER, folders[i].name, dc),
                w->esxi ? folders[i].esxi : folders[i].vcenter);
    cluster = ent_new(w, ENT_CLUSTER, w->esxi ? "localhost.lab" : "cluster1",
                      ent_kid(dc, "host"));
    ent_new(w, ENT_POOL, "Resources", cluster);
    return dc;
}

struct ent *
world_folder(struct world *w, struct ent *datacenter, const char *path)
{
    struct ent *at = ent_kid(datacenter, "vm");
    defer_free char *copy = xstrdup(path);
    char *rest = copy, *name;

    while ((name = strsep(&rest, "/"))) {
        struct ent *kid;

        if (!*name)
            continue;
        kid = ent_kid(at, name);
        if (!kid) {
            kid = ent_new(w, ENT_FOLDER, name, at);
            make_id(w, kid, "group-v%u");
        }
        at = kid;
    }
    return at;
}

struct ent *
world_network(struct world *w, struct ent *datacenter, const char *name)
{
    struct ent *folder = ent_kid(datacenter, "network"), *net;
    bool dvs = str_starts(name, "dvs:");

    if (dvs)
        name += 4;
    net = ent_kid(folder, name);
    return net ? net
               : ent_new(w, dvs ? ENT_PORTGROUP : ENT_NETWORK, name, folder);
}

const struct ent *
ent_datacenter(const struct ent *e)
{
    while (e && e->kind != ENT_DATACENTER)
        e = e->parent;
    return e;
}

struct ent *
world_by_path(const struct world *w, const char *path)
{
    struct ent *at = w->ents.p[0];
    defer_free char *copy = xstrdup(path);
    char *rest = copy, *name;

    while (at && (name = strsep(&rest, "/")))
        if (*name)
            at = ent_kid(at, name);
    return at;
}

void
ent_path(const struct ent *e, struct str *out)
{
    if (!e->parent)
        return;
    ent_path(e->parent, out);
    str_addc(out, '/');
    str_add(out, e->name);
}
