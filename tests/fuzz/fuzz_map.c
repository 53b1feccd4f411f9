/* The block map against files that somebody else wrote.
 *
 * The input: 4 bytes of how, then operations, then the file.  The file is
 * either bytes as they come, or (COMPACT) a few fields and runs of blocks,
 * which get further.  REPAIR_... mend checksums, so that what lies behind them
 * is reached.  What the library says is compared with a model all the time. */
#include "fuzz.h"
#include "map_model.h"

#include <fcntl.h>
#include <unistd.h>

enum {
    COMPACT = 1,
    REPAIR_SLOT = 2, /* and 4 */
    FRAME = 8,       /* magic, version, block size are right */
    REPAIR_PAGES = 16,
    CUT = 32, /* the file ends in the middle of a page */
};
#define OP_MAX    16u
#define OP_BYTES  8u
#define SLOT_TEXT 6u /* bytes of each of a compact slot's texts */

static int file = -1;
static char path[256];
static struct model model;

static void
put(const void *p, size_t n, uint64_t at)
{
    check(pwrite(file, p, n, (off_t)at) == (ssize_t)n);
}

/* the file ---------------------------------------------------------------- */

static void
compact_slot(struct input *in, uint8_t *slot)
{
    static const size_t at[] = { 56, 312, 1336, 1592 };

    input_take(in, slot + 8, 48);
    for (size_t i = 0; i < 4; i++) {
        uint8_t full = input_u8(in);

        if (full == 255)
            memset(slot + at[i], 'f', at[1] - at[0]);
        else
            input_take(in, slot + at[i], SLOT_TEXT);
    }
}

static void
slots(struct input *in, unsigned how)
{
    for (unsigned i = 0; i < 2; i++) {
        uint8_t slot[MODEL_PAGE] = { 0 };

        if (how & COMPACT)
            compact_slot(in, slot);
        else
            input_take(in, slot, sizeof slot);
        if (how & FRAME)
            memcpy(slot + 8, "\0v2cmap1\1\0\0\0\0\0\1\0", 16);
        if (how & (REPAIR_SLOT << i))
            model_sum_slot(slot);
        put(slot, sizeof slot, i * MODEL_PAGE);
    }
}

/* Runs of blocks: from, how many, their flags and hash. */
static void
compact_page(struct input *in, uint8_t *page)
{
    for (unsigned i = input_u8(in) % 4; i; i--) {
        unsigned from = input_u8(in) * 2u, n = input_u8(in) * 2u;
        uint8_t flags = input_u8(in), hash = input_u8(in);

        for (; n && from < MAP_PAGE_BLOCKS; n--, from++) {
            memset(page + 8 + 8 * from, hash, 8);
            page[8 + 8 * MAP_PAGE_BLOCKS + from] = flags;
        }
    }
}

static void
pages(struct input *in, unsigned how, unsigned repair)
{
    uint64_t no[MODEL_PAGES] = { 0, 1 }, at;
    unsigned n = 2;
    struct map_head head;

    if ((how & COMPACT) && model_head(file, &head))
        n = model_pages(head.size, no);
    for (unsigned i = 0; i < n && in->n; i++) {
        uint8_t page[MODEL_PAGE] = { 0 };

        if (how & COMPACT)
            compact_page(in, page);
        else
            input_take(in, page, sizeof page);
        at = MODEL_PAGES_AT + no[i] * MODEL_PAGE;
        if ((how & REPAIR_PAGES) || (repair >> i & 1))
            model_sum_page(page, no[i]);
        put(page, sizeof page, at);
        if ((how & CUT) && !in->n)
            check(!ftruncate(file, (off_t)(at + 4 + input_u8(in))));
    }
}

/* operations --------------------------------------------------------------- */

static struct map *
open_map(struct err *e)
{
    struct map *m = NULL;

    return map_open(&m, path, model.head.disk_id, model.head.size,
                    model.head.target_id, e)
               ? NULL
               : m;
}

/* As it is on the file, for somebody who comes later. */
static struct map *
reopen(struct map *m, unsigned which)
{
    static struct model again;
    struct err e = ERR_INIT;

    map_close(m);
    check(model_load(&again, file));
    m = open_map(&e);
    check(m);
    model_check(&model, m);
    model_same(&again, &model);
    model_check_file(&model, path, which);
    return m;
}

static void
refused(const char *disk, uint64_t size, const char *target)
{
    struct err e = ERR_INIT;
    struct map *m;

    check(map_open(&m, path, disk, size, target, &e) == -1);
    check(e.class == ERR_DAMAGED);
}

static void
others_are_refused(unsigned which)
{
    const struct map_head *h = &model.head;

    switch (which % 3) {
    case 0: refused("other disk", h->size, h->target_id); break;
    case 1: refused(h->disk_id, h->size, "other target"); break;
    default: refused(h->disk_id, h->size > 1 ? h->size - 1 : 2, h->target_id);
    }
}

static struct model_page *
pick(uint8_t x)
{
    return &model.page[x % model.n];
}

