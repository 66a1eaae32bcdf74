/*
 * For developers: every kernel of the encoder in turns with the register peak
 * and with the matrix microkernel on L1-resident data. A share is the median
 * over rounds of (kernel's speed / peak's speed in the same round).
 *
 * usage: bench-kernels [VARIANT] [TOKENS] [ROUNDS]   (avx512, avx2, c; default: the best)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "kernel/nn/nn.h"

#define HIDDEN 384
#define N_LAYERS 6
#define LAYER_FLOATS ((size_t)12 * HIDDEN * HIDDEN)
#define N_ROUNDS_MAX 101
#define TURN_NS 8e6 /* one measurement takes about so long */

typedef struct work {
  const nn_kernels *kernels;
  size_t n_tokens;
  float *x, *y, *wide, *packed, *weights, *bias, *scratch;
  float *layers; /* N_LAYERS times all four matrices: 42 MB that pass through the caches */
} work;

static void fill(float *data, size_t n) {
  unsigned state = 1;
  for (size_t i = 0; i < n; i++) {
    state = state * 1664525u + 1013904223u;
    data[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
  }
}

static double product(work *w, size_t n, size_t k, enum nn_activation act, bool residual) {
  w->kernels->matmul_f32(w->n_tokens, n, k, k == HIDDEN ? w->x : w->wide, nn_row_stride(k),
                         w->packed, w->bias, act, residual ? w->x : NULL, nn_row_stride(n),
                         n == HIDDEN ? w->y : w->wide, nn_row_stride(n));
  return 2.0 * (double)(w->n_tokens * n * k);
}

static double run_qkv(work *w, size_t a) {
  return product(w, 3 * HIDDEN, HIDDEN, NN_LINEAR, false);
}
static double run_out(work *w, size_t a) { return product(w, HIDDEN, HIDDEN, NN_LINEAR, true); }
static double run_up(work *w, size_t a) { return product(w, 4 * HIDDEN, HIDDEN, NN_GELU, false); }
static double run_down(work *w, size_t a) {
  return product(w, HIDDEN, 4 * HIDDEN, NN_LINEAR, true);
}

static double run_attention(work *w, size_t length) {
  size_t ldqkv = nn_row_stride(3 * HIDDEN), ldout = nn_row_stride(HIDDEN), i = 0;
  double operations = 0;
  for (; i + length <= w->n_tokens; i += length) {
    w->kernels->attention_f32(length, 12, 32, 0.17677669f, w->wide + i * ldqkv, ldqkv,
                              w->y + i * ldout, ldout, w->scratch);
    operations += 4.0 * (double)(length * length) * HIDDEN;
  }
  return operations;
}

/* Counted as 8 operations an element, so that its cost can be compared with itself. */
static double run_norm(work *w, size_t a) {
  size_t ld = nn_row_stride(HIDDEN);
  w->kernels->layer_norm_f32(w->n_tokens, HIDDEN, w->x, ld, w->bias, w->bias, 1e-12f, w->y, ld);
  return 8.0 * (double)(w->n_tokens * HIDDEN);
}

static double run_microkernel(work *w, size_t a) {
  return w->kernels->bench_microkernel_f32(200, w->scratch);
}

static double run_peak(work *w, size_t loop) { return nn_peak_fma_f32(cpu_features(), loop, 1000); }

/* What the encoder does for texts of `length` tokens: one layer. */
static double run_layer(work *w, size_t length) {
  double operations = run_qkv(w, 0);
  operations += run_attention(w, length);
  operations += run_out(w, 0);
  run_norm(w, 0);
  operations += run_up(w, 0);
  operations += run_down(w, 0);
  run_norm(w, 0);
  return operations;
}

/* The encoder's arithmetic over all layers, each with weights of its own. */
static double run_model(work *w, size_t length) {
  work here = *w;
  double operations = 0;
  for (size_t layer = 0; layer < N_LAYERS; layer++) {
    here.packed = w->layers + layer * LAYER_FLOATS;
    operations += run_qkv(&here, 0);
    operations += run_attention(&here, length);
    here.packed += 3 * HIDDEN * HIDDEN;
    operations += run_out(&here, 0);
    run_norm(&here, 0);
    here.packed += HIDDEN * HIDDEN;
    operations += run_up(&here, 0);
    here.packed += 4 * HIDDEN * HIDDEN;
    operations += run_down(&here, 0);
    run_norm(&here, 0);
  }
  return operations;
}

static const struct kernel {
  const char *name;
  double (*run)(work *w, size_t a);
  size_t a;
} kernels[] = {
    {"microkernel in L1", run_microkernel, 0},
    {"384 -> 1152", run_qkv, 0},
    {"384 -> 384 + residual", run_out, 0},
    {"384 -> 1536 GELU", run_up, 0},
    {"1536 -> 384 + residual", run_down, 0},
    {"attention L = 16", run_attention, 16},
    {"attention L = 88", run_attention, 88},
    {"attention L = 256", run_attention, 256},
    {"layer norm", run_norm, 0},
    {"layer, L = 16", run_layer, 16},
    {"layer, L = 85", run_layer, 85},
    {"layer, L = 256", run_layer, 256},
    {"6 layers, L = 16", run_model, 16},
    {"6 layers, L = 85", run_model, 85},
    {"6 layers, L = 256", run_model, 256},
};

#define N_KERNELS (sizeof kernels / sizeof kernels[0])

/* Operations a nanosecond. */
static double speed(double (*run)(work *w, size_t a), work *w, size_t a) {
  double operations = 0;
  uint64_t start = clock_now_ns(), now = start;
  while ((double)(now - start) < TURN_NS) {
    double done = run(w, a);
    if (done <= 0) {
      return 0;
    }
    operations += done;
    now = clock_now_ns();
  }
  return operations / (double)(now - start);
}

static double peak_speed(work *w) {
  double best = 0;
  for (size_t loop = 0; nn_peak_fma_f32(cpu_features(), loop, 0) >= 0; loop++) {
    double here = speed(run_peak, w, loop);
    best = here > best ? here : best;
  }
  return best;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, size_t n) {
  qsort(values, n, sizeof *values, by_value);
  return values[n / 2];
}

static const nn_kernels *find(const char *name) {
  unsigned needs;
  for (size_t i = 0; nn_variant(i, &needs) != NULL; i++) {
    if (strcmp(nn_variant(i, &needs)->name, name) == 0 && (needs & cpu_features()) == needs) {
      return nn_variant(i, &needs);
    }
  }
  return NULL;
}

static float *floats(size_t n) {
  float *data = mem_alloc_aligned(n, sizeof *data);
  if (data == NULL) {
    fprintf(stderr, "bench-kernels: out of memory\n");
    exit(1);
  }
  fill(data, n);
  return data;
}

int main(int argc, char **argv) {
  work w = {.kernels = argc > 1 ? find(argv[1]) : nn_select(cpu_features())};
  if (w.kernels == NULL) {
    fprintf(stderr, "bench-kernels: %s: not a variant that this processor runs\n", argv[1]);
    return 2;
  }
  w.n_tokens = argc > 2 ? (size_t)atol(argv[2]) : 256;
  size_t n_rounds = argc > 3 ? (size_t)atol(argv[3]) : 15;
  n_rounds = n_rounds > N_ROUNDS_MAX ? N_ROUNDS_MAX : n_rounds;
  w.x = floats(w.n_tokens * nn_row_stride(HIDDEN));
  w.y = floats(w.n_tokens * nn_row_stride(HIDDEN));
  w.wide = floats(w.n_tokens * nn_row_stride(4 * HIDDEN));
  w.bias = floats(4 * HIDDEN);
  w.layers = floats(N_LAYERS * LAYER_FLOATS); /* multiples of every panel: no padding between */
  w.weights = floats(4 * HIDDEN * HIDDEN);
  w.packed = floats(w.kernels->packed_f32_n_floats(4 * HIDDEN, HIDDEN));
  w.kernels->pack_f32(4 * HIDDEN, HIDDEN, w.weights, HIDDEN, w.packed);
  size_t n_scratch = w.kernels->attention_f32_n_floats(w.n_tokens, 32);
  w.scratch = floats(n_scratch > 8192 ? n_scratch : 8192);

  static double peaks[N_ROUNDS_MAX], speeds[N_KERNELS][N_ROUNDS_MAX],
      shares[N_KERNELS][N_ROUNDS_MAX];
  for (size_t round = 0; round < n_rounds; round++) {
    peaks[round] = peak_speed(&w);
    for (size_t i = 0; i < N_KERNELS; i++) {
      speeds[i][round] = speed(kernels[i].run, &w, kernels[i].a);
      shares[i][round] = speeds[i][round] / peaks[round];
    }
  }
  printf("%s, %s, %zu tokens: peak %.1f Gop/s\n", cpu_brand(), w.kernels->name, w.n_tokens,
         median(peaks, n_rounds));
  for (size_t i = 0; i < N_KERNELS; i++) {
    double share = median(shares[i], n_rounds); /* sorts, so the spread is at the ends */
    printf("%-24s %7.1f Gop/s %5.1f %% of peak (%.1f to %.1f)\n", kernels[i].name,
           median(speeds[i], n_rounds), 100 * share, 100 * shares[i][0],
           100 * shares[i][n_rounds - 1]);
  }
  return 0;
}
