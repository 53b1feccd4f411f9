/* The program: request in, one disk copied or read back, result out. */
#include "copy/copy.h"
#include "copy/plan.h"
#include "copy/report.h"
#include "copy/request.h"
#include "copy/source.h"
#include "copy/target.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static const struct source_ops *
find_source(const struct source_ops *const *sources, const char *kind,
            struct err *e)
{
    for (; *sources; sources++)
        if (!strcmp((*sources)->kind, kind))
            return *sources;
    err_set(e, ERR_USER, "source.kind %s is not part of this program", kind);
    return NULL;
}

static int
copy_plan(const struct request *r, struct source *s, struct target *t,
          struct map *m, struct counters *c, bool *stuck, struct err *e)
{
    defer(plan_fini) struct plan p = { 0 };
    uint64_t left;
    int rc;

    if (s->ops->size(s) != r->disk_size)
        return err_set(e, ERR_DAMAGED,
                       "the source has %llu bytes, disk.size says %llu; a disk "
                       "that was resized has to be copied anew",
                       (unsigned long long)s->ops->size(s),
                       (unsigned long long)r->disk_size);
    if (plan_make(&p, r, s, m, e))
        return -1;
    c->total = extents_total(&p.areas);
    c->done = c->total - p.todo;
    report_open(s->ops->transport(s), r->disk_size, p.todo, p.mode, p.resumed,
                c);
    if (pipeline_run(r, s, t, m, &p, c, stuck, e))
        return -1;
    hang_begin("reading the block map");
    rc = plan_left(&p, m, &left, e);
    hang_end();
    if (rc)
        return -1;
    if (left)
        return err_set(e, ERR_BUG, "the map lacks %llu bytes of the plan",
                       (unsigned long long)left);
    if (p.mode != PLAN_ALLOCATED)
        return 0;
    hang_begin("writing the block map again"); /* all of it */
    rc = map_holes_zero(m, e);
    hang_end();
    return rc;
}

static int
copy_disk(const struct request *r, const struct source_ops *const *sources,
          struct counters *c, bool *stuck, struct err *e)
{
    const struct source_ops *ops =
        find_source(sources, request_text(r, KEY_SOURCE_KIND), e);
    defer(map_close_ptr) struct map *m = NULL;
    defer(target_close_ptr) struct target *t = NULL;
    struct source *s = NULL;
    int rc;

    if (!ops ||
        map_open(&m, request_text(r, KEY_MAP), request_text(r, KEY_DISK_ID),
                 r->disk_size, request_text(r, KEY_TARGET_ID), e))
        return -1;
    if (target_open(&t, request_text(r, KEY_TARGET_URI), r->disk_size,
                    r->zeroes, e) ||
        ops->open(&s, r, e))
        return -1;
    rc = copy_plan(r, s, t, m, c, stuck, e);
    if (*stuck) {
        t = NULL;
        m = NULL; /* a thread may be syncing it */
    } else {
        s->ops->close(s);
    }
    return rc;
}

static int
copy(const struct source_ops *const *sources)
{
    struct counters c = { .start_ms = clock_ms() };
    struct err e = ERR_INIT;
    struct request r = { 0 };
    bool stuck = false;
    int code;

    if (report_to_stdout(&e) || stop_watch(&e) ||
        request_read(STDIN_FILENO, &r, &e)) {
        log_error("%s", e.msg);
        report_end(&c, &e);
        return e.class == ERR_USER ? COPY_BAD_REQUEST : COPY_FAILED;
    }
    if ((hang_watch(r.timeout_ms, &c, &e) ||
         copy_disk(&r, sources, &c, &stuck, &e)) &&
        e.class != ERR_STOPPED)
        log_error("%s", e.msg);
    hang_unwatch();
    code = e.class == ERR_NONE      ? COPY_DONE
           : e.class == ERR_STOPPED ? COPY_STOPPED
                                    : COPY_FAILED;
    /* Who does not read the result must not take it for done. */
    if (report_end(&c, &e) && code == COPY_DONE)
        code = COPY_STOPPED;
    if (stuck)
        _exit(code);
    request_fini(&r);
    return code;
}

