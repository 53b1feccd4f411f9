/* Names of directories and replicas, safe as file names. */
#include "job/job.h"

#include <string.h>

#define NAME_BYTES_MAX 200 /* of a VM's name within them, well below 255 */

void
job_sanitize(char *name)
{
    for (char *p = name; *p; p++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                    "0123456789._-",
                    *p))
            *p = '_';
    if (*name == '.')
        *name = '_';
}

char *
job_dir_name(const char *vm_name, const char *moref)
{
    defer_free char *vm = xstrndup(vm_name, NAME_BYTES_MAX);
    defer_free char *id = xstrndup(moref, NAME_BYTES_MAX / 4);

    job_sanitize(vm);
    job_sanitize(id);
    return xasprintf("%s_%s", vm, id);
}
