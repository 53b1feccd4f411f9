/* Power: what is as wanted already is success. */
#include "vsphere/soap.h"

#include <string.h>

int
vs_shutdown_guest(struct vs *vs, const char *vm, struct err *e)
{
    return soap_call(vs, VIM_SHUTDOWN, vm, NULL, NULL, e);
}

static int
set_power(struct vs *vs, const char *vm, enum vim m, const char *wanted,
          struct err *e)
{
    struct err why = ERR_INIT;
    char power[16], tools[40];

    if (!task_run(vs, m, vm, NULL, NULL, e))
        return 0;
    if (!fault_is(e, "InvalidPowerState") ||
        vs_get_power(vs, vm, power, tools, &why) || strcmp(power, wanted))
        return -1;
    err_clear(e);
    return 0;
}

int
vs_power_off(struct vs *vs, const char *vm, struct err *e)
{
    return set_power(vs, vm, VIM_POWER_OFF, "poweredOff", e);
}

int
vs_power_on(struct vs *vs, const char *vm, struct err *e)
{
    return set_power(vs, vm, VIM_POWER_ON, "poweredOn", e);
}
