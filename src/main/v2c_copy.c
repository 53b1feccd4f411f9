/* v2c-copy: copies one disk; the sources it knows. */
#include "copy/copy.h"

int
main(int argc, char **argv)
{
    static const struct source_ops *const sources[] = {
        &source_vddk,
        &source_nbd,
        &source_file,
        NULL,
    };

    return copy_main(argc, argv, sources);
}
