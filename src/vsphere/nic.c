/* Network cards, and the names of the networks behind them. */
#include "vsphere/soap.h"

#include <stdio.h>
#include <string.h>

#define NICS_MAX 64

/* Backings that give only a key: which networks to ask, and for what. */
static const struct backing {
    const char *type, *key_path;    /* in the card's backing */
    const char *network, *property; /* the object that has this key */
    const char *below;              /* path within the property; "": itself */
} backings[] = {
    { "VirtualEthernetCardDistributedVirtualPortBackingInfo",
      "port/portgroupKey", "DistributedVirtualPortgroup", "key", "" },
    { "VirtualEthernetCardOpaqueNetworkBackingInfo", "opaqueNetworkId",
      "OpaqueNetwork", "summary", "opaqueNetworkId" },
};

static int
network_by_key(struct vs *vs, const struct backing *b, const char *key,
               const struct xml *networks, char **name, struct err *e)
{
    const char *const paths[] = { "name", b->property, NULL };
    const struct xml *ref = xml_kid(networks, "ManagedObjectReference");

    for (; ref; ref = xml_next(ref)) {
        defer_answer struct answer a = { 0 };
        const struct xml *val;

        if (!ref->ref || strcmp(ref->ref, b->network))
            continue;
        if (props_get(vs, b->network, ref->text, paths, &a, e))
            return -1;
        val = prop(a.val, b->property);
        if (!strcmp(*b->below ? text_at(val, b->below)
                    : val     ? val->text
                              : "",
                    key)) {
            *name = xstrdup(prop_text(a.val, "name"));
            return 0;
        }
    }
    *name = xstrdup(key);
    return 0;
}

static int
network_of(struct vs *vs, const struct xml *backing, const struct xml *networks,
           char **name, struct err *e)
{
    for (size_t i = 0; i < sizeof backings / sizeof *backings; i++)
        if (backing && backing->type &&
            !strcmp(backing->type, backings[i].type))
            return network_by_key(vs, &backings[i],
                                  text_at(backing, backings[i].key_path),
                                  networks, name, e);
    *name = xstrdup(text_at(backing, "deviceName"));
    return 0;
}

int
nics_read(struct vs *vs, const struct xml *hardware, const struct xml *networks,
          struct vs_vm *vm, struct err *e)
{
    const struct xml *device = xml_kid(hardware, "device");

    for (; device; device = xml_next(device)) {
        struct vs_nic nic = { 0 };
        int64_t key;

        /* All kinds of cards have one, and nothing else has. */
        if (!xml_kid(device, "macAddress"))
            continue;
        if (vm->nics.n == NICS_MAX)
            return err_set(e, ERR_REMOTE, "the VM has more than %d cards",
                           NICS_MAX);
        if (num_at(device, "key", INT32_MIN, INT32_MAX, &key, e) ||
            network_of(vs, xml_kid(device, "backing"), networks, &nic.network,
                       e))
            return -1;
        name_decode(nic.network);
        nic.key = (int)key;
        nic.label = xstrdup(text_at(device, "deviceInfo/label"));
        nic.mac = xstrdup(text_at(device, "macAddress"));
        snprintf(nic.type, sizeof nic.type, "%s",
                 device->type ? device->type : "");
        vec_push(&vm->nics, nic);
    }
    return 0;
}
