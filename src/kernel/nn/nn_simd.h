/*
 * Every kernel but the innermost loops, over 16 lanes. Included once by each
 * variant's file, which first defines
 *
 *   v16 and its operations (v16_load ... v16_add_lanes), nn_transpose_block;
 *   TILE_ROWS, TILE_VECTORS: the register tile, TILE_VECTORS x 16 columns wide;
 *   tile_kernels[vectors - 1][rows - 1], nn_tile_kernel;
 *   MIX_ROWS, MIX_VECTORS and mix_kernels[vectors - 1][rows - 1], nn_mix_kernel.
 *
 * Order of the matrix loops: a chunk of k (384, so that MiniLM's is whole), a
 * panel of B (TILE_VECTORS x 16 columns of the chunk), all rows of A. The panel
 * stays in L2 (16 columns: in L1) while the rows pass, the next one is
 * prefetched meanwhile, and A's chunk stays in L2 from panel to panel.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernel/nn/nn_math.h"
#include "kernel/nn/nn_tile.h"
#include "kernel/nn/nn_variants.h"

#define PANEL (TILE_VECTORS * 16)
#define CHUNK ((size_t)384)
#define FLOAT sizeof(float)

static const float no_bias[PANEL] __attribute__((aligned(64)));

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* ---- nn_math.h over lanes ---- */

static inline v16 v16_exp2(v16 x) {
  v16 magic = v16_set1(NN_ROUND_MAGIC);
  x = v16_max(v16_set1(NN_EXP2_LOWEST), x);
  v16 shifted = v16_add(x, magic);
  v16 r = v16_sub(x, v16_sub(shifted, magic));
  v16 y = v16_set1(nn_exp2_coefficients[NN_EXP2_COEFFICIENTS_N - 1]);
#pragma GCC unroll 8
  for (int i = NN_EXP2_COEFFICIENTS_N - 2; i >= 0; i--) {
    y = v16_fma(y, r, v16_set1(nn_exp2_coefficients[i]));
  }
  return v16_mul(y, v16_shift_left_23(shifted));
}

static inline v16 v16_gelu(v16 x) {
  v16 t = v16_min(v16_set1(NN_GELU_CUT), v16_abs(x));
  v16 u = v16_fma(t, v16_set1(NN_GELU_SCALE), v16_set1(-1.0f));
  v16 q = v16_set1(nn_gelu_coefficients[NN_GELU_COEFFICIENTS_N - 1]);
#pragma GCC unroll 16
  for (int i = NN_GELU_COEFFICIENTS_N - 2; i >= 0; i--) {
    q = v16_fma(q, u, v16_set1(nn_gelu_coefficients[i]));
  }
  return v16_fnma(t, q, v16_max(v16_zero(), x));
}

static inline v16 v16_tanh(v16 x) {
  v16 one = v16_set1(1.0f);
  v16 e = v16_exp2(v16_mul(v16_set1(-2.0f * NN_LOG2E), v16_abs(x)));
  return v16_copy_sign(v16_div(v16_sub(one, e), v16_add(one, e)), x);
}

static inline v16 v16_activate(enum nn_activation act, v16 x) {
  switch (act) {
  case NN_GELU: return v16_gelu(x);
  case NN_TANH: return v16_tanh(x);
  case NN_RELU: return v16_max(v16_zero(), x);
  case NN_LINEAR: break;
  }
  return x;
}

/* ---- packing ---- */

static size_t packed_n_floats(size_t n, size_t k) { return (n + PANEL - 1) / PANEL * PANEL * k; }

/* Rows [j, j + n) of w, columns [l, l + n_k), to packed(n_k, PANEL); columns past n are zero. */
static void pack_panel(size_t n, size_t n_k, const float *w, size_t ldw, float *packed) {
  if (n < PANEL) {
    memset(packed, 0, n_k * PANEL * FLOAT);
  }
  size_t whole_n = n / NN_TRANSPOSE * NN_TRANSPOSE, whole_k = n_k / NN_TRANSPOSE * NN_TRANSPOSE;
  for (size_t l = 0; l < whole_k; l += NN_TRANSPOSE) {
    for (size_t j = 0; j < whole_n; j += NN_TRANSPOSE) {
      nn_transpose_block(w + j * ldw + l, ldw, 1.0f, packed + l * PANEL + j, PANEL);
    }
  }
  for (size_t j = 0; j < n; j++) {
    for (size_t l = j < whole_n ? whole_k : 0; l < n_k; l++) {
      packed[l * PANEL + j] = w[j * ldw + l];
    }
  }
}

