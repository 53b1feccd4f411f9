/* The one typed vector. */
#ifndef BASE_VEC_H
#define BASE_VEC_H

#include "base/mem.h"

/*  struct names VEC(char *);  struct names v = { 0 };
 *  vec_push(&v, s);  for (size_t i = 0; i < v.n; i++) use(v.p[i]);  */
#define VEC(type)      \
    {                  \
        type *p;       \
        size_t n, cap; \
    }

#define vec_push(v, ...)                                          \
    do {                                                          \
        if ((v)->n == (v)->cap) {                                 \
            (v)->cap = (v)->cap ? (v)->cap * 2 : 8;               \
            (v)->p = xrealloc((v)->p, (v)->cap * sizeof *(v)->p); \
        }                                                         \
        (v)->p[(v)->n++] = __VA_ARGS__;                           \
    } while (0)

/* Frees the array, not what its elements own. */
#define vec_fini(v)            \
    do {                       \
        free((v)->p);          \
        (v)->p = NULL;         \
        (v)->n = (v)->cap = 0; \
    } while (0)

#endif
