/* config.yaml: every key of vmware-to-cloudstack, and the TLS keys it lacks. */
#include "job/rows.h"
#include "base/fs.h"
#include "base/log.h"
#include "limit/limit.h"

#include <string.h>
#include <sys/stat.h>

/* An ESXi host has 32 to 48 MB of NFC buffers for all that read from it, a disk
 * takes about 4; Azure Migrate's number as well.  Of a datastore, which several
 * hosts may share, it copies 15 disks at a time. */
#define DISKS_PER_HOST      8
#define DISKS_PER_DATASTORE 15

const char *const quiesce_names[] = { "", "auto", "true", "false", NULL };
const char *const shutdown_names[] = { "", "auto", "force", "manual", NULL };
const char *const base_plan_names[] = { "",       "auto", "allocated",
                                        "in_use", "all",  NULL };
const char *const verify_names[] = { "", "none", "sample", "full", NULL };

typedef struct placement_nic nic;
static const struct key nic_keys[] = {
    TEXT(nic, source_label),
    TEXT(nic, source_network),
    TEXT(nic, source_mac),
    TEXT(nic, networkid),
    INT(nic, source_device_key, 0, INT32_MAX),
    INT(nic, source_index, 0, 1000),
    { NULL },
};

typedef struct placement place;
#define PLACEMENT_KEYS                                                   \
    TEXT(place, zoneid), TEXT(place, clusterid), TEXT(place, storageid), \
        TEXT(place, networkid), TEXT(place, serviceofferingid),          \
        TEXT(place, diskofferingid), TEXT(place, ostypeid),              \
        TEXT(place, boottype), TEXT(place, bootmode),                    \
        TEXT(place, rootdiskcontroller), TEXT(place, nicadapter)

const struct key placement_keys[] = {
    PLACEMENT_KEYS,
    EACH(place, nic_mappings, nic_keys, nic),
    { NULL },
};

static const struct key default_keys[] = { PLACEMENT_KEYS, { NULL } };

typedef __typeof__(((struct config *)0)->vcenter) vcenter;
static const struct key vcenter_keys[] = {
    TEXT(vcenter, host),
    TEXT(vcenter, user),
    SECRET(vcenter, password),
    TEXT(vcenter, ca_file),
    TEXT(vcenter, thumbprint),
    FLAG(vcenter, insecure),
    { NULL },
};

typedef __typeof__(((struct config *)0)->migration) migration;
static const struct key migration_keys[] = {
    TEXT(migration, vddk_path),
    CHOICE(migration, snapshot_quiesce, quiesce_names),
    CHOICE(migration, shutdown_mode, shutdown_names),
    CHOICE(migration, verify, verify_names),
    INT(migration, verify_sample, 1, 100),
    INT(migration, finalize_settle_seconds, 0, 3600),
    INT(migration, parallel_disks, 0, 64),
    INT(migration, parallel_vms, 0, 1000),
    TEXT(migration, control_dir),
    TEXT(migration, specs_dir),
    TEXT(migration, workdir),
    { NULL },
};

typedef __typeof__(((struct config *)0)->cloudstack) cloudstack;
static const struct key cloudstack_keys[] = {
    TEXT(cloudstack, endpoint),
    SECRET(cloudstack, api_key),
    SECRET(cloudstack, secret_key),
    INT(cloudstack, timeout_seconds, 0, 3600),
    { NULL },
};

typedef __typeof__(((struct config *)0)->limits) limits;
static const struct key limits_keys[] = {
    RATE(limits, rate),
    RATE(limits, rate_per_host),
    RATE(limits, rate_per_vm),
    RATE(limits, rate_per_disk),
    INT(limits, disks_per_host, 0, SLOT_LIMIT_MAX),
    INT(limits, disks_per_datastore, 0, SLOT_LIMIT_MAX),
    { NULL },
};

typedef __typeof__(((struct config *)0)->virt) virt;
static const struct key virt_keys[] = {
    FLAG(virt, run_virt_v2v),
    TEXT(virt, virtio_iso),
    { NULL },
};

static const struct key config_keys[] = {
    GROUP(struct config, vcenter, vcenter_keys),
    GROUP(struct config, migration, migration_keys),
    GROUP(struct config, limits, limits_keys),
    GROUP(struct config, cloudstack, cloudstack_keys),
    { "cloudstack_defaults", KEY_GROUP, offsetof(struct config, defaults),
      .sub = default_keys },
    GROUP(struct config, virt, virt_keys),
    { NULL },
};

static void
from_env_text(char **to, const char *name)
{
    const char *v = getenv(name);

    if (v && *v) {
        free(*to);
        *to = xstrdup(v);
    }
}

