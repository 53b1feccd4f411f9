/* The control port: verbs by path. */
#include "lab/control/control.h"

#include <stdio.h>
#include <string.h>

#include "lab/control/inside.h"
#include "net/net.h"

/* Keys that a verb knows; others are refused. */
static const struct {
    const char *name;
    verb_fn *fn;
    const char *keys;
} verbs[] = {
    { "world", verb_world, "" },
    { "write", verb_write, " vm disk offset length seed zero " },
    { "truth", verb_truth, " vm disk snapshot file " },
    { "power", verb_power, " vm state " },
    { "guest", verb_guest,
      " vm writes_per_s paused ignores_shutdown "
      "shutdown_ms max_bytes " },
    { "set", verb_set,
      " vm tools cbt_supported connection question "
      "consolidation_ms name task_ms area_limit "
      "session_idle_s consolidate_ms " },
    { "disk", verb_disk, " vm disk mode size sharing " },
    { "latency", verb_latency, " us " },
    { "link", verb_link, " mbps cut " },
    { "session", verb_session, " drop " },
    { "fault", verb_fault,
      " method object nth count fault message fields "
      "message_key in_task delay_ms code clear " },
    { "vddk", verb_vddk, " op nth count code match every clear " },
    { "reset-cbt", verb_reset_cbt, " vm disk " },
    { "snapshot", verb_snapshot, " vm name " },
    { "quit", verb_quit, "" },
};

struct vm *
control_vm(struct control *c, const json_t *in, struct err *e)
{
    const char *name = json_str(in, "vm", "");
    struct vm *vm = world_vm(c->w, name);

    if (!vm)
        err_set(e, ERR_NOTFOUND, "there is no VM %.100s", name);
    return vm;
}

struct vm_disk *
control_disk(const struct vm *vm, const json_t *in, struct err *e)
{
    int64_t key = json_num(in, "disk", 0);
    struct vm_disk *d = vm_disk(vm, (int)key);

    if (!d)
        err_set(e, ERR_NOTFOUND, "VM %s has no disk with key %lld",
                vm->ent->name, (long long)key);
    return d;
}

static int
check_keys(const json_t *in, const char *keys, struct err *e)
{
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)in, name, v)
    {
        defer_free char *word = xasprintf(" %s ", name);

        if (!strstr(keys, word))
            return err_set(e, ERR_USER, "unknown key \"%.60s\"", name);
    }
    return 0;
}

static int
run_verb(struct control *c, const struct httpd_req *q, json_t *out,
         struct err *e)
{
    const char *body = q->body_len ? q->body : "{}";
    defer_json json_t *in = NULL;

    if (strcmp(q->method, "POST"))
        return err_set(e, ERR_USER, "POST a JSON object to /VERB");
    in = json_parse(body, strlen(body), "request", e);
    if (!in)
        return -1;
    if (!json_is_object(in))
        return err_set(e, ERR_USER, "the request is no JSON object");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (q->path[0] != '/' || strcmp(verbs[i].name, q->path + 1))
            continue;
        if (check_keys(in, verbs[i].keys, e))
            return err_wrap(e, "%s", verbs[i].name);
        return verbs[i].fn(c, in, out, e);
    }
    return err_set(e, ERR_NOTFOUND, "there is no verb %.60s", q->path);
}

static void
handle(void *ctx, const struct httpd_req *q, struct httpd_res *r)
{
    struct err e = ERR_INIT;
    defer_json json_t *out = json_object();
    char *text;

    if (run_verb(ctx, q, out, &e)) {
        json_object_clear(out);
        json_object_set_new(out, "error", json_string(e.msg));
        r->status = e.class == ERR_NOTFOUND ? 404
                    : e.class == ERR_USER   ? 400
                                            : 500;
    }
    r->type = "application/json";
    text = json_dumps(out, JSON_COMPACT);
    str_add(&r->body, text ? text : "{}");
    str_addc(&r->body, '\n');
    free(text);
}

struct control *
control_start(struct world *w, struct vcenter *v, struct lab_nfc *n,
              struct err *e)
{
    struct control *c = xcalloc(1, sizeof *c);

    c->w = w;
    c->v = v;
    c->n = n;
    c->httpd =
        httpd_start(&(struct httpd_opts){ .handler = handle, .ctx = c }, e);
    if (!c->httpd) {
        free(c);
        return NULL;
    }
    return c;
}

void
control_stop(struct control *c)
{
    if (!c)
        return;
    httpd_stop(c->httpd);
    free(c);
}

uint16_t
control_port(const struct control *c)
{
    return httpd_port(c->httpd);
}
