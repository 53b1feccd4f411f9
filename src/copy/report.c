/* What the copier tells the program that started it: JSON, a line an event. */
#include "copy/report.h"
#include "copy/request.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

static int out = -1;

void
report_to(int fd)
{
    out = fd;
}

int
report_to_stdout(struct err *e)
{
    int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

    if (fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return err_errno(e, errno, "taking stdout for the results");
    report_to(fd);
    return 0;
}

static int
send_line(struct str *line)
{
    int rc;

    str_add(line, "}\n");
    rc = fs_write_all(out, str_text(line), line->n);
    str_fini(line);
    if (rc)
        stop_ask();
    return rc;
}

static void
add_number(struct str *line, const char *name, uint64_t n)
{
    str_addf(line, ",\"%s\":%llu", name, (unsigned long long)n);
}

static void
add_text(struct str *line, const char *name, const char *text)
{
    str_addf(line, ",\"%s\":", name);
    str_add_json(line, text);
}

static void
add_counters(struct str *line, const struct counters *c)
{
    add_number(line, "done", c->done);
    add_number(line, "total", c->total);
    add_number(line, "read", c->read);
    add_number(line, "written", c->written);
    add_number(line, "zero", c->zero);
    add_number(line, "same", c->same);
    add_number(line, "ms", (uint64_t)(clock_ms() - c->start_ms));
}

void
report_open(const char *transport, uint64_t size, uint64_t todo,
            enum plan_kind mode, bool resumed, const struct counters *c)
{
    struct str line = STR_INIT;

    str_add(&line, "{\"event\":\"open\"");
    add_text(&line, "transport", transport);
    add_number(&line, "size", size);
    add_number(&line, "plan", c->total);
    add_number(&line, "todo", todo);
    add_text(&line, "mode", plan_name(mode));
    str_addf(&line, ",\"resumed\":%s", resumed ? "true" : "false");
    send_line(&line);
}

void
report_progress(const struct counters *c)
{
    struct str line = STR_INIT;

    str_add(&line, "{\"event\":\"progress\"");
    add_counters(&line, c);
    send_line(&line);
}

void
report_planning(uint64_t start, uint64_t length)
{
    struct str line = STR_INIT;

    str_add(&line, "{\"event\":\"planning\"");
    add_number(&line, "start", start);
    add_number(&line, "length", length);
    send_line(&line);
}

void
report_reconnected(const char *transport, int64_t ms)
{
    struct str line = STR_INIT;

    log_info("connected to the source again after %lld.%lld s",
             (long long)ms / 1000, (long long)ms / 100 % 10);
    str_add(&line, "{\"event\":\"reconnected\"");
    add_text(&line, "transport", transport);
    add_number(&line, "ms", (uint64_t)ms);
    send_line(&line);
}

void
report_paused(uint64_t left)
{
    struct str line = STR_INIT;

    log_warn("the target is full, up to %llu MiB are still to come; it goes "
             "on by itself once there is room",
             (unsigned long long)(left >> 20) + 1);
    str_add(&line, "{\"event\":\"paused\",\"why\":\"nospace\"");
    add_number(&line, "left", left);
    send_line(&line);
}

void
report_resumed(int64_t ms)
{
    struct str line = STR_INIT;

    log_info("the target has room again, after %lld s", (long long)ms / 1000);
    str_add(&line, "{\"event\":\"resumed\"");
    add_number(&line, "ms", (uint64_t)ms);
    send_line(&line);
}

void
report_raw(const char *line, size_t n)
{
    /* whether it is read is seen by the lines of the other thread */
    (void)!fs_write_all(out, line, n);
}

void
report_warn(const char *fmt, ...)
{
    struct str line = STR_INIT;
    char text[ERR_MSG_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    secret_redact(text);
    log_warn("%s", text);
    str_add(&line, "{\"event\":\"warn\"");
    add_text(&line, "text", text);
    send_line(&line);
}

void
report_short(uint64_t in_flight)
{
    struct str line = STR_INIT;

    str_add(&line, "{\"event\":\"short_of_buffers\"");
    add_number(&line, "in_flight", in_flight);
    send_line(&line);
}

void
report_doubt(uint64_t offset)
{
    struct str line = STR_INIT;

    str_add(&line, "{\"event\":\"doubt\"");
    add_number(&line, "offset", offset);
    send_line(&line);
}

int
report_end(const struct counters *c, const struct err *e)
{
    struct str line = STR_INIT;
    const char *result = e->class == ERR_NONE      ? "done"
                         : e->class == ERR_STOPPED ? "stopped"
                                                   : "failed";

    str_add(&line, "{\"event\":\"end\"");
    add_text(&line, "result", result);
    add_text(&line, "class", err_class_name(e->class));
    str_addf(&line, ",\"code\":%d", e->code);
    add_text(&line, "error", e->msg);
    add_counters(&line, c);
    return send_line(&line);
}

/* verify ------------------------------------------------------------------ */

static void
add_proof(struct str *line, const struct proof *p)
{
    add_number(line, "done", p->verified + p->zero + p->different);
    add_number(line, "total", p->total);
    add_number(line, "read", p->read);
    add_number(line, "verified", p->verified);
    add_number(line, "skipped_zero", p->zero);
    add_number(line, "different", p->different);
    add_number(line, "ms", (uint64_t)(clock_ms() - p->start_ms));
}

void
report_verify_open(const struct request *r, const struct proof *p)
{
    struct str line = STR_INIT;

    str_add(&line, "{\"event\":\"open\"");
    add_number(&line, "size", r->disk_size);
    add_number(&line, "todo", p->total);
    add_number(&line, "known", p->known);
    add_number(&line, "unproven", p->unproven);
    add_number(&line, "torn", p->torn);
    add_number(&line, "sample", r->sample);
    add_number(&line, "seed", r->seed);
    str_addf(&line, ",\"source\":%s", r->compare ? "true" : "false");
    send_line(&line);
}

void
report_verify_progress(const struct proof *p)
{
    struct str line = STR_INIT;

    str_add(&line, "{\"event\":\"progress\"");
    add_proof(&line, p);
    send_line(&line);
}

void
report_differs(const struct extent *x, const char *what)
{
    struct str line = STR_INIT;

    str_add(&line, "{\"event\":\"differs\"");
    add_number(&line, "offset", x->start);
    add_number(&line, "length", x->length);
    add_text(&line, "what", what);
    send_line(&line);
}

int
report_verify_end(const struct proof *p, const struct err *e)
{
    struct str line = STR_INIT;
    const char *result = e->class == ERR_STOPPED ? "stopped"
                         : e->class != ERR_NONE  ? "failed"
                         : p->different          ? "differs"
                                                 : "done";

    str_add(&line, "{\"event\":\"end\"");
    add_text(&line, "result", result);
    add_text(&line, "class", err_class_name(e->class));
    str_addf(&line, ",\"code\":%d", e->code);
    add_text(&line, "error", e->msg);
    add_proof(&line, p);
    add_number(&line, "known", p->known);
    add_number(&line, "unproven", p->unproven);
    add_number(&line, "torn", p->torn);
    add_number(&line, "areas", p->areas);
    return send_line(&line);
}
