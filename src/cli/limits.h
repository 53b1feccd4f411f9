/* Private to the room: what `limit` shows. */
#ifndef CLI_LIMITS_H
#define CLI_LIMITS_H

#include "base/clock.h"
#include "base/fs.h"
#include "cli/cli.h"
#include "limit/limit.h"

/* Prints all rates and slots below a control directory. */
int limits_show(const char *control_dir, bool as_json, struct err *e);
/* File of a disk's rate in its VM's directory; caller frees. */
char *limits_disk_path(const char *dir, const struct disk_record *d);

#endif
