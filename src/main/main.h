/* What the programs are put together from. */
#ifndef MAIN_MAIN_H
#define MAIN_MAIN_H

#include "cli/cli.h"
#include "migrate/migrate.h"

extern const struct reader_ops reader_vddk;
extern const struct command cmd_worker;

#endif
