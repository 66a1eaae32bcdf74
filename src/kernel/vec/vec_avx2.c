/* vec.h with AVX2 and FMA. */
#include "kernel/v16_avx2.h"
#include "kernel/vec/vec_simd.h"

const vec_kernels vec_kernels_avx2 = VEC_TABLE("avx2");
