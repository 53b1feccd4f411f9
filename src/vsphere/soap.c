/* SOAP: one table of methods, the envelope, the exchange. */
#include "vsphere/soap.h"
#include "base/log.h"

#include <string.h>

#define REQUEST_MAX  (1u << 20) /* bytes */
#define CALL_MS      (120 * 1000)
#define CALL_SLOW_MS (300 * 1000)
#define MINUTES      (60 * 1000)

/* How a value is written. */
#define TEXT ""      /* escaped text */
#define XML  "<xml>" /* as it is */
/* any other: a moref of that type */

/* Arguments in the order of the WSDL: the server insists on it. */
static const struct method {
    const char *name;
    const char *self; /* type of _this */
    struct {
        const char *name, *kind;
    } args[SOAP_ARGS_MAX];
    int64_t call_ms; /* 0: CALL_MS */
    int64_t task_ms; /* what its task may take */
    bool anonymous;  /* needs no session */
} methods[] = {
    [VIM_SERVICE_CONTENT] = { "RetrieveServiceContent", "ServiceInstance",
                              .anonymous = true },
    [VIM_LOGIN] = { "Login",
                    "SessionManager",
                    { { "userName", TEXT },
                      { "password", TEXT },
                      { "locale", TEXT } },
                    .anonymous = true },
    [VIM_LOGOUT] = { "Logout", "SessionManager", .anonymous = true },
    [VIM_RETRIEVE] = { "RetrievePropertiesEx",
                       "PropertyCollector",
                       { { "specSet", XML }, { "options", XML } } },
    [VIM_CONTINUE] = { "ContinueRetrievePropertiesEx",
                       "PropertyCollector",
                       { { "token", TEXT } } },
    [VIM_CREATE_VIEW] = { "CreateContainerView",
                          "ViewManager",
                          { { "container", "Folder" },
                            { "type", TEXT },
                            { "recursive", TEXT } } },
    [VIM_DESTROY_VIEW] = { "DestroyView", "ContainerView" },
    [VIM_FIND_BY_PATH] = { "FindByInventoryPath",
                           "SearchIndex",
                           { { "inventoryPath", TEXT } } },
    [VIM_FIND_BY_UUID] = { "FindByUuid",
                           "SearchIndex",
                           { { "uuid", TEXT },
                             { "vmSearch", TEXT },
                             { "instanceUuid", TEXT } } },
    [VIM_RECONFIG] = { "ReconfigVM_Task",
                       "VirtualMachine",
                       { { "spec", XML } },
                       .task_ms = 10 * MINUTES },
    [VIM_SNAPSHOT_CREATE] = { "CreateSnapshot_Task",
                              "VirtualMachine",
                              { { "name", TEXT },
                                { "description", TEXT },
                                { "memory", TEXT },
                                { "quiesce", TEXT } },
                              .task_ms = 60 * MINUTES },
    [VIM_SNAPSHOT_REMOVE] = { "RemoveSnapshot_Task",
                              "VirtualMachineSnapshot",
                              { { "removeChildren", TEXT },
                                { "consolidate", TEXT } },
                              .task_ms = 24 * 60 * MINUTES },
    [VIM_CONSOLIDATE] = { "ConsolidateVMDisks_Task", "VirtualMachine",
                          .task_ms = 24 * 60 * MINUTES },
    [VIM_CHANGED_AREAS] = { "QueryChangedDiskAreas",
                            "VirtualMachine",
                            { { "snapshot", "VirtualMachineSnapshot" },
                              { "deviceKey", TEXT },
                              { "startOffset", TEXT },
                              { "changeId", TEXT } },
                            .call_ms = CALL_SLOW_MS },
    [VIM_SHUTDOWN] = { "ShutdownGuest", "VirtualMachine" },
    [VIM_POWER_OFF] = { "PowerOffVM_Task", "VirtualMachine",
                        .task_ms = 10 * MINUTES },
    [VIM_POWER_ON] = { "PowerOnVM_Task", "VirtualMachine",
                       .task_ms = 10 * MINUTES },
};

const char *
soap_name(enum vim m)
{
    return methods[m].name;
}

int64_t
soap_task_ms(enum vim m)
{
    return methods[m].task_ms;
}

void
answer_fini(struct answer *a)
{
    xml_free(a->tree);
    *a = (struct answer){ 0 };
}

static void
add_arg(struct str *s, const char *name, const char *kind, const char *value)
{
    if (!value)
        return;
    str_addf(s, "<%s", name);
    if (strcmp(kind, TEXT) && strcmp(kind, XML))
        str_addf(s, " type=\"%s\"", kind);
    str_addc(s, '>');
    if (!strcmp(kind, XML))
        str_add(s, value);
    else
        str_add_xml(s, value);
    str_addf(s, "</%s>", name);
}

