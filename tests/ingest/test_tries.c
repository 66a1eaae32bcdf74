/* Counts of rows that were tried: exact while they fit, and who comes often stays known after. */
#include "ingest/tries.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

static unsigned add(tries *t, uint64_t key) {
  unsigned n_before = 999;
  vecmill_error error;
  assert_int_equal(tries_add(t, &key, sizeof key, &n_before, &error), VECMILL_OK);
  return n_before;
}

static void test_exact(void **state) {
  (void)state;
  tries t = {0};
  for (unsigned round = 0; round < 12; round++)
    for (uint64_t key = 0; key < 100000; key++) assert_int_equal(add(&t, key), round);
  assert_int_equal(t.n_used, 100000);
  tries_fini(&t);
  assert_int_equal(add(&t, 5), 0);
  for (unsigned i = 1; i < 300; i++) assert_int_equal(add(&t, 5), i < 255 ? i : 255);
  assert_int_equal(t.n_used, 1);
  tries_fini(&t);
}

/* Two million rows come once each, between them one that comes with every ten thousandth. */
static void test_bounded(void **state) {
  (void)state;
  tries t = {0};
  unsigned n_before = 0;
  for (uint64_t key = 0; key < 2000000; key++) {
    assert_int_equal(add(&t, 1 + key), 0);
    if (key % 10000 == 0) n_before = add(&t, UINT64_MAX);
    assert_true(t.n_used <= t.n_slots && t.n_slots <= TRIES_MAX_SLOTS);
  }
  assert_in_range(n_before, 199 - 2000000 / (TRIES_MAX_SLOTS / 4 * 3) - 1, 199);
  tries_fini(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact), cmocka_unit_test(test_bounded)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
