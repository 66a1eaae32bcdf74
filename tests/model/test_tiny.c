/* Tiny random models of awkward sizes: every variant of the kernels and every processor, an
 * emulated one included, gives the same bytes. MiniLM's sizes are multiples of every vector's
 * width; these are of none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "kernel/nn/nn.h"
#include "model/model.h"
#include "model_test.h"

#define MAX_TOKENS 32
#define MAX_DIMENSION 256

typedef struct form {
  const char *options; /* of scripts/make_tiny_model.py */
  uint64_t digest;     /* over the vectors of all texts */
} form;

static const form forms[] = {
    {"--layers 2 --hidden 33 --heads 3 --intermediate 71 --positions 32",
     UINT64_C(0x0d5edc60b8972b3a)},
    {"--layers 2 --hidden 20 --heads 2 --intermediate 50 --positions 32 --dtype F16 --dense 13 "
     "--pooling cls,max,mean,mean_sqrt_len_tokens,weightedmean,lasttoken",
     UINT64_C(0x943b83612be7c8e3)},
    {"--layers 1 --hidden 7 --heads 1 --intermediate 3 --positions 32 --dtype BF16 "
     "--hidden-act relu --no-normalize",
     UINT64_C(0x4e0218f6df293a7b)},
};

static const char *const texts[] = {
    "",
    "a",
    "The state of the art in word search.",
    "Reading small tables; some less, some more!",
    "na\xc3\xafve Z\xc3\x9cRICH St\xc3\xa4"
    "dte [MASK]",
    "\xe6\x9d\xb1\xe4\xba\xac \xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 "
    "\xd1\x80\xd1\x83\xd1\x81\xd1\x81",
    "planet star planet disk read engine the of and tool file test data library with for is la "
    "nani "
    "system network program text model vector word search table broken recover water small",
};
enum { N_TEXTS = sizeof texts / sizeof *texts };

static char folder[] = "test_tiny-XXXXXX";

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  char command[64];
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}

static void make_model(const char *options, char path[64]) {
  char command[1024];
  snprintf(path, 64, "%s/model", folder);
  snprintf(command, sizeof command, "rm -rf %s && /usr/bin/python3 '%s' %s %s", path,
           getenv("VECMILL_MAKE_TINY_MODEL"), path, options);
  assert_int_equal(system(command), 0);
}

/* All texts in one batch, packed. */
static uint64_t digest_with(const char *path, unsigned features) {
  vecmill_error err = {0};
  model *m;
  tok_scratch *tokens;
  model_scratch *scratch;
  static float out[N_TEXTS * MAX_DIMENSION];
  float *rows[N_TEXTS];
  int32_t ids[N_TEXTS * MAX_TOKENS];
  size_t offsets[N_TEXTS + 1] = {0};
  if (model_open_with(path, features, &m, &err) != VECMILL_OK) fail_msg("%s", err.text);
  size_t dimension = model_get_info(m)->dimension;
  assert_true(dimension <= MAX_DIMENSION);
  assert_int_equal(tok_scratch_open(model_tokenizer(m), &tokens, &err), VECMILL_OK);
  assert_int_equal(model_scratch_open(m, N_TEXTS * MAX_TOKENS, &scratch, &err), VECMILL_OK);
  for (size_t i = 0; i < N_TEXTS; i++) {
    tok_result result;
    assert_int_equal(tok_encode(model_tokenizer(m), tokens, texts[i], strlen(texts[i]), MAX_TOKENS,
                                &result, &err),
                     VECMILL_OK);
    memcpy(ids + offsets[i], result.ids, result.n_ids * sizeof *ids);
    offsets[i + 1] = offsets[i] + result.n_ids;
    rows[i] = out + i * dimension;
  }
  assert_int_equal(offsets[N_TEXTS] - offsets[N_TEXTS - 1], MAX_TOKENS); /* truncated */
  assert_int_equal(model_encode(m, scratch, ids, offsets, N_TEXTS, rows, &err), VECMILL_OK);
  model_scratch_close(&scratch);
  tok_scratch_close(&tokens);
  model_close(&m);
  return digest_of(out, N_TEXTS * dimension);
}

static void test_forms(void **state) {
  (void)state;
  for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
    char path[64];
    unsigned features;
    make_model(forms[f].options, path);
    for (size_t v = 0; nn_variant(v, &features) != NULL; v++) {
      const char *name = nn_variant(v, &features)->name;
      if ((features & cpu_features()) != features) {
        print_message("not run on this processor: variant %s of tiny models\n", name);
        continue;
      }
      uint64_t digest = digest_with(path, features);
      if (digest != forms[f].digest)
        fail_msg("%s, variant %s: digest 0x%016llx", forms[f].options, name,
                 (unsigned long long)digest);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
