/*
 * text/wordlist.h: any bytes as a list and as overrides are a clear error or a list that answers.
 * The input is the list, a NUL, the overrides (none without a NUL).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz_file.h"
#include "text/fold.h"
#include "text/metrics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* As fuzz_file, for the second of two files. */
static const char *overrides_file(const uint8_t *data, size_t n_bytes) {
  static int fd = -1;
  static char path[64];
  if (fd < 0) {
    fd = memfd_create("overrides", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  }
  if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, n_bytes, 0) != (ssize_t)n_bytes) abort();
  return path;
}

/* A list of words has some; folding twice is folding once; asking for anything is allowed. */
static void check_list(const wordlist *list, const char *text, size_t n) {
  if (wordlist_count(list).n_words == 0) abort();
  size_t n_held = 0;
  text_metrics m;
  metrics_of(text, n, list, &m);
  if (m.has_ratio && !(m.hawaiian_word_ratio >= 0 && m.hawaiian_word_ratio <= 1)) abort();
  for (size_t at = 0; at < n;) {
    const char *end = memchr(text + at, '\n', n - at);
    size_t n_line = end ? (size_t)(end - text) - at : n - at;
    fold_result one, again;
    fold_word(text + at, n_line, &one);
    fold_word(one.bytes, one.n, &again);
    if (one.n != again.n || memcmp(one.bytes, again.bytes, one.n)) abort();
    n_held += wordlist_holds(list, one.bytes, one.n);
    at += n_line + 1;
  }
  if (n_held > n) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  const uint8_t *nul = memchr(data, 0, n_bytes);
  size_t n_list = nul ? (size_t)(nul - data) : n_bytes;
  const char *path = fuzz_file(data, n_list);
  const char *overrides = nul ? overrides_file(nul + 1, n_bytes - n_list - 1) : NULL;
  wordlist *list = NULL;
  vecmill_error err = {0};
  if (wordlist_open(path, overrides, &list, &err) != VECMILL_OK) {
    if (list || err.status == VECMILL_OK || !err.text[0] || strchr(err.text, '\n')) abort();
    return 0;
  }
  check_list(list, (const char *)data, n_bytes);
  wordlist_close(&list);
  return 0;
}
