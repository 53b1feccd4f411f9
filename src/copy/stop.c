/* Being asked to stop: signals as a descriptor. */
#include "copy/report.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

static int fd = -1;
static _Atomic bool asked;

int
stop_watch(struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return err_errno(e, errno, "blocking signals");
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return err_errno(e, errno, "ignoring SIGPIPE");
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "watching signals");
    return 0;
}

int
stop_fd(void)
{
    return fd;
}

void
stop_ask(void)
{
    asked = true;
}

bool
stop_pending(void)
{
    struct pollfd p = { fd, POLLIN, 0 };

    return asked || poll(&p, 1, 0) > 0;
}

bool
stop_asked(void)
{
    struct signalfd_siginfo info;

    if (!asked && fd >= 0 && read(fd, &info, sizeof info) > 0)
        asked = true;
    return asked;
}
