/* Specs and configuration: any bytes, as YAML. */
#include "fuzz.h"
#include "job/job.h"

#include <sys/mman.h>
#include <unistd.h>

static void
read_specs(const char *path)
{
    struct config none = { 0 };
    struct specs all = { 0 };
    struct err e = ERR_INIT;

    if (spec_read(path, &none, &all, &e))
        check(e.class != ERR_NONE && *e.msg);
    else
        check(all.n);
    for (size_t i = 0; i < all.n; i++) {
        json_t *j = spec_json(all.p[i]);

        check(j && *spec_vm(all.p[i]));
        json_decref(j);
    }
    specs_fini(&all);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int file = -1;
    static char path[64];
    struct err e = ERR_INIT;
    struct config *c;

    if (file < 0) {
        file = memfd_create("spec", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    check(file >= 0 && !ftruncate(file, 0));
    check(pwrite(file, data, n, 0) == (ssize_t)n);
    read_specs(path);
    c = config_read(path, &e);
    check(c || (e.class != ERR_NONE && *e.msg));
    config_free(c);
    return 0;
}
