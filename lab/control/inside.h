/* What the files of the control port share. */
#ifndef LAB_CONTROL_INSIDE_H
#define LAB_CONTROL_INSIDE_H

#include "data/data.h"
#include "lab/control/control.h"

struct control {
    struct world *w;
    struct vcenter *v;
    struct lab_nfc *n;
    struct httpd *httpd;
};

/* Adds to `out`, or fails.  Takes the world's lock itself. */
typedef int verb_fn(struct control *c, const json_t *in, json_t *out,
                    struct err *e);

verb_fn verb_world, verb_write, verb_truth, verb_power, verb_guest, verb_set,
    verb_disk, verb_latency, verb_link, verb_session, verb_fault, verb_vddk,
    verb_reset_cbt, verb_snapshot, verb_quit;

/* The VM and disk that `in` names; with the lock held.  NULL with e set. */
struct vm *control_vm(struct control *c, const json_t *in, struct err *e);
struct vm_disk *control_disk(const struct vm *vm, const json_t *in,
                             struct err *e);

#endif
