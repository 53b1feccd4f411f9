/* NBD servers for the copier's unit tests. */
#include "copy_world.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* The socket's name is there before anybody listens. */
static bool
listens(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok;

    assert_true(fd >= 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    ok = !connect(fd, (struct sockaddr *)&a, sizeof a);
    close(fd);
    return ok;
}

void
copy_world_server(const char *const *argv, const char *socket, struct proc *p)
{
    struct proc_opts opts = { .argv = argv };
    int64_t end = clock_ms() + COPY_WORLD_MS;
    struct err e = ERR_INIT;

    if (proc_start(&opts, p, &e)) {
        print_message("needs %s: %s\n", argv[0], e.msg);
        skip();
    }
    while (!listens(socket)) {
        if (clock_ms() > end)
            fail_msg("%s does not listen", argv[0]);
        clock_pause(5);
    }
}
