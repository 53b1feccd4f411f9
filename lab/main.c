/* v2c-lab: a pretend vCenter or ESXi host with guests that write, for trials
 * and tests. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "data/data.h"
#include "lab/control/control.h"
#include "lab/nfc/nfc.h"
#include "lab/vcenter/vcenter.h"
#include "lab/world/world.h"
#include "net/net.h"

#define LIBRARY   "libvixDiskLib.so.8"
#define DOWN_MS   60000
#define CTL_MS    600000
#define LOG_SHOWN 2000 /* bytes of lab.log shown when the start failed */
#define STATE_MAX (16u << 20)

static const char usage[] =
    "usage: v2c-lab up --dir DIR [--world FILE.json] [--detach]\n"
    "       v2c-lab down --dir DIR\n"
    "       v2c-lab ctl --dir DIR VERB [key=value...]\n"
    "\n"
    "up    starts the lab below DIR and writes DIR/lab.json\n"
    "down  stops it and waits for its end\n"
    "ctl   posts to its control port; values are JSON, or else text\n";

struct opts {
    const char *dir, *world;
    bool detach;
    bool ready;  /* it is the one that --detach started */
    char **rest; /* what is not an option; NULL-ended */
};

struct lab {
    const char *dir;
    int lock;
    struct world *world;
    struct vcenter *vcenter;
    struct lab_nfc *nfc;
    struct control *control;
};

static char *
below(const char *dir, const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

/* The library lies beside the program, where the build put it. */
static int
link_library(const char *dir, struct err *e)
{
    defer_free char *lib64 = below(dir, "vddk/lib64");
    defer_free char *to = below(lib64, LIBRARY);
    defer_free char *self = proc_self();
    defer_free char *from = below(dirname(self), "vddk/" LIBRARY);

    if (!fs_exists(from))
        return err_set(e, ERR_NOTFOUND,
                       "%s is missing: start v2c-lab from its build "
                       "directory",
                       from);
    if (fs_mkdirs(lib64, 0700, e) || fs_remove(to, e))
        return -1;
    return symlink(from, to) ? err_errno(e, errno, "linking %s", to) : 0;
}

static json_t *
describe_vm(const struct vm *vm)
{
    json_t *disks = json_array(), *o;
    struct str path = STR_INIT;
    char file[512];

    for (size_t i = 0; i < vm->disks.n; i++) {
        const struct vm_disk *d = vm->disks.p[i];

        vm_disk_path(vm, d, LDISK_NOW, file, sizeof file);
        json_array_append_new(disks,
                              json_pack("{s:i, s:s, s:I, s:s, s:s}", "key",
                                        d->key, "label", d->label, "size",
                                        (json_int_t)ldisk_size(d->disk), "file",
                                        file, "base", ldisk_base(d->disk)));
    }
    ent_path(vm->ent, &path);
    o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "name", vm->ent->name,
                  "moref", vm->ent->id, "path", str_text(&path), "uuid",
                  vm->uuid, "instance_uuid", vm->instance_uuid, "disks", disks);
    str_fini(&path);
    return o;
}

static int
write_state(const struct lab *l, struct err *e)
{
    defer_free char *path = below(l->dir, "lab.json");
    defer_free char *ca = below(l->dir, "ca.pem");
    defer_free char *vddk = below(l->dir, "vddk");
    defer_free char *control =
        xasprintf("http://127.0.0.1:%u", control_port(l->control));
    json_t *vms = json_array();
    defer_json json_t *state = NULL;

    world_lock(l->world);
    for (size_t i = 0; i < l->world->vms.n; i++)
        json_array_append_new(vms, describe_vm(l->world->vms.p[i]));
    world_unlock(l->world);
    state = json_pack(
        "{s:i, s:s, s:s, s:s, s:{s:s, s:i, s:s, s:s, s:s, s:s, s:s}, s:o}",
        "pid", (int)getpid(), "control", control, "dir", l->dir, "vddk_path",
        vddk, "vcenter", "host", "127.0.0.1", "port",
        (int)vcenter_port(l->vcenter), "user", VCENTER_USER, "password",
        VCENTER_PASSWORD, "sha1", vcenter_sha1(l->vcenter), "sha256",
        vcenter_sha256(l->vcenter), "ca_file", ca, "vms", vms);
    return json_replace(path, state, 0600, e);
}

