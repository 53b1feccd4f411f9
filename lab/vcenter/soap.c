/* SOAP: from the HTTP request to the method and back. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "lab/vcenter/inside.h"
#include "lab/vcenter/wsdl.h"

#define OPEN_ENVELOPE                                                \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope " \
    "xmlns:soapenc=\"http://schemas.xmlsoap.org/soap/encoding/\" "   \
    "xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" "   \
    "xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" "                \
    "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n"     \
    "<soapenv:Body>\n"
#define CLOSE_ENVELOPE "\n</soapenv:Body>\n</soapenv:Envelope>"

struct method {
    const char *name;
    method_fn *fn;
    bool open; /* needs no session */
};

static const struct method methods[] = {
    { "RetrieveServiceContent", m_service_content, true },
    { "CurrentTime", m_current_time, false },
    { "Login", m_login, true },
    { "Logout", m_logout, false },
    { "SessionIsActive", m_session_is_active, false },
    { "RetrieveProperties", m_retrieve, false },
    { "RetrievePropertiesEx", m_retrieve_ex, false },
    { "ContinueRetrievePropertiesEx", m_continue, false },
    { "CancelRetrievePropertiesEx", m_cancel_retrieve, false },
    { "CreatePropertyCollector", m_create_collector, false },
    { "DestroyPropertyCollector", m_destroy_collector, false },
    { "CreateFilter", m_create_filter, false },
    { "DestroyPropertyFilter", m_destroy_filter, false },
    { "WaitForUpdatesEx", m_wait, false },
    { "CancelWaitForUpdates", m_cancel_wait, false },
    { "CreateContainerView", m_create_view, false },
    { "DestroyView", m_destroy_view, false },
    { "FindByInventoryPath", m_find_path, false },
    { "FindByUuid", m_find_uuid, false },
    { "FindAllByUuid", m_find_all_uuid, false },
    { "FindChild", m_find_child, false },
    { "ReconfigVM_Task", m_reconfig, false },
    { "CreateSnapshot_Task", m_create_snapshot, false },
    { "RemoveSnapshot_Task", m_remove_snapshot, false },
    { "RemoveAllSnapshots_Task", m_remove_all_snapshots, false },
    { "ConsolidateVMDisks_Task", m_consolidate, false },
    { "PowerOnVM_Task", m_power_on, false },
    { "PowerOffVM_Task", m_power_off, false },
    { "ShutdownGuest", m_shutdown_guest, false },
    { "CancelTask", m_cancel_task, false },
    { "QueryChangedDiskAreas", m_changed_areas, false },
};

const char *
arg(const struct call *c, const char *path)
{
    return xml_text(c->q, path);
}

bool
arg_flag(const struct call *c, const char *path, bool otherwise)
{
    const char *text = arg(c, path);

    return text ? !strcmp(text, "true") || !strcmp(text, "1") : otherwise;
}

void
answer(struct call *c, const char *tag, const struct val *v,
       const char *declared)
{
    val_xml(&c->out, tag, v, declared);
}

void
answer_ref(struct call *c, const char *type, const char *id)
{
    defer_val struct val *v = val_ref(type, id);

    answer(c, "returnval", v, "moref");
}

int
start_task(struct call *c, struct task *t)
{
    char id[WORLD_ID_MAX];

    snprintf(t->user, sizeof t->user, "%s", c->s->user);
    if (c->rule.method[0] && c->rule.in_task) {
        t->inject = c->rule.fault;
        t->inject_delay_ms = c->rule.delay_ms;
    }
    snprintf(id, sizeof id, "%s", t->id);
    if (task_start(t, &c->fault))
        return -1;
    answer_ref(c, "Task", id);
    return 0;
}

int
fault_gone(struct call *c, const struct moref *m)
{
    wfault_set(&c->fault, "ManagedObjectNotFound",
               "The object 'vim.%s:%s' has already been deleted or has not "
               "been completely created",
               m->type, m->id);
    wfault_field(&c->fault, "obj", m->type, m->id);
    return -1;
}