static void pack(size_t n, size_t k, const float *w, size_t ldw, float *packed) {
  for (size_t l = 0; l < k; l += CHUNK) {
    size_t n_k = smaller(CHUNK, k - l);
    for (size_t j = 0; j < n; j += PANEL) {
      pack_panel(smaller(PANEL, n - j), n_k, w + j * ldw + l, ldw, packed);
      packed += n_k * PANEL;
    }
  }
}

/* ---- matrix product ---- */

typedef struct product {
  size_t m, n, k;
  const float *x, *packed, *bias, *residual;
  float *y;
  size_t ldx, ldr, ldy, n_tiles;
  enum nn_activation act;
} product;

/* Rows are shared out evenly: tiles differ by one row at most, so none is much slower. */
static inline size_t tile_start(const product *p, size_t tile) { return tile * p->m / p->n_tiles; }

static inline const float *chunk_panel(const product *p, size_t l, size_t j) {
  size_t whole = (p->n + PANEL - 1) / PANEL * PANEL;
  return p->packed + l * whole + j * smaller(CHUNK, p->k - l);
}

static inline void set_k(nn_tile *t, size_t n_k) {
  t->n_eights = n_k / 8;
  t->n_rest = n_k % 8;
}

/*
 * This tile's share of the panel that follows b in memory; past its end nothing new is asked for.
 */
static inline void set_prefetch(nn_tile *t, size_t tile, size_t n_k, bool last) {
  size_t n_bytes = n_k * PANEL * FLOAT, offset = tile * t->n_eights * 64;
  bool wanted = !last && offset < n_bytes;
  t->prefetch = (const char *)t->b + (wanted ? n_bytes + offset : 0);
  t->prefetch_step = wanted ? 64 : 0;
}

/* Activation and residual on the way from the tile's buffer to y. */
static inline void finish_rows(enum nn_activation act, size_t rows, size_t columns,
                               const float *buffer, const float *residual, size_t ldr, float *y,
                               size_t ldy) {
  for (size_t i = 0; i < rows; i++) {
    for (size_t j = 0; j < columns; j += 16) {
      size_t n = smaller(16, columns - j);
      v16 value = v16_activate(act, v16_load(buffer + i * PANEL + j));
      if (residual != NULL) {
        value = v16_add(value, v16_load_n(residual + i * ldr + j, n));
      }
      v16_store_n(y + i * ldy + j, value, n);
    }
  }
}

static void finish_tile(const product *p, size_t i, size_t rows, size_t j, const float *buffer) {
  size_t columns = smaller(PANEL, p->n - j);
  const float *residual = p->residual != NULL ? p->residual + i * p->ldr + j : NULL;
  float *y = p->y + i * p->ldy + j;
  if (p->act == NN_GELU && columns == PANEL && residual == NULL) {
    for (size_t row = 0; row < rows; row++) {
#pragma GCC unroll 4
      for (size_t column = 0; column < PANEL; column += 16) {
        v16_store(y + row * p->ldy + column, v16_gelu(v16_load(buffer + row * PANEL + column)));
      }
    }
  } else if (p->act == NN_LINEAR) {
    finish_rows(NN_LINEAR, rows, columns, buffer, residual, p->ldr, y, p->ldy);
  } else {
    finish_rows(p->act, rows, columns, buffer, residual, p->ldr, y, p->ldy);
  }
}

