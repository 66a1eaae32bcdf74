/*
 * Every variant of the tensor kernels against the C reference, byte for byte:
 * random shapes, special values, buffers that end at a guard page.
 */
#include "kernel_test.h"

#include "cpu/cpu.h"
#include "kernel/nn/nn.h"

#define N_VARIANTS_MAX 8

static const nn_kernels *reference;
static const nn_kernels *runnable[N_VARIANTS_MAX];
static size_t n_runnable;

/* Variants that this processor (as masked by VECMILL_CPU) can run, the reference left out. */
static int find_variants(void **state) {
  unsigned needs;
  reference = nn_variant(0, &needs);
  assert_int_equal(needs, 0);
  char absent[200] = "";
  for (size_t i = 1; nn_variant(i, &needs) != NULL; i++) {
    const nn_kernels *kernels = nn_variant(i, &needs);
    if ((needs & cpu_features()) == needs) {
      runnable[n_runnable++] = kernels;
    } else {
      strcat(strcat(absent, " "), kernels->name);
    }
  }
  printf("nn variants not run on this processor:%s\n", absent[0] != '\0' ? absent : " none");
  return 0;
}

/* ---- matmul ---- */

typedef struct matmul_case {
  size_t m, n, k;
  enum nn_activation act;
  bool bias, residual, alias;
  size_t one_special_in;
} matmul_case;

/* y after the product, residual included; y starts from `start` so that writes past n show. */
static guarded run_matmul(const nn_kernels *kernels, const matmul_case *c, const guarded *x,
                          const guarded *w, const guarded *bias, const guarded *start) {
  size_t ldx = nn_row_stride(c->k), ldy = nn_row_stride(c->n);
  guarded packed = guard_open((kernels->packed_f32_n_floats(c->n, c->k) + 15) / 16 * 16);
  guarded y = guard_copy(start);
  kernels->pack_f32(c->n, c->k, w->data, c->k, packed.data);
  const float *residual = !c->residual ? NULL : c->alias ? y.data : start->data;
  kernels->matmul_f32(c->m, c->n, c->k, x->data, ldx, packed.data, c->bias ? bias->data : NULL,
                      c->act, residual, ldy, y.data, ldy);
  guard_close(&packed);
  return y;
}

static void check_matmul(const matmul_case *c) {
  guarded x = guard_random(c->m * nn_row_stride(c->k), c->one_special_in);
  guarded w = guard_random(c->n * c->k, c->one_special_in * 10);
  guarded bias = guard_random(c->n, c->one_special_in);
  guarded start = guard_random(c->m * nn_row_stride(c->n), c->one_special_in);
  guarded wanted = run_matmul(reference, c, &x, &w, &bias, &start);
  for (size_t i = 0; i < n_runnable; i++) {
    guarded got = run_matmul(runnable[i], c, &x, &w, &bias, &start);
    char what[160];
    snprintf(what, sizeof what, "matmul m %zu n %zu k %zu act %d bias %d residual %d alias %d",
             c->m, c->n, c->k, c->act, c->bias, c->residual, c->alias);
    assert_same_floats(runnable[i]->name, what, got.n, got.data, wanted.data);
    guard_close(&got);
  }
  guard_close(&x);
  guard_close(&w);
  guard_close(&bias);
  guard_close(&start);
  guard_close(&wanted);
}

static void matmul_gives_the_reference_bytes(void **state) {
  static const size_t ns[] = {1, 16, 30, 32, 48, 96, 100, 384}, ks[] = {1, 7, 32, 384, 400};
  for (int round = 0; round < 120; round++) {
    matmul_case c = {.m = 1 + random_below(40)};
    c.n = ns[random_below(sizeof ns / sizeof ns[0])];
    c.k = ks[random_below(sizeof ks / sizeof ks[0])];
    c.act = (enum nn_activation)random_below(4);
    c.bias = random_below(2);
    c.residual = random_below(2);
    c.alias = random_below(2);
    c.one_special_in = random_below(3) == 0 ? 50 : 0;
    check_matmul(&c);
  }
}

static void matmul_of_the_encoders_shapes(void **state) {
  check_matmul(&(matmul_case){.m = 19, .n = 1152, .k = 384, .bias = true});
  check_matmul(&(matmul_case){.m = 13, .n = 1536, .k = 384, .bias = true, .act = NN_GELU});
  check_matmul(&(matmul_case){.m = 13, .n = 384, .k = 1536, .bias = true, .residual = true});
  check_matmul(
      &(matmul_case){.m = 7, .n = 144, .k = 1536, .bias = true, .residual = true, .alias = true});
  check_matmul(&(matmul_case){.m = 5, .n = 64, .k = 1024});
}

