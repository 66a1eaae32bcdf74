/*
 * What the kernel tests share: random numbers, buffers that end at a guard page, comparing bytes.
 */
#ifndef TESTS_KERNEL_TEST_H
#define TESTS_KERNEL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t random_state = 0x9e3779b97f4a7c15u;

/* VECMILL_SEED makes other numbers: make torture runs many. */
__attribute__((constructor)) static void seed_random(void) {
  const char *seed = getenv("VECMILL_SEED");
  if (seed) random_state ^= strtoull(seed, NULL, 10) * 0xbf58476d1ce4e5b9u;
}

static inline uint64_t random_bits(void) { /* splitmix64 */
  uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static inline size_t random_below(size_t n) { return (size_t)(random_bits() % n); }

/* Roughly normal, mean 0, deviation 1. */
static inline float random_normal(void) {
  double sum = 0;
  for (int i = 0; i < 4; i++) {
    sum += (double)(random_bits() >> 11) * 0x1p-53 - 0.5;
  }
  return (float)(sum * 1.7320508);
}

static inline float random_special(void) {
  static const float values[] = {INFINITY, -INFINITY, NAN,    0.0f,   -0.0f,   1e-40f, -1e-45f,
                                 3e38f,    -3e38f,    1e-20f, 1e20f, -88.0f, 5.2f,   -5.2f};
  return values[random_below(sizeof values / sizeof values[0])];
}

/* Floats whose end (and nothing less) touches a page that may not be read. */
typedef struct guarded {
  float *data;
  size_t n, n_bytes;
  void *map;
} guarded;

static inline guarded guard_open(size_t n) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (n * sizeof(float) + page - 1) / page * page;
  guarded g = {.n = n, .n_bytes = whole + page};
  g.map = mmap(NULL, g.n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(g.map != MAP_FAILED);
  assert_int_equal(mprotect((char *)g.map + whole, page, PROT_NONE), 0);
  g.data = (float *)((char *)g.map + whole) - n;
  return g;
}

static inline void guard_close(guarded *g) { munmap(g->map, g->n_bytes); }

/* one_special_in: 0 for none. */
static inline guarded guard_random(size_t n, size_t one_special_in) {
  guarded g = guard_open(n);
  for (size_t i = 0; i < n; i++) {
    bool special = one_special_in > 0 && random_below(one_special_in) == 0;
    g.data[i] = special ? random_special() : random_normal();
  }
  return g;
}

static inline guarded guard_copy(const guarded *from) {
  guarded g = guard_open(from->n);
  memcpy(g.data, from->data, from->n * sizeof(float));
  return g;
}

static inline bool same_bits(float a, float b) {
  return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

static inline void assert_same_floats(const char *variant, const char *what, size_t n,
                                      const float *got, const float *wanted) {
  for (size_t i = 0; i < n; i++) {
    if (!same_bits(got[i], wanted[i])) {
      fail_msg("%s of %s: element %zu is %a (C reference: %a)", what, variant, i, (double)got[i],
               (double)wanted[i]);
    }
  }
}

#endif
