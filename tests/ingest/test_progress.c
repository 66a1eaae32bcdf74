/* Progress arithmetic with a clock that is ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "observe/progress.h"

#define SECOND 1000000000ull
#define START (77 * SECOND)

static void test_steady_rate(void **state) {
  (void)state;
  progress p;
  progress_init(&p, 1000, START);
  assert_true(progress_eta(&p, START) == -1);
  assert_true(progress_rate(&p, START) == 0);
  for (uint64_t i = 1; i <= 60; i++) {
    progress_add(&p, 10, 200, START + i * SECOND);
    assert_float_equal(progress_rate(&p, START + i * SECOND), 10, 1e-9);
    assert_float_equal(progress_token_rate(&p, START + i * SECOND), 200, 1e-9);
  }
  assert_float_equal(progress_seconds(&p, START + 60 * SECOND), 60, 1e-9);
  assert_float_equal(progress_eta(&p, START + 60 * SECOND), 40, 1e-9); /* 400 rows at 10 */
}

/* The rate follows what happens now: after the window nothing of the old speed is left. */
static void test_rate_follows(void **state) {
  (void)state;
  progress p;
  uint64_t now = START;
  progress_init(&p, 100000, now);
  for (int i = 0; i < 300; i++) progress_add(&p, 10, 0, now += SECOND / 10); /* 100 a second */
  assert_float_equal(progress_rate(&p, now), 100, 2);
  for (int i = 0; i < 50; i++)
    progress_add(&p, 1, 0, now += SECOND / 10); /* 10 a second, for 5 s */
  assert_float_equal(progress_rate(&p, now), 55, 6);
  for (int i = 0; i < 60; i++) progress_add(&p, 1, 0, now += SECOND / 10);
  assert_float_equal(progress_rate(&p, now), 10, 0.5);
}

/* While nothing is done the rate falls and the ETA grows; it never divides by nothing. */
static void test_stall(void **state) {
  (void)state;
  progress p;
  uint64_t now = START;
  progress_init(&p, 1000, now);
  for (int i = 0; i < 100; i++) progress_add(&p, 1, 1, now += SECOND / 5);
  double before = progress_eta(&p, now), rate = progress_rate(&p, now);
  assert_true(progress_eta(&p, now + 5 * SECOND) > before);
  assert_true(progress_rate(&p, now + 5 * SECOND) < rate);
  double long_after = progress_eta(&p, now + 1000 * SECOND);
  assert_true(long_after == -1 || long_after > before);
}

static void test_total_grows(void **state) {
  (void)state;
  progress p;
  progress_init(&p, 3, START);
  progress_add(&p, 2, 0, START + SECOND);
  assert_int_equal(p.n_total, 3);
  progress_add(&p, 4, 0, START + 2 * SECOND);
  assert_int_equal(p.n_done, 6);
  assert_int_equal(p.n_total, 6);
  assert_true(progress_eta(&p, START + 2 * SECOND) == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_steady_rate),
      cmocka_unit_test(test_rate_follows),
      cmocka_unit_test(test_stall),
      cmocka_unit_test(test_total_grows),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