/*
 * A chain of k fused multiply-adds errs by at most k u sum |x w| (Higham, section 3.1), u = 2^-24. Each step
 * rounds its partial sum s by less than u |s|; independent errors of that size add up to more than 8 u sqrt(sum
 * s^2) about once in 10^14 (Hoeffding), so that any seed may be asked.
 */
static void matmul_is_accurate(void **state) {
  matmul_case c = {.m = 9, .n = 48, .k = 1536, .bias = true};
  guarded x = guard_random(c.m * nn_row_stride(c.k), 0), w = guard_random(c.n * c.k, 0);
  guarded bias = guard_random(c.n, 0), start = guard_open(c.m * nn_row_stride(c.n));
  guarded y = run_matmul(nn_select(cpu_features()), &c, &x, &w, &bias, &start);
  for (size_t i = 0; i < c.m; i++) {
    for (size_t j = 0; j < c.n; j++) {
      long double sum = bias.data[j], size = fabsl(sum), squares = 0;
      for (size_t l = 0; l < c.k; l++) {
        long double product = (long double)x.data[i * nn_row_stride(c.k) + l] * w.data[j * c.k + l];
        sum += product;
        size += fabsl(product);
        squares += sum * sum;
      }
      long double error = fabsl(y.data[i * nn_row_stride(c.n) + j] - sum);
      assert_true(error <= (long double)(c.k + 1) * 0x1p-24L * size);
      assert_true(error <= 8 * 0x1p-24L * sqrtl(squares));
    }
  }
  guard_close(&x);
  guard_close(&w);
  guard_close(&bias);
  guard_close(&start);
  guard_close(&y);
}

/* A row's bytes may not depend on how many rows lie beside it. */
static void matmul_rows_are_independent(void **state) {
  matmul_case c = {.m = 23, .n = 96, .k = 384, .bias = true, .act = NN_GELU};
  guarded x = guard_random(c.m * nn_row_stride(c.k), 0), w = guard_random(c.n * c.k, 0);
  guarded bias = guard_random(c.n, 0), start = guard_open(c.m * nn_row_stride(c.n));
  for (size_t v = 0; v < n_runnable; v++) {
    guarded all = run_matmul(runnable[v], &c, &x, &w, &bias, &start);
    for (size_t m = 1; m < c.m; m++) {
      matmul_case fewer = c;
      fewer.m = m;
      guarded some = run_matmul(runnable[v], &fewer, &x, &w, &bias, &start);
      assert_same_floats(runnable[v]->name, "fewer rows", m * nn_row_stride(c.n), some.data,
                         all.data);
      guard_close(&some);
    }
    guard_close(&all);
  }
  guard_close(&x);
  guard_close(&w);
  guard_close(&bias);
  guard_close(&start);
}

/* ---- attention ---- */

static guarded run_attention(const nn_kernels *kernels, size_t n_tokens, size_t n_heads,
                             size_t head_dim, const guarded *qkv) {
  size_t ldqkv = nn_row_stride(3 * n_heads * head_dim), ldout = nn_row_stride(n_heads * head_dim);
  guarded out = guard_open(n_tokens * ldout);
  size_t n_scratch = (kernels->attention_f32_n_floats(n_tokens, head_dim) + 15) / 16 * 16;
  guarded scratch = guard_open(n_scratch);
  memset(scratch.data, 0xff, n_scratch * sizeof(float)); /* NaN: nothing may be assumed of it */
  kernels->attention_f32(n_tokens, n_heads, head_dim, 1 / sqrtf((float)head_dim), qkv->data, ldqkv,
                         out.data, ldout, scratch.data);
  guard_close(&scratch);
  return out;
}

static void check_attention(size_t n_tokens, size_t n_heads, size_t head_dim,
                            size_t one_special_in) {
  guarded qkv = guard_random(n_tokens * nn_row_stride(3 * n_heads * head_dim), one_special_in);
  guarded wanted = run_attention(reference, n_tokens, n_heads, head_dim, &qkv);
  for (size_t i = 0; i < n_runnable; i++) {
    guarded got = run_attention(runnable[i], n_tokens, n_heads, head_dim, &qkv);
    char what[100];
    snprintf(what, sizeof what, "attention of %zu tokens, %zu heads x %zu", n_tokens, n_heads,
             head_dim);
    assert_same_floats(runnable[i]->name, what, got.n, got.data, wanted.data);
    guard_close(&got);
  }
  guard_close(&qkv);
  guard_close(&wanted);
}

