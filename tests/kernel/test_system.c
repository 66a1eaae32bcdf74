/*
 * The public calls of vecmill/system.h. Speeds are not judged: only that they are there and add
 * up.
 */
#include "kernel_test.h"

#include <vecmill/system.h>

static void the_machine_is_described(void **state) {
  vecmill_system system;
  vecmill_system_get(&system);
  assert_true(system.processor[0] != '\0' && system.n_cpus >= 1);
  assert_null(system.unknown_mask);
  bool found = false;
  int runs;
  for (size_t i = 0; vecmill_system_variant(i, &runs) != NULL; i++) {
    if (strcmp(vecmill_system_variant(i, &runs), system.kernels) == 0) {
      assert_true(runs);
      found = true;
    }
  }
  assert_true(found);
  const char *mask = getenv("VECMILL_CPU");
  if (mask != NULL && strstr(mask, "-avx2") != NULL) {
    assert_null(strstr(system.features, "avx"));
  }
  assert_string_equal(vecmill_version(), VECMILL_VERSION);
}

static void every_kernel_can_be_measured(void **state) {
  const char *help, *name;
  size_t n = 0;
  vecmill_system system;
  vecmill_system_get(&system);
  for (; (name = vecmill_system_kernel(n, &help)) != NULL; n++) {
    vecmill_system_speed speed;
    vecmill_error err = {0};
    assert_true(help[0] != '\0');
    if (strcmp(system.kernels, "c") == 0 && strncmp(name, "matmul", 6) == 0) {
      continue; /* seconds each in the C reference */
    }
    assert_int_equal(vecmill_system_measure(name, 2, 0.002, &speed, &err), VECMILL_OK);
    assert_true(speed.operations_per_second > 1e6 && speed.seconds == 0.002);
  }
  assert_true(n >= 8);
}

static void what_is_impossible_is_refused(void **state) {
  vecmill_system_speed speed;
  vecmill_error err = {0};
  assert_int_equal(vecmill_system_measure("no_such_kernel", 1, 0.01, &speed, &err),
                   VECMILL_ERROR_NOT_FOUND);
  assert_non_null(strstr(err.text, "no_such_kernel"));
  assert_int_equal(vecmill_system_measure("peak_fma_f32", 0, 0.01, &speed, &err),
                   VECMILL_ERROR_ARGUMENT);
  assert_int_equal(vecmill_system_measure("peak_fma_f32", 1, NAN, &speed, &err),
                   VECMILL_ERROR_ARGUMENT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_machine_is_described),
      cmocka_unit_test(every_kernel_can_be_measured),
      cmocka_unit_test(what_is_impossible_is_refused),
  };
  return cmocka_run_group_tests_name("system", tests, NULL, NULL);
}
