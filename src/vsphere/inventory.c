/* Finding a VM by name, moref, uuid or path; inventory paths. */
#include "vsphere/soap.h"

#include <stdio.h>
#include <string.h>

#define ANCESTORS_MAX  64 /* folders above a VM */
#define CANDIDATES_MAX 4  /* named in an error */

/* Where to go on upwards from an object of a type: the first that is set. */
static const struct up {
    const char *type;
    const char *paths[4]; /* NULL-ended, "name" first */
} ups[] = {
    { "VirtualMachine", { "name", "parent", "parentVApp" } },
    { "VirtualApp", { "name", "parentFolder", "parentVApp" } },
    { "", { "name", "parent" } }, /* all others */
};

static const struct up *
up_of(const char *type)
{
    const struct up *u = ups;

    while (*u->type && strcmp(u->type, type))
        u++;
    return u;
}

void
name_decode(char *name)
{
    static const struct {
        const char *code;
        char c;
    } codes[] = { { "%2f", '/' },
                  { "%2F", '/' },
                  { "%5c", '\\' },
                  { "%5C", '\\' },
                  { "%25", '%' } };
    char *to = name;

    while (*name) {
        char c = *name;
        size_t n = 1;

        for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
            if (str_starts(name, codes[i].code)) {
                c = codes[i].c;
                n = 3;
                break;
            }
        *to++ = c;
        name += n;
    }
    *to = '\0';
}

static const struct xml *
parent_of(const struct xml *object)
{
    const struct xml *ref = xml_kid(object, "obj");
    const struct up *u = up_of(ref && ref->ref ? ref->ref : "");

    for (int i = 1; u->paths[i]; i++) {
        const struct xml *val = prop(object, u->paths[i]);

        if (val && *val->text)
            return val;
    }
    return NULL;
}

char *
inventory_path(struct vs *vs, const struct xml *object, struct err *e)
{
    defer_free char *path = xstrdup(prop_text(object, "name"));
    defer_answer struct answer a = { 0 };
    const struct xml *up = parent_of(object);

    for (int i = 0; up && strcmp(up->text, vs->root); i++) {
        const char *type = up->ref ? up->ref : "ManagedEntity";
        struct answer next = { 0 };
        char *longer;

        if (i == ANCESTORS_MAX) {
            err_set(e, ERR_REMOTE, "'%.80s' lies below more than %d folders",
                    path, ANCESTORS_MAX);
            return NULL;
        }
        if (props_get(vs, type, up->text, up_of(type)->paths, &next, e)) {
            if (!fault_is(e, "NoPermission"))
                return NULL;
            /* An account for some folders only does not see those above. */
            err_clear(e);
            return xasprintf(".../%s", path);
        }
        answer_fini(&a);
        a = next;
        longer = xasprintf("%s/%s", prop_text(a.val, "name"), path);
        free(path);
        path = longer;
        up = parent_of(a.val);
    }
    return take(path);
}

/* One VM that fits the query. */
struct hit {
    char id[VS_ID_MAX];
};

struct hunt {
    const char *property, *wanted;
    struct VEC(struct hit) hits;
};

static void
hunt_reset(void *ctx)
{
    ((struct hunt *)ctx)->hits.n = 0;
}

static int
hunt_look(void *ctx, const struct xml *object, struct err *e)
{
    struct hunt *h = ctx;
    defer_free char *text = xstrdup(prop_text(object, h->property));
    struct hit hit;
    bool fits = !strcmp(text, h->wanted);

    name_decode(text);
    if (!fits && strcmp(text, h->wanted))
        return 0;
    if (ref_copy(xml_kid(object, "obj"), hit.id, "VirtualMachine", e))
        return -1;
    vec_push(&h->hits, hit);
    return 0;
}

static const char *const vm_paths[] = { "name", "parent", "parentVApp",
                                        "config.template", NULL };

/* Leaves templates out, unless there is nothing else. */
static int
drop_templates(struct vs *vs, struct hunt *h, struct err *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < h->hits.n; i++) {
        defer_answer struct answer a = { 0 };

        if (props_get(vs, "VirtualMachine", h->hits.p[i].id, vm_paths, &a, e))
            return -1;
        if (!prop_true(a.val, "config.template"))
            h->hits.p[kept++] = h->hits.p[i];
    }
    if (kept)
        h->hits.n = kept;
    return 0;
}

static int
refuse_many(struct vs *vs, const struct hunt *h, const char *what,
            struct err *e)
{
    defer(str_fini) struct str list = STR_INIT;
    size_t n = h->hits.n < CANDIDATES_MAX ? h->hits.n : CANDIDATES_MAX;

