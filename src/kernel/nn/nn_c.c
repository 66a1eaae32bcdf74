/*
 * The C reference: what every kernel means, written to be read.
 *
 * Slow (fmaf is a call into libm where the compiler may not assume FMA) and
 * the same on every processor. The other variants are tested against its bytes.
 */
#include <math.h>
#include <string.h>

#include "kernel/nn/nn_math.h"
#include "kernel/nn/nn_variants.h"

#define N_LANES 16

static size_t packed_f32_n_floats_c(size_t n, size_t k) { return n * k; }

static void pack_f32_c(size_t n, size_t k, const float *w, size_t ldw, float *packed) {
  for (size_t j = 0; j < n; j++) {
    memcpy(packed + j * k, w + j * ldw, k * sizeof *w);
  }
}

static void matmul_f32_c(size_t m, size_t n, size_t k, const float *x, size_t ldx,
                         const float *packed, const float *bias, enum nn_activation act,
                         const float *residual, size_t ldr, float *y, size_t ldy) {
  for (size_t i = 0; i < m; i++) {
    for (size_t j = 0; j < n; j++) {
      float sum = bias != NULL ? bias[j] : 0.0f;
      for (size_t l = 0; l < k; l++) {
        sum = fmaf(x[i * ldx + l], packed[j * k + l], sum);
      }
      sum = nn_activate(act, sum);
      y[i * ldy + j] = residual != NULL ? sum + residual[i * ldr + j] : sum;
    }
  }
}

static size_t attention_f32_n_floats_c(size_t n_tokens, size_t head_dim) {
  return n_tokens + head_dim;
}

/* One query of one head. k and v: the head's first key and value; scores: n_tokens floats. */
static void attend_c(size_t n_tokens, size_t head_dim, const float *q, const float *k,
                     const float *v, size_t ld, float *scores, float *out) {
  float highest = -INFINITY;
  for (size_t t = 0; t < n_tokens; t++) {
    float score = 0.0f;
    for (size_t d = 0; d < head_dim; d++) {
      score = fmaf(k[t * ld + d], q[d], score);
    }
    scores[t] = score;
    highest = nn_max(score, highest);
  }
  float sum = 0.0f;
  for (size_t t = 0; t < n_tokens; t++) {
    scores[t] = nn_exp2(scores[t] - highest);
    sum += scores[t];
  }
  float inverse = 1.0f / sum;
  for (size_t d = 0; d < head_dim; d++) {
    float value = 0.0f;
    for (size_t t = 0; t < n_tokens; t++) {
      value = fmaf(scores[t], v[t * ld + d], value);
    }
    out[d] = value * inverse;
  }
}

static void attention_f32_c(size_t n_tokens, size_t n_heads, size_t head_dim, float scale,
                            const float *qkv, size_t ldqkv, float *out, size_t ldout,
                            float *scratch) {
  size_t hidden = n_heads * head_dim;
  float *q = scratch, *scores = scratch + head_dim;
  float scale_log2e = scale * NN_LOG2E;
  for (size_t t = 0; t < n_tokens; t++) {
    for (size_t h = 0; h < n_heads; h++) {
      const float *head = qkv + h * head_dim;
      for (size_t d = 0; d < head_dim; d++) {
        q[d] = head[t * ldqkv + d] * scale_log2e;
      }
      attend_c(n_tokens, head_dim, q, head + hidden, head + 2 * hidden, ldqkv, scores,
               out + t * ldout + h * head_dim);
    }
  }
}

/* The tree of nn.h: lane j takes lane j + 8, then 4, 2, 1. */
static float add_lanes(float lanes[N_LANES]) {
  for (size_t width = N_LANES / 2; width > 0; width /= 2) {
    for (size_t j = 0; j < width; j++) {
      lanes[j] += lanes[j + width];
    }
  }
  return lanes[0];
}

static size_t whole_lanes(size_t n) { return (n + N_LANES - 1) / N_LANES * N_LANES; }