static void attention_gives_the_reference_bytes(void **state) {
  static const size_t dims[] = {8, 16, 24, 32, 48, 64};
  for (int round = 0; round < 60; round++) {
    check_attention(1 + random_below(70), 1 + random_below(3), dims[random_below(6)],
                    random_below(3) == 0 ? 100 : 0);
  }
  check_attention(48, 12, 32, 0);
  check_attention(49, 2, 32, 0);
  check_attention(143, 1, 32, 0);
  check_attention(256, 1, 32, 0);
}

static void attention_is_accurate(void **state) {
  enum { N = 37, D = 32 };
  guarded qkv = guard_random(N * nn_row_stride(3 * D), 0);
  size_t ld = nn_row_stride(3 * D);
  guarded out = run_attention(nn_select(cpu_features()), N, 1, D, &qkv);
  for (size_t i = 0; i < N; i++) {
    long double weights[N], sum = 0;
    for (size_t t = 0; t < N; t++) {
      long double score = 0;
      for (size_t d = 0; d < D; d++) {
        score += (long double)qkv.data[i * ld + d] * qkv.data[t * ld + D + d];
      }
      sum += weights[t] = expl(score / sqrtl(D));
    }
    for (size_t d = 0; d < D; d++) {
      long double value = 0;
      for (size_t t = 0; t < N; t++) {
        value += weights[t] / sum * qkv.data[t * ld + 2 * D + d];
      }
      assert_true(fabsl(out.data[i * nn_row_stride(D) + d] - value) <= 1e-6L);
    }
  }
  guard_close(&qkv);
  guard_close(&out);
}

/* ---- rows ---- */

static guarded run_layer_norm(const nn_kernels *kernels, size_t m, size_t n, const guarded *x,
                              const guarded *gamma, const guarded *beta, bool in_place) {
  size_t ld = nn_row_stride(n);
  guarded y = guard_copy(x);
  kernels->layer_norm_f32(m, n, in_place ? y.data : x->data, ld, gamma->data, beta->data, 1e-12f,
                          y.data, ld);
  return y;
}

static void layer_norm_gives_the_reference_bytes(void **state) {
  static const size_t ns[] = {1, 15, 16, 17, 32, 100, 384, 768};
  for (int round = 0; round < 100; round++) {
    size_t m = 1 + random_below(10), n = ns[random_below(8)];
    guarded x = guard_random(m * nn_row_stride(n), round % 4 == 0 ? 300 : 0);
    guarded gamma = guard_random(n, 0), beta = guard_random(n, 0);
    guarded wanted = run_layer_norm(reference, m, n, &x, &gamma, &beta, false);
    for (size_t i = 0; i < n_runnable; i++) {
      guarded got = run_layer_norm(runnable[i], m, n, &x, &gamma, &beta, round % 2);
      assert_same_floats(runnable[i]->name, "layer norm", got.n, got.data, wanted.data);
      guard_close(&got);
    }
    guard_close(&x);
    guard_close(&gamma);
    guard_close(&beta);
    guard_close(&wanted);
  }
}

static void layer_norm_is_accurate(void **state) {
  enum { N = 384 };
  guarded x = guard_random(nn_row_stride(N), 0), gamma = guard_random(N, 0),
          beta = guard_random(N, 0);
  guarded y = run_layer_norm(nn_select(cpu_features()), 1, N, &x, &gamma, &beta, false);
  long double sum = 0, squares = 0;
  for (size_t j = 0; j < N; j++) {
    sum += x.data[j];
  }
  for (size_t j = 0; j < N; j++) {
    squares += (x.data[j] - sum / N) * (x.data[j] - sum / N);
  }
  for (size_t j = 0; j < N; j++) {
    long double wanted =
        (x.data[j] - sum / N) / sqrtl(squares / N + 1e-12L) * gamma.data[j] + beta.data[j];
    assert_true(fabsl(y.data[j] - wanted) <= 2e-6L);
  }
  guard_close(&x);
  guard_close(&gamma);
  guard_close(&beta);
  guard_close(&y);
}

