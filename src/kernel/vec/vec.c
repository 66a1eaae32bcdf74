/* Choosing a variant. */
#include "kernel/vec/vec.h"

#include "cpu/cpu.h"
#include "kernel/vec/vec_variants.h"

static const struct variant {
  const vec_kernels *kernels;
  unsigned features;
} variants[] = {
    {&vec_kernels_c, 0},
#if defined(__x86_64__)
    {&vec_kernels_avx2, CPU_AVX2},
    {&vec_kernels_avx512, CPU_AVX512},
#elif defined(__aarch64__)
    {&vec_kernels_neon, CPU_NEON},
#endif
};

#define N_VARIANTS (sizeof variants / sizeof variants[0])

const vec_kernels *vec_variant(size_t i, unsigned *features_out) {
  if (i >= N_VARIANTS) {
    return NULL;
  }
  *features_out = variants[i].features;
  return variants[i].kernels;
}

const vec_kernels *vec_select(unsigned features) {
  const vec_kernels *best = &vec_kernels_c;
  for (size_t i = 0; i < N_VARIANTS; i++) {
    if ((variants[i].features & features) == variants[i].features) {
      best = variants[i].kernels;
    }
  }
  return best;
}
