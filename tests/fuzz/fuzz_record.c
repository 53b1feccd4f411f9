/* state.json: any bytes; what is accepted is written as it was read. */
#include "data/data.h"
#include "fuzz.h"
#include "job/job.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = ERR_INIT;
    defer_json json_t *j = json_parse((const char *)data, n, "input", &e);
    defer(record_free_ptr) struct record *r = NULL;
    defer(record_free_ptr) struct record *again = NULL;
    defer_json json_t *first = NULL;
    defer_json json_t *second = NULL;

    check(j || (e.class == ERR_REMOTE && *e.msg));
    if (!j)
        return 0;
    r = record_parse(j, "input", &e);
    check(r || *e.msg);
    if (!r)
        return 0;
    first = record_json(r);
    again = record_parse(first, "ours", &e);
    check(again);
    second = record_json(again);
    check(json_equal(first, second));
    return 0;
}
