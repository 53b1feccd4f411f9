/* What a person sees: on a terminal a line per VM and a bar per disk below
 * the log; else now and then a line. */
#include "cli/cli.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define REDRAW_MS  250
#define LINE_MS    30000 /* between lines where nothing can be redrawn */
#define BAR_CELLS  20
#define NAME_MAX_W 20
#define WIDTH_MIN  40

struct draw {
    bool terminal;
    size_t drawn; /* lines on the screen that are ours */
    int64_t last;
};

struct draw *
draw_new(bool terminal)
{
    struct draw *d = xcalloc(1, sizeof *d);

    d->terminal = terminal;
    d->last = clock_ms();
    return d;
}

void
draw_free(struct draw *d)
{
    free(d);
}

static void
erase(struct draw *d)
{
    for (; d->drawn; d->drawn--)
        fputs("\033[A\033[2K", stderr);
}

void
draw_log(void *draw, const char *line)
{
    struct draw *d = draw;

    if (d->terminal)
        erase(d);
    fprintf(stderr, "%s\n", line);
    d->last = d->terminal ? 0 : d->last;
}

static size_t
width(void)
{
    struct winsize w;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) || w.ws_col < WIDTH_MIN)
        return 80;
    return w.ws_col;
}

/* Cut to the width, so that erasing counts right. */
static void
put(struct draw *d, const struct str *line, size_t columns)
{
    fprintf(stderr, "%.*s\n", (int)columns - 1, str_text(line));
    d->drawn++;
}

static void
add_bytes(struct str *s, int64_t n)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double v = (double)n;
    size_t u = 0;

    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    str_addf(s, u && v < 10 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static void
add_duration(struct str *s, int64_t seconds)
{
    if (seconds < 0)
        str_add(s, "--:--");
    else if (seconds >= 3600)
        str_addf(s, "%" PRId64 "h%02" PRId64, seconds / 3600,
                 seconds / 60 % 60);
    else
        str_addf(s, "%02" PRId64 ":%02" PRId64, seconds / 60, seconds % 60);
}

static double
real(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void
vm_line(struct str *s, const struct worker *w)
{
    const char *stage = json_str(w->record, "stage", "connecting_vcenter");
    enum step step = step_parse(stage);

    str_addf(s, "%-*.*s ", NAME_MAX_W, NAME_MAX_W,
             json_str(w->record, "vm_name", spec_vm(w->spec)));
    if (w->state == WORKER_WAITING)
        str_add(s, "waiting for its turn");
    else if (w->state == WORKER_ENDED && w->error.class)
        str_addf(s, "%s",
                 w->error.class == ERR_STOPPED ? "stopped" : w->error.msg);
    else {
        str_addf(s, "%s", step < STEP_COUNT ? steps[step].text : stage);
        if (step == STEP_delta)
            str_addf(s, ", round %" PRId64, json_num(w->record, "round", 0));
        if (json_flag(w->record, "finalize_requested", false) &&
            step <= STEP_delta)
            str_add(s, ", will cut over");
        if (json_num(w->record, "downtime_ms", 0))
            str_addf(s, ", down for %.1f s",
                     real(w->record, "downtime_ms") / 1000);
    }
}

static void
disk_line(struct str *s, const char *name, const json_t *d)
{
    double progress = real(d, "progress");
    int full = (int)(progress * BAR_CELLS / 100);

    str_addf(s, "  disk %-8.8s [", name);
    for (int i = 0; i < BAR_CELLS; i++)
        str_addc(s, i < full ? '#' : '.');
    str_addf(s, "] %3.0f%%  ", progress);
    if (*json_str(d, "paused", ""))
        str_addf(s, "paused: %s", json_str(d, "paused", ""));
    else if (*json_str(d, "waiting_for", ""))
        str_addf(s, "waiting for %s", json_str(d, "waiting_for", ""));
    else if (real(d, "speed_mbps") > 0) {
        if (!strcmp(json_str(d, "stage", ""), steps[STEP_verifying].name))
            str_add(s, "verifying, ");
        str_addf(s, "%.*f MiB/s  ETA ", real(d, "speed_mbps") < 10,
                 real(d, "speed_mbps"));
        add_duration(s, json_num(d, "eta_seconds", -1));
    } else {
        add_bytes(s, json_num(d, "capacity", 0));
        if (json_num(d, "delta_rounds", 0)) {
            str_addf(s, ", round %" PRId64 ", changed ",
                     json_num(d, "delta_rounds", 0));
            add_bytes(s, json_num(d, "changed_bytes", 0));
        }
    }
}

static void
draw_worker(struct draw *d, const struct worker *w, size_t columns)
{
    defer(str_fini) struct str line = STR_INIT;
    const char *name;
    json_t *disk;

    vm_line(&line, w);
    put(d, &line, columns);
    if (w->state != WORKER_RUNNING)
        return;
    json_object_foreach(json_object_get(w->record, "disks"), name, disk)
    {
        line.n = 0;
        disk_line(&line, name, disk);
        put(d, &line, columns);
    }
}

static void
plain(const struct worker *w)
{
    defer(str_fini) struct str line = STR_INIT;
    const char *name;
    json_t *disk;

    if (w->state != WORKER_RUNNING || !w->record)
        return;
    vm_line(&line, w);
    fprintf(stderr, "%s, %.0f%%, %.0f MiB/s\n", str_text(&line),
            real(w->record, "progress"),
            real(w->record, "transfer_speed_mbps"));
    json_object_foreach(json_object_get(w->record, "disks"), name, disk)
    {
        if (*json_str(disk, "paused", ""))
            fprintf(stderr, "  disk %s paused: %s\n", name,
                    json_str(disk, "paused", ""));
        if (*json_str(disk, "waiting_for", ""))
            fprintf(stderr, "  disk %s waiting for %s\n", name,
                    json_str(disk, "waiting_for", ""));
    }
}

void
draw_tick(void *draw, const struct workers *all)
{
    struct draw *d = draw;
    int64_t now = clock_ms();

    if (now - d->last < (d->terminal ? REDRAW_MS : LINE_MS))
        return;
    d->last = now;
    if (!d->terminal) {
        for (size_t i = 0; i < all->n; i++)
            plain(&all->w[i]);
        return;
    }
    erase(d);
    for (size_t i = 0; i < all->n; i++)
        draw_worker(d, &all->w[i], width());
    if (all->stopping) {
        fputs("stopping cleanly; once more kills\n", stderr);
        d->drawn++;
    }
    fflush(stderr);
}

void
draw_end(struct draw *d, const struct workers *all)
{
    if (!d->terminal)
        return;
    erase(d);
    for (size_t i = 0; i < all->n; i++)
        draw_worker(d, &all->w[i], width());
}
