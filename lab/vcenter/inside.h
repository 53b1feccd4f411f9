/* What the files of the vCenter share. */
#ifndef LAB_VCENTER_INSIDE_H
#define LAB_VCENTER_INSIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "base/vec.h"
#include "data/data.h"
#include "lab/vcenter/val.h"
#include "lab/vcenter/vcenter.h"
#include "lab/world/world.h"
#include "net/net.h"

#define COOKIE_MAX     64
#define MOREF_MAX      100  /* of an id with NUL; "session[<uuid>]<uuid>-1" */
#define FILTERS_MAX    1000 /* of one session */
#define VIEWS_MAX      1000
#define COLLECTORS_MAX 100
#define TOKENS_MAX     100

/* A moref of a request or a property. */
struct moref {
    char type[64], id[MOREF_MAX];
};
struct morefs VEC(struct moref);

struct view {
    char id[MOREF_MAX];
    struct moref container;
    struct str_list VEC(char *) types;
    bool recursive;
};

/* The state a filter last told for one object. */
struct told {
    struct moref obj;
    struct val *props; /* array of DynamicProperty */
};

struct filter {
    char id[WORLD_ID_MAX];
    char collector[MOREF_MAX];
    struct xml *request; /* its own copy of the one that made it */
    const struct xml *spec;
    bool partial;
    struct VEC(struct told) told;
};

/* The rest of a paged answer: objects as XML. */
struct pages {
    char token[32];
    char collector[MOREF_MAX];
    struct VEC(char *) objects;
    size_t next, size; /* size of a page */
};

struct collector {
    char id[WORLD_ID_MAX];
    unsigned version; /* of the last answer to WaitForUpdatesEx */
    unsigned calls;   /* of WaitForUpdatesEx; a newer one ends the older */
    unsigned waiting; /* those under way */
    bool dead;        /* the last of them frees it */
};

struct session {
    char cookie[COOKIE_MAX]; /* without quotes */
    char key[40], user[128], agent[96];
    int64_t login, last_wall, last; /* wall, wall, clock_ms */
    uint64_t calls;
    unsigned next_id;
    bool dead;      /* dropped while a call used it */
    unsigned users; /* calls that run */
    struct VEC(struct collector *) collectors; /* the first is the default */
    struct VEC(struct filter *) filters;
    struct VEC(struct view *) views;
    struct VEC(struct pages *) pages;
};

struct count {
    char method[64];
    uint64_t n;
};

struct rule {
    char method[64], object[160];
    uint64_t nth, count, seen;
    struct wfault fault;
    bool in_task;
    int delay_ms;
    int code;
};

/* Everything below is under the world's lock. */
struct vcenter {
    struct world *w;
    struct httpd *httpd;
    struct lab_nfc *nfc;
    char sha1[VCENTER_PRINT_MAX], sha256[VCENTER_PRINT_MAX];
    uint64_t rng;
    struct VEC(struct session *) sessions;
    struct VEC(struct count) counts;
    struct VEC(struct rule) rules;
};

/* One request. */
struct call {
    struct vcenter *v;
    struct world *w;
    const struct httpd_req *req;
    struct httpd_res *res;
    const struct xml *q; /* the method's element */
    const char *method;
    struct moref self;
    struct session *s; /* NULL: not logged in */
    struct vm *vm;     /* self or its VM; NULL otherwise */
    struct str out;    /* content of the Response element */
    struct wfault fault;
    struct rule rule; /* what is to go wrong; rule.method "": nothing */
};

/* 0, or -1 with the fault set.  With the world's lock held. */
typedef int method_fn(struct call *c);

/* tls.c */
int tls_make(const char *dir, struct str *cert, struct str *key,
             char sha1[VCENTER_PRINT_MAX], char sha256[VCENTER_PRINT_MAX],
             struct err *e);

/* soap.c: one POST, to its answer */
void soap_post(struct call *c);

/* check.c: is the request what the WSDL asks for? */
int check_request(const struct xml *call, struct wfault *f);

/* session.c */
struct session *session_of(struct vcenter *v, const char *cookie_header);
/* User name and password, or the value of a cookie. */
bool session_credentials(struct vcenter *v, const char *user,
                         const char *password, const char *cookie);
void session_end(struct vcenter *v, struct session *s);
/* Frees it once nobody uses it. */
void session_release(struct session *s);
struct val *session_val(const struct session *s);
void filter_free(struct filter *f);
void view_free(struct view *v);
void pages_free(struct pages *p);

/* rules.c: faults on demand */
void rules_pick(struct call *c);

/* objects.c */
/* "VirtualMachine" and so on; NULL when there is no such object (any more)
 * for this session. */
const char *object_type(struct call *c, const char *id);
/* The type says so and the object is there. */
bool object_exists(struct call *c, const struct moref *m);
/* One property with its whole tree; NULL when unset. */
struct val *object_prop(struct call *c, const struct moref *m,
                        const char *name);
const char *ent_type(const struct world *w, const struct ent *e);
void moref_of(const struct world *w, const struct ent *e, struct moref *m);
struct val *service_content(const struct world *w);
const char *service_id(const struct world *w, const char *type);

/* props_*.c: by kind of object; NULL when unset */
struct val *prop_entity(struct call *c, const struct ent *e, const char *name);
struct val *prop_vm(const struct vm *vm, const char *name);
struct val *prop_snapshot(const struct snap *s, const char *name);
struct val *prop_place(struct call *c, const struct ent *e, const char *name);
struct val *vm_config(const struct vm *vm, const struct snap *s);
void vm_devices(struct val *hardware, const struct vm *vm,
                const struct snap *s);
struct val *task_info(const struct task *t);

/* view.c */
void view_members(struct call *c, const struct view *view, struct morefs *out);
struct view *view_of(struct session *s, const char *id);

/* pc.c: the property collector */
struct found {
    struct moref obj;
    struct val *props; /* array of DynamicProperty */
};
struct founds VEC(struct found);
void founds_fini(struct founds *f);
/* Walks a PropertyFilterSpec. */
int pc_collect(struct call *c, const struct xml *spec, struct founds *out);
int read_moref(const struct xml *x, struct moref *m);

/* pc_wait.c */
struct collector *collector_of(struct session *s, const char *id);

/* Faults that many make. */
int fault_gone(struct call *c, const struct moref *m);
int fault_argument(struct call *c, const char *property);

/* answers */
void answer(struct call *c, const char *tag, const struct val *v,
            const char *declared);
void answer_ref(struct call *c, const char *type, const char *id);
int start_task(struct call *c, struct task *t);

/* arguments of a checked request */
const char *arg(const struct call *c, const char *path); /* NULL if absent */
bool arg_flag(const struct call *c, const char *path, bool otherwise);

/* methods, by file */
method_fn m_service_content, m_current_time, m_login, m_logout,
    m_session_is_active;
method_fn m_retrieve, m_retrieve_ex, m_continue, m_cancel_retrieve;
method_fn m_create_collector, m_destroy_collector, m_create_filter,
    m_destroy_filter, m_wait, m_cancel_wait;
method_fn m_create_view, m_destroy_view, m_find_path, m_find_uuid,
    m_find_all_uuid, m_find_child;
method_fn m_reconfig, m_create_snapshot, m_remove_snapshot,
    m_remove_all_snapshots, m_consolidate, m_power_on, m_power_off,
    m_shutdown_guest, m_cancel_task, m_changed_areas;

#endif
