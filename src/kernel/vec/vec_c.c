/* The C reference of vec.h: what every kernel means. */
#include <math.h>

#include "kernel/vec/vec_variants.h"

#define N_LANES 16

static float add_lanes(float lanes[N_LANES]) {
  for (size_t width = N_LANES / 2; width > 0; width /= 2) {
    for (size_t j = 0; j < width; j++) {
      lanes[j] += lanes[j + width];
    }
  }
  return lanes[0];
}

static size_t whole_lanes(size_t n) { return (n + N_LANES - 1) / N_LANES * N_LANES; }

static float dot_f32_c(size_t n, const float *a, const float *b) {
  float lanes[N_LANES] = {0};
  for (size_t i = 0; i < whole_lanes(n); i++) {
    float x = i < n ? a[i] : 0.0f, y = i < n ? b[i] : 0.0f;
    lanes[i % N_LANES] = fmaf(x, y, lanes[i % N_LANES]);
  }
  return add_lanes(lanes);
}

static float squared_l2_f32_c(size_t n, const float *a, const float *b) {
  float lanes[N_LANES] = {0};
  for (size_t i = 0; i < whole_lanes(n); i++) {
    float difference = i < n ? a[i] - b[i] : 0.0f;
    lanes[i % N_LANES] = fmaf(difference, difference, lanes[i % N_LANES]);
  }
  return add_lanes(lanes);
}

static float squared_norm_f32_c(size_t n, const float *a) { return dot_f32_c(n, a, a); }

const vec_kernels vec_kernels_c = {
    .name = "c",
    .dot_f32 = dot_f32_c,
    .squared_l2_f32 = squared_l2_f32_c,
    .squared_norm_f32 = squared_norm_f32_c,
};
