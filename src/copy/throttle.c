/* What limits this run, the narrowest first. */
#include "copy/pace.h"
#include "copy/request.h"

static const enum key shared[] = {
    KEY_LIMIT_DISK,
    KEY_LIMIT_VM,
    KEY_LIMIT_HOST,
    KEY_LIMIT_MACHINE,
};
_Static_assert(sizeof shared / sizeof *shared + 1 <= GATE_BUCKETS,
               "the gate has room for all");

int
throttle_open(struct gate *g, const struct request *r, struct err *e)
{
    if (r->rate)
        gate_add(g, bucket_private(r->rate));
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        struct bucket *b;

        if (!r->text[shared[i]])
            continue;
        if (bucket_open(r->text[shared[i]], true, &b, e))
            return -1;
        gate_add(g, b);
    }
    return 0;
}