static void layer_norm_f32_c(size_t m, size_t n, const float *x, size_t ldx, const float *gamma,
                             const float *beta, float eps, float *y, size_t ldy) {
  for (size_t i = 0; i < m; i++) {
    const float *row = x + i * ldx;
    float sums[N_LANES] = {0}, squares[N_LANES] = {0};
    for (size_t j = 0; j < whole_lanes(n); j++) {
      sums[j % N_LANES] += j < n ? row[j] : 0.0f;
    }
    float mean = add_lanes(sums) / (float)n;
    for (size_t j = 0; j < whole_lanes(n); j++) {
      float difference = j < n ? row[j] - mean : 0.0f;
      squares[j % N_LANES] = fmaf(difference, difference, squares[j % N_LANES]);
    }
    float inverse = 1.0f / sqrtf(add_lanes(squares) / (float)n + eps);
    for (size_t j = 0; j < n; j++) {
      y[i * ldy + j] = fmaf((row[j] - mean) * inverse, gamma[j], beta[j]);
    }
  }
}

static void add3_f32_c(size_t n, const float *a, const float *b, const float *c, float *y) {
  for (size_t j = 0; j < n; j++) {
    y[j] = a[j] + b[j] + c[j];
  }
}

static void sum_rows_f32_c(size_t m, size_t n, const float *x, size_t ldx, float *y) {
  for (size_t j = 0; j < n; j++) {
    float sum = 0.0f;
    for (size_t i = 0; i < m; i++) {
      sum += x[i * ldx + j];
    }
    y[j] = sum;
  }
}

static void weighted_sum_rows_f32_c(size_t m, size_t n, const float *x, size_t ldx,
                                    const float *weights, float *y) {
  for (size_t j = 0; j < n; j++) {
    float sum = 0.0f;
    for (size_t i = 0; i < m; i++) {
      sum = fmaf(weights[i], x[i * ldx + j], sum);
    }
    y[j] = sum;
  }
}

static void max_rows_f32_c(size_t m, size_t n, const float *x, size_t ldx, float *y) {
  for (size_t j = 0; j < n; j++) {
    float highest = x[j];
    for (size_t i = 1; i < m; i++) {
      highest = nn_max(highest, x[i * ldx + j]);
    }
    y[j] = highest;
  }
}

static void divide_f32_c(size_t n, const float *x, float divisor, float *y) {
  for (size_t j = 0; j < n; j++) {
    y[j] = x[j] / divisor;
  }
}

static void activate_f32_c(size_t n, enum nn_activation act, const float *x, float *y) {
  for (size_t j = 0; j < n; j++) {
    y[j] = nn_activate(act, x[j]);
  }
}

static double bench_microkernel_f32_c(size_t n_repeats, float *scratch) {
  for (size_t i = 0; i < n_repeats; i++) {
    matmul_f32_c(4, 16, 64, scratch, 64, scratch + 256, NULL, NN_LINEAR, NULL, 0,
                 scratch + 1280, 16);
  }
  return 2.0 * 4 * 16 * 64 * (double)n_repeats;
}

/* Four chains of scalar fmaf: what a compiler makes of plain C. */
static double peak_fma_f32_c(size_t loop, size_t n_repeats) {
  if (loop > 0) {
    return -1;
  }
  volatile float start = 0.5f;
  float a = start, b = start, c = start, d = start;
  for (size_t i = 0; i < n_repeats; i++) {
    for (int j = 0; j < 16; j++) {
      a = fmaf(a, 0.5f, 0.25f);
      b = fmaf(b, 0.5f, 0.25f);
      c = fmaf(c, 0.5f, 0.25f);
      d = fmaf(d, 0.5f, 0.25f);
    }
  }
  start = a + b + c + d;
  return 2.0 * 4 * 16 * (double)n_repeats;
}

const nn_kernels nn_kernels_c = {
    .name = "c",
    .packed_f32_n_floats = packed_f32_n_floats_c,
    .pack_f32 = pack_f32_c,
    .matmul_f32 = matmul_f32_c,
    .attention_f32_n_floats = attention_f32_n_floats_c,
    .attention_f32 = attention_f32_c,
    .layer_norm_f32 = layer_norm_f32_c,
    .add3_f32 = add3_f32_c,
    .sum_rows_f32 = sum_rows_f32_c,
    .weighted_sum_rows_f32 = weighted_sum_rows_f32_c,
    .max_rows_f32 = max_rows_f32_c,
    .divide_f32 = divide_f32_c,
    .activate_f32 = activate_f32_c,
    .bench_microkernel_f32 = bench_microkernel_f32_c,
    .peak_fma_f32 = peak_fma_f32_c,
};