static void row_reductions_give_the_reference_bytes(void **state) {
  for (int round = 0; round < 100; round++) {
    size_t m = 1 + random_below(20), n = 1 + random_below(100), ld = nn_row_stride(n);
    guarded x = guard_random(m * ld, round % 3 == 0 ? 30 : 0), weights = guard_random(m, 0);
    guarded wanted = guard_open(n), got = guard_open(n);
    for (size_t i = 0; i < n_runnable; i++) {
      const char *name = runnable[i]->name;
      reference->sum_rows_f32(m, n, x.data, ld, wanted.data);
      runnable[i]->sum_rows_f32(m, n, x.data, ld, got.data);
      assert_same_floats(name, "sum of rows", n, got.data, wanted.data);
      reference->max_rows_f32(m, n, x.data, ld, wanted.data);
      runnable[i]->max_rows_f32(m, n, x.data, ld, got.data);
      assert_same_floats(name, "maximum of rows", n, got.data, wanted.data);
      reference->weighted_sum_rows_f32(m, n, x.data, ld, weights.data, wanted.data);
      runnable[i]->weighted_sum_rows_f32(m, n, x.data, ld, weights.data, got.data);
      assert_same_floats(name, "weighted sum of rows", n, got.data, wanted.data);
    }
    guard_close(&x);
    guard_close(&weights);
    guard_close(&wanted);
    guard_close(&got);
  }
}

static void elementwise_kernels_give_the_reference_bytes(void **state) {
  for (size_t n = 1; n < 100; n++) {
    guarded a = guard_random(n, 4), b = guard_random(n, 4), c = guard_random(n, 4);
    guarded wanted = guard_open(n), got = guard_open(n);
    for (size_t i = 0; i < n_runnable; i++) {
      const char *name = runnable[i]->name;
      reference->add3_f32(n, a.data, b.data, c.data, wanted.data);
      runnable[i]->add3_f32(n, a.data, b.data, c.data, got.data);
      assert_same_floats(name, "add3", n, got.data, wanted.data);
      reference->divide_f32(n, a.data, b.data[0], wanted.data);
      runnable[i]->divide_f32(n, a.data, b.data[0], got.data);
      assert_same_floats(name, "divide", n, got.data, wanted.data);
      for (int act = NN_LINEAR; act <= NN_RELU; act++) {
        reference->activate_f32(n, (enum nn_activation)act, a.data, wanted.data);
        runnable[i]->activate_f32(n, (enum nn_activation)act, a.data, got.data);
        assert_same_floats(name, "activation", n, got.data, wanted.data);
      }
    }
    guard_close(&a);
    guard_close(&b);
    guard_close(&c);
    guard_close(&wanted);
    guard_close(&got);
  }
}

/* ---- the same everywhere ---- */

static uint64_t digest_more(uint64_t digest, const guarded *g) { /* FNV-1a over the bytes */
  const uint8_t *bytes = (const uint8_t *)g->data;
  for (size_t i = 0; i < g->n * sizeof(float); i++) {
    digest = (digest ^ bytes[i]) * 0x100000001b3u;
  }
  return digest;
}

static uint64_t digest_of_results(const nn_kernels *kernels) {
  matmul_case c = {.m = 11, .n = 96, .k = 400, .act = NN_GELU, .bias = true, .residual = true};
  random_state = 2026;
  guarded x = guard_random(c.m * nn_row_stride(c.k), 0), w = guard_random(c.n * c.k, 0);
  guarded bias = guard_random(c.n, 0), start = guard_random(c.m * nn_row_stride(c.n), 0);
  guarded beta = guard_random(c.n, 0);
  guarded y = run_matmul(kernels, &c, &x, &w, &bias, &start);
  guarded z = run_layer_norm(kernels, c.m, c.n, &y, &bias, &beta, false);
  guarded out = run_attention(kernels, c.m, 1, 32, &z);
  uint64_t digest = digest_more(digest_more(digest_more(0xcbf29ce484222325u, &y), &z), &out);
  guarded *all[] = {&x, &w, &bias, &start, &beta, &y, &z, &out};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    guard_close(all[i]);
  }
  return digest;
}

/*
 * The bytes themselves, so that a change in any function or order shows, and so
 * that x86 and arm64 are compared through this one number.
 */
static void results_have_the_bytes_of_all_machines(void **state) {
  const uint64_t wanted = 0x223b617972afcb53u;
  printf("digest of the reference's results: 0x%016llx\n",
         (unsigned long long)digest_of_results(reference));
  assert_true(digest_of_results(reference) == wanted);
  for (size_t i = 0; i < n_runnable; i++) {
    assert_true(digest_of_results(runnable[i]) == wanted);
  }
}

/* ---- functions ---- */

