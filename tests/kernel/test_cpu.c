/* Features and their masks. */
#include "kernel_test.h"

#include "cpu/cpu.h"
#include "kernel/nn/nn.h"
#include "kernel/vec/vec.h"

#define EVERYTHING (CPU_AVX2 | CPU_AVX512 | CPU_VNNI | CPU_BF16)

static unsigned masked(const char *mask) {
  const char *unknown;
  unsigned features = cpu_features_masked_by(EVERYTHING, mask, &unknown);
  assert_null(unknown);
  return features;
}

static void a_mask_removes_what_builds_on_it(void **state) {
  assert_int_equal(masked(NULL), EVERYTHING);
  assert_int_equal(masked(""), EVERYTHING);
  assert_int_equal(masked("-bf16"), CPU_AVX2 | CPU_AVX512 | CPU_VNNI);
  assert_int_equal(masked("-vnni,-bf16"), CPU_AVX2 | CPU_AVX512);
  assert_int_equal(masked("-avx512"), CPU_AVX2);
  assert_int_equal(masked("-avx2"), 0);
  assert_int_equal(masked("-neon"), EVERYTHING);
  assert_string_equal(nn_select(masked("-avx2"))->name, "c");
  assert_string_equal(vec_select(masked("-avx2"))->name, "c");
}

static void a_mask_names_what_it_does_not_know(void **state) {
  const char *unknown;
  assert_int_equal(cpu_features_masked_by(EVERYTHING, "-avx512,-avx3,-bf16", &unknown), CPU_AVX2);
  assert_non_null(unknown);
  assert_memory_equal(unknown, "-avx3,", 6);
  cpu_features_masked_by(EVERYTHING, "avx2", &unknown); /* the minus sign is part of it */
  assert_non_null(unknown);
}

static void the_environment_masks_this_process(void **state) {
  unsigned wanted = cpu_features_masked_by(cpu_features_native(), getenv("VECMILL_CPU"), NULL);
  assert_int_equal(cpu_features(), wanted);
  printf("processor: %s; features:", cpu_brand());
  for (unsigned bit = 1; bit <= CPU_NEON; bit <<= 1) {
    assert_non_null(cpu_feature_name(bit));
    if (cpu_features() & bit) printf(" %s", cpu_feature_name(bit));
  }
  printf("\n");
  assert_null(cpu_feature_name(1u << 20));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_mask_removes_what_builds_on_it),
      cmocka_unit_test(a_mask_names_what_it_does_not_know),
      cmocka_unit_test(the_environment_masks_this_process),
  };
  return cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
}
