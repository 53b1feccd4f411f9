/* Tasks: start one, wait for its end, take its result. */
#include "vsphere/soap.h"
#include "base/clock.h"
#include "base/log.h"

#include <string.h>

#define POLL_FIRST_MS  50
#define POLL_SLOW_MS   2000
#define POLLS_LOST_MAX 10 /* in a row, by the network */
#define REPORT_MS      60000

struct wait {
    const char *name, *task;
    int64_t started, reported, limit_ms;
};

enum look { LOOK_DONE, LOOK_GOES_ON, LOOK_FAILED, LOOK_LOST };

/* Why the task could not be read.  The network's trouble is no news about the
 * task; a task that is gone ended more than ten minutes ago, nobody knows
 * how. */
static enum look
no_info(struct err *e)
{
    if (e->class == ERR_NET)
        return LOOK_LOST;
    if (e->class == ERR_NOTFOUND) {
        err_wrap(e, "the task is gone, its end unknown");
        e->class = ERR_NET;
        *e->fault = '\0';
    }
    return LOOK_FAILED;
}

static enum look
look(struct vs *vs, const struct wait *w, char *result, struct err *e)
{
    const char *const paths[] = { "info", NULL };
    defer_answer struct answer a = { 0 };
    const struct xml *info, *error;
    const char *state;

    if (props_get(vs, "Task", w->task, paths, &a, e))
        return no_info(e);
    info = prop(a.val, "info");
    state = text_at(info, "state");
    if (!strcmp(state, "success")) {
        if (result && ref_copy(xml_kid(info, "result"), result, "result", e))
            return LOOK_FAILED;
        return LOOK_DONE;
    }
    if (!strcmp(state, "error")) {
        error = xml_kid(info, "error");
        fault_set(vs, xml_kid(error, "fault"), NULL,
                  text_at(error, "localizedMessage"), e);
        return LOOK_FAILED;
    }
    if (strcmp(state, "running") && strcmp(state, "queued")) {
        err_set(e, ERR_REMOTE, "the task's state is '%.40s'", state);
        return LOOK_FAILED;
    }
    if (clock_ms() - w->reported >= REPORT_MS)
        log_info("%s is %s for %lld s, %s %%", w->name, state,
                 (long long)((clock_ms() - w->started) / 1000),
                 *text_at(info, "progress") ? text_at(info, "progress") : "?");
    return LOOK_GOES_ON;
}

static int
wait_end(struct vs *vs, struct wait *w, char *result, struct err *e)
{
    int64_t pause = POLL_FIRST_MS;
    int lost = 0;

    for (;;) {
        enum look seen = look(vs, w, result, e);

        if (seen == LOOK_DONE)
            return 0;
        if (seen == LOOK_FAILED ||
            (seen == LOOK_LOST && ++lost > POLLS_LOST_MAX))
            return -1;
        if (seen == LOOK_LOST)
            log_warn("%s goes on, asking again: %s", w->name, e->msg);
        else
            lost = 0;
        if (clock_ms() - w->reported >= REPORT_MS)
            w->reported = clock_ms();
        if (clock_ms() - w->started > w->limit_ms)
            return err_set(e, ERR_REMOTE,
                           "not done after %lld minutes: look at the task in "
                           "vSphere",
                           (long long)(w->limit_ms / 60000));
        if (session_pause(vs, pause, e))
            return -1;
        pause = pause * 2 < POLL_SLOW_MS ? pause * 2 : POLL_SLOW_MS;
    }
}

int
task_run(struct vs *vs, enum vim m, const char *self,
         const struct soap_args *args, char *result, struct err *e)
{
    defer_answer struct answer a = { 0 };
    char task[VS_ID_MAX];
    struct wait w = {
        .name = soap_name(m),
        .task = task,
        .started = clock_ms(),
        .reported = clock_ms(),
        .limit_ms = soap_task_ms(m) / vs->haste,
    };

    if (soap_call(vs, m, self, args, &a, e))
        return -1;
    if (ref_copy(a.val, task, "Task", e) || wait_end(vs, &w, result, e))
        return err_wrap(e, "%s on %s", soap_name(m), self);
    err_clear(e);
    return 0;
}
