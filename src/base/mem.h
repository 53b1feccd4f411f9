/* Small allocations die loudly (all state is on disk); owners clean up by
 * scope. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc));
char *xasprintf(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), malloc, returns_nonnull));

/* On the line that acquires it:  defer_free char *p = xstrdup(s);  */
#define defer(fn)    __attribute__((cleanup(fn)))
#define defer_free   defer(mem_free_ptr)
#define defer_close  defer(mem_close_fd)
#define defer_fclose defer(mem_close_file)

/* Ownership leaves the scope:  return take(p);  */
#define take(p)                     \
    __extension__({                 \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    })
#define take_fd(fd)        \
    __extension__({        \
        int taken_ = (fd); \
        (fd) = -1;         \
        taken_;            \
    })

/* Makes `void name(type **)` for defer() out of `void fn(type *)`. */
#define DEFER_FN(name, type, fn)                              \
    static inline __attribute__((unused)) void name(type **p) \
    {                                                         \
        fn(*p);                                               \
    }

static inline void
mem_free_ptr(void *p)
{
    free(*(void **)p);
}

static inline void
mem_close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void
mem_close_file(FILE **f)
{
    if (*f)
        fclose(*f);
}

#endif
