/* The steps that find the VM and make the target ready; they run anew at each
 * start and touch nothing but the control directory and the replicas. */
#include "migrate/machine.h"
#include "base/clock.h"
#include "base/fs.h"

#include <inttypes.h>
#include <string.h>

int
step_init(struct machine *m, enum step *next, struct err *e)
{
    (void)next;
    if (m->o->source->check(m->o->config, e))
        return -1;
    m->cloud = m->o->cloud->open(m->o->config, m->o->spec, e);
    return m->cloud ? 0 : -1;
}

int
step_connecting_vcenter(struct machine *m, enum step *next, struct err *e)
{
    const struct config *c = m->o->config;
    struct vs_opts o = {
        .user = c->vcenter.user,
        .password = c->vcenter.password,
        .ca_file = c->vcenter.ca_file,
        .thumbprint = c->vcenter.thumbprint,
        .insecure = c->vcenter.insecure,
        .operation_id = "v2c",
        .stop = m->o->stop,
    };

    (void)next;
    if (!c->vcenter.host || !c->vcenter.user || !c->vcenter.password)
        return err_set(e, ERR_USER, "%s: vcenter.%s is missing", c->file,
                       !c->vcenter.host   ? "host"
                       : !c->vcenter.user ? "user"
                                          : "password (or VC_PASSWORD in the "
                                            "environment)");
    free(m->server);
    m->server = NULL;
    if (url_host_port(c->vcenter.host, &m->server, &m->port, e))
        return err_wrap(e, "%s: vcenter.host", c->file);
    o.host = m->server;
    o.port = m->port;
    vs_close(m->vs);
    m->vs = vs_open(&o, e);
    if (!m->vs)
        return -1;
    m->kept_alive = clock_ms();
    log_info("%s at %s%s", vs_about(m->vs), c->vcenter.host,
             c->vcenter.insecure ? ", CERTIFICATE NOT CHECKED" : "");
    return 0;
}

static int
same_vm(const struct machine *m, struct err *e)
{
    const struct record *r = m->r;

    /* a VM may have been renamed; its moref and uuid stay */
    if (*r->vm_name &&
        (strcmp(r->vm_moref, m->moref) ||
         (*r->instance_uuid && strcmp(r->instance_uuid, m->vm.instance_uuid))))
        return err_set(e, ERR_USER,
                       "%s holds the migration of another VM, %s (%s); move "
                       "it away or use another control_dir",
                       store_dir(m->store), r->vm_name, r->vm_moref);
    return 0;
}

/* What this run goes by, for people and for the service; JSON is YAML. */
static int
keep_spec(const struct machine *m, struct err *e)
{
    defer_json json_t *spec = spec_json(m->o->spec);
    defer_free char *first = store_path(m->store, "spec.yaml");

    if (!fs_exists(first) && store_replace(m->store, "spec.yaml", spec, e))
        return -1;
    return store_replace(m->store, "spec.latest.yaml", spec, e);
}

/* The name under which the migration of this VM began: one that is renamed
 * keeps its directory, and with it its lock and its replicas. */
static char *
first_name(const struct machine *m, struct err *e)
{
    defer(founds_fini) struct founds f = { 0 };

    if (store_find(m->o->config->migration.control_dir, NULL, m->moref, &f, e))
        return NULL;
    for (size_t i = 0; i < f.n; i++)
        if (*f.p[i].record->instance_uuid &&
            !strcmp(f.p[i].record->instance_uuid, m->vm.instance_uuid))
            return xstrdup(f.p[i].record->vm_name);
    return xstrdup(m->vm.name);
}

static int
open_record(struct machine *m, struct err *e)
{
    const struct config *c = m->o->config;
    defer_free char *log = NULL, *name = first_name(m, e);

    if (!name)
        return -1;
    m->store = store_open(c->migration.control_dir, name, m->moref, e);
    if (!m->store)
        return -1;
    m->r = store_load(m->store, e);
    if (!m->r)
        return -1;
    if (same_vm(m, e)) { /* somebody else's record: hands off */
        record_free(m->r);
        m->r = NULL;
        return -1;
    }
    if (keep_spec(m, e))
        return -1;
    log = store_path(m->store, "migration.log");
    return log_open(log, e);
}

