/*
 * NEON: register tiles of 6 rows x 16 columns (24 accumulators, 4 registers of
 * B). gcc and clang keep such a tile in the 32 registers without assembly.
 */
#include "kernel/nn/nn_tile.h"
#include "kernel/v16_neon.h"

#define TILE_ROWS 6
#define TILE_VECTORS 1
#define MIX_ROWS 6
#define MIX_VECTORS 1
#define NN_TRANSPOSE 4

/* dst[j][i] = src[i][j] * factor over a 4 x 4 block. */
static inline void nn_transpose_block(const float *src, size_t ld_src, float factor, float *dst,
                                      size_t ld_dst) {
  float32x4_t r[4];
  for (int i = 0; i < 4; i++) {
    r[i] = vmulq_n_f32(vld1q_f32(src + i * ld_src), factor);
  }
  float32x4x2_t low = vzipq_f32(r[0], r[2]), high = vzipq_f32(r[1], r[3]);
  float32x4x2_t first = vzipq_f32(low.val[0], high.val[0]);
  float32x4x2_t second = vzipq_f32(low.val[1], high.val[1]);
  vst1q_f32(dst, first.val[0]);
  vst1q_f32(dst + ld_dst, first.val[1]);
  vst1q_f32(dst + 2 * ld_dst, second.val[0]);
  vst1q_f32(dst + 3 * ld_dst, second.val[1]);
}

static inline const float *floats_after(const float *p, size_t n_bytes) {
  return (const float *)((const char *)p + n_bytes);
}

static inline __attribute__((always_inline)) void tile_step(int rows, const float *const *a,
                                                            size_t l, const float *b, v16 *sums) {
  v16 column = v16_load(b);
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++) {
    sums[i] = v16_fma(v16_set1(a[i][l]), column, sums[i]);
  }
}

static inline __attribute__((always_inline)) void tile_any(int rows, const nn_tile *t) {
  v16 sums[TILE_ROWS];
  const float *a[TILE_ROWS], *b = t->b;
  const char *prefetch = t->prefetch;
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++) {
    sums[i] = v16_load(floats_after(t->init, (size_t)i * t->ldinit_bytes));
    a[i] = floats_after(t->a, (size_t)i * t->lda_bytes);
  }
  for (size_t eight = 0; eight < t->n_eights; eight++) {
    __builtin_prefetch(prefetch, 0, 2);
    prefetch += t->prefetch_step;
    for (size_t l = 8 * eight; l < 8 * eight + 8; l++, b += 16) {
      tile_step(rows, a, l, b, sums);
    }
  }
  for (size_t l = 8 * t->n_eights; l < 8 * t->n_eights + t->n_rest; l++, b += 16) {
    tile_step(rows, a, l, b, sums);
  }
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++) {
    v16_store((float *)((char *)t->c + (size_t)i * t->ldc_bytes), sums[i]);
  }
}

static inline __attribute__((always_inline)) void mix_any(int rows, const nn_mix *mix) {
  v16 sums[MIX_ROWS];
  const float *weights = mix->weights, *values = mix->values;
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++) {
    sums[i] = v16_zero();
  }
  for (size_t key = 0; key < mix->n_keys; key++) {
    v16 value = v16_load(values);
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
      sums[i] = v16_fma(v16_set1(weights[i]), value, sums[i]);
    }
    weights = floats_after(weights, mix->ldweights_bytes);
    values = floats_after(values, mix->ldvalues_bytes);
  }
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++) {
    v16_store((float *)((char *)mix->out + (size_t)i * mix->ldout_bytes),
              v16_mul(sums[i], v16_set1(mix->inverse[i])));
  }
}

#define ROWS(n)                                                                                    \
  static void tile_##n(const nn_tile *t) { tile_any(n, t); }                                       \
  static void mix_##n(const nn_mix *mix) { mix_any(n, mix); }
ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)

static nn_tile_kernel *const tile_kernels[TILE_VECTORS][TILE_ROWS] = {
    {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6},
};
static nn_mix_kernel *const mix_kernels[MIX_VECTORS][MIX_ROWS] = {
    {mix_1, mix_2, mix_3, mix_4, mix_5, mix_6},
};

/* Peak: independent chains c <- c + a b with a b = 0. */
#define PEAK_FMA(c) "fmla v" #c ".4s,v30.4s,v31.4s\n\t"
#define PEAK_8(a, b, c, d, e, f, g, h)                                                             \
  PEAK_FMA(a) PEAK_FMA(b) PEAK_FMA(c) PEAK_FMA(d) PEAK_FMA(e) PEAK_FMA(f) PEAK_FMA(g) PEAK_FMA(h)
#define PEAK_16 PEAK_8(0, 1, 2, 3, 4, 5, 6, 7) PEAK_8(16, 17, 18, 19, 20, 21, 22, 23)
#define PEAK_20 PEAK_16 PEAK_FMA(24) PEAK_FMA(25) PEAK_FMA(26) PEAK_FMA(27)
#define PEAK_LOOP(n_chains)                                                                        \
  static void peak_##n_chains(size_t n) {                                                          \
    __asm__ volatile("movi v30.4s,#0\n\tmovi v31.4s,#0\n"                                          \
                     "1:\n\t" PEAK_##n_chains PEAK_##n_chains "subs %[n],%[n],#1\n\t"              \
                     "b.ne 1b\n\t"                                                                 \
                     : [n] "+r"(n)                                                                 \
                     :                                                                             \
                     : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18",  \
                       "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v30",       \
                       "v31");                                                                     \
  }
PEAK_LOOP(16) PEAK_LOOP(20)

static double peak_fma(size_t loop, size_t n_repeats) {
  static const struct {
    void (*run)(size_t n);
    unsigned n_fmas;
  } loops[] = {{peak_16, 32}, {peak_20, 40}};
  if (loop >= sizeof loops / sizeof loops[0]) {
    return -1;
  }
  if (n_repeats > 0) {
    loops[loop].run(n_repeats);
  }
  return 2.0 * 4 * loops[loop].n_fmas * (double)n_repeats;
}

#include "kernel/nn/nn_simd.h"

const nn_kernels nn_kernels_neon = NN_TABLE("neon");