static int
lab_start(struct lab *l, const struct opts *o, struct err *e)
{
    defer_json json_t *config = NULL;
    defer_free char *nfc = below(l->dir, "vddk/lab");
    defer_free char *lock = below(l->dir, "lab.lock");

    if (fs_lock(lock, "v2c-lab", &l->lock, e))
        return err_wrap(e, "a lab runs in %s already", l->dir);
    if (o->world && !(config = json_read(o->world, e)))
        return -1;
    if (link_library(l->dir, e))
        return -1;
    l->world = world_new(l->dir, config, e);
    if (!l->world)
        return -1;
    l->vcenter = vcenter_start(l->world, e);
    if (!l->vcenter)
        return -1;
    l->nfc = lab_nfc_start(nfc, vcenter_resolve, l->vcenter, e);
    if (!l->nfc)
        return -1;
    vcenter_set_nfc(l->vcenter, l->nfc);
    lab_nfc_set_latency(l->nfc, l->world->latency_us);
    lab_nfc_set_link(l->nfc, (uint64_t)l->world->link_mbps << 20);
    l->control = control_start(l->world, l->vcenter, l->nfc, e);
    return l->control ? write_state(l, e) : -1;
}

static void
lab_stop(struct lab *l)
{
    defer_free char *state = below(l->dir, "lab.json");
    struct err e = ERR_INIT;

    if (l->world)
        world_halt(l->world);
    control_stop(l->control);
    if (l->nfc)
        lab_nfc_stop(l->nfc);
    vcenter_stop(l->vcenter);
    world_free(l->world);
    if (l->lock >= 0 && fs_remove(state, &e))
        log_error("%s", e.msg);
    if (l->lock >= 0)
        close(l->lock);
}

/* The signals that end it, blocked in all threads. */
static void
block_signals(sigset_t *set)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

/* ready: gets a byte when the lab is up, and is closed; NULL: none. */
static int
serve(const struct opts *o, int *ready, struct err *e)
{
    struct lab l = { .dir = o->dir, .lock = -1 };
    siginfo_t from = { 0 };
    sigset_t set;
    int rc, got;

    block_signals(&set);
    rc = lab_start(&l, o, e);
    if (!rc) {
        log_info("lab is up: https://127.0.0.1:%u, control port %u",
                 vcenter_port(l.vcenter), control_port(l.control));
        if (ready && fs_write_all(*ready, "1", 1))
            log_warn("nobody waits for the start any more");
        if (ready)
            close(take_fd(*ready));
        got = sigwaitinfo(&set, &from);
        log_info("lab goes down: %s from process %d", strsignal(got),
                 (int)from.si_pid);
    }
    lab_stop(&l);
    return rc;
}

static void
show_log(const char *path)
{
    struct str s = STR_INIT;
    struct err e = ERR_INIT;

    if (!fs_read(path, STATE_MAX, &s, &e) && s.n)
        fprintf(stderr, "%s", s.p + (s.n > LOG_SHOWN ? s.n - LOG_SHOWN : 0));
    str_fini(&s);
}

/* Runs this program again as the daemon; it tells by a byte on its stdout
 * that it is up. */
static int
detach(const struct opts *o, struct err *e)
{
    defer_free char *log = below(o->dir, "lab.log");
    defer_free char *self = proc_self();
    const char *argv[] = { self,      "up", "--dir", o->dir,
                           "--ready", NULL, NULL,    NULL };
    defer_close int to =
        open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct proc p = PROC_INIT;
    char byte;
    ssize_t n;

    if (o->world) {
        argv[5] = "--world";
        argv[6] = o->world;
    }
    if (to < 0)
        return err_errno(e, errno, "opening %s", log);
    if (proc_start(
            &(struct proc_opts){
                .argv = argv, .in = -1, .out = PROC_PIPE, .err = to },
            &p, e))
        return -1;
    do
        n = read(p.out, &byte, 1);
    while (n < 0 && errno == EINTR);
    proc_close(&p);
    if (n == 1)
        return 0;
    proc_stop(&p, SIGTERM, DOWN_MS);
    show_log(log);
    return err_set(e, ERR_REMOTE, "the lab did not start, see %s", log);
}

/* Lives on when who started it is gone. */
static int
run_daemon(const struct opts *o, struct err *e)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    defer_close int ready = fcntl(1, F_DUPFD_CLOEXEC, 3);

    if (null < 0 || ready < 0 || dup2(null, 1) < 0)
        return err_errno(e, errno, "becoming a daemon");
    close(null);
    prctl(PR_SET_PDEATHSIG, 0);
    setsid();
    return serve(o, &ready, e);
}

static int
cmd_up(const struct opts *o, struct err *e)
{
    struct stat st;

    if (*o->rest)
        return err_set(e, ERR_USER, "up takes no \"%.60s\"", *o->rest);
    if (fs_mkdirs(o->dir, 0700, e))
        return -1;
    if (stat(o->dir, &st) || st.st_mode & 077)
        if (chmod(o->dir, 0700))
            return err_errno(e, errno, "making %s private", o->dir);
    if (o->ready)
        return run_daemon(o, e);
    return o->detach ? detach(o, e) : serve(o, NULL, e);
}

static json_t *
read_state(const char *dir, struct err *e)
{
    defer_free char *path = below(dir, "lab.json");

    if (!fs_exists(path)) {
        err_set(e, ERR_NOTFOUND, "no lab runs in %s", dir);
        return NULL;
    }
    return json_read(path, e);
}

