/* v2c-engine run: migrates the VMs of one or more specs. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct args {
    struct texts specs;
    const char *config;
    int64_t readers, parallel_vms, parallel_disks;
    bool run_virt_v2v, override_run_virt_v2v, debug;
};

static const struct opt opts[] = {
    { "spec", OPT_TEXTS, offsetof(struct args, specs), "FILE",
      "spec of one or more VMs; may be given again" },
    { "config", OPT_TEXT, offsetof(struct args, config), "FILE",
      "configuration (config.yaml here, else in ..)" },
    { "parallel-vms", OPT_INT, offsetof(struct args, parallel_vms), "N",
      "VMs at a time (migration.parallel_vms)", 1000 },
    { "parallel-disks", OPT_INT, offsetof(struct args, parallel_disks), "N",
      "disks of a VM at a time (migration.parallel_disks)", 64 },
    { "readers", OPT_INT, offsetof(struct args, readers), "N",
      "reads in flight per disk (found by itself)", 64 },
    { "run-virt-v2v", OPT_FLAG, offsetof(struct args, run_virt_v2v), NULL,
      "accepted; this release converts no guests" },
    { "override-run-virt-v2v", OPT_FLAG,
      offsetof(struct args, override_run_virt_v2v), NULL,
      "accepted; likewise" },
    { "debug", OPT_FLAG, offsetof(struct args, debug), NULL,
      "more lines in the log" },
    { NULL },
};

static volatile sig_atomic_t stop;

static void
on_signal(int sig)
{
    /* Only a second Ctrl-C kills: a closing terminal sends SIGHUP twice. */
    stop = sig == SIGINT ? stop + 1 : stop ? stop : 1;
}

static int
read_specs(const struct args *a, const struct config *c, struct specs *out,
           struct err *e)
{
    if (!a->specs.n)
        return err_set(e, ERR_USER, "no spec is given; name one with --spec");
    for (size_t i = 0; i < a->specs.n; i++)
        if (spec_read(a->specs.p[i], c, out, e))
            return -1;
    for (size_t i = 0; i < out->n; i++)
        for (size_t j = 0; j < i; j++)
            if (out->p[i]->vm.name && out->p[j]->vm.name &&
                !strcmp(out->p[i]->vm.name, out->p[j]->vm.name))
                return err_set(e, ERR_USER, "%s:%d: VM %s is named twice",
                               out->p[i]->file, out->p[i]->line,
                               out->p[i]->vm.name);
    return 0;
}

static int
verdict(const struct workers *all)
{
    int rc = CLI_OK;

    for (size_t i = 0; i < all->n; i++) {
        const struct worker *w = &all->w[i];

        if (!w->error.class)
            continue;
        if (w->error.class == ERR_STOPPED) {
            rc = rc == CLI_OK ? CLI_STOPPED : rc;
            continue;
        }
        fprintf(stderr, "run failed: VM %s: %s\n", spec_vm(w->spec),
                w->error.msg);
        rc = CLI_FAILED;
    }
    if (stop > 1)
        fprintf(stderr, "killed; snapshots of ours may be left on the source "
                        "until the same command runs again\n");
    else if (all->stopping)
        fprintf(stderr, "stopped; nothing is lost, run the same command to "
                        "continue\n");
    return rc;
}

/* The specs of one file follow each other; a worker is told which it is. */
static struct worker *
make_workers(const struct specs *specs)
{
    struct worker *w = xcalloc(specs->n, sizeof *w);

    for (size_t i = 0; i < specs->n; i++) {
        w[i].spec = specs->p[i];
        w[i].proc = (struct proc)PROC_INIT;
        if (i && !strcmp(specs->p[i]->file, specs->p[i - 1]->file))
            w[i].index = w[i - 1].index + 1;
    }
    return w;
}

static void
free_workers(struct worker *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        json_decref(w[i].record);
        str_fini(&w[i].out);
        str_fini(&w[i].err);
        free(w[i].dir);
    }
    free(w);
}

static int
run_all(const struct args *a, const struct config *c, const struct specs *s)
{
    defer_free char *readers = xasprintf("%" PRId64, a->readers);
    defer_free char *disks = xasprintf("%" PRId64, a->parallel_disks);
    const char *const extra[] = { "--readers",
                                  readers,
                                  "--parallel-disks",
                                  disks,
                                  a->debug ? "--debug" : NULL,
                                  NULL };
    bool terminal = isatty(STDERR_FILENO);
    struct workers all = {
        .w = make_workers(s),
        .n = s->n,
        .parallel = (size_t)(a->parallel_vms ? a->parallel_vms
                                             : c->migration.parallel_vms),
        .config = a->config,
        .extra = extra,
        .pipe_log = terminal,
        .log = draw_log,
        .tick = draw_tick,
        .ctx = draw_new(terminal),
    };
    int rc;

    workers_run(&all, &stop);
    draw_end(all.ctx, &all);
    rc = verdict(&all);
    draw_free(all.ctx);
    free_workers(all.w, all.n);
    return rc;
}

static void
catch_signals(void)
{
    struct sigaction sa = { .sa_handler = on_signal };

    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int
run(int argc, char **argv)
{
    struct args a = { 0 };
    defer(specs_fini) struct specs specs = { 0 };
    defer(config_free_ptr) struct config *c = NULL;
    struct err e = ERR_INIT;
    int rc = opts_parse(&cmd_run, argc, argv, &a);

    if (rc == CLI_OK) {
        c = config_read(a.config, &e);
        if (!c || read_specs(&a, c, &specs, &e)) {
            fprintf(stderr, "run failed: %s\n", e.msg);
            rc = CLI_FAILED;
        }
    }
    if (rc == CLI_OK) {
        catch_signals();
        rc = run_all(&a, c, &specs);
    }
    vec_fini(&a.specs);
    return rc < 0 ? CLI_OK : rc;
}

const struct command cmd_run = {
    .name = "run",
    .summary = "Migrate the VMs of a spec; the same command continues after "
               "anything.",
    .opts = opts,
    .rest = "spec",
    .rest_help = "[FILE ...]",
    .run = run,
};
