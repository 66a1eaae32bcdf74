/*
 * Arithmetic over tensors: what an encoder is made of.
 *
 * One table a variant (c, avx2, avx512, neon). nn_select() gives the best that
 * the features allow; nn_variant() gives any compiled one by index, so that one
 * binary can compare them all.
 *
 * The bits are the contract. Every variant gives the same bytes as the C
 * reference for the same input (NaN payloads excepted):
 *  - every matrix output is one chain of fused multiply-adds in k order that
 *    starts from the bias (or from zero);
 *  - a reduction along a row uses 16 lanes (element i goes to lane i % 16, in
 *    order, the row taken as filled up with zeros to a multiple of 16), then
 *    the tree 8, 4, 2, 1: lane j += lane j + 8, and so on;
 *  - a reduction whose rows lie across lanes (softmax over keys, pooling over
 *    tokens) is a plain chain in row order;
 *  - exp and GELU are the one polynomial of nn_math.h in its one order; division and square
 *    root are IEEE. Nothing is contracted or reassociated by the compiler.
 * A row's result depends on that row (for attention: that sequence) alone,
 * never on how many rows lie beside it.
 *
 * No kernel allocates. Sizes are trusted: callers check what comes from files.
 * Row strides (ld*) count floats. Activations are 64-byte aligned with strides
 * that are multiples of 16 floats (see nn_row_stride) and may be read and
 * written up to the stride's end; nothing else is touched beyond its length.
 */
#ifndef KERNEL_NN_H
#define KERNEL_NN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum nn_activation { NN_LINEAR, NN_GELU, NN_TANH, NN_RELU };

typedef struct nn_kernels {
  const char *name; /* "c", "avx2", "avx512", "neon" */

  /*
   * Prepacked weights for y = x W^T + b, W being (n, k) row-major as Linear
   * stores it. The layout is this variant's own. n_floats is the packed size.
   */
  size_t (*packed_f32_n_floats)(size_t n, size_t k);
  void (*pack_f32)(size_t n, size_t k, const float *w, size_t ldw, float *packed);

  /*
   * y(m, n) = act(x(m, k) W^T + bias) + residual. x, y: row-major with strides;
   * bias (n floats) and residual (m, n, stride ldr) may be NULL. y may be the
   * residual, never x; where k > 384 it is a little faster if y is not the residual.
   * The residual is added after the activation.
   */
  void (*matmul_f32)(size_t m, size_t n, size_t k, const float *x, size_t ldx, const float *packed,
                     const float *bias, enum nn_activation act, const float *residual, size_t ldr,
                     float *y, size_t ldy);

  /*
   * One sequence of n_tokens rows: qkv(n_tokens, 3H) holds q, k, v side by side (H = n_heads x head_dim),
   * out(n_tokens, H) = softmax(q k^T scale) v for each head. out may not alias qkv.
   * The scores are (q (scale log2 e)) k, the weights 2^(score - highest), their sum divides at the end
   * (as a product with 1 / sum). scratch: attention_f32_n_floats(n_tokens, head_dim) floats, 64-byte aligned.
   */
  size_t (*attention_f32_n_floats)(size_t n_tokens, size_t head_dim);
  void (*attention_f32)(size_t n_tokens, size_t n_heads, size_t head_dim, float scale,
                        const float *qkv, size_t ldqkv, float *out, size_t ldout, float *scratch);

  /*
   * Each row of x(m, n): y = fma((x - mean) * (1 / sqrt(variance + eps)), gamma, beta). y may be
   * x.
   */
  void (*layer_norm_f32)(size_t m, size_t n, const float *x, size_t ldx, const float *gamma,
                         const float *beta, float eps, float *y, size_t ldy);

  /* y(n) = a + b + c, in that order: word + position + token-type embeddings. */
  void (*add3_f32)(size_t n, const float *a, const float *b, const float *c, float *y);

  /* Over the m rows of x(m, n), into y(n): sum in row order, and maximum. m > 0. */
  void (*sum_rows_f32)(size_t m, size_t n, const float *x, size_t ldx, float *y);
  void (*weighted_sum_rows_f32)(size_t m, size_t n, const float *x, size_t ldx,
                                const float *weights,
                                float *y); /* y = chain of fma(w[i], x[i], y) from 0 */
  void (*max_rows_f32)(size_t m, size_t n, const float *x, size_t ldx, float *y);

  /* y = x / divisor, element by element (mean pooling, L2 normalisation). y may be x. */
  void (*divide_f32)(size_t n, const float *x, float divisor, float *y);

  /* y = act(x), element by element. y may be x. */
  void (*activate_f32)(size_t n, enum nn_activation act, const float *x, float *y);

  /*
   * Benchmarks: the matrix microkernel on data that stays in L1, repeated
   * n_repeats times; returns the floating-point operations done (2 per FMA).
   */
  /* scratch: 8,192 floats, aligned */
  double (*bench_microkernel_f32)(size_t n_repeats, float *scratch);

  /*
   * The loop-th of this variant's loops of independent FMA chains in registers; -1 past the last.
   */
  double (*peak_fma_f32)(size_t loop, size_t n_repeats);
} nn_kernels;

/* The best variant for these cpu_feature bits. Never NULL: the C reference needs none. */
const nn_kernels *nn_select(unsigned features);

/* The i-th compiled variant, from the C reference up, NULL past the end; features it needs. */
const nn_kernels *nn_variant(size_t i, unsigned *features_out);

/* Floats from one row of n to the next: a multiple of 16, never a multiple of 4,096 bytes. */
size_t nn_row_stride(size_t n);

/*
 * The loop-th of all loops of independent FMA chains that `features` allow (several widths, several counts of
 * accumulators; the peak is the best of them). Returns the operations done, -1 past the last loop.
 */
double nn_peak_fma_f32(unsigned features, size_t loop, size_t n_repeats);

/*
 * For F16 and BF16 tensors of model files. dst: n floats; src: little-endian, any alignment.
 * Exact.
 */
void nn_convert_f16(size_t n, const void *src, float *dst);
void nn_convert_bf16(size_t n, const void *src, float *dst);

#endif