/* One chunk of k for one whole panel and all rows; between chunks the chains wait in y. */
static void chunk_product(const product *p, size_t l, size_t j) {
  float buffer[TILE_ROWS * PANEL] __attribute__((aligned(64)));
  size_t n_k = smaller(CHUNK, p->k - l);
  bool finish = l + n_k == p->k && (p->act != NN_LINEAR || p->residual != NULL);
  bool last = l + n_k == p->k && j + PANEL >= p->n;
  nn_tile t = {.lda_bytes = p->ldx * FLOAT, .b = chunk_panel(p, l, j)};
  t.ldinit_bytes = l == 0 ? 0 : p->ldy * FLOAT;
  t.ldc_bytes = (finish ? PANEL : p->ldy) * FLOAT;
  set_k(&t, n_k);
  for (size_t tile = 0; tile < p->n_tiles; tile++) {
    size_t i = tile_start(p, tile), rows = tile_start(p, tile + 1) - i;
    t.a = p->x + i * p->ldx + l;
    t.init = l > 0 ? p->y + i * p->ldy + j : p->bias != NULL ? p->bias + j : no_bias;
    t.c = finish ? buffer : p->y + i * p->ldy + j;
    set_prefetch(&t, tile, n_k, last);
    tile_kernels[TILE_VECTORS - 1][rows - 1](&t);
    if (finish) {
      finish_tile(p, i, rows, j, buffer);
    }
  }
}

/*
 * All of k for one panel, tile by tile in a buffer: the panel may be narrow, y may be the
 * residual.
 */
static void whole_product(const product *p, size_t j) {
  float buffer[TILE_ROWS * PANEL] __attribute__((aligned(64)));
  float bias[PANEL] __attribute__((aligned(64))) = {0};
  if (p->bias != NULL) {
    memcpy(bias, p->bias + j, smaller(PANEL, p->n - j) * FLOAT);
  }
  for (size_t tile = 0; tile < p->n_tiles; tile++) {
    size_t i = tile_start(p, tile), rows = tile_start(p, tile + 1) - i;
    nn_tile t = {.lda_bytes = p->ldx * FLOAT, .c = buffer, .ldc_bytes = PANEL * FLOAT};
    t.init = bias;
    for (size_t l = 0; l == 0 || l < p->k; l += CHUNK) {
      size_t n_k = smaller(CHUNK, p->k - l);
      t.a = p->x + i * p->ldx + l;
      t.b = chunk_panel(p, l, j);
      set_k(&t, n_k);
      set_prefetch(&t, tile, n_k, j + PANEL >= p->n);
      tile_kernels[TILE_VECTORS - 1][rows - 1](&t);
      t.init = buffer;
      t.ldinit_bytes = PANEL * FLOAT;
    }
    finish_tile(p, i, rows, j, buffer);
  }
}

static bool overlaps(const product *p) {
  if (p->residual == NULL) {
    return false;
  }
  const float *y_end = p->y + (p->m - 1) * p->ldy + p->n;
  const float *residual_end = p->residual + (p->m - 1) * p->ldr + p->n;
  return (uintptr_t)p->residual < (uintptr_t)y_end && (uintptr_t)p->y < (uintptr_t)residual_end;
}

static void matmul(size_t m, size_t n, size_t k, const float *x, size_t ldx, const float *packed,
                   const float *bias, enum nn_activation act, const float *residual, size_t ldr,
                   float *y, size_t ldy) {
  if (m == 0) {
    return;
  }
  product p = {m, n, k, x, packed, bias, residual, y, ldx, ldr, ldy, 0, act};
  p.n_tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
  size_t whole_n = k == 0 || (k > CHUNK && overlaps(&p)) ? 0 : n / PANEL * PANEL;
  for (size_t l = 0; l < k; l += CHUNK) {
    for (size_t j = 0; j < whole_n; j += PANEL) {
      chunk_product(&p, l, j);
    }
  }
  for (size_t j = whole_n; j < n; j += PANEL) {
    whole_product(&p, j);
  }
}

/* ---- attention ---- */

/* Q^T panel, scores, and 1 / sum; the reference's own where it steps in. */
static size_t attention_n_floats(size_t n_tokens, size_t head_dim) {
  return PANEL * (n_tokens + head_dim + 1) + 16;
}

