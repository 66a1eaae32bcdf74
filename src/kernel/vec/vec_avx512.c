/* vec.h with AVX-512. */
#include "kernel/v16_avx512.h"
#include "kernel/vec/vec_simd.h"

const vec_kernels vec_kernels_avx512 = VEC_TABLE("avx512");
