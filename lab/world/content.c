/* What is on a disk before its guest writes for the first time. */
#include "lab/world/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"

#define PIECE       65536u /* unit of content */
#define RANDOM_RUN  32u    /* pieces in a row that are alike */
#define RANDOM_PART 40u    /* percent of the runs that hold data */
#define SPARSE_RUN  128u   /* pieces for each piece of data */
#define MKFS_MS     60000
#define FILES       24
#define FILE_STEP   9000 /* bytes that each file is longer than the last */

static void
random_piece(unsigned char *buf, uint64_t *rng)
{
    for (size_t i = 0; i < PIECE; i += sizeof(uint64_t)) {
        uint64_t x = world_random(rng);

        memcpy(buf + i, &x, sizeof x);
    }
}

/* Does this piece hold data?  Asked once for each piece, in order. */
static bool
random_wants(uint64_t piece, uint64_t *rng)
{
    static _Thread_local bool run;

    if (piece % RANDOM_RUN == 0)
        run = world_random(rng) % 100 < RANDOM_PART;
    return run;
}

static bool
sparse_wants(uint64_t piece, uint64_t *rng)
{
    (void)piece;
    return world_random(rng) % SPARSE_RUN == 0;
}

static int
fill_pieces(struct ldisk *disk, bool (*wants)(uint64_t, uint64_t *),
            uint64_t seed, struct err *e)
{
    uint64_t size = ldisk_size(disk), rng = seed;
    defer_free unsigned char *buf = xmalloc(PIECE);
    defer_close int fd = open(ldisk_base(disk), O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, errno, "opening %s", ldisk_base(disk));
    for (uint64_t off = 0; off < size; off += PIECE) {
        size_t n = size - off < PIECE ? (size_t)(size - off) : PIECE;

        /* the first and last piece tell wrong offsets best */
        if (!wants(off / PIECE, &rng) && off && off + PIECE < size)
            continue;
        random_piece(buf, &rng);
        if (fs_pwrite_all(fd, buf, n, (off_t)off))
            return err_errno(e, errno, "writing %s", ldisk_base(disk));
    }
    return 0;
}

static int
write_file(const char *dir, unsigned n, uint64_t *rng, struct err *e)
{
    defer_free char *sub = xasprintf("%s/dir%u", dir, n % 4);
    defer_free char *path =
        xasprintf("%s/file%02u.%s", sub, n, n % 2 ? "bin" : "txt");
    size_t len = (n + 1) * FILE_STEP;
    defer_free unsigned char *buf = xmalloc(len);

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)(world_random(rng) >> 24);

        buf[i] = n % 2 ? c : (c % 40 ? (unsigned char)('a' + c % 26) : '\n');
    }
    if (fs_mkdirs(sub, 0755, e))
        return -1;
    return fs_replace(path, buf, len, 0644, e);
}

/* Not all users have it in their PATH. */
static const char *
mke2fs(void)
{
    static const char *const places[] = { "/usr/sbin/mke2fs", "/sbin/mke2fs" };

    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (fs_exists(places[i]))
            return places[i];
    return "mke2fs";
}

static int
make_fs(const char *tree, const char *uuid, const char *image,
        uint64_t fs_bytes, struct err *e)
{
    defer_free char *blocks =
        xasprintf("%lluk", (unsigned long long)(fs_bytes / 1024));
    defer_free char *seed = xasprintf("hash_seed=%s,nodiscard,"
                                      "lazy_itable_init=0",
                                      uuid);
    const char *const argv[] = { mke2fs(),  "-q",  "-F",   "-t", "ext4", "-L",
                                 "labdata", "-U",  uuid,   "-E", seed,   "-d",
                                 tree,      image, blocks, NULL };
    struct str out = STR_INIT;
    int rc;

    out.max = 65536;
    rc = proc_run(&(struct proc_opts){ .argv = argv, .in = -1 }, MKFS_MS, &out,
                  e);
    str_fini(&out);
    return rc;
}

/* A file system in the first half of the disk. */
static int
fill_ext4(struct world *w, struct ldisk *disk, uint64_t seed, uint64_t *fs_end,
          struct err *e)
{
    defer_free char *tree = xasprintf("%s/tree", w->dir);
    uint64_t rng = seed, bytes = ldisk_size(disk) / 2 / 1048576 * 1048576;
    char uuid[40], what[40];
    int rc = 0;

    if (bytes < 16u << 20)
        return err_set(e, ERR_USER,
                       "world file: an ext4 disk must have 32 MiB or more");
    for (unsigned i = 0; !rc && i < FILES; i++)
        rc = write_file(tree, i, &rng, e);
    snprintf(what, sizeof what, "%llx", (unsigned long long)seed);
    world_uuid(w, "", what, uuid);
    if (!rc)
        rc = make_fs(tree, uuid, ldisk_base(disk), bytes, e);
    *fs_end = bytes;
    if (fs_remove_tree(tree, rc ? &(struct err)ERR_INIT : e))
        rc = -1;
    return rc;
}

int
content_fill(struct world *w, struct ldisk *disk, const char *content,
             uint64_t seed, uint64_t *fs_end, struct err *e)
{
    if (!strcmp(content, "random"))
        return fill_pieces(disk, random_wants, seed, e);
    if (!strcmp(content, "sparse"))
        return fill_pieces(disk, sparse_wants, seed, e);
    if (!strcmp(content, "ext4"))
        return fill_ext4(w, disk, seed, fs_end, e);
    return 0;
}