    for (size_t i = 0; i < n; i++) {
        const char *id = h->hits.p[i].id;
        defer_answer struct answer a = { 0 };
        defer_free char *path = NULL;

        if (props_get(vs, "VirtualMachine", id, vm_paths, &a, e))
            return -1;
        path = inventory_path(vs, a.val, e);
        if (!path)
            return -1;
        str_addf(&list, "%s%.80s (%s)", i ? ", " : "", path, id);
    }
    if (h->hits.n > n)
        str_addf(&list, " and %zu more", h->hits.n - n);
    return err_set(e, ERR_USER,
                   "%zu VMs have %s '%.80s': %s; give the moref of one",
                   h->hits.n, what, h->wanted, str_text(&list));
}

static int
find_by_property(struct vs *vs, const char *property, const char *what,
                 const char *wanted, char vm[VS_ID_MAX], struct err *e)
{
    const char *const paths[] = { property, NULL };
    struct hunt h = { .property = property, .wanted = wanted };
    int rc =
        props_each(vs, "VirtualMachine", paths, hunt_reset, hunt_look, &h, e);

    if (!rc && h.hits.n > 1)
        rc = drop_templates(vs, &h, e);
    if (!rc && h.hits.n > 1)
        rc = refuse_many(vs, &h, what, e);
    else if (!rc && !h.hits.n)
        rc = err_set(e, ERR_NOTFOUND,
                     "no VM has %s '%.120s', or this account may not see it",
                     what, wanted);
    else if (!rc)
        snprintf(vm, VS_ID_MAX, "%s", h.hits.p[0].id);
    vec_fini(&h.hits);
    return rc;
}

static int
find_by_name(struct vs *vs, const char *name, char vm[VS_ID_MAX], struct err *e)
{
    return find_by_property(vs, "name", "name", name, vm, e);
}

static int
find_by_moref(struct vs *vs, const char *moref, char vm[VS_ID_MAX],
              struct err *e)
{
    (void)vs;
    if (strlen(moref) >= VS_ID_MAX)
        return err_set(e, ERR_USER, "the moref '%.20s...' is too long", moref);
    snprintf(vm, VS_ID_MAX, "%s", moref);
    return 0;
}

static int
need_search(const struct vs *vs, struct err *e)
{
    if (!*vs->search)
        return err_set(e, ERR_REMOTE, "%s has no SearchIndex", vs->where);
    return 0;
}

/* The instance uuid is unique; copies share the BIOS uuid. */
static int
find_by_uuid(struct vs *vs, const char *uuid, char vm[VS_ID_MAX], struct err *e)
{
    defer_free char *lower = xstrdup(uuid);
    defer_answer struct answer a = { 0 };

    for (char *p = lower; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p += 'a' - 'A';
    if (need_search(vs, e) || soap_call(vs, VIM_FIND_BY_UUID, vs->search,
                                        ARGS(lower, "true", "true"), &a, e))
        return -1;
    if (a.val)
        return ref_copy(a.val, vm, "VirtualMachine", e);
    return find_by_property(vs, "config.uuid", "uuid", lower, vm, e);
}

static int
find_by_path(struct vs *vs, const char *path, char vm[VS_ID_MAX], struct err *e)
{
    defer_answer struct answer a = { 0 };

    path += strspn(path, "/");
    if (need_search(vs, e) ||
        soap_call(vs, VIM_FIND_BY_PATH, vs->search, ARGS(path), &a, e))
        return -1;
    if (!a.val)
        return err_set(e, ERR_NOTFOUND,
                       "nothing is at '%.160s', or this account may not see "
                       "it; a path reads DATACENTER/vm/FOLDER/NAME",
                       path);
    if (a.val->ref && strcmp(a.val->ref, "VirtualMachine"))
        return err_set(e, ERR_USER, "'%.160s' is a %s, not a VM", path,
                       a.val->ref);
    return ref_copy(a.val, vm, "VirtualMachine", e);
}

int
vs_find_vm(struct vs *vs, const struct vs_query *q, char vm[VS_ID_MAX],
           struct err *e)
{
    const struct {
        const char *text;
        int (*find)(struct vs *, const char *, char *, struct err *);
    } ways[] = { { q->name, find_by_name },
                 { q->moref, find_by_moref },
                 { q->uuid, find_by_uuid },
                 { q->path, find_by_path } };
    defer_answer struct answer a = { 0 };
    int given = 0, way = 0;

    for (int i = 0; i < 4; i++)
        if (ways[i].text && *ways[i].text) {
            given++;
            way = i;
        }
    if (given != 1)
        return err_set(e, ERR_USER,
                       "finding a VM: give one of name, moref, uuid, path");
    if (ways[way].find(vs, ways[way].text, vm, e) ||
        props_get(vs, "VirtualMachine", vm, vm_paths, &a, e))
        return err_wrap(e, "finding the VM at %s", vs->where);
    if (prop_true(a.val, "config.template"))
        return err_set(e, ERR_USER,
                       "finding the VM at %s: '%.120s' (%s) is a template; "
                       "convert it to a VM first",
                       vs->where, prop_text(a.val, "name"), vm);
    return 0;
}
