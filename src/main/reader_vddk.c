/* The source `vddk`, as the state machine needs it: what must be there, what
 * the copier is told. */
#include "main/main.h"
#include "base/fs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* Series of the library that we speak to, newest first. */
static const char *const series[] = { "9", "8", "7", "6" };
static const char *const places[] = { "lib64/", "" };

static int
vddk_check(const struct config *c, struct err *e)
{
    const char *dir = c->migration.vddk_path;
    struct stat st;

    if (!dir || !*dir)
        return err_set(e, ERR_USER,
                       "%s: migration.vddk_path is missing; unpack VMware's "
                       "VDDK and name its directory",
                       c->file);
    errno = 0;
    if (stat(dir, &st) || !S_ISDIR(st.st_mode))
        return err_set(e, ERR_USER,
                       "migration.vddk_path: %s: %s; unpack VMware's VDDK and "
                       "name its directory",
                       dir, strerror(errno ? errno : ENOTDIR));
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (size_t j = 0; j < sizeof series / sizeof *series; j++) {
            defer_free char *path = xasprintf("%s/%slibvixDiskLib.so.%s", dir,
                                              places[i], series[j]);

            if (fs_exists(path))
                return 0;
        }
    return err_set(e, ERR_USER,
                   "migration.vddk_path: there is no lib64/libvixDiskLib.so.9, "
                   ".8, .7 or .6 in %s; VDDK 6.7 or later for x86_64 is needed",
                   dir);
}

/* For the copier alone: these libraries would replace the system's. */
static char *
vddk_environment(const struct config *c)
{
    return xasprintf("LD_LIBRARY_PATH=%s/lib64", c->migration.vddk_path);
}

static void
vddk_describe(const struct config *c, const struct source_disk *d,
              struct str *q)
{
    str_add(q, "source.kind vddk\n");
    str_addf(q, "source.libdir %s\n", c->migration.vddk_path);
    str_addf(q, "source.server %s\n", d->server);
    str_addf(q, "source.port %u\n", d->port ? d->port : 443u);
    str_addf(q, "source.user %s\n", c->vcenter.user);
    str_addf(q, "source.password %s\n", secret_reveal(c->vcenter.password));
    str_addf(q, "source.thumbprint %s\n", d->thumbprint);
    str_addf(q, "source.vm %s\n", d->vm);
    str_addf(q, "source.snapshot %s\n", d->snapshot);
    str_addf(q, "source.path %s\n", d->path);
}

const struct reader_ops reader_vddk = {
    .name = "vddk",
    .check = vddk_check,
    .environment = vddk_environment,
    .describe = vddk_describe,
};
