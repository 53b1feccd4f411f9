/* Faults in vSphere's words. */
#include "lab/world/world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int
wfault_set(struct wfault *f, const char *type, const char *fmt, ...)
{
    va_list ap;

    memset(f, 0, sizeof *f);
    snprintf(f->type, sizeof f->type, "%s", type);
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    return -1;
}

void
wfault_field(struct wfault *f, const char *name, const char *ref,
             const char *text)
{
    unsigned i = f->fields;

    assert(i < WFAULT_FIELDS);
    snprintf(f->field[i].name, sizeof f->field[i].name, "%s", name);
    snprintf(f->field[i].ref, sizeof f->field[i].ref, "%s", ref ? ref : "");
    snprintf(f->field[i].text, sizeof f->field[i].text, "%s", text);
    f->fields++;
}

int
wfault_system(struct wfault *f, const char *why)
{
    wfault_set(f, "SystemError", "A general system error occurred: %s", why);
    wfault_field(f, "reason", NULL, why);
    return -1;
}
