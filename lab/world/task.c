/* Tasks: queued, running, success or error; one at a time for each VM. */
#include "lab/world/world.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

const char *
task_state_name(enum task_state s)
{
    static const char *const names[] = { "queued", "running", "success",
                                         "error" };

    return names[s];
}

void
task_free(struct task *t)
{
    if (t->arg_free)
        t->arg_free(t->arg);
    free(t);
}

static void
forget_old(struct world *w)
{
    int64_t now = clock_ms();
    size_t kept = 0;

    for (size_t i = 0; i < w->tasks.n; i++) {
        struct task *t = w->tasks.p[i];

        if (t->ended && now - t->ended > WORLD_TASK_KEEP_MS)
            task_free(t);
        else
            w->tasks.p[kept++] = t;
    }
    w->tasks.n = kept;
}

struct task *
task_new(struct vm *vm, const char *method, const char *description,
         int (*run)(struct task *, struct wfault *), void *arg,
         void (*arg_free)(void *))
{
    struct task *t = xcalloc(1, sizeof *t);

    forget_old(vm->w);
    t->num = (int)++vm->w->tasks_started;
    if (vm->w->esxi)
        snprintf(t->id, sizeof t->id, "haTask-%.10s-vim.task-%d", vm->ent->id,
                 t->num);
    else
        snprintf(t->id, sizeof t->id, "task-%d", t->num);
    t->method = method;
    t->description = description;
    t->vm = vm;
    t->run = run;
    t->arg = arg;
    t->arg_free = arg_free;
    t->queued = clock_wall_ms();
    return t;
}

static void
advance(struct task *t, enum task_state state, int progress)
{
    struct world *w = t->vm->w;

    world_lock(w);
    if (t->state == TASK_QUEUED && state == TASK_RUNNING)
        t->started = clock_wall_ms();
    t->state = state;
    t->progress = progress;
    world_touch(w);
    world_unlock(w);
}

static int
work(struct task *t, struct wfault *f)
{
    struct world *w = t->vm->w;

    if (!world_sleep(w, w->task_ms / 4))
        return wfault_set(f, "RequestCanceled", "The lab is going down.");
    advance(t, TASK_RUNNING, 0);
    if (!world_sleep(w, w->task_ms / 2))
        return wfault_set(f, "RequestCanceled", "The lab is going down.");
    advance(t, TASK_RUNNING, 50);
    if (t->inject_delay_ms) {
        advance(t, TASK_RUNNING, 95);
        world_sleep(w, t->inject_delay_ms);
    }
    if (t->inject.type[0]) {
        *f = t->inject;
        return -1;
    }
    return t->run(t, f);
}

static void *
task_main(void *arg)
{
    struct task *t = arg;
    struct world *w = t->vm->w;
    struct wfault f = { .type = "" };
    int rc = work(t, &f);

    world_sleep(w, w->task_ms / 4);
    world_lock(w);
    t->fault = f;
    t->state = rc ? TASK_ERROR : TASK_SUCCESS;
    t->progress = 100;
    t->completed = clock_wall_ms();
    t->ended = clock_ms();
    t->vm->task = NULL;
    world_touch(w);
    world_thread_done(w);
    world_unlock(w);
    return NULL;
}

int
task_start(struct task *t, struct wfault *f)
{
    struct vm *vm = t->vm;

    if (vm->task) {
        wfault_set(f, "TaskInProgress", "Another task is already in progress.");
        wfault_field(f, "task", "Task", vm->task->id);
        task_free(t);
        return -1;
    }
    vm->task = t;
    vec_push(&vm->w->tasks, t);
    if (world_thread(vm->w, task_main, t)) {
        vm->task = NULL;
        vm->w->tasks.n--;
        task_free(t);
        return wfault_system(f, "no more threads");
    }
    world_touch(vm->w);
    return 0;
}

struct task *
world_task(const struct world *w, const char *id)
{
    for (size_t i = 0; i < w->tasks.n; i++)
        if (!strcmp(w->tasks.p[i]->id, id))
            return w->tasks.p[i];
    return NULL;
}
