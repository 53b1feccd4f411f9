/* The lab's vCenter (or ESXi host): SOAP over HTTPS in front of a world.  As
 * strict as the real one or more: element order and types of requests are
 * checked against the WSDL, sessions expire, one task at a time has a VM. */
#ifndef LAB_VCENTER_H
#define LAB_VCENTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "lab/nfc/nfc.h"
#include "lab/world/world.h"

#define VCENTER_USER         "administrator@vsphere.local"
#define VCENTER_PASSWORD     "Lab-Passw0rd!"
#define VCENTER_SESSIONS_MAX 1000
#define VCENTER_HANDLES_MAX  52 /* open disks of one vCenter */
#define VCENTER_FAULTS_MAX   64
#define VCENTER_PRINT_MAX    100 /* of a fingerprint with NUL */

struct vcenter;

/* The key and certificate are made and written to DIR/ca.pem.  The world
 * stays the caller's and must live longer. */
struct vcenter *vcenter_start(struct world *w, struct err *e);
/* Ends waiting calls, then stops. */
void vcenter_stop(struct vcenter *v);
uint16_t vcenter_port(const struct vcenter *v);
/* Upper-case hex pairs with colons. */
const char *vcenter_sha1(const struct vcenter *v);
const char *vcenter_sha256(const struct vcenter *v);

/* The disk service asks here who may open what; ctx is the vcenter. */
void vcenter_resolve(void *ctx, const struct lab_nfc_request *q,
                     struct lab_nfc_answer *a);
/* Counts open handles for the limit; NULL: none. */
void vcenter_set_nfc(struct vcenter *v, struct lab_nfc *n);

/* All sessions are forgotten, as at a restart. */
void vcenter_drop_sessions(struct vcenter *v);
unsigned vcenter_sessions(struct vcenter *v);
/* Requests by method name, since the start. */
json_t *vcenter_requests(struct vcenter *v);

/* What tests make it do wrong:
 *
 *   method    name of the SOAP method, or "*"
 *   object    moref or VM name; absent: any
 *   nth       1       first of the matching calls that is hit
 *   count     1       so many are; 0: for ever
 *   fault     type of the fault, or "http" (status code in `code`), "drop"
 *             (connection closed before the work), "lose" (after the work),
 *             "garbage" (an answer that is no XML), "" (only the delay)
 *   message, fields {name: text}, message_key   of the fault
 *   in_task   false   the task ends with it, instead of the call
 *   delay_ms  0       before the answer, or before the end of the task
 *   code      503
 *
 * The answer of QueryChangedDiskAreas is bent by "cbt:zero-length",
 * "cbt:wrong-start", "cbt:unsorted", "cbt:beyond", "cbt:empty" and
 * "cbt:missing". */
int vcenter_add_fault(struct vcenter *v, const json_t *rule, struct err *e);
void vcenter_clear_faults(struct vcenter *v);

#endif