static void
op_begin(struct map *m, const uint8_t *op)
{
    bool first = !*model.head.plan;
    struct extents plan = { 0 };
    struct model_page *p = pick(op[4]);
    unsigned from = op[5] * 2u % p->blocks, n = op[6] * 2u;
    char id[MAP_PLAN_ID_MAX + 8] = { 0 };
    struct err e = ERR_INIT;

    memset(id, 'a' + op[1] % 4, op[2] == 255 ? sizeof id - 1 : 1 + op[2] % 4);
    n = n > p->blocks - from ? p->blocks - from : n;
    for (unsigned i = from; i < from + n; i++) {
        uint64_t block = p->no * MAP_PAGE_BLOCKS + i;

        extents_add(&plan, block * DISK_BLOCK,
                    model_block_bytes(&model, block));
    }
    if (strlen(id) >= MAP_PLAN_ID_MAX) {
        check(map_begin(m, id, op[3], &plan, op[7] & 1, &e) == -1);
        check(e.class == ERR_USER);
    } else {
        check(!map_begin(m, id, op[3], &plan, op[7] & 1, &e));
        model.head.digest = op[3];
        memcpy(model.head.plan, id, MAP_PLAN_ID_MAX);
        memset(model.head.born, 0, MAP_PLAN_ID_MAX);
        if (first) {
            memcpy(model.head.born, id, MAP_PLAN_ID_MAX);
            model.head.zeroed = op[7] & 1;
        }
        for (unsigned i = from; !first && i < from + n; i++)
            model_mark(&model, p, i);
        /* a mark is stored with its page, which then is no longer torn */
        p->torn = p->torn && (first || !n);
    }
    extents_fini(&plan);
}

static void
op_apply(struct map *m, const uint8_t *op)
{
    struct map_change c[256];
    struct err e = ERR_INIT;
    size_t n = 0;

    for (unsigned k = 0; k < 2; k++) {
        struct model_page *p = pick(op[1] + k * (1 + op[6] % 2));
        unsigned from = op[2] * 2u % p->blocks, many = op[3] % 100;

        if (k && p == pick(op[1]))
            break;
        /* backwards, as answers come */
        for (unsigned i = from + many; i-- > from;) {
            if (i >= p->blocks)
                continue;
            p->entry[i] = (struct map_entry){ op[5] + k, op[4] };
            c[n++] =
                (struct map_change){ p->no * MAP_PAGE_BLOCKS + i, p->entry[i] };
            p->torn = false;
        }
    }
    check(!map_apply(m, c, n, &e));
}

static void
op_prove(struct map *m, const uint8_t *op)
{
    struct model_page *p = pick(op[1]);
    struct map_proof proof[256];
    struct err e = ERR_INIT;
    size_t n = 0;

    for (unsigned i = op[2] * 2u % p->blocks; i < p->blocks && n < op[3]; i++) {
        bool good = !(op[4] >> i % 8 & 1);

        proof[n++] = (struct map_proof){ p->no * MAP_PAGE_BLOCKS + i, good };
        if (model_prove(&model, p, i, good))
            p->torn = false;
    }
    check(!map_prove(m, proof, n, &e));
}

/* A byte of the file turns.  NULL: it is no map any more. */
static struct map *
op_damage(struct map *m, const uint8_t *op)
{
    struct model_page *p = pick(op[1]);
    uint64_t at = op[5] & 1 ? op[2] * 32u + op[3] % 32
                            : MODEL_PAGES_AT + p->no * MODEL_PAGE +
                                  (op[2] * 16u + op[3] % 16);
    struct err e = ERR_INIT;
    uint8_t c = 0;

    map_close(m);
    check(pread(file, &c, 1, (off_t)at) >= 0);
    c ^= op[4];
    put(&c, 1, at);
    if (model_load(&model, file))
        return reopen(open_map(&e), op[5]);
    check(!open_map(&e) && e.class == ERR_DAMAGED);
    return NULL;
}

static struct map *
operate(struct map *m, const uint8_t *op)
{
    struct err e = ERR_INIT;

    switch (op[0] % 7) {
    case 0: op_begin(m, op); break;
    case 1: op_apply(m, op); break;
    case 2:
        check(!map_holes_zero(m, &e));
        /* all that is there was stored again */
        for (unsigned i = 0; !model.head.holes_zero && i < model.n; i++)
            model.page[i].torn = false;
        model.head.holes_zero = true;
        break;
    case 3: return reopen(m, op[1]);
    case 4: return op_damage(m, op);
    case 5: op_prove(m, op); break;
    default: model_check_file(&model, path, op[1]);
    }
    model_check_page(&model, pick(op[1]), m);
    model_check_page(&model, pick(op[4]), m);
    return m;
}

static void
not_a_map(void)
{
    struct err e = ERR_INIT;
    struct map_summary s;
    struct extents none = { 0 };

    refused("disk", 1 << 20, "target");
    check(map_summary(path, &s, &e) == -1 && e.class == ERR_DAMAGED);
    err_clear(&e);
    check(map_covers(path, &none, NULL, &e) == -1 && e.class == ERR_DAMAGED);
}

static void
remove_file(void)
{
    unlink(path);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct input in = { data, n };
    unsigned how = input_u8(&in), repair = input_u8(&in);
    unsigned ops = input_u8(&in) % (OP_MAX + 1);
    uint8_t op[OP_MAX][OP_BYTES];
    struct err e = ERR_INIT;
    struct map *m;

    if (file < 0) {
        snprintf(path, sizeof path, "%s/fuzz_map.XXXXXX",
                 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
        file = mkstemp(path);
        check(file >= 0 && !atexit(remove_file));
    }
    check(!ftruncate(file, 0));
    input_take(&in, op, ops * sizeof *op);
    slots(&in, how);
    pages(&in, how, repair);
    if (!model_load(&model, file)) {
        not_a_map();
        return 0;
    }
    others_are_refused(repair);
    m = open_map(&e);
    check(m);
    model_check(&model, m);
    for (unsigned i = 0; m && i < ops; i++)
        m = operate(m, op[i]);
    if (m)
        map_close(reopen(m, repair));
    return 0;
}
