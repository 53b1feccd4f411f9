/* Private to the room: calls, faults, properties, tasks and pauses. */
#ifndef VSPHERE_SOAP_H
#define VSPHERE_SOAP_H

#include "data/data.h"
#include "net/net.h"
#include "vsphere/vsphere.h"

#define SOAP_ARGS_MAX 4

struct vs {
    struct http *http;
    char *where;  /* "host" or "host:port", for errors */
    char *url;    /* https://where/sdk */
    char *action; /* the header line SOAPAction */
    char *user;
    char *operation_id; /* NULL: none */
    struct secret *password;
    struct secret *cookie; /* "vmware_soap_session=..." with its quotes */
    const volatile sig_atomic_t *stop;
    bool logged_in;
    bool refused;    /* a login was: no more of them, they lock accounts */
    unsigned logins; /* ids that live in a session die when it grows */
    bool vcenter;
    char *about;
    char root[VS_ID_MAX], collector[VS_ID_MAX], views[VS_ID_MAX];
    char sessions[VS_ID_MAX], search[VS_ID_MAX]; /* "": the server has none */
    char fault_key[96]; /* first faultMessage key of the last fault */
    unsigned haste;     /* divides pauses and limits; 1 but in tests */
};

/* soap.c -------------------------------------------------------------- */

enum vim {
    VIM_SERVICE_CONTENT,
    VIM_LOGIN,
    VIM_LOGOUT,
    VIM_RETRIEVE,
    VIM_CONTINUE,
    VIM_CREATE_VIEW,
    VIM_DESTROY_VIEW,
    VIM_FIND_BY_PATH,
    VIM_FIND_BY_UUID,
    VIM_RECONFIG,
    VIM_SNAPSHOT_CREATE,
    VIM_SNAPSHOT_REMOVE,
    VIM_CONSOLIDATE,
    VIM_CHANGED_AREAS,
    VIM_SHUTDOWN,
    VIM_POWER_OFF,
    VIM_POWER_ON,
};

/* Values in the order of the method's table row; NULL leaves one out. */
struct soap_args {
    const char *v[SOAP_ARGS_MAX];
};
#define ARGS(...) (&(const struct soap_args){ { __VA_ARGS__ } })

struct answer {
    struct xml *tree;      /* owns all */
    const struct xml *val; /* first returnval within; NULL if there is none */
};
void answer_fini(struct answer *a);
#define defer_answer defer(answer_fini)

/* Calls m on the object `self`.  Logs in again once when the session is gone;
 * never looks at `stop`.  a may be NULL. */
int soap_call(struct vs *vs, enum vim m, const char *self,
              const struct soap_args *args, struct answer *a, struct err *e);
const char *soap_name(enum vim m);
/* How long its task may take. */
int64_t soap_task_ms(enum vim m);

/* fault.c ------------------------------------------------------------- */

/* Sets e from a fault's node (may be NULL), its element's name (or NULL) and
 * its text. */
int fault_set(struct vs *vs, const struct xml *fault, const char *element,
              const char *text, struct err *e);
bool fault_is(const struct err *e, const char *type);

/* session.c ----------------------------------------------------------- */

int session_login(struct vs *vs, struct err *e);
/* Takes the session's cookie from an answer, if there is one. */
void session_cookie(struct vs *vs, const struct http_res *r);
/* The newest version listed in vimServiceVersions.xml that this room was
 * written for.  Returns whether there was one. */
bool session_version(const struct xml *list, char *out, size_t n);
/* Sleeps; ERR_STOPPED when we are asked to stop. */
int session_pause(struct vs *vs, int64_t ms, struct err *e);

/* props.c ------------------------------------------------------------- */

/* Reads the NULL-ended paths of one object; a->val is its ObjectContent.
 * One that may not be read is an error, one that is unset is absent. */
int props_get(struct vs *vs, const char *type, const char *id,
              const char *const *paths, struct answer *a, struct err *e);
typedef int object_fn(void *ctx, const struct xml *object, struct err *e);
/* The same for all objects of a type below the root, page by page; here one
 * that may not be read is absent.  When the session is lost on the way it
 * starts again: `reset` is called first, each time. */
int props_each(struct vs *vs, const char *type, const char *const *paths,
               void (*reset)(void *ctx), object_fn *fn, void *ctx,
               struct err *e);
/* Value of a property; NULL if absent. */
const struct xml *prop(const struct xml *object, const char *path);
/* Its text; "" if absent. */
const char *prop_text(const struct xml *object, const char *path);
bool prop_true(const struct xml *object, const char *path);

/* Text at path below x; "" if absent. */
const char *text_at(const struct xml *x, const char *path);
bool text_true(const char *text);
/* Whole numbers below x; absent or no number is ERR_REMOTE. */
int num_at(const struct xml *x, const char *path, int64_t min, int64_t max,
           int64_t *out, struct err *e);
/* Copies a moref's id; none or too long is ERR_REMOTE. */
int ref_copy(const struct xml *ref, char out[VS_ID_MAX], const char *what,
             struct err *e);

/* inventory.c --------------------------------------------------------- */

/* "DC/vm/name" of an object that was read with name, parent, parentVApp;
 * names as stored.  The caller frees. */
char *inventory_path(struct vs *vs, const struct xml *object, struct err *e);
/* %2f %5c %25 become what they stand for, in place. */
void name_decode(char *name);

/* disk.c, nic.c ------------------------------------------------------- */

/* hardware: VirtualHardware; extra: ArrayOfOptionValue or NULL.  Sorted. */
int disks_read(const struct xml *hardware, const struct xml *extra,
               struct vs_disks *out, struct err *e);
/* networks: ArrayOfManagedObjectReference or NULL; asked for names only when
 * a card's backing has none. */
int nics_read(struct vs *vs, const struct xml *hardware,
              const struct xml *networks, struct vs_vm *vm, struct err *e);

/* task.c -------------------------------------------------------------- */

/* Calls a method X_Task and waits for its end.  result: id of the moref the
 * task gives, or NULL if it gives none. */
int task_run(struct vs *vs, enum vim m, const char *self,
             const struct soap_args *args, char *result, struct err *e);

#endif