int
fault_argument(struct call *c, const char *property)
{
    wfault_set(&c->fault, "InvalidArgument",
               "A specified parameter was not correct: %s", property);
    wfault_field(&c->fault, "invalidProperty", NULL, property);
    return -1;
}

static void
write_fault(struct call *c)
{
    defer_val struct val *f = val_fault(&c->fault);
    defer_free char *tag = xasprintf("%sFault", c->fault.type);
    struct str *b = &c->res->body;

    str_add(b, OPEN_ENVELOPE "<soapenv:Fault><faultcode>ServerFaultCode"
                             "</faultcode><faultstring>");
    str_add_xml(b, c->fault.text);
    str_add(b, "</faultstring><detail>");
    str_addf(b, "<%s xmlns=\"urn:vim25\" xsi:type=\"%s\">", tag, c->fault.type);
    for (const struct val *k = f->kids; k; k = k->next)
        val_xml(b, k->name, k, wsdl_field(wsdl_type(f->type), k->name)->type);
    str_addf(b, "</%s></detail></soapenv:Fault>" CLOSE_ENVELOPE, tag);
    c->res->status = 500;
}

static void
write_answer(struct call *c)
{
    struct str *b = &c->res->body;

    str_add(b, OPEN_ENVELOPE);
    str_addf(b, "<%sResponse xmlns=\"urn:vim25\">%s</%sResponse>", c->method,
             str_text(&c->out), c->method);
    str_add(b, CLOSE_ENVELOPE);
}

static void
count_request(struct vcenter *v, const char *method)
{
    size_t i = 0;

    while (i < v->counts.n && strcmp(v->counts.p[i].method, method))
        i++;
    if (i == v->counts.n)
        vec_push(&v->counts, (struct count){ .n = 0 });
    snprintf(v->counts.p[i].method, sizeof v->counts.p[i].method, "%s", method);
    v->counts.p[i].n++;
}

static int
find_self(struct call *c)
{
    const struct wtype *m = wsdl_method(c->method);
    const struct snap *snap = NULL;
    const struct ent *ent;

    if (!object_exists(c, &c->self))
        return fault_gone(c, &c->self);
    if (!m || !wsdl_is_a(c->self.type, m->base)) {
        wfault_set(&c->fault, "MethodNotFound",
                   "The method %.60s is not available on %.60s", c->method,
                   c->self.type);
        wfault_field(&c->fault, "receiver", c->self.type, c->self.id);
        wfault_field(&c->fault, "method", NULL, c->method);
        return -1;
    }
    ent = world_ent(c->w, c->self.id);
    snap = world_snap(c->w, c->self.id);
    c->vm = ent ? ent->vm : (snap ? snap->vm : NULL);
    return 0;
}

static int
not_authenticated(struct call *c)
{
    wfault_set(&c->fault, "NotAuthenticated",
               "The session is not authenticated.");
    wfault_field(&c->fault, "object", "Folder", c->w->ents.p[0]->id);
    wfault_field(&c->fault, "privilegeId", NULL, "System.View");
    return -1;
}

/* Applies the rule before the work; 1: there is nothing more to do. */
static int
struck_before(struct call *c)
{
    const char *type = c->rule.fault.type;

    if (!c->rule.method[0] || c->rule.in_task)
        return 0;
    if (c->rule.delay_ms) {
        world_unlock(c->w);
        world_sleep(c->w, c->rule.delay_ms);
        world_lock(c->w);
    }
    if (!strcmp(type, "drop")) {
        c->res->drop = true;
        return 1;
    }
    if (!strcmp(type, "http")) {
        c->res->status = c->rule.code;
        c->res->type = "text/plain";
        str_add(&c->res->body, "The service is not available.\n");
        return 1;
    }
    if (!strcmp(type, "garbage")) {
        c->res->type = "text/html";
        str_add(&c->res->body, "<html><body>Sign in<br></body>\n");
        return 1;
    }
    if (wsdl_type(type)) {
        c->fault = c->rule.fault;
        return -1;
    }
    return 0;
}

