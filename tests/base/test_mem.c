/* base/mem.h: overflow, alignment, allocations that fail when told to. */
#include "base_test.h"

#include "base/mem.h"

static void test_overflow(void **state) {
  volatile size_t half = SIZE_MAX / 2 + 1; /* volatile: the compiler warns about sizes it can see */
  size_t result = 7;
  assert_false(mem_mul(half, 2, &result));
  assert_true(mem_mul(half - 1, 2, &result));
  assert_int_equal(result, SIZE_MAX - 1);
  assert_false(mem_add(SIZE_MAX, 1, &result));
  assert_true(mem_add(SIZE_MAX - 1, 1, &result));
  assert_null(mem_calloc(half, 2));
  assert_null(mem_realloc(NULL, half, 2));
  assert_null(mem_alloc_aligned(half, 2));
  assert_null(mem_alloc_aligned(SIZE_MAX - half + half, 1)); /* rounding up would overflow */
  assert_null(mem_strndup("x", SIZE_MAX - half + half));
}

static void test_nothing_is_something(void **state) {
  void *blocks[] = {mem_calloc(0, 8), mem_calloc(8, 0), mem_realloc(NULL, 0, 8),
                    mem_alloc_aligned(0, 8)};
  for (size_t i = 0; i < 4; i++) {
    assert_non_null(blocks[i]);
    mem_free(blocks[i]);
  }
  mem_free(NULL);
}

static void test_aligned_and_rounded_up(void **state) {
  for (size_t n = 1; n < 300; n += 7) {
    char *block = mem_alloc_aligned(n, 1);
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % MEM_CACHE_LINE, 0);
    memset(block, 1, (n + 63) / 64 * 64); /* the sanitizers see a block that is too small */
    mem_free(block);
  }
}

static void test_realloc_keeps(void **state) {
  unsigned *block = mem_calloc(4, sizeof *block);
  assert_int_equal(block[3], 0);
  for (unsigned i = 0; i < 4; i++) block[i] = i;
  volatile size_t huge = SIZE_MAX / 2;
  assert_null(mem_realloc(block, huge, 4));
  assert_int_equal(block[3], 3); /* still ours */
  block = mem_realloc(block, 1000, sizeof *block);
  for (unsigned i = 0; i < 4; i++) assert_int_equal(block[i], i);
  mem_free(block);
}

static void test_copies(void **state) {
  char *part = mem_strndup("vecmill", 3), *whole = mem_strdup("vecmill");
  assert_string_equal(part, "vec");
  assert_string_equal(whole, "vecmill");
  mem_free(part);
  mem_free(whole);
}

/* The n-th allocation and all later ones fail, whichever function makes them. */
static void test_fail_after(void **state) {
  for (long n = 0; n < 4; n++) {
    void *blocks[5];
    mem_fail_after(n);
    blocks[0] = mem_calloc(1, 1);
    blocks[1] = mem_realloc(NULL, 1, 1);
    blocks[2] = mem_alloc_aligned(1, 1);
    blocks[3] = mem_strdup("x");
    blocks[4] = mem_strndup("x", 1);
    mem_fail_after(-1);
    for (long i = 0; i < 5; i++) {
      assert_int_equal(blocks[i] != NULL, i < n);
      mem_free(blocks[i]);
    }
  }
  void *block = mem_calloc(1, 1);
  assert_non_null(block);
  mem_free(block);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_overflow),
      cmocka_unit_test(test_nothing_is_something),
      cmocka_unit_test(test_aligned_and_rounded_up),
      cmocka_unit_test(test_realloc_keeps),
      cmocka_unit_test(test_copies),
      cmocka_unit_test(test_fail_after),
  };
  return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
