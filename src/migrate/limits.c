/* What a VM shares with all others that this machine migrates: bandwidth, and
 * slots of its ESXi host and of its datastores. */
#include "migrate/copier.h"
#include "base/clock.h"
#include "base/fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS 500 /* between two askings for a slot */
/* A copier that still gets that much in flight has found what the host can
 * give; below it there are too many of them. */
#define SHORT_BYTES (1 << 20)

static int
open_limits(struct machine *m, struct err *e)
{
    defer_free char *dir =
        xasprintf("%s/" LIMIT_DIR, m->o->config->migration.control_dir);

    if (m->limits.slots)
        return 0;
    if (slots_open(dir, &m->limits.slots, e))
        return -1;
    free(m->limits.dir);
    m->limits.dir = realpath(dir, NULL); /* copiers run elsewhere */
    return m->limits.dir ? 0 : err_errno(e, errno, "finding %s", dir);
}

/* The rate that the configuration gives, into a file which may be changed. */
static int
set_rate(const char *path, int64_t rate, struct err *e)
{
    defer(bucket_close_ptr) struct bucket *b = NULL;

    if (bucket_open(path, true, &b, e))
        return -1;
    bucket_configure(b, rate > 0 ? (uint64_t)rate : 0);
    return 0;
}

/* By name, which is the same in every vCenter; else by moref. */
static int
find_host(struct machine *m, struct err *e)
{
    char *name = NULL;

    if (vs_host_name(m->vs, m->vm.host, &name, e)) {
        if (err_retryable(e) || e->class == ERR_STOPPED)
            return -1;
        log_warn("%s; its limits go by %s", e->msg, m->vm.host);
        err_clear(e);
        name = xstrdup(m->vm.host);
    }
    if (m->limits.host && strcmp(name, m->limits.host))
        log_info("the VM runs on %s now", name);
    free(m->limits.host);
    m->limits.host = name;
    return 0;
}

/* "[ds] dir/disk.vmdk"; "" if there is none */
static char *
datastore_of(const char *path)
{
    const char *end = strchr(path, ']');

    return *path == '[' && end ? xstrndup(path + 1, (size_t)(end - path - 1))
                               : xstrdup("");
}

static int
configure_host(struct machine *m, struct err *e)
{
    return slots_configure(m->limits.slots, SLOT_HOST, m->limits.host,
                           (int)m->o->config->limits.disks_per_host, e);
}

static int
configure_datastore(struct machine *m, const char *path, struct err *e)
{
    defer_free char *name = datastore_of(path);

    return *name
               ? slots_configure(m->limits.slots, SLOT_DATASTORE, name,
                                 (int)m->o->config->limits.disks_per_datastore,
                                 e)
               : 0;
}

static int
prepare_disk(struct machine *m, const struct copy_job *j, struct err *e)
{
    defer_free char *path =
        xasprintf("%s/" LIMIT_DISK_RATE, store_dir(m->store), j->d->key);

    record_set(&j->d->waiting, "");
    if (set_rate(path, m->o->spec->migration.rate_per_disk, e))
        return -1;
    return configure_datastore(m, j->frozen->path, e);
}

/* The disk whose slot is there already is the first to go: behind another one
 * it would keep that slot from it. */
static void
put_first(struct machine *m, struct copy_jobs *jobs)
{
    for (size_t i = 0; i < jobs->n && m->limits.first.taken; i++)
        if (jobs->p[i].d->key == m->limits.first_key) {
            struct copy_job first = jobs->p[i];

            jobs->p[i] = jobs->p[0];
            jobs->p[0] = first;
            return;
        }
    limits_release(m);
}

int
limits_prepare(struct machine *m, struct copy_jobs *jobs, struct err *e)
{
    const __typeof__(m->o->config->limits) *c = &m->o->config->limits;
    defer_free char *vm = NULL, *host = NULL, *machine = NULL;

    put_first(m, jobs);
    if (open_limits(m, e) || find_host(m, e))
        return -1;
    vm = store_path(m->store, LIMIT_VM_RATE);
    host = bucket_path(m->limits.dir, LIMIT_HOST, m->limits.host);
    machine = xasprintf("%s/" LIMIT_MACHINE_RATE, m->limits.dir);
    if (set_rate(vm, m->o->spec->migration.rate, e) ||
        set_rate(host, c->rate_per_host, e) || set_rate(machine, c->rate, e) ||
        configure_host(m, e))
        return -1;
    for (size_t i = 0; i < jobs->n; i++)
        if (prepare_disk(m, &jobs->p[i], e))
            return -1;
    return 0;
}

void
limits_describe(const struct machine *m, const struct disk_record *d,
                struct str *q)
{
    defer_free char *host =
        bucket_path(m->limits.dir, LIMIT_HOST, m->limits.host);