/* panel(head_dim, vectors x 16) = the queries transposed and scaled; missing queries are zero. */
static void pack_queries(size_t n_queries, size_t vectors, size_t head_dim, float factor,
                         const float *q, size_t ldq, float *panel) {
  size_t ld = vectors * 16, whole = n_queries / NN_TRANSPOSE * NN_TRANSPOSE;
  if (n_queries < ld) {
    memset(panel, 0, head_dim * ld * FLOAT);
  }
  for (size_t i = 0; i < whole; i += NN_TRANSPOSE) {
    for (size_t d = 0; d < head_dim; d += NN_TRANSPOSE) {
      nn_transpose_block(q + i * ldq + d, ldq, factor, panel + d * ld + i, ld);
    }
  }
  for (size_t i = whole; i < n_queries; i++) {
    for (size_t d = 0; d < head_dim; d++) {
      panel[d * ld + i] = q[i * ldq + d] * factor;
    }
  }
}

/* scores(n_keys, vectors x 16) = k q^T. */
static void score_keys(size_t n_keys, size_t vectors, size_t head_dim, const float *k, size_t ldk,
                       const float *panel, float *scores) {
  nn_tile t = {
      .lda_bytes = ldk * FLOAT, .b = panel, .init = no_bias, .prefetch = (const char *)panel};
  t.ldc_bytes = vectors * 16 * FLOAT;
  set_k(&t, head_dim);
  size_t n_tiles = (n_keys + TILE_ROWS - 1) / TILE_ROWS;
  for (size_t tile = 0; tile < n_tiles; tile++) {
    size_t i = tile * n_keys / n_tiles, rows = (tile + 1) * n_keys / n_tiles - i;
    t.a = k + i * ldk;
    t.c = scores + i * vectors * 16;
    tile_kernels[vectors - 1][rows - 1](&t);
  }
}

/* Down the columns: scores become 2^(score - highest), inverse 1 / their sum. */
static inline void soften_columns(size_t n_keys, size_t vectors, float *scores, float *inverse) {
  size_t ld = vectors * 16;
  v16 highest[TILE_VECTORS], sum[TILE_VECTORS];
#pragma GCC unroll 4
  for (size_t v = 0; v < vectors; v++) {
    highest[v] = v16_set1(-INFINITY);
    sum[v] = v16_zero();
  }
  for (size_t i = 0; i < n_keys; i++) {
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; v++) {
      highest[v] = v16_max(v16_load(scores + i * ld + v * 16), highest[v]);
    }
  }
  for (size_t i = 0; i < n_keys; i++) {
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; v++) {
      float *score = scores + i * ld + v * 16;
      v16 weight = v16_exp2(v16_sub(v16_load(score), highest[v]));
      sum[v] = v16_add(sum[v], weight);
      v16_store(score, weight);
    }
  }
#pragma GCC unroll 4
  for (size_t v = 0; v < vectors; v++) {
    v16_store(inverse + v * 16, v16_div(v16_set1(1.0f), sum[v]));
  }
}

static void soften(size_t n_keys, size_t vectors, float *scores, float *inverse) {
  switch (vectors) { /* constants, so that each case is unrolled */
  case 1: soften_columns(n_keys, 1, scores, inverse); break;
#if TILE_VECTORS > 1
  case 2: soften_columns(n_keys, 2, scores, inverse); break;
#endif
#if TILE_VECTORS > 2
  case 3: soften_columns(n_keys, 3, scores, inverse); break;
#endif
  }
}

static void mix_values(size_t n_queries, size_t n_keys, size_t vectors, size_t head_dim,
                       const float *scores, const float *inverse, const float *v, size_t ldv,
                       float *out, size_t ldout) {
  nn_mix mix = {.ldweights_bytes = vectors * 16 * FLOAT, .ldvalues_bytes = ldv * FLOAT};
  mix.ldout_bytes = ldout * FLOAT;
  mix.n_keys = n_keys;
  size_t n_tiles = (n_queries + MIX_ROWS - 1) / MIX_ROWS;
  for (size_t tile = 0; tile < n_tiles; tile++) {
    size_t i = tile * n_queries / n_tiles, rows = (tile + 1) * n_queries / n_tiles - i;
    mix.weights = scores + i;
    mix.inverse = inverse + i;
    for (size_t d = 0; d < head_dim;) {
      size_t wide = smaller(MIX_VECTORS, (head_dim - d) / 16);
      mix.values = v + d;
      mix.out = out + i * ldout + d;
      mix_kernels[wide - 1][rows - 1](&mix);
      d += wide * 16;
    }
  }
}

