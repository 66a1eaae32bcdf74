/* The kernels of vec.h over 16 lanes; included by each variant's file after its v16. */
#include "kernel/vec/vec_variants.h"

static float dot(size_t n, const float *a, const float *b) {
  v16 sum = v16_zero();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    sum = v16_fma(v16_load(a + i), v16_load(b + i), sum);
  }
  if (i < n) {
    sum = v16_fma(v16_load_n(a + i, n - i), v16_load_n(b + i, n - i), sum);
  }
  return v16_add_lanes(sum);
}

static float squared_l2(size_t n, const float *a, const float *b) {
  v16 sum = v16_zero();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    v16 difference = v16_sub(v16_load(a + i), v16_load(b + i));
    sum = v16_fma(difference, difference, sum);
  }
  if (i < n) {
    v16 difference = v16_sub(v16_load_n(a + i, n - i), v16_load_n(b + i, n - i));
    sum = v16_fma(difference, difference, sum);
  }
  return v16_add_lanes(sum);
}

static float squared_norm(size_t n, const float *a) { return dot(n, a, a); }

#define VEC_TABLE(variant)                                                                         \
  {                                                                                                \
    .name = variant, .dot_f32 = dot, .squared_l2_f32 = squared_l2, .squared_norm_f32 = squared_norm, \
  }