static void activations_are_accurate(void **state) {
  const nn_kernels *kernels = nn_select(cpu_features());
  long double worst_gelu = 0, worst_tanh = 0;
  for (float x = -12.0f; x < 12.0f; x += 0x1p-11f) {
    float y;
    kernels->activate_f32(1, NN_GELU, &x, &y);
    worst_gelu = fmaxl(worst_gelu, fabsl(y - 0.5L * x * erfcl(-x / sqrtl(2))));
    kernels->activate_f32(1, NN_TANH, &x, &y);
    worst_tanh = fmaxl(worst_tanh, fabsl(y - tanhl(x)));
  }
  printf("greatest error: GELU %.2Lg, tanh %.2Lg\n", worst_gelu, worst_tanh);
  assert_true(worst_gelu < 1e-6L);
  assert_true(worst_tanh < 2e-7L);
}

static void activations_of_special_values(void **state) {
  const nn_kernels *kernels = nn_select(cpu_features());
  float x[5] = {INFINITY, -INFINITY, NAN, 0.0f, 1e30f}, y[5];
  kernels->activate_f32(5, NN_GELU, x, y);
  assert_true(y[0] == INFINITY && fabsf(y[1]) < 1e-6f && isnan(y[2]) && y[3] == 0.0f &&
              y[4] == 1e30f);
  kernels->activate_f32(5, NN_TANH, x, y);
  assert_true(y[0] == 1.0f && y[1] == -1.0f && isnan(y[2]) && y[3] == 0.0f && y[4] == 1.0f);
  kernels->activate_f32(5, NN_RELU, x, y);
  assert_true(y[0] == INFINITY && y[1] == 0.0f && isnan(y[2]) && y[3] == 0.0f && y[4] == 1e30f);
}

static void half_precision_is_exact(void **state) {
  for (uint32_t h = 0; h < 0x10000; h++) {
    uint8_t bytes[3] = {0xee, (uint8_t)h, (uint8_t)(h >> 8)}; /* read from an odd address */
    float sign = h & 0x8000 ? -1.0f : 1.0f, got;
    uint32_t exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    nn_convert_f16(1, bytes + 1, &got);
    float wanted = exponent == 31 ? (mantissa ? NAN : sign * INFINITY)
                   : exponent == 0 ? sign * ldexpf((float)mantissa, -24)
                                   : sign * ldexpf((float)(mantissa + 1024), (int)exponent - 25);
    assert_true(same_bits(got, wanted));
    nn_convert_bf16(1, bytes + 1, &got);
    uint32_t bits = h << 16;
    memcpy(&wanted, &bits, sizeof wanted);
    assert_true(same_bits(got, wanted));
  }
}

/* ---- choosing ---- */

static void select_respects_features(void **state) {
  assert_string_equal(nn_select(0)->name, "c");
  unsigned needs;
  for (size_t i = 0; nn_variant(i, &needs) != NULL; i++) {
    unsigned all_below = 0, other;
    for (size_t j = 0; j <= i; j++) {
      nn_variant(j, &other);
      all_below |= other;
    }
    assert_ptr_equal(nn_select(all_below), nn_variant(i, &needs));
  }
}

static void row_strides_avoid_aliasing(void **state) {
  for (size_t n = 1; n < 5000; n++) {
    size_t stride = nn_row_stride(n);
    assert_true(stride >= n && stride % 16 == 0 && stride * sizeof(float) % 4096 != 0);
    assert_true(stride < n + 32);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(matmul_gives_the_reference_bytes),
      cmocka_unit_test(matmul_of_the_encoders_shapes),
      cmocka_unit_test(matmul_is_accurate),
      cmocka_unit_test(matmul_rows_are_independent),
      cmocka_unit_test(attention_gives_the_reference_bytes),
      cmocka_unit_test(attention_is_accurate),
      cmocka_unit_test(layer_norm_gives_the_reference_bytes),
      cmocka_unit_test(layer_norm_is_accurate),
      cmocka_unit_test(row_reductions_give_the_reference_bytes),
      cmocka_unit_test(elementwise_kernels_give_the_reference_bytes),
      cmocka_unit_test(results_have_the_bytes_of_all_machines),
      cmocka_unit_test(activations_are_accurate),
      cmocka_unit_test(activations_of_special_values),
      cmocka_unit_test(half_precision_is_exact),
      cmocka_unit_test(select_respects_features),
      cmocka_unit_test(row_strides_avoid_aliasing),
  };
  return cmocka_run_group_tests_name("nn", tests, find_variants, NULL);
}