static void attention(size_t n_tokens, size_t n_heads, size_t head_dim, float scale,
                      const float *qkv, size_t ldqkv, float *out, size_t ldout, float *scratch) {
  if (head_dim % 16 != 0) { /* legal, rare, and not worth kernels of its own */
    nn_kernels_c.attention_f32(n_tokens, n_heads, head_dim, scale, qkv, ldqkv, out, ldout, scratch);
    return;
  }
  size_t hidden = n_heads * head_dim;
  float *inverse = scratch, *panel = inverse + PANEL, *scores = panel + PANEL * head_dim;
  float factor = scale * NN_LOG2E;
  for (size_t h = 0; h < n_heads; h++) {
    const float *q = qkv + h * head_dim, *k = q + hidden, *v = k + hidden;
    for (size_t i = 0; i < n_tokens; i += PANEL) {
      size_t n_queries = smaller(PANEL, n_tokens - i), vectors = (n_queries + 15) / 16;
      pack_queries(n_queries, vectors, head_dim, factor, q + i * ldqkv, ldqkv, panel);
      score_keys(n_tokens, vectors, head_dim, k, ldqkv, panel, scores);
      soften(n_tokens, vectors, scores, inverse);
      mix_values(n_queries, n_tokens, vectors, head_dim, scores, inverse, v, ldqkv,
                 out + i * ldout + h * head_dim, ldout);
    }
  }
}

/* ---- rows ---- */

#define NORM_ROWS 4 /* so many rows at once hide the latency of each one's chain */

static inline void norm_rows(size_t rows, size_t n, const float *x, size_t ldx, const float *gamma,
                             const float *beta, float eps, float *y, size_t ldy) {
  v16 sum[NORM_ROWS], mean[NORM_ROWS], inverse[NORM_ROWS];
  size_t whole = n / 16 * 16, rest = n - whole;
  for (size_t i = 0; i < rows; i++) {
    sum[i] = v16_zero();
  }
  for (size_t j = 0; j < whole; j += 16) {
    for (size_t i = 0; i < rows; i++) {
      sum[i] = v16_add(sum[i], v16_load(x + i * ldx + j));
    }
  }
  for (size_t i = 0; i < rows; i++) {
    if (rest > 0) {
      sum[i] = v16_add(sum[i], v16_load_n(x + i * ldx + whole, rest));
    }
    mean[i] = v16_set1(v16_add_lanes(sum[i]) / (float)n);
    sum[i] = v16_zero();
  }
  for (size_t j = 0; j < whole; j += 16) {
    for (size_t i = 0; i < rows; i++) {
      v16 difference = v16_sub(v16_load(x + i * ldx + j), mean[i]);
      sum[i] = v16_fma(difference, difference, sum[i]);
    }
  }
  for (size_t i = 0; i < rows; i++) {
    if (rest > 0) {
      v16 difference = v16_sub(v16_load_n(x + i * ldx + whole, rest), mean[i]);
      difference = v16_first(difference, rest);
      sum[i] = v16_fma(difference, difference, sum[i]);
    }
    inverse[i] = v16_set1(1.0f / sqrtf(v16_add_lanes(sum[i]) / (float)n + eps));
  }
  for (size_t j = 0; j < n; j += 16) {
    size_t n_here = smaller(16, n - j);
    v16 g = v16_load_n(gamma + j, n_here), b = v16_load_n(beta + j, n_here);
    for (size_t i = 0; i < rows; i++) {
      v16 value = v16_sub(v16_load_n(x + i * ldx + j, n_here), mean[i]);
      v16_store_n(y + i * ldy + j, v16_fma(v16_mul(value, inverse[i]), g, b), n_here);
    }
  }
}

static void layer_norm(size_t m, size_t n, const float *x, size_t ldx, const float *gamma,
                       const float *beta, float eps, float *y, size_t ldy) {
  size_t i = 0;
  for (; i + NORM_ROWS <= m; i += NORM_ROWS) {
    norm_rows(NORM_ROWS, n, x + i * ldx, ldx, gamma, beta, eps, y + i * ldy, ldy);
  }
  for (; i < m; i++) {
    norm_rows(1, n, x + i * ldx, ldx, gamma, beta, eps, y + i * ldy, ldy);
  }
}