static int
run_method(struct call *c, const struct method *m)
{
    int rc = struck_before(c);

    if (rc)
        return rc;
    if (!m->open && (!c->s || c->s->dead))
        return not_authenticated(c);
    if (find_self(c))
        return -1;
    return m->fn(c);
}

static const struct method *
method_of(const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (!strcmp(methods[i].name, name))
            return &methods[i];
    return NULL;
}

static int
judge(struct call *c, const struct method **m)
{
    const struct xml *self = xml_kid(c->q, "_this");

    if (check_request(c->q, &c->fault))
        return -1;
    read_moref(self, &c->self);
    *m = method_of(c->method);
    if (*m)
        return 0;
    wfault_set(&c->fault, "MethodNotFound", "The method %.60s is not served",
               c->method);
    wfault_field(&c->fault, "receiver", c->self.type, c->self.id);
    wfault_field(&c->fault, "method", NULL, c->method);
    return -1;
}

static void
enter(struct call *c)
{
    const char *header = httpd_header(c->req, "Cookie");
    const struct ent *ent = world_ent(c->w, c->self.id);
    const struct snap *snap = world_snap(c->w, c->self.id);

    c->vm = ent ? ent->vm : (snap ? snap->vm : NULL);
    count_request(c->v, c->method);
    c->s = session_of(c->v, header);
    if (c->s) {
        c->s->users++;
        c->s->calls++;
        c->s->last = clock_ms();
        c->s->last_wall = clock_wall_ms();
    }
    rules_pick(c);
}

static void
leave(struct call *c)
{
    if (c->s)
        session_release(c->s);
    world_touch(c->w);
}

static void
serve(struct call *c)
{
    const struct method *m = NULL;
    int rc = judge(c, &m);

    world_lock(c->w);
    enter(c);
    if (!rc)
        rc = run_method(c, m);
    leave(c);
    world_unlock(c->w);
    if (!strcmp(c->rule.fault.type, "lose") && !c->rule.in_task)
        c->res->drop = true;
    else if (rc < 0)
        write_fault(c);
    else if (!rc)
        write_answer(c);
    str_fini(&c->out);
}

/* A request that never was SOAP of urn:vim25. */
static void
refuse(struct call *c, const char *why)
{
    wfault_set(&c->fault, "InvalidRequest", "%.200s", why);
    write_fault(c);
}

static const char *
action_of(const struct httpd_req *q)
{
    const char *action = httpd_header(q, "SOAPAction");

    if (action && *action == '"')
        action++;
    return action && str_starts(action, "urn:vim25") ? action : NULL;
}

void
soap_post(struct call *c)
{
    const char *type = httpd_header(c->req, "Content-Type");
    const struct xml *body;
    struct err e = ERR_INIT;
    defer(xml_free_ptr) struct xml *x = NULL;

    c->res->type = "text/xml; charset=utf-8";
    if (!action_of(c->req)) {
        refuse(c, "SOAPAction must be urn:vim25/<version>");
        return;
    }
    if (!type || !str_starts(type, "text/xml")) {
        refuse(c, "Content-Type must be text/xml");
        return;
    }
    x = xml_parse(c->req->body, c->req->body_len, &e);
    if (!x) {
        refuse(c, e.msg);
        return;
    }
    body = strcmp(x->name, "Envelope") ? NULL : xml_kid(x, "Body");
    if (!body || !body->kids || body->kids->next ||
        !strstr(c->req->body, "urn:vim25")) {
        refuse(c, "no Envelope with one method of urn:vim25 in its Body");
        return;
    }
    c->q = body->kids;
    c->method = c->q->name;
    serve(c);
}
