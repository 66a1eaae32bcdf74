/*
 * The model against the real sentence-transformers: token ids equal, every
 * component of every vector within 1e-5 (tests/model/golden, written by
 * scripts/make_golden.py). And the promise about bytes: every variant of the
 * kernels that this processor runs gives the same ones, whatever lies beside a
 * text in its batch; and so does every other processor, since a digest of them stands here.
 *
 * Passes that are slow by design (VECMILL_TEST=short: the C reference, an emulator, sanitizers)
 * take the first 40 texts of at most 32 tokens, and the variant that they are about.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "kernel/nn/nn.h"
#include "model/find.h"
#include "model/model.h"
#include "model_test.h"

#define MODEL_NAME "sentence-transformers/all-MiniLM-L6-v2"
#define DIMENSION 384
#define TOLERANCE 1e-5
#define MAX_TEXTS 1000
#define BATCH_TOKENS 512
#define N_SHORT 40
#define SHORT_TOKENS 32
#define N_NEIGHBOURS_SHORT 8

/* FNV-1a, 64 bits, over the little-endian vectors of the first 40 texts of at most 32 tokens. */
#define SHORT_DIGEST UINT64_C(0x97b21861feddcdcb)

typedef struct golden_text {
  const char *text; /* borrowed from `lines` */
  size_t n_bytes;
  json_t *ids;
  const float *vector;
} golden_text;

static golden_text texts[MAX_TEXTS];
static size_t n_texts;
static json_t *lines;
static char *vectors;
static model_location location;

static bool has_mode(const char *wanted) {
  const char *mode = getenv("VECMILL_TEST");
  return mode && strcmp(mode, wanted) == 0;
}

/* Few golden texts. */
static bool is_short_pass(void) {
  return has_mode("short");
}

/* All golden texts, but the other tests on few: what make torture does on slow paths. */
static bool is_slow_pass(void) {
  return has_mode("short") || has_mode("golden");
}

static void read_golden(void) {
  vecmill_error err = {0};
  char *text = NULL;
  size_t n_bytes, n_vector_bytes;
  char *texts_path = file_join(getenv("VECMILL_GOLDEN"), "texts.jsonl");
  char *vectors_path = file_join(getenv("VECMILL_GOLDEN"), "vectors.f32");
  if (file_read(texts_path, 1 << 24, &text, &n_bytes, &err) != VECMILL_OK) fail_msg("%s", err.text);
  if (file_read(vectors_path, 1 << 24, &vectors, &n_vector_bytes, &err) != VECMILL_OK)
    fail_msg("%s", err.text);
  lines = json_array();
  size_t n_all = 0;
  for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n_all++) {
    json_t *entry = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
    assert_non_null(entry);
    json_array_append_new(lines, entry);
    json_t *ids = json_object_get(entry, "ids"), *string = json_object_get(entry, "text");
    if (is_short_pass() && (n_texts == N_SHORT || json_array_size(ids) > SHORT_TOKENS)) continue;
    assert_true(n_texts < MAX_TEXTS);
    texts[n_texts++] =
        (golden_text){.text = json_string_value(string),
                      .n_bytes = json_string_length(string),
                      .ids = ids,
                      .vector = (const float *)(const void *)vectors + n_all * DIMENSION};
  }
  assert_int_equal(n_vector_bytes, n_all * DIMENSION * sizeof(float));
  assert_true(n_all >= 300);
  assert_true(n_texts >= N_SHORT);
  mem_free(text);
  mem_free(texts_path);
  mem_free(vectors_path);
}

static int setup(void **state) {
  (void)state;
  vecmill_error err = {0};
  read_golden();
  if (model_find(MODEL_NAME, &location, &err) != VECMILL_OK)
    fail_msg("%s; make test fetches it, scripts/fetch_model.py alone does too", err.text);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  json_decref(lines);
  mem_free(vectors);
  model_location_fini(&location);
  return 0;
}

static model *open_model(unsigned features) {
  vecmill_error err = {0};
  model *m;
  if (model_open_with(location.directory, features, &m, &err) != VECMILL_OK)
    fail_msg("%s", err.text);
  return m;
}

/* Embeds texts order[0 .. n), packed as full as batches go, into out (n_texts x DIMENSION, by
 * text). */
static void embed_in_order(const model *m, const size_t *order, size_t n, size_t batch_tokens,
                           float *out) {
  vecmill_error err = {0};
  tok_scratch *tokens;
  model_scratch *scratch;
  size_t max_tokens = model_get_info(m)->max_tokens, offsets[BATCH_TOKENS + 1] = {0}, n_batch = 0;
  float *rows[BATCH_TOKENS];
  int32_t ids[BATCH_TOKENS];
  assert_int_equal(tok_scratch_open(model_tokenizer(m), &tokens, &err), VECMILL_OK);
  assert_int_equal(model_scratch_open(m, BATCH_TOKENS, &scratch, &err), VECMILL_OK);
  for (size_t i = 0; i <= n; i++) {
    tok_result result = {0};
    if (i < n)
      assert_int_equal(tok_encode(model_tokenizer(m), tokens, texts[order[i]].text,
                                  texts[order[i]].n_bytes, max_tokens, &result, &err),
                       VECMILL_OK);
    if (n_batch > 0 && (i == n || offsets[n_batch] + result.n_ids > batch_tokens)) {
      if (model_encode(m, scratch, ids, offsets, n_batch, rows, &err) != VECMILL_OK)
        fail_msg("%s", err.text);
      n_batch = 0;
    }
    if (i == n) break;
    memcpy(ids + offsets[n_batch], result.ids, result.n_ids * sizeof *ids);
    rows[n_batch] = out + order[i] * DIMENSION;
    offsets[n_batch + 1] = offsets[n_batch] + result.n_ids;
    n_batch++;
  }
  model_scratch_close(&scratch);
  tok_scratch_close(&tokens);
}

