/* v2c-engine worker: migrates one VM.  Started by `run`, one process a VM.
 * Tells its record as JSON lines on stdout, and at the end how it ended. */
#include "main/main.h"
#include "base/fs.h"
#include "base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

struct args {
    struct texts specs;
    const char *config;
    int64_t index, readers, parallel_disks;
    bool debug;
};

static const struct opt opts[] = {
    { "spec", OPT_TEXTS, offsetof(struct args, specs), "FILE",
      "spec that holds the VM" },
    { "index", OPT_INT, offsetof(struct args, index), "N",
      "which of the spec's VMs, from 0", 100000 },
    { "config", OPT_TEXT, offsetof(struct args, config), "FILE",
      "configuration" },
    { "parallel-disks", OPT_INT, offsetof(struct args, parallel_disks), "N",
      "disks at a time", 64 },
    { "readers", OPT_INT, offsetof(struct args, readers), "N",
      "reads in flight per disk", 64 },
    { "debug", OPT_FLAG, offsetof(struct args, debug), NULL,
      "more lines in the log" },
    { NULL },
};

static volatile sig_atomic_t stop;

static void
on_signal(int sig)
{
    (void)sig;
    stop++;
}

/* `run` gets the terminal's Ctrl-C and tells us by SIGTERM; what we started
 * must not get it directly. */
static void
settle_in(void)
{
    struct sigaction sa = { .sa_handler = on_signal };

    setpgid(0, 0);
    umask(077); /* replicas are whole disks of somebody's machine */
    /* room for the longest line there is; the default does where it fails */
    (void)!fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 1 << 20);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

/* A line on stdout; that nobody reads it any more is no reason to stop. */
static void
tell(json_t *j)
{
    struct err ignored;

    json_write_line(STDOUT_FILENO, j, "the record", &ignored);
    json_decref(j);
}

/* Does `run` still have to read the last line?  It may be suspended, and a
 * full pipe must not hold up a migration. */
static bool
unread(void)
{
    int n = 0;

    return !ioctl(STDOUT_FILENO, FIONREAD, &n) && n > 0;
}

static void
report(void *ctx, const char *dir, const struct record *r)
{
    json_t *j;

    (void)ctx;
    if (unread())
        return;
    j = record_json(r);
    json_object_set_new(j, "control_dir", json_string(dir));
    tell(j);
}

static const struct cloud_ops *const clouds[] = { &cloud_local };

static const struct cloud_ops *
choose_cloud(const struct spec *s, struct err *e)
{
    if (s->target.local.line)
        return clouds[0];
    err_set(e, ERR_USER,
            "%s:%d: this release writes to target.local only; give "
            "target.local.path",
            s->file, s->target.line ? s->target.line : s->line);
    return NULL;
}

static int
migrate(const struct args *a, const struct config *c, struct spec *s,
        struct err *e)
{
    defer_free char *self = proc_self();
    defer_free char *copier = xasprintf("%s/v2c-copy", dirname(self));
    struct migrate_opts o = {
        .config = c,
        .spec = s,
        .source = &reader_vddk,
        .cloud = choose_cloud(s, e),
        .copier = copier,
        .stop = &stop,
        .report = report,
    };

    if (!o.cloud)
        return -1;
    if (!fs_exists(copier))
        return err_set(e, ERR_USER,
                       "%s is missing; it belongs beside "
                       "v2c-engine",
                       copier);
    if (a->readers)
        s->migration.readers = a->readers;
    if (a->parallel_disks)
        s->migration.parallel_disks = a->parallel_disks;
    return migrate_run(&o, e);
}

static int
work(const struct args *a, struct err *e)
{
    defer(specs_fini) struct specs specs = { 0 };
    defer(config_free_ptr) struct config *c = config_read(a->config, e);

    if (!c)
        return -1;
    if (a->specs.n != 1)
        return err_set(e, ERR_USER, "a worker takes one --spec");
    if (spec_read(a->specs.p[0], c, &specs, e))
        return -1;
    if ((size_t)a->index >= specs.n)
        return err_set(e, ERR_USER, "%s has %zu VMs, not %" PRId64,
                       a->specs.p[0], specs.n, a->index + 1);
    return migrate(a, c, specs.p[a->index], e);
}

static int
run(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = ERR_INIT;
    int rc = opts_parse(&cmd_worker, argc, argv, &a);

    if (rc == CLI_OK) {
        settle_in();
        if (a.debug)
            log_set_level(LOG_DEBUG);
        if (work(&a, &e)) {
            tell(json_pack("{s:s, s:s, s:s}", "event", "end", "class",
                           err_class_name(e.class), "error", e.msg));
            rc = e.class == ERR_STOPPED ? CLI_STOPPED : CLI_FAILED;
        } else
            tell(json_pack("{s:s, s:s}", "event", "end", "class", "none"));
    }
    vec_fini(&a.specs);
    return rc < 0 ? CLI_OK : rc;
}

const struct command cmd_worker = {
    .name = "worker",
    .summary = "Migrate one VM of a spec; `run` starts these.",
    .hidden = true,
    .opts = opts,
    .run = run,
};
