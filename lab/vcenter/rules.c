/* Faults on demand: rules that tests set through the control port. */
#include <stdio.h>
#include <string.h>

#include "lab/vcenter/inside.h"
#include "lab/vcenter/wsdl.h"

static const char *const special[] = {
    "http",
    "drop",
    "lose",
    "garbage",
    "",
    "cbt:zero-length",
    "cbt:wrong-start",
    "cbt:unsorted",
    "cbt:beyond",
    "cbt:empty",
    "cbt:missing",
};

static bool
known(const char *type)
{
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if (!strcmp(special[i], type))
            return true;
    return wsdl_is_a(type, "MethodFault");
}

static int
rule_fields(struct rule *r, const json_t *fields, struct err *e)
{
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)fields, name, v)
    {
        const struct wfield *f = wsdl_field(wsdl_type(r->fault.type), name);

        if (!f || r->fault.fields == WFAULT_FIELDS || !json_is_string(v))
            return err_set(e, ERR_USER, "fault %s has no text field %s",
                           r->fault.type, name);
        wfault_field(&r->fault, name,
                     strcmp(f->type, "moref") ? NULL : "ManagedObject",
                     json_string_value(v));
    }
    return 0;
}

int
vcenter_add_fault(struct vcenter *v, const json_t *rule, struct err *e)
{
    const char *type = json_str(rule, "fault", "");
    const json_t *fields = json_object_get(rule, "fields");
    struct rule r = { .nth = (uint64_t)json_num(rule, "nth", 1),
                      .count = (uint64_t)json_num(rule, "count", 1),
                      .in_task = json_flag(rule, "in_task", false),
                      .delay_ms = (int)json_num(rule, "delay_ms", 0),
                      .code = (int)json_num(rule, "code", 503) };

    snprintf(r.method, sizeof r.method, "%s", json_str(rule, "method", ""));
    snprintf(r.object, sizeof r.object, "%s", json_str(rule, "object", ""));
    if (!r.method[0])
        return err_set(e, ERR_USER, "a fault needs a method, or \"*\"");
    if (strcmp(r.method, "*") && !wsdl_method(r.method))
        return err_set(e, ERR_USER, "no method %.60s is served", r.method);
    if (!known(type))
        return err_set(e, ERR_USER, "no fault is called %.60s", type);
    wfault_set(&r.fault, type, "%s", json_str(rule, "message", type));
    snprintf(r.fault.message_key, sizeof r.fault.message_key, "%s",
             json_str(rule, "message_key", ""));
    if (fields && (!wsdl_type(type) || rule_fields(&r, fields, e)))
        return e->class != ERR_NONE
                   ? -1
                   : err_set(e, ERR_USER, "%s has no fields", type);
    world_lock(v->w);
    if (v->rules.n < VCENTER_FAULTS_MAX)
        vec_push(&v->rules, r);
    else
        err_set(e, ERR_USER, "more than %d faults", VCENTER_FAULTS_MAX);
    world_unlock(v->w);
    return e->class == ERR_NONE ? 0 : -1;
}

void
vcenter_clear_faults(struct vcenter *v)
{
    world_lock(v->w);
    v->rules.n = 0;
    world_unlock(v->w);
}

static bool
matches(const struct rule *r, const struct call *c)
{
    if (strcmp(r->method, "*") && strcmp(r->method, c->method))
        return false;
    return !r->object[0] || !strcmp(r->object, c->self.id) ||
           (c->vm && (!strcmp(r->object, c->vm->ent->name) ||
                      !strcmp(r->object, c->vm->ent->id)));
}

void
rules_pick(struct call *c)
{
    for (size_t i = 0; i < c->v->rules.n; i++) {
        struct rule *r = &c->v->rules.p[i];

        if (!matches(r, c) || ++r->seen < r->nth ||
            (r->count && r->seen >= r->nth + r->count))
            continue;
        c->rule = *r;
        return;
    }
}
