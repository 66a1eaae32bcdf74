/* 16 lanes in four registers of NEON: the vocabulary of nn_simd.h and vec_simd.h. */
#ifndef KERNEL_V16_NEON_H
#define KERNEL_V16_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <string.h>

typedef struct v16 {
  float32x4_t v[4];
} v16;

#define V16_EACH(expression)                                                                       \
  v16 result;                                                                                      \
  _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) { result.v[i] = expression; }                \
  return result

static inline v16 v16_set1(float x) { V16_EACH(vdupq_n_f32(x)); }
static inline v16 v16_zero(void) { return v16_set1(0.0f); }
static inline v16 v16_load(const float *p) { V16_EACH(vld1q_f32(p + 4 * i)); }

static inline void v16_store(float *p, v16 x) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    vst1q_f32(p + 4 * i, x.v[i]);
  }
}

/* NEON has no masks: a part of a vector goes by way of memory. */
static inline v16 v16_load_n(const float *p, size_t n) {
  if (n == 16) {
    return v16_load(p);
  }
  float lanes[16] = {0};
  memcpy(lanes, p, n * sizeof *p);
  return v16_load(lanes);
}

static inline void v16_store_n(float *p, v16 x, size_t n) {
  if (n == 16) {
    v16_store(p, x);
    return;
  }
  float lanes[16];
  v16_store(lanes, x);
  memcpy(p, lanes, n * sizeof *p);
}

static inline v16 v16_first(v16 x, size_t n) {
  float lanes[16];
  v16_store(lanes, x);
  return v16_load_n(lanes, n);
}

static inline v16 v16_add(v16 x, v16 y) { V16_EACH(vaddq_f32(x.v[i], y.v[i])); }
static inline v16 v16_sub(v16 x, v16 y) { V16_EACH(vsubq_f32(x.v[i], y.v[i])); }
static inline v16 v16_mul(v16 x, v16 y) { V16_EACH(vmulq_f32(x.v[i], y.v[i])); }
static inline v16 v16_div(v16 x, v16 y) { V16_EACH(vdivq_f32(x.v[i], y.v[i])); }
static inline v16 v16_abs(v16 x) { V16_EACH(vabsq_f32(x.v[i])); }
static inline v16 v16_fma(v16 x, v16 y, v16 z) { V16_EACH(vfmaq_f32(z.v[i], x.v[i], y.v[i])); }
static inline v16 v16_fnma(v16 x, v16 y, v16 z) { V16_EACH(vfmsq_f32(z.v[i], x.v[i], y.v[i])); }

/* Compare and choose: fmax and fmin treat NaNs and zeros unlike maxps and minps. */
static inline v16 v16_max(v16 x, v16 y) {
  V16_EACH(vbslq_f32(vcgtq_f32(x.v[i], y.v[i]), x.v[i], y.v[i]));
}
static inline v16 v16_min(v16 x, v16 y) {
  V16_EACH(vbslq_f32(vcltq_f32(x.v[i], y.v[i]), x.v[i], y.v[i]));
}

static inline v16 v16_copy_sign(v16 x, v16 from) {
  V16_EACH(vbslq_f32(vdupq_n_u32(0x80000000u), from.v[i], x.v[i]));
}

static inline v16 v16_shift_left_23(v16 x) {
  V16_EACH(vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(x.v[i]), 23)));
}

static inline float v16_add_lanes(v16 x) {
  float32x4_t a = vaddq_f32(x.v[0], x.v[2]), b = vaddq_f32(x.v[1], x.v[3]);
  float32x4_t c = vaddq_f32(a, b);
  float32x2_t d = vadd_f32(vget_low_f32(c), vget_high_f32(c));
  return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}

#endif