static void
add_envelope(struct str *s, const struct vs *vs, const struct method *m,
             const char *self, const struct soap_args *args)
{
    str_add(s, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
               "<soapenv:Envelope xmlns:soapenv="
               "\"http://schemas.xmlsoap.org/soap/envelope/\""
               " xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\""
               " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n");
    if (vs->operation_id) {
        str_add(s, "<soapenv:Header><operationID xmlns=\"urn:vim25\">");
        str_add_xml(s, vs->operation_id);
        str_add(s, "</operationID></soapenv:Header>\n");
    }
    str_addf(s, "<soapenv:Body><%s xmlns=\"urn:vim25\">", m->name);
    add_arg(s, "_this", m->self, self);
    for (int i = 0; args && i < SOAP_ARGS_MAX && m->args[i].name; i++)
        add_arg(s, m->args[i].name, m->args[i].kind, args->v[i]);
    str_addf(s, "</%s></soapenv:Body>\n</soapenv:Envelope>\n", m->name);
}

static int
check_status(const struct vs *vs, int status, struct err *e)
{
    int rc = 0;

    if (status == 502 || status == 503 || status == 504 || status == 429)
        rc = err_set(e, ERR_NET,
                     "%s answers HTTP %d: it is starting or overloaded",
                     vs->where, status);
    else if (status != 200 && status != 500)
        rc = err_set(e, ERR_USER,
                     "%s answers HTTP %d: give the address of a vCenter or "
                     "an ESXi host",
                     vs->where, status);
    if (rc)
        e->code = status;
    return rc;
}

/* Finds what was asked for, or the fault, in an answer's envelope. */
static int
open_envelope(struct vs *vs, const struct method *m, struct answer *a,
              struct err *e)
{
    const struct xml *body = xml_kid(a->tree, "Body");
    const struct xml *fault = xml_kid(body, "Fault");
    defer_free char *want = xasprintf("%sResponse", m->name);
    const struct xml *response = xml_kid(body, want);

    if (fault) {
        const struct xml *detail = xml_kid(fault, "detail");
        const struct xml *what = detail ? detail->kids : NULL;

        return fault_set(vs, what, what ? what->name : NULL,
                         text_at(fault, "faultstring"), e);
    }
    if (!response)
        return err_set(e, ERR_REMOTE,
                       "%s answers with neither %s nor a fault: give the "
                       "address of a vCenter or an ESXi host",
                       vs->where, want);
    a->val = xml_kid(response, "returnval");
    return 0;
}

static int
exchange(struct vs *vs, const struct method *m, const struct str *body,
         struct answer *a, struct err *e)
{
    defer_free char *cookie =
        vs->cookie ? xasprintf("Cookie: %s", secret_reveal(vs->cookie)) : NULL;
    struct http_req q = {
        .method = "POST",
        .url = vs->url,
        .headers =
            (const char *const[]){ "Content-Type: text/xml; charset=utf-8",
                                   vs->action, cookie, NULL },
        .body = body->p,
        .body_len = body->n,
        .timeout_ms = m->call_ms ? m->call_ms : CALL_MS,
    };
    defer(http_res_fini) struct http_res r = { 0 };

    if (http_do(vs->http, &q, &r, e) || check_status(vs, r.status, e))
        return -1;
    session_cookie(vs, &r);
    a->tree = xml_parse(str_text(&r.body), r.body.n, e);
    if (!a->tree) {
        err_wrap(e, "%s answers what is no SOAP", vs->where);
        e->class = ERR_NET;
        return -1;
    }
    return open_envelope(vs, m, a, e);
}

static int
call_once(struct vs *vs, const struct method *m, const char *self,
          const struct soap_args *args, struct answer *out, struct err *e)
{
    defer(str_fini) struct str body = { .max = REQUEST_MAX };
    defer_answer struct answer a = { 0 };
    int rc;

    add_envelope(&body, vs, m, self, args);
    if (body.failed)
        return err_set(e, ERR_BUG, "%s: the request is over %u bytes", m->name,
                       REQUEST_MAX);
    rc = exchange(vs, m, &body, &a, e);
    explicit_bzero(body.p, body.n);
    if (rc)
        return err_wrap(e, "%s on %s", m->name, self);
    if (out) {
        *out = a;
        a = (struct answer){ 0 };
    }
    return 0;
}

int
soap_call(struct vs *vs, enum vim m, const char *self,
          const struct soap_args *args, struct answer *a, struct err *e)
{
    const struct method *method = &methods[m];

    if (!call_once(vs, method, self, args, a, e))
        return 0;
    if (method->anonymous || !fault_is(e, "NotAuthenticated"))
        return -1;
    log_info("the session at %s has ended, logging in again", vs->where);
    if (session_login(vs, e))
        return err_wrap(e, "%s on %s", method->name, self);
    err_clear(e);
    return call_once(vs, method, self, args, a, e);
}
