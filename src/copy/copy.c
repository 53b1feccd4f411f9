/* The program: request in, one disk copied, result out. */
#include "copy/copy.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

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
    return p.mode == PLAN_ALLOCATED ? map_holes_zero(m, e) : 0;
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
    if (*stuck)
        t = NULL;
    else
        s->ops->close(s);
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

    report_to(STDOUT_FILENO);
    if (stop_watch(&e) || request_read(STDIN_FILENO, &r, &e)) {
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
help(void)
{
    struct str text = STR_INIT;
    int rc;

    str_add(&text,
            "usage: v2c-copy copy < REQUEST\n"
            "       v2c-copy --help | --version\n"
            "\n"
            "Copies one disk to an NBD server, block by block, and keeps a "
            "map of\nwhat is there.  The request is text: the line "
            "'v2c-copy 1', lines 'KEY VALUE',\nlines 'extent START LENGTH' "
            "(bytes, for plan list), the line 'end'.\nResults are lines of "
            "JSON.\n\nkeys:\n");
    request_help(&text);
    str_add(&text, "\nexit code: 0 done, 1 failed, 2 bad request, 3 stopped\n");
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
    if (!strcmp(verb, "--help"))
        return help();
    if (!strcmp(verb, "--version"))
        return puts("v2c-copy " COPY_VERSION) == EOF || fflush(stdout)
                   ? COPY_FAILED
                   : COPY_DONE;
    fputs("usage: v2c-copy copy | --help | --version\n", stderr);
    return COPY_BAD_REQUEST;
}