static void
from_env_secret(struct secret **to, const char *name)
{
    const char *v = getenv(name);

    if (v && *v) {
        secret_free(*to);
        *to = secret_new(v);
    }
}

/* The first engine's limit of open disks, there of one process. */
static int
from_env_slots(int64_t *to, const char *name, struct err *e)
{
    const char *v = getenv(name);

    return v && *v ? num_i64(v, 0, SLOT_LIMIT_MAX, to, name, e) : 0;
}

static int
apply_env(struct config *c, struct err *e)
{
    from_env_text(&c->vcenter.host, "V2C_VCENTER_HOST");
    from_env_text(&c->vcenter.user, "V2C_VCENTER_USER");
    from_env_secret(&c->vcenter.password, "V2C_VCENTER_PASSWORD");
    if (!c->vcenter.password || !*secret_reveal(c->vcenter.password))
        from_env_secret(&c->vcenter.password, "VC_PASSWORD");
    from_env_text(&c->cloudstack.endpoint, "V2C_CLOUDSTACK_ENDPOINT");
    from_env_secret(&c->cloudstack.api_key, "V2C_CLOUDSTACK_API_KEY");
    from_env_secret(&c->cloudstack.secret_key, "V2C_CLOUDSTACK_SECRET_KEY");
    return from_env_slots(&c->limits.disks_per_host, "V2C_VDDK_MAX_OPEN", e);
}

static void
apply_defaults(struct config *c)
{
    __typeof__(c->migration) *m = &c->migration;

    if (!m->control_dir)
        m->control_dir = xstrdup("/var/lib/vm-migrator");
    if (!m->specs_dir)
        m->specs_dir = xasprintf("%s/specs", m->control_dir);
    if (!m->snapshot_quiesce)
        m->snapshot_quiesce = QUIESCE_AUTO;
    if (!m->shutdown_mode)
        m->shutdown_mode = SHUTDOWN_AUTO;
    if (!m->verify)
        m->verify = VERIFY_SAMPLE;
    if (!m->verify_sample)
        m->verify_sample = 5;
    if (!m->parallel_disks)
        m->parallel_disks = 4;
    if (!m->parallel_vms)
        m->parallel_vms = 3;
}

/* What goes to the copier goes there by lines. */
static int
check_line(const struct config *c, const char *text, const char *what,
           struct err *e)
{
    for (const char *p = text ? text : ""; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set(e, ERR_USER,
                           "%s: %s has a line break or another control "
                           "character; take it out, there or in the "
                           "environment",
                           c->file, what);
    return 0;
}

static const char *
find_config(void)
{
    return !fs_exists("config.yaml") && fs_exists("../config.yaml")
               ? "../config.yaml"
               : "config.yaml";
}

static void
warn_if_open(const struct config *c)
{
    struct stat st;

    if ((c->vcenter.password || c->cloudstack.secret_key) &&
        !stat(c->file, &st) && (st.st_mode & 077))
        log_warn("%s holds secrets and others may read it; chmod 600 it",
                 c->file);
}

struct config *
config_read(const char *path, struct err *e)
{
    defer(config_free_ptr) struct config *c = xcalloc(1, sizeof *c);
    defer(yaml_free_ptr) struct yaml *y = NULL;

    c->file = xstrdup(path ? path : find_config());
    c->limits.disks_per_host = DISKS_PER_HOST;
    c->limits.disks_per_datastore = DISKS_PER_DATASTORE;
    y = yaml_read(c->file, e);
    if (!y) {
        if (!path && e->class == ERR_NOTFOUND)
            err_set(
                e, ERR_USER,
                "there is no config.yaml here or in ..; name one with --config");
        return NULL;
    }
    if (keys_load(config_keys, y, c->file, c, e))
        return NULL;
    warn_if_open(c);
    if (apply_env(c, e) || check_line(c, c->vcenter.user, "vcenter.user", e) ||
        check_line(c, secret_reveal(c->vcenter.password), "vcenter.password",
                   e) ||
        check_line(c, c->migration.vddk_path, "migration.vddk_path", e))
        return NULL;
    apply_defaults(c);
    if (c->vcenter.insecure && (c->vcenter.ca_file || c->vcenter.thumbprint)) {
        err_set(e, ERR_USER,
                "%s:%d: vcenter.insecure contradicts ca_file and thumbprint; "
                "keep one of them",
                c->file, c->vcenter.line);
        return NULL;
    }
    return take(c);
}

void
config_free(struct config *c)
{
    if (!c)
        return;
    keys_free(config_keys, c);
    free(c->file);
    free(c);
}
