/* vec.h with NEON. */
#include "kernel/v16_neon.h"
#include "kernel/vec/vec_simd.h"

const vec_kernels vec_kernels_neon = VEC_TABLE("neon");
