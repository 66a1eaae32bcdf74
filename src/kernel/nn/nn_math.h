/*
 * The scalar functions that every variant computes in the same order, operation
 * by operation. This is their definition; nn_simd.h is the same over 16 lanes.
 *
 * max(a, b) means a > b ? a : b and min(a, b) a < b ? a : b, as maxps and minps
 * have it: the second operand comes back when either is a NaN.
 */
#ifndef KERNEL_NN_MATH_H
#define KERNEL_NN_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernel/nn/nn.h"
#include "kernel/nn/nn_coefficients.h"

/*
 * 1.5 x 2^23 + 127: added to |x| < 2^22 it leaves 127 + (x rounded to an integer) in the low bits.
 */
#define NN_ROUND_MAGIC 0x1.8000fep+23f
/* below it 2^x is taken as 2^-126: nothing beside a sum that is at least 1 */
#define NN_EXP2_LOWEST -126.0f
#define NN_LOG2E 0x1.715476p+0f

static inline float nn_max(float a, float b) { return a > b ? a : b; }
static inline float nn_min(float a, float b) { return a < b ? a : b; }

/* 2^x for x <= 0 (x < 128 in fact); -infinity gives 2^-126, a NaN stays one. */
static inline float nn_exp2(float x) {
  x = nn_max(NN_EXP2_LOWEST, x);
  float shifted = x + NN_ROUND_MAGIC;
  float r = x - (shifted - NN_ROUND_MAGIC);
  float y = nn_exp2_coefficients[NN_EXP2_COEFFICIENTS_N - 1];
  for (int i = NN_EXP2_COEFFICIENTS_N - 2; i >= 0; i--) {
    y = fmaf(y, r, nn_exp2_coefficients[i]);
  }
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits <<= 23; /* now the float 2^(x rounded) */
  float power;
  memcpy(&power, &bits, sizeof power);
  return y * power; /* a product, so that a NaN stays one whatever its payload */
}

/*
 * x Phi(x) = max(x, 0) - t q(t), t = min(|x|, cut): Hendrycks and Gimpel's GELU, the exact (erf)
 * form.
 */
static inline float nn_gelu(float x) {
  float t = nn_min(NN_GELU_CUT, fabsf(x));
  float u = fmaf(t, NN_GELU_SCALE, -1.0f);
  float q = nn_gelu_coefficients[NN_GELU_COEFFICIENTS_N - 1];
  for (int i = NN_GELU_COEFFICIENTS_N - 2; i >= 0; i--) {
    q = fmaf(q, u, nn_gelu_coefficients[i]);
  }
  return fmaf(-t, q, nn_max(0.0f, x));
}

/*
 * tanh |x| = (1 - e) / (1 + e), e = 2^(-2 log2(e) |x|), with the sign of x: absolute error about
 * 1e-7.
 */
static inline float nn_tanh(float x) {
  float e = nn_exp2(-2.0f * NN_LOG2E * fabsf(x));
  return copysignf((1.0f - e) / (1.0f + e), x);
}

static inline float nn_activate(enum nn_activation act, float x) {
  switch (act) {
  case NN_GELU: return nn_gelu(x);
  case NN_TANH: return nn_tanh(x);
  case NN_RELU: return nn_max(0.0f, x);
  case NN_LINEAR: break;
  }
  return x;
}

#endif