/* The first 40 texts of at most 32 tokens: where they stand. */
static void short_texts(size_t order[N_SHORT]) {
  size_t n = 0;
  for (size_t i = 0; i < n_texts && n < N_SHORT; i++)
    if (json_array_size(texts[i].ids) <= SHORT_TOKENS) order[n++] = i;
  assert_int_equal(n, N_SHORT);
}

static void check_digest(const float *all, const size_t order[N_SHORT]) {
  float vectors_in_order[N_SHORT * DIMENSION];
  for (size_t i = 0; i < N_SHORT; i++)
    memcpy(vectors_in_order + i * DIMENSION, all + order[i] * DIMENSION, DIMENSION * sizeof *all);
  uint64_t digest = digest_of(vectors_in_order, N_SHORT * DIMENSION);
  if (digest != SHORT_DIGEST)
    fail_msg("other bytes than on other processors: digest 0x%016llx", (unsigned long long)digest);
}

static void in_order(size_t *order) {
  for (size_t i = 0; i < n_texts; i++) order[i] = i;
}

static void shuffle(size_t *order, size_t n, uint32_t seed) {
  in_order(order);
  for (size_t i = n; i > 1; i--) {
    seed = seed * 1664525u + 1013904223u;
    size_t j = (seed >> 8) % i, kept = order[i - 1];
    order[i - 1] = order[j];
    order[j] = kept;
  }
}

static void test_ids(void **state) {
  (void)state;
  vecmill_error err = {0};
  model *m = open_model(cpu_features());
  tok_scratch *tokens;
  assert_int_equal(tok_scratch_open(model_tokenizer(m), &tokens, &err), VECMILL_OK);
  for (size_t i = 0; i < n_texts; i++) {
    tok_result result;
    assert_int_equal(tok_encode(model_tokenizer(m), tokens, texts[i].text, texts[i].n_bytes,
                                model_get_info(m)->max_tokens, &result, &err),
                     VECMILL_OK);
    if (result.n_ids != json_array_size(texts[i].ids))
      fail_msg("text %zu: %zu ids, not %zu", i, result.n_ids, json_array_size(texts[i].ids));
    for (size_t j = 0; j < result.n_ids; j++)
      if (result.ids[j] != json_integer_value(json_array_get(texts[i].ids, j)))
        fail_msg("text %zu: id %zu differs", i, j);
  }
  tok_scratch_close(&tokens);
  model_close(&m);
}

static void test_vectors(void **state) {
  (void)state;
  size_t order[MAX_TEXTS];
  model *m = open_model(cpu_features());
  float *out = mem_calloc(n_texts * DIMENSION, sizeof *out);
  double worst = 0;
  in_order(order);
  embed_in_order(m, order, n_texts, 256, out);
  for (size_t i = 0; i < n_texts; i++)
    for (size_t j = 0; j < DIMENSION; j++) {
      double difference = fabs((double)out[i * DIMENSION + j] - (double)texts[i].vector[j]);
      if (!(difference <= TOLERANCE))
        fail_msg("text %zu: component %zu is off by %g", i, j, difference);
      if (difference > worst) worst = difference;
    }
  print_message("%zu texts: off by at most %.2g\n", n_texts, worst);
  short_texts(order);
  check_digest(out, order);
  mem_free(out);
  model_close(&m);
}

/* Alone, among others, in another order: the same bytes. */
static void test_neighbours(void **state) {
  (void)state;
  size_t order[MAX_TEXTS];
  model *m = open_model(cpu_features());
  float *alone = mem_calloc(n_texts * DIMENSION, sizeof *alone),
        *packed = mem_calloc(n_texts * DIMENSION, sizeof *packed);
  size_t n = is_slow_pass() ? N_NEIGHBOURS_SHORT : n_texts;
  in_order(order);
  embed_in_order(m, order, n, 1, alone);
  for (uint32_t seed = 1; seed <= (is_slow_pass() ? 1 : 3); seed++) {
    shuffle(order, n, seed);
    memset(packed, 0, n_texts * DIMENSION * sizeof *packed);
    embed_in_order(m, order, n, seed * 150, packed);
    assert_memory_equal(alone, packed, n_texts * DIMENSION * sizeof *packed);
  }
  mem_free(alone);
  mem_free(packed);
  model_close(&m);
}

/* Every variant that runs here, on the short texts (the C reference takes a while for long ones).
 */
static void test_variants(void **state) {
  (void)state;
  size_t order[N_SHORT];
  unsigned features;
  float *out = mem_calloc(n_texts * DIMENSION, sizeof *out);
  short_texts(order);
  for (size_t v = 0; nn_variant(v, &features) != NULL; v++) {
    if ((features & cpu_features()) != features) {
      print_message("not run on this processor: variant %s of the model\n",
                    nn_variant(v, &features)->name);
      continue;
    }
    model *m = open_model(features);
    embed_in_order(m, order, N_SHORT, 256, out);
    check_digest(out, order);
    model_close(&m);
  }
  mem_free(out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ids),
      cmocka_unit_test(test_vectors),
      cmocka_unit_test(test_neighbours),
      cmocka_unit_test(test_variants),
  };
  const struct CMUnitTest short_tests[] = {
      cmocka_unit_test(test_ids),
      cmocka_unit_test(test_vectors),
      cmocka_unit_test(test_neighbours),
  };
  if (is_slow_pass()) return cmocka_run_group_tests(short_tests, setup, teardown);
  return cmocka_run_group_tests(tests, setup, teardown);
}
