/* The tables that are compiled for this architecture; each lives in a file of its own. */
#ifndef KERNEL_VEC_VARIANTS_H
#define KERNEL_VEC_VARIANTS_H

#include "kernel/vec/vec.h"

extern const vec_kernels vec_kernels_c;
#if defined(__x86_64__)
extern const vec_kernels vec_kernels_avx2;
extern const vec_kernels vec_kernels_avx512;
#elif defined(__aarch64__)
extern const vec_kernels vec_kernels_neon;
#endif

#endif
