/* v2c-engine finalize: ask the workers to cut over. */
#include "cli/cli.h"

#include <stdio.h>

struct args {
    struct pick pick;
    bool now;
};

static const struct opt opts[] = {
    { "spec", OPT_TEXTS, offsetof(struct args, pick.specs), "FILE",
      "spec of the VMs; may be given again" },
    { "config", OPT_TEXT, offsetof(struct args, pick.config), "FILE",
      "configuration (config.yaml)" },
    { "control-dir", OPT_TEXT, offsetof(struct args, pick.control_dir), "DIR",
      "instead of migration.control_dir" },
    { "vm", OPT_TEXTS, offsetof(struct args, pick.vms), "NAME",
      "only this VM; may be given again" },
    { "vm-id", OPT_TEXTS, offsetof(struct args, pick.vm_ids), "MOREF",
      "only this VM; may be given again" },
    { "now", OPT_FLAG, offsetof(struct args, now), NULL,
      "without another round before the shutdown" },
    { NULL },
};

static int
finalize_one(const struct picked *p, bool now, size_t *matched, struct err *e)
{
    const struct found *f = p->found;

    if (!f)
        return 0;
    ++*matched;
    if (f->record->stage == STEP_done) {
        printf("[finalize] vm=%s moref=%s already completed\n", p->vm,
               f->record->vm_moref);
        return 0;
    }
    if (store_mark(f->dir, MARK_FINALIZE, e) ||
        (now && store_mark(f->dir, MARK_FINALIZE_NOW, e)))
        return -1;
    printf("[finalize] vm=%s moref=%s requested%s%s\n", p->vm,
           f->record->vm_moref, now ? " now" : "",
           f->running ? ""
                      : " (no worker runs; it takes effect at the next "
                        "run)");
    return 0;
}

static int
finalize_all(const struct args *a, struct picks *picks, struct err *e)
{
    size_t matched = 0;

    if (picks_read(&a->pick, picks, e))
        return -1;
    for (size_t i = 0; i < picks->vms.n; i++)
        if (finalize_one(&picks->vms.p[i], a->now, &matched, e))
            return -1;
    if (!matched)
        return err_set(e, ERR_NOTFOUND,
                       "none of these VMs is being migrated; start with "
                       "v2c-engine run");
    return 0;
}

static int
run(int argc, char **argv)
{
    struct args a = { 0 };
    struct picks picks = { 0 };
    struct err e = ERR_INIT;
    int rc = opts_parse(&cmd_finalize, argc, argv, &a);

    if (rc == CLI_OK && finalize_all(&a, &picks, &e)) {
        fprintf(stderr, "finalize failed: %s\n", e.msg);
        rc = CLI_FAILED;
    }
    picks_fini(&picks);
    vec_fini(&a.pick.specs);
    vec_fini(&a.pick.vms);
    vec_fini(&a.pick.vm_ids);
    return rc < 0 ? CLI_OK : rc;
}

const struct command cmd_finalize = {
    .name = "finalize",
    .summary = "Cut over: shut the source down, copy the last changes, make "
               "the VM.",
    .opts = opts,
    .rest = "spec",
    .rest_help = "[FILE ...]",
    .run = run,
};
