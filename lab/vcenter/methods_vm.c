/* Methods of virtual machines, snapshots and tasks. */
#include <stdio.h>
#include <string.h>

#include "lab/vcenter/inside.h"
#include "lab/vcenter/wsdl.h"

/* What a task does later, copied from the request. */
struct work {
    char *name, *description;
    bool quiesce, children, consolidate;
    struct snap *snap; /* stays: the task has the VM */
    bool cbt_given, cbt;
    char *annotation;
    struct kvs extra;
};

static void
work_free(void *arg)
{
    struct work *w = arg;

    if (!w)
        return;
    kvs_fini(&w->extra);
    free(w->name);
    free(w->description);
    free(w->annotation);
    free(w);
}

static int
begin(struct call *c, const char *description,
      int (*run)(struct task *, struct wfault *), struct work *w)
{
    return start_task(c, task_new(c->vm, wsdl_method(c->method)->name,
                                  description, run, w, work_free));
}

static int
wrong_power(struct wfault *f, enum vm_power wanted, enum vm_power is)
{
    wfault_set(f, "InvalidPowerState",
               "The attempted operation cannot be performed in the current "
               "state (%s).",
               vm_power_name(is));
    wfault_field(f, "requestedState", NULL, vm_power_name(wanted));
    wfault_field(f, "existingState", NULL, vm_power_name(is));
    return -1;
}

static int
usable(const struct vm *vm, struct wfault *f)
{
    if (strcmp(vm->connection, "connected"))
        return wfault_set(f, "InvalidState",
                          "The operation is not allowed in the current state "
                          "(%s).",
                          vm->connection);
    if (vm->question[0]) {
        wfault_set(f, "QuestionPending",
                   "The virtual machine waits for an answer.");
        wfault_field(f, "text", NULL, vm->question);
        return -1;
    }
    return 0;
}

static int
reconfig_cbt(struct vm *vm, bool on, struct wfault *f)
{
    if (on == vm->cbt_flag)
        return 0;
    if (on && !vm->cbt_supported)
        return wfault_set(f, "NotSupported",
                          "Change tracking is not supported by this virtual "
                          "machine's hardware version.");
    if (vm->snaps.n)
        return wfault_set(f, "InvalidState",
                          "Change tracking cannot be changed while there are "
                          "snapshots.");
    vm_set_cbt(vm, on);
    return 0;
}

static int
run_reconfig(struct task *t, struct wfault *f)
{
    struct vm *vm = t->vm;
    struct work *w = t->arg;
    int rc;

    world_lock(vm->w);
    rc = usable(vm, f);
    if (!rc && w->cbt_given)
        rc = reconfig_cbt(vm, w->cbt, f);
    for (size_t i = 0; i < w->extra.n && !rc; i++)
        vm_extra_set(vm, w->extra.p[i].key, w->extra.p[i].value);
    if (!rc && w->annotation) {
        free(vm->annotation);
        vm->annotation = take(w->annotation);
    }
    if (!rc && w->name) {
        free(vm->ent->name);
        vm->ent->name = take(w->name);
    }
    vm->changes++;
    world_touch(vm->w);
    world_unlock(vm->w);
    return rc;
}

int
m_reconfig(struct call *c)
{
    static const char *const known[] = { "changeVersion", "name", "annotation",
                                         "extraConfig",
                                         "changeTrackingEnabled" };
    const struct xml *spec = xml_kid(c->q, "spec");
    const char *text;
    struct work *w;

    for (const struct xml *x = spec->kids; x; x = x->next) {
        size_t i = 0;

        while (i < 5 && strcmp(known[i], x->name))
            i++;
        if (i == 5)
            return wfault_set(&c->fault, "NotSupported",
                              "The lab does not reconfigure %.60s.", x->name);
    }
    w = xcalloc(1, sizeof *w);
    text = xml_text(spec, "changeTrackingEnabled");
    w->cbt_given = text != NULL;
    w->cbt = arg_flag(c, "spec/changeTrackingEnabled", false);
    if ((text = xml_text(spec, "annotation")))
        w->annotation = xstrdup(text);
    if ((text = xml_text(spec, "name")))
        w->name = xstrdup(text);
    for (const struct xml *x = xml_kid(spec, "extraConfig"); x; x = xml_next(x))
        vec_push(&w->extra, (struct kv){ xstrdup(xml_text(x, "key")),
                                         xstrdup(xml_text(x, "value")) });
    return begin(c, "VirtualMachine.reconfigure", run_reconfig, w);
}

