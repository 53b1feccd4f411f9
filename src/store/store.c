/* Records as files: state.json, events.jsonl, markers, the lock. */
#include "store/store.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define STATE  "state.json"
#define EVENTS "events.jsonl"
#define LOCK   "lock"

#define ENDING_MS     (300 * 1000) /* for a worker to stop cleanly */
#define LOCK_PAUSE_MS 200

struct store {
    char *dir;
    int lock, events; /* descriptors */
};

/* "process 12 of run 10 on HOST since TIME" */
static char *
holder_text(void)
{
    char host[65] = "", when[CLOCK_TEXT_MAX];

    gethostname(host, sizeof host - 1);
    clock_text(clock_wall_ms(), when);
    return xasprintf("process %d of run %d on %s since %s", (int)getpid(),
                     (int)getppid(), host, when);
}

/* A worker ends when its `run` has ended; it only has to stop cleanly. */
static bool
holder_is_ending(const char *lock)
{
    defer(str_fini) struct str text = STR_INIT;
    char host[65] = "", pid[12];
    defer_free char *here = NULL;
    const char *run;
    uint64_t n;
    struct err e;

    gethostname(host, sizeof host - 1);
    here = xasprintf(" on %s since ", host);
    if (fs_read(lock, 256, &text, &e) || !strstr(str_text(&text), here))
        return false;
    run = strstr(str_text(&text), " of run ");
    if (!run)
        return false;
    run += strlen(" of run ");
    snprintf(pid, sizeof pid, "%.*s", (int)strspn(run, "0123456789"), run);
    return !num_u64(pid, 2, INT32_MAX, &n, "pid", &e) && kill((pid_t)n, 0) &&
           errno == ESRCH;
}

static int
take_lock(const char *lock, int *fd, struct err *e)
{
    defer_free char *who = holder_text();
    int64_t end = clock_ms() + ENDING_MS;
    bool told = false;

    while (fs_lock(lock, who, fd, e)) {
        if (e->class != ERR_BUSY || clock_ms() > end || !holder_is_ending(lock))
            return -1;
        if (!told)
            log_info("%s, whose run has ended; waiting for it", e->msg);
        told = true;
        clock_pause(LOCK_PAUSE_MS);
    }
    return 0;
}

struct store *
store_open(const char *control_dir, const char *vm_name, const char *moref,
           struct err *e)
{
    defer(store_close_ptr) struct store *s = xcalloc(1, sizeof *s);
    defer_free char *name = job_dir_name(vm_name, moref);
    defer_free char *lock = NULL, *events = NULL;

