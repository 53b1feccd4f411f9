/* NBD servers for the copier's unit tests. */
#ifndef COPY_WORLD_H
#define COPY_WORLD_H

#include "base/proc.h"

#define COPY_WORLD_MS 60000 /* until what must happen has not */

/* Starts argv, which serves on the unix socket; returns once it listens.
 * Skips the test if the program is missing, and fails it if it stays mute. */
void copy_world_server(const char *const *argv, const char *socket,
                       struct proc *p);

#endif
