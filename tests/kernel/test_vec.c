/* Every variant of the vector kernels against the C reference, byte for byte, at any alignment. */
#include "kernel_test.h"

#include "cpu/cpu.h"
#include "kernel/vec/vec.h"

static void check_pair(const vec_kernels *got, const vec_kernels *wanted, size_t n, const float *a,
                       const float *b) {
  float x = got->dot_f32(n, a, b), y = wanted->dot_f32(n, a, b);
  assert_same_floats(got->name, "dot", 1, &x, &y);
  x = got->squared_l2_f32(n, a, b), y = wanted->squared_l2_f32(n, a, b);
  assert_same_floats(got->name, "squared L2", 1, &x, &y);
  x = got->squared_norm_f32(n, a), y = wanted->squared_norm_f32(n, a);
  assert_same_floats(got->name, "squared norm", 1, &x, &y);
}

static void every_variant_gives_the_reference_bytes(void **state) {
  unsigned needs;
  const vec_kernels *reference = vec_variant(0, &needs);
  char absent[200] = "";
  for (size_t v = 1; vec_variant(v, &needs) != NULL; v++) {
    const vec_kernels *kernels = vec_variant(v, &needs);
    if ((needs & cpu_features()) != needs) {
      strcat(strcat(absent, " "), kernels->name);
      continue;
    }
    for (size_t n = 0; n < 400; n++) {
      guarded a = guard_random(n + 3, n % 3 == 0 ? 40 : 0),
              b = guard_random(n, n % 5 == 0 ? 40 : 0);
      check_pair(kernels, reference, n, a.data + random_below(4), b.data);
      guard_close(&a);
      guard_close(&b);
    }
  }
  printf("vec variants not run on this processor:%s\n", absent[0] != '\0' ? absent : " none");
}

/* A sum of n products in 16 chains and a tree: at most (n / 16 + 5) u sum |a b|. */
static void dot_is_accurate(void **state) {
  const vec_kernels *kernels = vec_select(cpu_features());
  for (size_t n = 1; n < 2000; n += 37) {
    guarded a = guard_random(n, 0), b = guard_random(n, 0);
    long double dot = 0, size = 0, l2 = 0;
    for (size_t i = 0; i < n; i++) {
      long double product = (long double)a.data[i] * b.data[i],
                  difference = (long double)a.data[i] - b.data[i];
      dot += product;
      size += fabsl(product);
      l2 += difference * difference;
    }
    long double bound = (long double)(n / 16 + 6) * 0x1p-24L;
    assert_true(fabsl(kernels->dot_f32(n, a.data, b.data) - dot) <= bound * size);
    assert_true(fabsl(kernels->squared_l2_f32(n, a.data, b.data) - l2) <= (bound + 0x1p-22L) * l2);
    guard_close(&a);
    guard_close(&b);
  }
}

static void select_respects_features(void **state) {
  unsigned needs;
  assert_string_equal(vec_select(0)->name, "c");
  for (size_t i = 1; vec_variant(i, &needs) != NULL; i++) {
    assert_string_equal(vec_select(needs)->name, vec_variant(i, &needs)->name);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_variant_gives_the_reference_bytes),
      cmocka_unit_test(dot_is_accurate),
      cmocka_unit_test(select_respects_features),
  };
  return cmocka_run_group_tests_name("vec", tests, NULL, NULL);
}
