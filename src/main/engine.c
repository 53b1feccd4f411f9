/* v2c-engine: the command line. */
#include "main/main.h"

int
main(int argc, char **argv)
{
    const struct command commands[] = { cmd_run,   cmd_status, cmd_finalize,
                                        cmd_limit, cmd_worker, { NULL } };

    return cli_main(commands, argc, argv);
}