static void add3(size_t n, const float *a, const float *b, const float *c, float *y) {
  for (size_t j = 0; j < n; j += 16) {
    size_t n_here = smaller(16, n - j);
    v16 sum = v16_add(v16_load_n(a + j, n_here), v16_load_n(b + j, n_here));
    v16_store_n(y + j, v16_add(sum, v16_load_n(c + j, n_here)), n_here);
  }
}

static void sum_rows(size_t m, size_t n, const float *x, size_t ldx, float *y) {
  for (size_t j = 0; j < n; j += 16) {
    size_t n_here = smaller(16, n - j);
    v16 sum = v16_zero();
    for (size_t i = 0; i < m; i++) {
      sum = v16_add(sum, v16_load_n(x + i * ldx + j, n_here));
    }
    v16_store_n(y + j, sum, n_here);
  }
}

static void weighted_sum_rows(size_t m, size_t n, const float *x, size_t ldx, const float *weights,
                              float *y) {
  for (size_t j = 0; j < n; j += 16) {
    size_t n_here = smaller(16, n - j);
    v16 sum = v16_zero();
    for (size_t i = 0; i < m; i++) {
      sum = v16_fma(v16_set1(weights[i]), v16_load_n(x + i * ldx + j, n_here), sum);
    }
    v16_store_n(y + j, sum, n_here);
  }
}

static void max_rows(size_t m, size_t n, const float *x, size_t ldx, float *y) {
  for (size_t j = 0; j < n; j += 16) {
    size_t n_here = smaller(16, n - j);
    v16 highest = v16_load_n(x + j, n_here);
    for (size_t i = 1; i < m; i++) {
      highest = v16_max(highest, v16_load_n(x + i * ldx + j, n_here));
    }
    v16_store_n(y + j, highest, n_here);
  }
}

static void divide(size_t n, const float *x, float divisor, float *y) {
  for (size_t j = 0; j < n; j += 16) {
    size_t n_here = smaller(16, n - j);
    v16_store_n(y + j, v16_div(v16_load_n(x + j, n_here), v16_set1(divisor)), n_here);
  }
}

static void activate(size_t n, enum nn_activation act, const float *x, float *y) {
  for (size_t j = 0; j < n; j += 16) {
    size_t n_here = smaller(16, n - j);
    v16_store_n(y + j, v16_activate(act, v16_load_n(x + j, n_here)), n_here);
  }
}

/* ---- benchmarks ---- */

/*
 * One register tile whose A and B fill most of L1: its start and end weigh as little as they can
 * there.
 */
static double bench_microkernel(size_t n_repeats, float *scratch) {
  enum { K = TILE_VECTORS > 1 ? 128 : 256, LDA = K + 16 };
  float *c = scratch, *b = c + TILE_ROWS * PANEL, *a = b + K * PANEL;
  nn_tile t = {.a = a, .lda_bytes = LDA * FLOAT, .b = b, .init = no_bias, .c = c};
  t.ldc_bytes = PANEL * FLOAT;
  t.prefetch = (const char *)b;
  set_k(&t, K);
  for (size_t i = 0; i < n_repeats; i++) {
    tile_kernels[TILE_VECTORS - 1][TILE_ROWS - 1](&t);
  }
  return 2.0 * TILE_ROWS * PANEL * K * (double)n_repeats;
}

#define NN_TABLE(variant)                                                                          \
  {                                                                                                \
    .name = variant, .packed_f32_n_floats = packed_n_floats, .pack_f32 = pack,                     \
    .matmul_f32 = matmul, .attention_f32_n_floats = attention_n_floats,                            \
    .attention_f32 = attention, .layer_norm_f32 = layer_norm, .add3_f32 = add3,                    \
    .sum_rows_f32 = sum_rows, .weighted_sum_rows_f32 = weighted_sum_rows,                          \
    .max_rows_f32 = max_rows, .divide_f32 = divide, .activate_f32 = activate,                      \
    .bench_microkernel_f32 = bench_microkernel, .peak_fma_f32 = peak_fma,                          \
  }
