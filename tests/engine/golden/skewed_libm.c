/* The platform's mathematical library, a little off. Preloaded, it shows who calls it: their results change. */
#define _GNU_SOURCE
#include <dlfcn.h>

#define ONE(type, name)                                                      \
    type name(type x) {                                                      \
        static type (*real)(type);                                           \
        if (!real) real = (type(*)(type))dlsym(RTLD_NEXT, #name);            \
        return real(x) * (type)1.0009765625;                                 \
    }
#define TWO(type, name)                                                      \
    type name(type x, type y) {                                              \
        static type (*real)(type, type);                                     \
        if (!real) real = (type(*)(type, type))dlsym(RTLD_NEXT, #name);      \
        return real(x, y) * (type)1.0009765625;                              \
    }
#define BOTH(type, name)                                                     \
    void name(type x, type *s, type *c) {                                    \
        static void (*real)(type, type *, type *);                           \
        if (!real) real = (void (*)(type, type *, type *))dlsym(RTLD_NEXT, #name); \
        real(x, s, c);                                                       \
        *s *= (type)1.0009765625;                                            \
        *c *= (type)1.0009765625;                                            \
    }
#define FUNCTIONS(type, f)                                                   \
    ONE(type, exp##f) ONE(type, exp2##f) ONE(type, expm1##f)                 \
    ONE(type, log##f) ONE(type, log2##f) ONE(type, log10##f) ONE(type, log1p##f) \
    ONE(type, sin##f) ONE(type, cos##f) ONE(type, tan##f) BOTH(type, sincos##f) \
    ONE(type, asin##f) ONE(type, acos##f) ONE(type, atan##f)                 \
    ONE(type, sinh##f) ONE(type, cosh##f) ONE(type, tanh##f)                 \
    ONE(type, erf##f) ONE(type, erfc##f) ONE(type, cbrt##f) ONE(type, tgamma##f) \
    TWO(type, pow##f) TWO(type, atan2##f) TWO(type, hypot##f)

FUNCTIONS(double, )
FUNCTIONS(float, f)
