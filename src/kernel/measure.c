/*
 * See measure.h. Shapes are those of MiniLM (hidden 384, feed-forward 1,536, 12 heads of 32) and
 * 256 tokens.
 */
#include "kernel/measure.h"

#include <string.h>

#include "base/mem.h"
#include "kernel/nn/nn.h"
#include "kernel/vec/vec.h"

#define N_TOKENS 256
#define N_HEADS 12
#define HEAD 32
#define HIDDEN (N_HEADS * HEAD)
#define N_VECTORS 512

typedef double measure_body(measure *m, size_t loop);

typedef struct entry {
  const char *name, *help;
  measure_body *run;
  size_t n, k;
  enum nn_activation act;
} entry;

struct measure {
  const entry *entry;
  unsigned features;
  const nn_kernels *nn;
  const vec_kernels *vec;
  float *x, *y, *packed, *bias, *scratch;
  volatile float sink; /* keeps results alive */
};

static double run_peak(measure *m, size_t loop) {
  return nn_peak_fma_f32(m->features, loop, 2000);
}

static double run_microkernel(measure *m, size_t loop) {
  return m->nn->bench_microkernel_f32(200, m->scratch);
}

static double run_matmul(measure *m, size_t loop) {
  size_t n = m->entry->n, k = m->entry->k;
  m->nn->matmul_f32(N_TOKENS, n, k, m->x, nn_row_stride(k), m->packed, m->bias, m->entry->act, NULL,
                    0, m->y, nn_row_stride(n));
  return 2.0 * N_TOKENS * (double)(n * k);
}

static double run_attention(measure *m, size_t loop) {
  size_t length = m->entry->n, ldqkv = nn_row_stride(3 * HIDDEN), ldout = nn_row_stride(HIDDEN);
  double operations = 0;
  for (size_t i = 0; i + length <= N_TOKENS; i += length) {
    m->nn->attention_f32(length, N_HEADS, HEAD, 0.17677669f, m->x + i * ldqkv, ldqkv,
                         m->y + i * ldout, ldout, m->scratch);
    operations += 4.0 * (double)(length * length) * HIDDEN;
  }
  return operations;
}

static double run_layer_norm(measure *m, size_t loop) {
  size_t ld = nn_row_stride(HIDDEN);
  m->nn->layer_norm_f32(N_TOKENS, HIDDEN, m->x, ld, m->bias, m->bias, 1e-12f, m->y, ld);
  /* sum; difference, square; difference, product, multiply-add: about 8 */
  return 8.0 * N_TOKENS * HIDDEN;
}

static double run_dot(measure *m, size_t loop) {
  float sum = 0;
  for (size_t i = 0; i < N_VECTORS; i++) {
    sum += m->vec->dot_f32(HIDDEN, m->bias, m->x + i * HIDDEN);
  }
  m->sink = sum;
  return 2.0 * N_VECTORS * HIDDEN;
}

static const entry entries[] = {
    {"peak_fma_f32", "the best of several loops of independent FMA chains in registers", run_peak,
     0, 0, 0},
    {"microkernel_f32", "the matrix microkernel on data that stays in L1", run_microkernel, 0, 0,
     0},
    {"matmul_f32_384x1152", "256 tokens, k = 384, n = 1,152, bias", run_matmul, 1152, 384,
     NN_LINEAR},
    {"matmul_f32_384x384", "256 tokens, k = 384, n = 384, bias", run_matmul, 384, 384, NN_LINEAR},
    {"matmul_f32_384x1536_gelu", "256 tokens, k = 384, n = 1,536, bias and GELU", run_matmul, 1536,
     384, NN_GELU},
    {"matmul_f32_1536x384", "256 tokens, k = 1,536, n = 384, bias", run_matmul, 384, 1536,
     NN_LINEAR},
    {"attention_f32_16", "12 heads of 32, texts of 16 tokens", run_attention, 16, 0, 0},
    {"attention_f32_88", "12 heads of 32, texts of 88 tokens", run_attention, 88, 0, 0},
    {"attention_f32_256", "12 heads of 32, one text of 256 tokens", run_attention, 256, 0, 0},
    {"layer_norm_f32_384", "256 rows of 384; 8 operations an element", run_layer_norm, 0, 0, 0},
    {"dot_f32_384", "dot products over 512 vectors of 384, in L2", run_dot, 0, 0, 0},
};

const char *measure_name(size_t i, const char **help_out) {
  if (i >= sizeof entries / sizeof entries[0]) {
    return NULL;
  }
  *help_out = entries[i].help;
  return entries[i].name;
}

static const entry *find_entry(const char *name) {
  const char *help;
  for (size_t i = 0; measure_name(i, &help) != NULL; i++) {
    if (strcmp(entries[i].name, name) == 0) {
      return &entries[i];
    }
  }
  return NULL;
}

/* Uniform in [-1, 1): no denormals, nothing that overflows. */
static float *random_floats(size_t n) {
  float *data = mem_alloc_aligned(n, sizeof *data);
  unsigned state = 1;
  for (size_t i = 0; data != NULL && i < n; i++) {
    state = state * 1664525u + 1013904223u;
    data[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
  }
  return data;
}

vecmill_status measure_open(const char *name, unsigned features, measure **measure_out,
                            vecmill_error *err) {
  *measure_out = NULL;
  const entry *found = find_entry(name);
  if (found == NULL) {
    return err_set(err, VECMILL_ERROR_NOT_FOUND,
                   "kernel %s: not known (one of peak_fma_f32, microkernel_f32, ...)", name);
  }
  measure *m = mem_calloc(1, sizeof *m);
  if (m == NULL) {
    return err_set_memory(err, "measuring a kernel", sizeof *m);
  }
  m->entry = found;
  m->features = features;
  m->nn = nn_select(features);
  m->vec = vec_select(features);
  size_t n_wide = N_TOKENS * nn_row_stride(4 * HIDDEN);
  size_t n_scratch = m->nn->attention_f32_n_floats(N_TOKENS, HEAD);
  n_scratch = n_scratch > 8192 ? n_scratch : 8192;
  m->x = random_floats(n_wide);
  m->y = random_floats(n_wide);
  m->bias = random_floats(4 * HIDDEN);
  m->scratch = random_floats(n_scratch);
  size_t n_packed = m->nn->packed_f32_n_floats(4 * HIDDEN, HIDDEN),
         n_narrow = m->nn->packed_f32_n_floats(HIDDEN, 4 * HIDDEN);
  m->packed = random_floats(n_packed > n_narrow ? n_packed : n_narrow); /* any order is as fast */
  if (m->x == NULL || m->y == NULL || m->bias == NULL || m->scratch == NULL || m->packed == NULL) {
    measure_close(&m);
    return err_set_memory(err, "measuring a kernel", 3 * n_wide * sizeof(float));
  }
  *measure_out = m;
  return VECMILL_OK;
}

void measure_close(measure **m) {
  if (*m != NULL) {
    mem_free((*m)->x);
    mem_free((*m)->y);
    mem_free((*m)->bias);
    mem_free((*m)->scratch);
    mem_free((*m)->packed);
    mem_free(*m);
    *m = NULL;
  }
}

size_t measure_n_loops(const measure *m) {
  size_t n = 1;
  if (m->entry->run == run_peak) {
    for (n = 0; nn_peak_fma_f32(m->features, n, 0) >= 0;) {
      n++;
    }
  }
  return n;
}

double measure_run(measure *m, size_t loop) { return m->entry->run(m, loop); }