    str_addf(q, "limit.disk " LIMIT_DISK_RATE "\n", d->key);
    str_add(q, "limit.vm " LIMIT_VM_RATE "\n");
    str_addf(q, "limit.host %s\n", host);
    str_addf(q, "limit.machine %s/" LIMIT_MACHINE_RATE "\n", m->limits.dir);
}

/* Said once for each thing that it waits for. */
static void
say_waiting(struct machine *m, struct disk_record *d, const struct slot_wait *w,
            char said[SLOT_NAME_MAX])
{
    defer_free char *text =
        w->in_use < w->limit
            ? xasprintf("a slot of %s (its turn comes)", w->name)
            : xasprintf("a slot of %s (%d in use)", w->name, w->in_use);

    if (!*w->name) /* the table was busy */
        return;
    if (strcmp(said, w->name)) {
        log_info("waiting for %s", text);
        machine_event(m, "waiting",
                      json_pack("{s:s, s:s?}", "disk", d->name, "for", text));
        memcpy(said, w->name, SLOT_NAME_MAX);
    }
    record_set(&d->waiting, text);
}

/* 1: taken; 0: not yet. */
static int
ask(struct machine *m, struct disk_record *d, const char *path,
    struct slot_claim *claim, char said[SLOT_NAME_MAX], struct err *e)
{
    defer_free char *datastore = datastore_of(path);
    defer_free char *who = xasprintf("%s disk %s", m->r->vm_name, d->name);
    struct slot_wish wish = {
        .names = { [SLOT_HOST] = m->limits.host, [SLOT_DATASTORE] = datastore },
        .who = who,
        .urgent = steps[m->r->stage].down,
    };
    struct slot_wait wait;
    int rc = slot_take(m->limits.slots, claim, &wish, clock_ms(), &wait, e);

    if (rc == 0)
        say_waiting(m, d, &wait, said);
    if (rc > 0) {
        *said = '\0';
        record_set(&d->waiting, "");
    }
    return rc;
}

int
limits_take(struct machine *m, struct copier *c, struct err *e)
{
    int64_t now = clock_ms();

    if (m->limits.first.taken && m->limits.first_key == c->job->d->key) {
        c->claim = m->limits.first;
        m->limits.first = (struct slot_claim)SLOT_INIT;
        return 1;
    }
    if (c->asked && now - c->asked < ASK_MS)
        return 0;
    c->asked = now;
    return ask(m, c->job->d, c->job->frozen->path, &c->claim, c->waits_for, e);
}

/* The first disk that this round has to copy, with its path of now. */
static struct disk_record *
first_disk(struct machine *m, const char **path)
{
    for (size_t i = 0; i < m->vm.disks.n; i++) {
        struct disk_record *d = record_disk(m->r, m->vm.disks.p[i].key);

        *path = m->vm.disks.p[i].path;
        if (d && d->round < m->r->round)
            return d;
    }
    return NULL;
}

int
limits_queue(struct machine *m, struct err *e)
{
    struct disk_record *d;
    const char *path;
    int rc;

    if (m->limits.first.taken)
        return 1;
    if (m->limits.first.fd < 0 && (machine_look(m, e) || open_limits(m, e) ||
                                   find_host(m, e) || configure_host(m, e)))
        return -1;
    d = first_disk(m, &path);
    if (!d)
        return 1;
    log_disk(d->name);
    rc = configure_datastore(m, path, e)
             ? -1
             : ask(m, d, path, &m->limits.first, m->limits.waits_for, e);
    log_disk(NULL);
    m->limits.first_key = d->key;
    return rc ? rc : machine_pause(m, ASK_MS, e);
}

int
limits_wait(struct machine *m, struct err *e)
{
    int rc;

    do
        rc = limits_queue(m, e);
    while (!rc);
    return rc < 0 ? -1 : 0;
}

void
limits_release(struct machine *m)
{
    struct disk_record *d =
        m->r ? record_disk(m->r, m->limits.first_key) : NULL;

    slot_release(&m->limits.first);
    *m->limits.waits_for = '\0';
    if (d)
        record_set(&d->waiting, "");
}

void
limits_short(struct machine *m, int64_t in_flight)
{
    struct err e = ERR_INIT;
    int limit = 0, rc;

    if (in_flight > SHORT_BYTES)
        return;
    rc = slots_short(m->limits.slots, m->limits.host, clock_ms(), &limit, &e);
    if (rc < 0)
        log_warn("%s", e.msg);
    if (rc <= 0)
        return;
    log_warn("%s is short of NFC buffers: %d disk%s at a time from now on, one "
             "more each minute without a shortage",
             m->limits.host, limit, limit == 1 ? "" : "s");
    machine_event(
        m, "slots_lowered",
        json_pack("{s:s, s:i}", "host", m->limits.host, "slots", limit));
}

void
limits_close(struct machine *m)
{
    limits_release(m);
    slots_close(m->limits.slots);
    free(m->limits.dir);
    free(m->limits.host);
}
