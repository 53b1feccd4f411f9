/* Several buckets at once: what is read has to fit into each. */
#include "limit/limit.h"

#include <assert.h>

void
gate_add(struct gate *g, struct bucket *b)
{
    assert(g->n < GATE_BUCKETS);
    g->paid[g->n] = 0;
    g->buckets[g->n++] = b;
}

void
gate_fini(struct gate *g)
{
    for (unsigned i = 0; i < g->n; i++)
        bucket_close(g->buckets[i]);
    g->n = 0;
}

bool
gate_pass(struct gate *g, uint64_t n, int64_t now_ns)
{
    g->ready = 0;
    for (unsigned i = 0; i < g->n; i++) {
        if (g->paid[i] >= n)
            continue;
        if (!bucket_take(g->buckets[i], n - g->paid[i], now_ns, &g->ready))
            return false;
        g->paid[i] = n;
    }
    return true;
}

void
gate_spend(struct gate *g, uint64_t n)
{
    for (unsigned i = 0; i < g->n; i++) {
        assert(g->paid[i] >= n);
        g->paid[i] -= n;
    }
}

int64_t
gate_wait_ms(const struct gate *g, int64_t now_ns)
{
    if (!g->ready)
        return -1;
    return g->ready <= now_ns ? 1 : (g->ready - now_ns) / 1000000 + 1;
}
