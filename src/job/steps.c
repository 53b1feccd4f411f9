/* The steps of a migration, out of their table. */
#include "job/job.h"

#include <string.h>

const struct step_info steps[STEP_COUNT] = {
#define STEP(name, text, next, down) \
    [STEP_##name] = { #name, text, STEP_##next, down },
#include "job/steps.def"
#undef STEP
};

enum step
step_parse(const char *name)
{
    enum step s = 0;

    while (s < STEP_COUNT && strcmp(steps[s].name, name))
        s++;
    return s;
}
