/* The copier when it reads a replica back: its request and what it tells. */
#include "migrate/copier.h"

#include <inttypes.h>
#include <string.h>

static void
verify_request(const struct machine *m, const struct copier *c,
               const char *identity, struct str *q)
{
    copier_request(m, c, identity, q);
    str_addf(q, "sample %" PRId64 "\n", c->job->sample);
    str_addf(q, "seed %" PRId64 "\n", m->r->verify_seed);
}

static int
verify_open(struct machine *m, struct copier *c, const json_t *j, struct err *e)
{
    log_info("verifying %" PRId64 " KiB (%" PRId64 " %%); %" PRId64
             " KiB were verified before",
             json_num(j, "todo", 0) >> 10, json_num(j, "sample", 0),
             json_num(j, "known", 0) >> 10);
    c->different0 = c->job->d->different;
    c->different = 0;
    return machine_save(m, e);
}

static void
verify_counters(struct machine *m, struct copier *c, const json_t *j)
{
    copier_progress(m, c, j);
    /* one that was cut off by itself does not tell all of its numbers */
    c->different = json_num(j, "different", c->different);
    c->proven = json_num(j, "known", 0) + json_num(j, "verified", 0) +
                json_num(j, "skipped_zero", 0);
    c->unproven = json_num(j, "unproven", 0);
    c->job->d->different = c->different0 + c->different;
}

static void
verify_line(struct machine *m, struct copier *c, const char *event,
            const json_t *j)
{
    int64_t offset = json_num(j, "offset", 0), n = json_num(j, "length", 0);

    if (strcmp(event, "differs"))
        return;
    log_warn("the replica is not what was copied to it: %" PRId64
             " bytes at %" PRId64,
             n, offset);
    machine_event(m, "differs",
                  json_pack("{s:s, s:I, s:I}", "disk", c->job->d->name,
                            "offset", (json_int_t)offset, "length",
                            (json_int_t)n));
}

/* The numbers must add up: a block that nobody looked at is not proven. */
static int
add_up(const struct copier *c, struct err *e)
{
    const struct copy_job *j = c->job;
    int64_t seen = c->proven + c->different + c->unproven;
    bool differs = !strcmp(c->result, "differs");

    if (differs != (c->different > 0))
        return err_set(e, ERR_BUG,
                       "the verifier said '%s' over %" PRId64
                       " different bytes",
                       c->result, c->different);
    if (j->sample >= 100 && seen != j->d->capacity)
        return err_set(e, ERR_BUG,
                       "the verifier ended well, but has looked at %" PRId64
                       " bytes of %" PRId64,
                       seen, j->d->capacity);
    return 0;
}

static int
verify_done(struct machine *m, struct copier *c, struct err *e)
{
    struct disk_record *d = c->job->d;

    if (add_up(c, e))
        return -1;
    c->state = FINISHED;
    c->job->ended = true;
    c->job->different = c->different;
    c->job->unproven = c->unproven;
    d->verified = c->proven;
    d->speed = 0;
    d->eta_seconds = 0;
    d->progress = 100;
    log_info("%" PRId64 " KiB were read, %" PRId64
             " KiB of the replica are proven",
             c->bytes >> 10, d->verified >> 10);
    return machine_save(m, e);
}

const struct copier_kind kind_verify = {
    .verb = "verify",
    .read_back = true,
    .request = verify_request,
    .open = verify_open,
    .counters = verify_counters,
    .line = verify_line,
    .done = verify_done,
};
