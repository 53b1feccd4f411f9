/* Copies areas one at a time, as migratekit copies what has changed: read one
 * over NBD, write it over NBD, then the next.
 *
 *     bench-serial SOURCE-URI TARGET-URI < lines "START LENGTH"
 */
#include <inttypes.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>

#define PIECE (8u << 20) /* bytes of one request at most */

static void
must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench-serial: %s: %s\n", what, nbd_get_error());
    exit(1);
}

static struct nbd_handle *
dial(const char *uri)
{
    struct nbd_handle *h = nbd_create();

    must(h != NULL, "nbd_create");
    must(nbd_connect_uri(h, uri) == 0, uri);
    return h;
}

int
main(int argc, char **argv)
{
    struct nbd_handle *from, *to;
    uint64_t start, length;
    char *buf = malloc(PIECE);

    if (argc != 3 || !buf) {
        fprintf(stderr, "usage: bench-serial SOURCE-URI TARGET-URI\n");
        return 2;
    }
    from = dial(argv[1]);
    to = dial(argv[2]);
    while (scanf("%" SCNu64 " %" SCNu64, &start, &length) == 2) {
        while (length) {
            uint64_t n = length < PIECE ? length : PIECE;

            must(nbd_pread(from, buf, n, start, 0) == 0, "reading");
            must(nbd_pwrite(to, buf, n, start, 0) == 0, "writing");
            start += n;
            length -= n;
        }
    }
    must(nbd_flush(to, 0) == 0, "flushing");
    nbd_shutdown(from, 0);
    nbd_shutdown(to, 0);
    nbd_close(from);
    nbd_close(to);
    free(buf);
    return 0;
}
