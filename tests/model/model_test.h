/* What the tests of model/ share. */
#ifndef TESTS_MODEL_TEST_H
#define TESTS_MODEL_TEST_H

#include <stddef.h>
#include <stdint.h>

/* FNV-1a, 64 bits, over the values as they lie in memory. */
static inline uint64_t digest_of(const float *values, size_t n) {
  const unsigned char *bytes = (const unsigned char *)values;
  uint64_t digest = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < n * sizeof *values; i++)
    digest = (digest ^ bytes[i]) * UINT64_C(0x100000001b3);
  return digest;
}

#endif