static int
run_create_snapshot(struct task *t, struct wfault *f)
{
    struct work *w = t->arg;
    struct snap *s = NULL;

    world_lock(t->vm->w);
    if (!usable(t->vm, f))
        s = snap_create(t->vm, w->name, w->description, w->quiesce, f);
    if (s) {
        snprintf(t->result_type, sizeof t->result_type,
                 "VirtualMachineSnapshot");
        snprintf(t->result_id, sizeof t->result_id, "%s", s->id);
    }
    world_unlock(t->vm->w);
    return s ? 0 : -1;
}

int
m_create_snapshot(struct call *c)
{
    const char *description = arg(c, "description");
    struct work *w;

    if (!*arg(c, "name"))
        return fault_argument(c, "name");
    w = xcalloc(1, sizeof *w);
    w->name = xstrdup(arg(c, "name"));
    w->description = xstrdup(description ? description : "");
    w->quiesce = arg_flag(c, "quiesce", false);
    return begin(c, "VirtualMachine.createSnapshot", run_create_snapshot, w);
}

static int
run_remove_snapshot(struct task *t, struct wfault *f)
{
    struct work *w = t->arg;

    return snap_remove(w->snap, w->children, w->consolidate, f);
}

int
m_remove_snapshot(struct call *c)
{
    struct work *w = xcalloc(1, sizeof *w);

    w->snap = world_snap(c->w, c->self.id);
    w->children = arg_flag(c, "removeChildren", false);
    w->consolidate = arg_flag(c, "consolidate", true);
    return begin(c, "vm.Snapshot.remove", run_remove_snapshot, w);
}

static int
run_remove_all(struct task *t, struct wfault *f)
{
    struct work *w = t->arg;
    struct vm *vm = t->vm;

    for (;;) {
        struct snap *s = NULL;

        world_lock(vm->w);
        for (size_t i = 0; i < vm->snaps.n && !s; i++)
            if (!vm->snaps.p[i]->parent)
                s = vm->snaps.p[i];
        world_unlock(vm->w);
        if (!s)
            break;
        if (snap_remove(s, true, false, f))
            return -1;
    }
    return w->consolidate ? snap_consolidate(vm, f) : 0;
}

int
m_remove_all_snapshots(struct call *c)
{
    struct work *w = xcalloc(1, sizeof *w);

    w->consolidate = arg_flag(c, "consolidate", true);
    return begin(c, "VirtualMachine.removeAllSnapshots", run_remove_all, w);
}

static int
run_consolidate(struct task *t, struct wfault *f)
{
    return snap_consolidate(t->vm, f);
}

int
m_consolidate(struct call *c)
{
    return begin(c, "VirtualMachine.consolidateDisks", run_consolidate, NULL);
}

static int
run_power(struct task *t, struct wfault *f)
{
    bool on = !strcmp(t->method, "PowerOnVM_Task");
    struct vm *vm = t->vm;
    enum vm_power wanted = on ? VM_ON : VM_OFF;
    int rc;

    world_lock(vm->w);
    rc = usable(vm, f);
    if (!rc && vm->power == wanted)
        rc = wrong_power(f, wanted, vm->power);
    if (!rc && on && vm->template)
        rc = wfault_set(f, "NotSupported", "A template has no power.");
    if (!rc && on)
        vm_power_on(vm);
    else if (!rc)
        vm_power_off(vm);
    world_unlock(vm->w);
    return rc;
}

int
m_power_on(struct call *c)
{
    return begin(c, "VirtualMachine.powerOn", run_power, NULL);
}

int
m_power_off(struct call *c)
{
    return begin(c, "VirtualMachine.powerOff", run_power, NULL);
}

int
m_shutdown_guest(struct call *c)
{
    return vm_shutdown_guest(c->vm, &c->fault);
}

int
m_cancel_task(struct call *c)
{
    return wfault_set(&c->fault, "NotSupported",
                      "The task cannot be cancelled.");
}
