/* World file to world.  Its keys and their defaults: docs/lab.md. */
#include "lab/world/world.h"

#include <stdio.h>

#include "lab/world/conf.h"

struct settings {
    int64_t seed, task_ms, latency_us, link_mbps, area_limit, session_idle_s,
        consolidate_ms;
    int flavour;
    const json_t *vms;
};

static const char *const flavours[] = { "vcenter", "esxi", NULL };

#define NUM(name, min, max)                                        \
    {                                                              \
#name, CONF_NUM, offsetof(struct settings, name), min, max \
    }

static const struct conf_key keys[] = {
    NUM(seed, 0, INT64_MAX),
    NUM(task_ms, 0, 600000),
    NUM(latency_us, 0, 60000000),
    NUM(link_mbps, 0, 1000000),
    NUM(area_limit, 1, 1000000),
    NUM(session_idle_s, 1, 86400),
    NUM(consolidate_ms, 0, 600000),
    { "flavour", CONF_CHOICE, offsetof(struct settings, flavour), 0, 0,
      flavours },
    { "vms", CONF_ARRAY, offsetof(struct settings, vms) },
};

int
world_config(struct world *w, const json_t *config, struct err *e)
{
    struct settings s = {
        .seed = 1, .task_ms = 60, .area_limit = 2000, .session_idle_s = 1800
    };
    size_t i;
    json_t *v;

    if (conf_read(config, keys, sizeof keys / sizeof *keys, &s, "world", e))
        return -1;
    w->seed = (uint64_t)s.seed;
    w->rng = w->seed;
    w->esxi = s.flavour == 1;
    w->task_ms = (int)s.task_ms;
    w->latency_us = (unsigned)s.latency_us;
    w->link_mbps = (unsigned)s.link_mbps;
    w->area_limit = (unsigned)s.area_limit;
    w->session_idle_s = (int)s.session_idle_s;
    w->consolidate_ms = (int)s.consolidate_ms;
    w->next_id = w->esxi ? 1 : 7;
    ent_new(w, ENT_FOLDER, w->esxi ? "ha-folder-root" : "Datacenters", NULL);
    world_datacenter(w, w->esxi ? "ha-datacenter" : "DC0");
    if (json_array_size(s.vms) > WORLD_VMS_MAX)
        return err_set(e, ERR_USER, "world file: more than %d VMs",
                       WORLD_VMS_MAX);
    json_array_foreach(s.vms, i, v)
    {
        struct vm *vm = vm_new(w, v, e);

        if (!vm)
            return -1;
        vec_push(&w->vms, vm);
    }
    return 0;
}