int
step_finding_vm(struct machine *m, enum step *next, struct err *e)
{
    const struct spec *s = m->o->spec;
    struct vs_query q = { s->vm.name, s->vm.moref, s->vm.uuid, s->vm.path };

    (void)next;
    if (vs_find_vm(m->vs, &q, m->moref, e) || machine_look(m, e))
        return -1;
    /* what is refused is refused before a trace of it is left */
    if (discover_check(m, e))
        return err_wrap(e, "VM %s", m->vm.name);
    if (open_record(m, e))
        return -1;
    m->resume = m->r->stage;
    if (!*m->r->vm_name) {
        defer_free char *id = job_dir_name(m->vm.name, m->moref);

        record_set(&m->r->vm_name, m->vm.name);
        record_set(&m->r->vm_moref, m->moref);
        record_set(&m->r->uuid, m->vm.uuid);
        record_set(&m->r->instance_uuid, m->vm.instance_uuid);
        record_set(&m->r->migration_id, id);
        m->r->started = clock_wall_ms();
    }
    log_context(m->r->vm_name, steps[STEP_finding_vm].name);
    log_info("%s is %s (%s), %zu disks, %s", m->vm.path, m->moref,
             m->vm.guest_name, m->vm.disks.n, m->vm.power);
    if (m->resume == STEP_done) {
        log_info("migrated already: %s", m->r->result);
        *next = STEP_done;
    } else if (m->resume > STEP_init)
        log_info("continuing at %s", steps[m->resume].name);
    return 0;
}

int
step_discovering_vmware_disks(struct machine *m, enum step *next, struct err *e)
{
    (void)next;
    if (discover_disks(m, e) || discover_target(m, e) ||
        round_clean_stale(m, e))
        return -1;
    record_set(&m->r->last_error, "");
    return machine_save(m, e);
}

/* Without its map a replica proves nothing: it is copied whole again, and
 * what it holds is not taken for zeroes. */
static int
start_over(struct machine *m, struct disk_record *d, const char *why,
           struct err *e)
{
    defer_free char *map = plan_map_path(m, d);

    if (*d->target) {
        log_warn("%s; copying the disk from the beginning", why);
        machine_event(m, "start_over",
                      json_pack("{s:s, s:s}", "disk", d->name, "why", why));
    }
    d->blank = d->base_copied = false;
    d->round = -1;
    record_set(&d->change_id, "");
    record_set(&d->marked_change_id, "");
    record_set(&d->plan, "");
    record_set(&d->doubt, "");
    if (m->resume > STEP_creating_base_snapshot)
        m->resume = STEP_creating_base_snapshot;
    m->r->final_round = false;
    return machine_save(m, e) || fs_remove(map, e) ? -1 : 0;
}

/* The record and the map know of no replica before there is one. */
static int
create_replica(struct machine *m, struct disk_record *d,
               const struct cloud_disk *t, struct err *e)
{
    bool moved = strcmp(d->target, t->path) != 0;

    if (start_over(m, d,
                   moved ? "the spec names another place for the replica, and "
                           "the one at the old place stays"
                         : "the replica was not there",
                   e))
        return -1;
    record_set(&d->target, t->path);
    d->blank = true;
    return machine_save(m, e) || m->o->cloud->create_disk(m->cloud, t, e) ? -1
                                                                          : 0;
}

/* Is it the one that we made, with the map that belongs to it? */
static int
check_replica(struct machine *m, struct disk_record *d,
              const struct cloud_disk *t, struct err *e)
{
    bool written = d->base_copied || *d->marked_change_id || *d->plan;
    defer_free char *map = plan_map_path(m, d);
    defer_free char *identity = NULL;
    struct map_summary s;

    if (strcmp(d->target, t->path))
        return err_set(e, ERR_USER,
                       "there is a replica %s, but it is not known to this "
                       "migration; move it away",
                       t->path);
    if (!written && !fs_exists(map))
        return 0;
    identity = m->o->cloud->identity(m->cloud, t, e);
    if (!identity)
        return -1;
    if (map_summary(map, &s, e)) {
        if (e->class != ERR_NOTFOUND && e->class != ERR_DAMAGED)
            return -1;
        return start_over(m, d, e->msg, e);
    }
    if (strcmp(s.head.target_id, identity))
        return start_over(m, d, "the replica is not the one that was copied to",
                          e);
    return 0;
}

static int
prepare_disk(struct machine *m, struct cloud_disk *t, struct err *e)
{
    struct disk_record *d = record_disk(m->r, t->key);
    bool there;

    if (m->o->cloud->find_disk(m->cloud, &m->target, t, &there, e))
        return -1;
    return there ? check_replica(m, d, t, e) : create_replica(m, d, t, e);
}

int
step_preparing_target_storage(struct machine *m, enum step *next, struct err *e)
{
    (void)next;
    if (m->o->cloud->check(m->cloud, &m->target, e))
        return -1;
    for (size_t i = 0; i < m->target.disks.n; i++) {
        log_disk(m->target.disks.p[i].name);
        if (prepare_disk(m, &m->target.disks.p[i], e))
            return err_wrap(e, "disk %s", m->target.disks.p[i].name);
    }
    log_disk(NULL);
    return machine_save(m, e);
}
