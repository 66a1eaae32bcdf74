/* The PostgreSQL store without a server: sizes of messages. What needs one is in tests/pg. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four before it */
#include <cmocka.h>
#include <limits.h>
#include <string.h>

#include "store/pg_parts.h"

/* However wide the vectors and however large the batch: they fit into a quarter of a message, and
 * one row more would not. */
static void test_rows_at_once(void **state) {
  (void)state;
  for (int is_half = 0; is_half < 2; is_half++)
    for (size_t dimension = 1; dimension <= 16000; dimension = dimension * 2 + 1) {
      pg_store s = {.dimension = dimension, .is_half = is_half != 0};
      size_t n = pg_rows_at_once(&s, 100000000), n_bytes = 4 + pg_vector_bytes(&s, dimension);
      assert_true(n > 0);
      assert_true(n == 100000000 || n * n_bytes <= PG_MOST_BYTES / 4);
      assert_true(n == 100000000 || (n + 1) * n_bytes > PG_MOST_BYTES / 4);
      assert_int_equal(pg_rows_at_once(&s, n), n);
      assert_int_equal(pg_rows_at_once(&s, 1), 1);
    }
  pg_store s = {.dimension = 384};
  assert_int_equal(pg_rows_at_once(&s, 100000), 100000);
  assert_int_equal(pg_rows_at_once(&s, 1000000), 173846);
}

/* What is too large for a message is counted, and never a length that has turned negative. */
static void test_large_params(void **state) {
  (void)state;
  static char byte;
  size_t sizes[] = {PG_MOST_BYTES + 1, (size_t)INT_MAX, (size_t)INT_MAX + 1,
                    (size_t)UINT32_MAX + 6};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    pg_params p = {0};
    str small = {.data = &byte, .n = 1}, large = {.data = &byte, .n = sizes[i]};
    pg_add_binary(&p, &small);
    pg_add_binary(&p, &large);
    assert_int_equal(p.lengths[0], 1);
    assert_int_equal(p.lengths[1], 0);
    assert_true(p.n_bytes == sizes[i] + 1 && p.n_bytes > PG_MOST_BYTES);
  }
}

#define MS 1000000ull

/* As many pages at once as were used up in a tenth of a second, from 1 to 16. */
static void test_pages_ahead(void **state) {
  (void)state;
  pg_ahead a = {0};
  uint64_t from_ns = 5000 * MS;
  assert_int_equal(pg_look_ahead(&a, from_ns, 0, 100), 1);
  assert_int_equal(pg_look_ahead(&a, from_ns, 0, 100), 1);
  assert_int_equal(pg_look_ahead(&a, from_ns + 20 * MS, 100, 100), 5);
  assert_int_equal(pg_look_ahead(&a, from_ns + 100 * MS, 700, 100), 7);
  assert_int_equal(pg_look_ahead(&a, from_ns + 300 * MS, 8700, 100), PG_MOST_AHEAD);
  assert_int_equal(pg_look_ahead(&a, from_ns + 9000 * MS, 8700, 100), 1);
}

/* Four workers of a slow model whose pages end together, once a second: one page at a time. */
static void test_pages_ahead_of_bursts(void **state) {
  (void)state;
  pg_ahead a = {0};
  uint64_t n_settled = 0;
  for (uint64_t second = 0; second < 10; second++)
    for (uint64_t page = 0; page < 4; page++) {
      if (second > 0) n_settled += 100;
      assert_int_equal(pg_look_ahead(&a, (5000 + 1000 * second + page) * MS, n_settled, 100), 1);
    }
}

static str key_of(const char *part) {
  str key = {0};
  uint32_t n = (uint32_t)strlen(part);
  str_append(&key, &n, sizeof n);
  str_append(&key, part, n);
  return key;
}

/* Keys in the order of their values; each pair of one value is written in two ways. */
static void test_order_of_numbers(void **state) {
  (void)state;
  static const char *const sorted[][2] = {{"-Infinity", "-Infinity"},
                                          {"-1e+308", "-10e+307"},
                                          {"-12", "-12.00"},
                                          {"-9.5", "-9.50"},
                                          {"-0.05", "-0.050"},
                                          {"-1e-07", "-0.0000001"},
                                          {"0", "-0"},
                                          {"5e-324", "5e-324"},
                                          {"0.05", "0.0500"},
                                          {"0.1", "0.10"},
                                          {"1", "1.0"},
                                          {"1.5", "1.50"},
                                          {"9", "9"},
                                          {"10", "1e+01"},
                                          {"10.01", "10.01"},
                                          {"9007199254740993", "9007199254740993.0"},
                                          {"9007199254740994", "9007199254740994"},
                                          {"1e+22", "10000000000000000000000"},
                                          {"Infinity", "Infinity"},
                                          {"NaN", "NaN"}};
  pg_store s = {.n_keys = 1, .keys[0].form = PG_KEY_NUMBER};
  size_t n = sizeof sorted / sizeof *sorted;
  for (size_t i = 0; i < 2 * n; i++)
    for (size_t j = 0; j < 2 * n; j++) {
      str a = key_of(sorted[i / 2][i % 2]), b = key_of(sorted[j / 2][j % 2]);
      int order = pg_key_compare(&s.base, a.data, a.n, b.data, b.n);
      int wanted = (i / 2 > j / 2) - (i / 2 < j / 2);
      assert_int_equal((order > 0) - (order < 0), wanted);
      str_fini(&a);
      str_fini(&b);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows_at_once), cmocka_unit_test(test_pages_ahead),
      cmocka_unit_test(test_pages_ahead_of_bursts), cmocka_unit_test(test_large_params),
      cmocka_unit_test(test_order_of_numbers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