static int
verify_disk(const struct request *r, const struct source_ops *const *sources,
            struct proof *p, bool *stuck, struct err *e)
{
    const struct source_ops *ops = NULL;
    defer(map_close_ptr) struct map *m = NULL;
    struct source *s = NULL;
    int rc;

    if (r->compare)
        ops = find_source(sources, request_text(r, KEY_SOURCE_KIND), e);
    if (r->compare && !ops)
        return -1;
    if (map_open_old(&m, request_text(r, KEY_MAP), request_text(r, KEY_DISK_ID),
                     r->disk_size, request_text(r, KEY_TARGET_ID), e))
        return -1;
    if (ops && ops->open(&s, r, e))
        return -1;
    rc = verify_run(r, s, m, p, stuck, e);
    if (s && !*stuck)
        s->ops->close(s);
    return rc;
}

/* A sample that nobody chose is another one each time. */
static int
choose_seed(struct request *r, struct err *e)
{
    if (*request_text(r, KEY_SEED))
        return 0;
    if (getrandom(&r->seed, sizeof r->seed, 0) != sizeof r->seed)
        return err_errno(e, errno, "choosing a seed");
    r->seed &= INT64_MAX; /* what every reader of JSON takes for a number */
    return 0;
}

static int
verify(const struct source_ops *const *sources)
{
    struct proof p = { .start_ms = clock_ms() };
    struct counters none = { .start_ms = p.start_ms }; /* of a hang's line */
    struct err e = ERR_INIT;
    struct request r = { 0 };
    bool stuck = false;
    int code;

    if (report_to_stdout(&e) || stop_watch(&e) ||
        request_read_verify(STDIN_FILENO, &r, &e)) {
        log_error("%s", e.msg);
        report_verify_end(&p, &e);
        return e.class == ERR_USER ? COPY_BAD_REQUEST : COPY_FAILED;
    }
    if ((choose_seed(&r, &e) || hang_watch(r.timeout_ms, &none, &e) ||
         verify_disk(&r, sources, &p, &stuck, &e)) &&
        e.class != ERR_STOPPED)
        log_error("%s", e.msg);
    hang_unwatch();
    code = e.class == ERR_STOPPED ? COPY_STOPPED
           : e.class != ERR_NONE  ? COPY_FAILED
           : p.different          ? COPY_DIFFERS
                                  : COPY_DONE;
    if (report_verify_end(&p, &e) && code == COPY_DONE)
        code = COPY_STOPPED;
    if (stuck)
        _exit(code);
    request_fini(&r);
    return code;
}

static int
help(void)
{
    struct str text = STR_INIT;
    int rc;

    str_add(&text,
            "usage: v2c-copy copy < REQUEST\n"
            "       v2c-copy verify < REQUEST\n"
            "       v2c-copy --help | --version\n"
            "\n"
            "Copies one disk to an NBD server, block by block, and keeps a map "
            "of what is\n"
            "there; or reads it back and compares it with the map.\n"
            "\n"
            "The request is text: the line 'v2c-copy 1', lines 'KEY VALUE', "
            "lines\n"
            "'extent START LENGTH' (bytes; for plan list, or listed), the line "
            "'end'.\n"
            "Results are lines of JSON.\n"
            "\n"
            "keys:\n");
    request_help(&text);
    str_add(&text, "\nexit code: 0 done, 1 failed, 2 bad request, 3 stopped, "
                   "4 differs\n");
    rc = fputs(str_text(&text), stdout) == EOF || fflush(stdout);
    str_fini(&text);
    return rc ? COPY_FAILED : COPY_DONE;
}

int
copy_main(int argc, char **argv, const struct source_ops *const *sources)
{
    const char *verb = argc == 2 ? argv[1] : "";

    if (!strcmp(verb, "copy"))
        return copy(sources);
    if (!strcmp(verb, "verify"))
        return verify(sources);
    if (!strcmp(verb, "--help"))
        return help();
    if (!strcmp(verb, "--version"))
        return puts("v2c-copy " COPY_VERSION) == EOF || fflush(stdout)
                   ? COPY_FAILED
                   : COPY_DONE;
    fputs("usage: v2c-copy copy | verify | --help | --version\n", stderr);
    return COPY_BAD_REQUEST;
}
