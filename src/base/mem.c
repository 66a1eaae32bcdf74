#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static atomic_long fail_countdown = -1;

void mem_fail_after(long n_more) {
  atomic_store(&fail_countdown, n_more);
}

static bool must_fail(void) {
  long left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
  if (left < 0) return false;
  if (left == 0) return true;
  return atomic_fetch_sub(&fail_countdown, 1) <= 0;
}

bool mem_mul(size_t a, size_t b, size_t *product_out) {
  return !__builtin_mul_overflow(a, b, product_out);
}

bool mem_add(size_t a, size_t b, size_t *sum_out) {
  return !__builtin_add_overflow(a, b, sum_out);
}

void *mem_calloc(size_t n, size_t size) {
  if (must_fail()) return NULL;
  return calloc(n ? n : 1, size ? size : 1);
}

void *mem_realloc(void *block, size_t n, size_t size) {
  size_t n_bytes;
  if (must_fail() || !mem_mul(n, size, &n_bytes)) return NULL;
  return realloc(block, n_bytes ? n_bytes : 1);
}

void *mem_alloc_aligned(size_t n, size_t size) {
  size_t n_bytes;
  if (must_fail() || !mem_mul(n, size, &n_bytes) || !mem_add(n_bytes, MEM_CACHE_LINE - 1, &n_bytes))
    return NULL;
  n_bytes &= ~(size_t)(MEM_CACHE_LINE - 1);
  return aligned_alloc(MEM_CACHE_LINE, n_bytes ? n_bytes : MEM_CACHE_LINE);
}

char *mem_strndup(const char *text, size_t n) {
  if (n == SIZE_MAX) return NULL;
  char *copy = mem_realloc(NULL, n + 1, 1);
  if (!copy) return NULL;
  memcpy(copy, text, n);
  copy[n] = '\0';
  return copy;
}

char *mem_strdup(const char *text) {
  return mem_strndup(text, strlen(text));
}

void mem_free(void *block) {
  free(block);
}