    s->lock = s->events = -1;
    s->dir = xasprintf("%s/%s", control_dir, name);
    if (fs_mkdirs(s->dir, 0700, e)) {
        err_wrap(e, "migration.control_dir (run as root, or set it to a "
                    "directory of yours)");
        return NULL;
    }
    lock = store_path(s, LOCK);
    if (take_lock(lock, &s->lock, e)) {
        if (e->class == ERR_BUSY)
            err_wrap(e, "VM %s is being migrated already", vm_name);
        return NULL;
    }
    events = store_path(s, EVENTS);
    s->events = open(events, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (s->events < 0) {
        err_errno(e, errno, "opening %s", events);
        return NULL;
    }
    return take(s);
}

void
store_close(struct store *s)
{
    if (!s)
        return;
    if (s->events >= 0)
        close(s->events);
    if (s->lock >= 0)
        close(s->lock);
    free(s->dir);
    free(s);
}

const char *
store_dir(const struct store *s)
{
    return s->dir;
}

char *
store_path(const struct store *s, const char *name)
{
    return xasprintf("%s/%s", s->dir, name);
}

/* state.engine.json is what the first engine's early releases wrote. */
static char *
state_path(const char *dir)
{
    char *path = xasprintf("%s/" STATE, dir), *old;

    if (fs_exists(path))
        return path;
    old = xasprintf("%s/state.engine.json", dir);
    if (fs_exists(old)) {
        free(path);
        return old;
    }
    free(old);
    return path;
}

struct record *
store_load(struct store *s, struct err *e)
{
    defer_free char *path = state_path(s->dir);
    defer_json json_t *j = NULL;

    if (!fs_exists(path))
        return record_new();
    j = json_read(path, e);
    return j ? record_parse(j, path, e) : NULL;
}

int
store_replace(struct store *s, const char *name, const json_t *v, struct err *e)
{
    defer_free char *path = store_path(s, name);

    return json_replace(path, v, 0600, e);
}

int
store_save(struct store *s, struct record *r, struct err *e)
{
    defer_json json_t *j = NULL;

    r->updated = clock_wall_ms();
    j = record_json(r);
    return store_replace(s, STATE, j, e);
}

int
store_event(struct store *s, const char *name, json_t *what, struct err *e)
{
    defer_json json_t *line = json_object(), *rest = what;
    defer_free char *path = store_path(s, EVENTS);
    char when[CLOCK_TEXT_MAX];

    clock_text(clock_wall_ms(), when);
    json_object_set_new(line, "time", json_string(when));
    json_object_set_new(line, "event", json_string(name));
    if (rest)
        json_object_update(line, rest);
    return json_write_line(s->events, line, path, e);
}

bool
store_marked(const struct store *s, const char *mark)
{
    defer_free char *path = store_path(s, mark);

    return fs_exists(path);
}

int
store_unmark(struct store *s, const char *mark, struct err *e)
{
    defer_free char *path = store_path(s, mark);

    return fs_remove(path, e);
}

int
store_mark(const char *dir, const char *mark, struct err *e)
{
    defer_free char *path = xasprintf("%s/%s", dir, mark);
    defer_close int fd =
        open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_errno(e, errno, "creating %s", path);
    return 0;
}

static bool
wanted(const struct record *r, const char *vm_name, const char *moref)
{
    return (!vm_name || !strcmp(vm_name, r->vm_name)) &&
           (!moref || !strcmp(moref, r->vm_moref));
}

static int
look_into(const char *dir, const char *vm_name, const char *moref,
          struct founds *out, struct err *e)
{
    defer_free char *path = state_path(dir);
    defer(record_free_ptr) struct record *r = NULL;
    defer_free char *lock = xasprintf("%s/" LOCK, dir);
    defer_json json_t *j = NULL;

    if (!fs_exists(path))
        return 0;
    j = json_read(path, e);
    r = j ? record_parse(j, path, e) : NULL;
    if (!r)
        return -1;
    if (wanted(r, vm_name, moref))
        vec_push(out, (struct found){ xstrdup(dir), take(r), fs_locked(lock) });
    return 0;
}

static int
by_name(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int c = strcmp(x->record->vm_name, y->record->vm_name);

    return c ? c : strcmp(x->record->vm_moref, y->record->vm_moref);
}

int
store_find(const char *control_dir, const char *vm_name, const char *moref,
           struct founds *out, struct err *e)
{
    DIR *d = opendir(control_dir);
    struct dirent *entry;

    if (!d)
        return errno == ENOENT ? 0
                               : err_errno(e, errno, "reading %s", control_dir);
    while ((entry = readdir(d))) {
        defer_free char *dir = xasprintf("%s/%s", control_dir, entry->d_name);

        if (entry->d_name[0] == '.' || !look_into(dir, vm_name, moref, out, e))
            continue;
        /* one broken record must not hide a thousand others */
        log_warn("%s", e->msg);
        err_clear(e);
    }
    closedir(d);
    if (out->n)
        qsort(out->p, out->n, sizeof *out->p, by_name);
    return 0;
}

void
founds_fini(struct founds *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->p[i].dir);
        record_free(f->p[i].record);
    }
    vec_fini(f);
}
