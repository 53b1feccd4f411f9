/* v2c-engine status: how far each VM is. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

struct args {
    struct pick pick;
    bool json;
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
    { "json", OPT_FLAG, offsetof(struct args, json), NULL,
      "an array of objects" },
    { NULL },
};

static bool
requested(const struct found *f, const char *mark)
{
    defer_free char *path = xasprintf("%s/%s", f->dir, mark);

    return !access(path, F_OK);
}

static const char *
next_stage(const struct record *r, bool finalize)
{
    if (r->stage == STEP_done)
        return "none";
    if (r->stage == STEP_delta)
        return finalize ? "Finalize" : "delta";
    if (r->stage == STEP_awaiting_shutdown_action)
        return "Shutdown action";
    return steps[steps[r->stage].next].name;
}

/* Of the first disk that waits while somebody works; NULL: none. */
static const char *
paused(const struct found *f)
{
    for (size_t i = 0; f && f->running && i < f->record->disks.n; i++)
        if (*f->record->disks.p[i].paused)
            return f->record->disks.p[i].paused;
    return NULL;
}

/* The same of a disk that waits for its slot. */
static const char *
waiting_for(const struct found *f)
{
    for (size_t i = 0; f && f->running && i < f->record->disks.n; i++)
        if (*f->record->disks.p[i].waiting)
            return f->record->disks.p[i].waiting;
    return NULL;
}

/* What was read back of the replicas, bytes of all disks. */
static json_t *
proof(const struct record *r)
{
    int64_t verified = 0, different = 0, mended = 0;

    for (size_t i = 0; i < r->disks.n; i++) {
        verified += r->disks.p[i].verified;
        different += r->disks.p[i].different;
        mended += r->disks.p[i].mended;
    }
    return json_pack("{s:I, s:I, s:I}", "verified", (json_int_t)verified,
                     "different", (json_int_t)different, "mended",
                     (json_int_t)mended);
}

static json_t *
status(const struct picked *p)
{
    const struct found *f = p->found;
    bool now = f && requested(f, MARK_FINALIZE_NOW);
    bool soon = f && (f->record->finalize_requested || now ||
                      requested(f, MARK_FINALIZE));
    defer_free char *file = f ? xasprintf("%s/state.json", f->dir) : NULL;

    return json_pack(
        "{s:s, s:s?, s:s, s:s, s:b, s:b, s:f, s:b, s:b, s:s?, s:s?, s:s?, s:s?, s:o?}",
        "vm_name", p->vm, "vm_moref", f ? f->record->vm_moref : NULL,
        "current_stage", f ? steps[f->record->stage].name : "not_started",
        "next_stage",
        f ? next_stage(f->record, soon) : steps[STEP_connecting_vcenter].name,
        "finalize_requested", soon, "finalize_now_requested", now, "progress",
        f ? f->record->progress : 0.0, "running", f ? f->running : false,
        "source_down", f && steps[f->record->stage].down, "control_dir",
        f ? f->dir : NULL, "state_file", file, "paused", paused(f),
        "waiting_for", waiting_for(f), "verification",
        f ? proof(f->record) : NULL);
}

static void
print_text(const json_t *s)
{
    printf(
        "[status] vm=%s moref=%s current=%s next=%s "
        "finalize_requested=%s finalize_now_requested=%s progress=%.2f%% running=%s\n",
        json_str(s, "vm_name", ""), json_str(s, "vm_moref", "-"),
        json_str(s, "current_stage", ""), json_str(s, "next_stage", ""),
        json_flag(s, "finalize_requested", false) ? "true" : "false",
        json_flag(s, "finalize_now_requested", false) ? "true" : "false",
        json_number_value(json_object_get(s, "progress")),
        json_flag(s, "running", false) ? "true" : "false");
    if (*json_str(s, "paused", ""))
        printf("[status] vm=%s paused: %s\n", json_str(s, "vm_name", ""),
               json_str(s, "paused", ""));
    if (*json_str(s, "waiting_for", ""))
        printf("[status] vm=%s waiting for %s\n", json_str(s, "vm_name", ""),
               json_str(s, "waiting_for", ""));
}

static void
print_all(const struct picks *picks, bool as_json)
{
    defer_json json_t *all = json_array();

    for (size_t i = 0; i < picks->vms.n; i++) {
        json_t *s = status(&picks->vms.p[i]);

        if (!as_json)
            print_text(s);
        json_array_append_new(all, s);
    }
    if (as_json) {
        json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
    }
}

static int
run(int argc, char **argv)
{
    struct args a = { 0 };
    struct picks picks = { 0 };
    struct err e = ERR_INIT;
    int rc = opts_parse(&cmd_status, argc, argv, &a);

    if (rc == CLI_OK && picks_read(&a.pick, &picks, &e)) {
        fprintf(stderr, "status failed: %s\n", e.msg);
        rc = CLI_FAILED;
    } else if (rc == CLI_OK)
        print_all(&picks, a.json);
    picks_fini(&picks);
    vec_fini(&a.pick.specs);
    vec_fini(&a.pick.vms);
    vec_fini(&a.pick.vm_ids);
    return rc < 0 ? CLI_OK : rc;
}

const struct command cmd_status = {
    .name = "status",
    .summary = "Tell how far the VMs of a spec are.",
    .opts = opts,
    .rest = "spec",
    .rest_help = "[FILE ...]",
    .run = run,
};