static int
cmd_down(const struct opts *o, struct err *e)
{
    defer_json json_t *state = NULL;
    defer_free char *lock = below(o->dir, "lab.lock");
    struct pollfd p = { .events = POLLIN };
    pid_t pid;

    if (!fs_locked(lock))
        return err_set(e, ERR_NOTFOUND, "no lab runs in %s", o->dir);
    state = read_state(o->dir, e);
    if (!state)
        return -1;
    pid = (pid_t)json_num(state, "pid", 0);
    if (pid <= 1)
        return err_set(e, ERR_DAMAGED, "lab.json names no process");
    p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (p.fd < 0)
        return err_errno(e, errno, "finding process %d", (int)pid);
    if (kill(pid, SIGTERM))
        err_errno(e, errno, "stopping process %d", (int)pid);
    else if (poll(&p, 1, DOWN_MS) != 1)
        err_set(e, ERR_BUSY, "process %d still runs after %d s", (int)pid,
                DOWN_MS / 1000);
    close(p.fd);
    return e->class == ERR_NONE ? 0 : -1;
}

static int
add_pair(json_t *o, const char *pair, struct err *e)
{
    const char *eq = strchr(pair, '=');
    defer_free char *key = eq ? xstrndup(pair, (size_t)(eq - pair)) : NULL;
    json_t *v;

    if (!key || !*key)
        return err_set(e, ERR_USER, "\"%.60s\" is not key=value", pair);
    v = json_loads(eq + 1, JSON_DECODE_ANY, NULL);
    json_object_set_new(o, key, v ? v : json_string(eq + 1));
    return 0;
}

static int
post(const char *url, const char *body, struct err *e)
{
    defer(http_free_ptr) struct http *h =
        http_new(&(struct http_opts){ .timeout_ms = CTL_MS }, e);
    struct http_res r = { 0 };
    int rc;

    if (!h || http_do(h,
                      &(struct http_req){ .method = "POST",
                                          .url = url,
                                          .body = body,
                                          .body_len = strlen(body) },
                      &r, e))
        return -1;
    printf("%s", str_text(&r.body));
    rc = r.status == 200
             ? 0
             : err_set(e, ERR_REMOTE, "the lab refused it (%d)", r.status);
    http_res_fini(&r);
    return rc;
}

static int
cmd_ctl(const struct opts *o, struct err *e)
{
    defer_json json_t *state = NULL;
    defer_json json_t *in = json_object();
    defer_free char *url = NULL;
    char *body;
    int rc;

    if (!*o->rest)
        return err_set(e, ERR_USER, "ctl needs a verb");
    for (char **p = o->rest + 1; *p; p++)
        if (add_pair(in, *p, e))
            return -1;
    state = read_state(o->dir, e);
    if (!state)
        return -1;
    url = xasprintf("%s/%s", json_str(state, "control", ""), *o->rest);
    body = json_dumps(in, JSON_COMPACT);
    rc = post(url, body, e);
    free(body);
    return rc;
}

static const struct {
    const char *name;
    int (*fn)(const struct opts *, struct err *);
} commands[] = {
    { "up", cmd_up },
    { "down", cmd_down },
    { "ctl", cmd_ctl },
};

static int
parse(int argc, char **argv, struct opts *o)
{
    static const struct option longs[] = {
        { "dir", required_argument, NULL, 'd' },
        { "world", required_argument, NULL, 'w' },
        { "detach", no_argument, NULL, 'D' },
        { "ready", no_argument, NULL, 'r' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (c) {
        case 'd': o->dir = optarg; break;
        case 'w': o->world = optarg; break;
        case 'D': o->detach = true; break;
        case 'r': o->ready = true; break;
        case 'h': printf("%s", usage); exit(0);
        default: return -1;
        }
    }
    o->rest = argv + optind;
    return o->dir && *o->dir ? 0 : -1;
}

int
main(int argc, char **argv)
{
    struct opts o = { 0 };
    struct err e = ERR_INIT;
    defer_free char *dir = NULL;
    size_t i = 0, n = sizeof commands / sizeof *commands;

    if (argc > 1 && !strcmp(argv[1], "--help")) {
        printf("%s", usage);
        return 0;
    }
    while (argc > 1 && i < n && strcmp(commands[i].name, argv[1]))
        i++;
    if (argc < 2 || i == n || parse(argc - 1, argv + 1, &o)) {
        fprintf(stderr, "%s", usage);
        return 2;
    }
    if (o.dir[0] != '/') {
        defer_free char *cwd = getcwd(NULL, 0);

        dir = below(cwd ? cwd : "", o.dir);
        o.dir = dir;
    }
    if (!commands[i].fn(&o, &e))
        return 0;
    fprintf(stderr, "v2c-lab: %s\n", e.msg);
    return e.class == ERR_USER ? 2 : 1;
}
