/* What every test of text/ opens with: cmocka, and a tokenizer from JSON in memory. */
#ifndef TESTS_TEXT_TEST_H
#define TESTS_TEXT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/tokenizer.h"

/* tok_open on a file that holds `n` bytes. */
static inline vecmill_status open_bytes(const char *json, size_t n, tokenizer **tok_out,
                                        vecmill_error *err) {
  char path[] = "/tmp/vecmill-text-XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, json, n), (ssize_t)n);
  close(fd);
  vecmill_status status = tok_open(path, tok_out, err);
  unlink(path);
  return status;
}

static inline vecmill_status open_json(const char *json, tokenizer **tok_out, vecmill_error *err) {
  return open_bytes(json, strlen(json), tok_out, err);
}

/* Random numbers that are the same everywhere (xorshift64*). */
static inline uint32_t next_random(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (uint32_t)(*state * UINT64_C(0x2545F4914F6CDD1D) >> 32);
}

/* VECMILL_SEED makes other numbers: make torture runs many. Never 0, where xorshift stays. */
static inline uint64_t first_seed(uint64_t usual) {
  const char *seed = getenv("VECMILL_SEED");
  uint64_t other = seed ? strtoull(seed, NULL, 10) * UINT64_C(0xbf58476d1ce4e5b9) : 0;
  return usual ^ other ? usual ^ other : usual;
}

#endif
