/* The control port: plain HTTP on the loopback, POST /VERB with a JSON object
 * and a JSON object back.  By it tests see and change the world. */
#ifndef LAB_CONTROL_H
#define LAB_CONTROL_H

#include <stdint.h>

#include "base/err.h"
#include "lab/nfc/nfc.h"
#include "lab/vcenter/vcenter.h"
#include "lab/world/world.h"

struct control;

/* The three stay the caller's and must live longer.  The verb "quit" sends
 * SIGTERM to this process. */
struct control *control_start(struct world *w, struct vcenter *v,
                              struct lab_nfc *n, struct err *e);
void control_stop(struct control *c);
uint16_t control_port(const struct control *c);

#endif
