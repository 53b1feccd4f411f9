/* Between the two halves of the disk service, server and knobs. */
#ifndef LAB_NFC_KNOBS_H
#define LAB_NFC_KNOBS_H

#include "lab/nfc/nfc.h"
#include "lab/nfc/wire.h"

/* Makes the shared file in dir.  NULL on failure. */
struct wire_shared *knobs_map(const char *dir, struct err *e);
void knobs_unmap(struct wire_shared *s);

struct wire_shared *nfc_shared(struct lab_nfc *n);
struct lab_nfc *nfc_lock(struct lab_nfc *n);
void nfc_unlock(struct lab_nfc **n);
void nfc_open_counts(struct lab_nfc *n, struct lab_nfc_stats *s);

#endif
