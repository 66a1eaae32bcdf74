/* A word list from text in memory. */
#ifndef TESTS_WORDLIST_TEST_H
#define TESTS_WORDLIST_TEST_H

#include "text_test.h"

#include "text/wordlist.h"

static inline void write_file(char *path, const char *bytes, size_t n) {
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, bytes, n), (ssize_t)n);
  close(fd);
}

/* wordlist_open on files that hold n bytes of list, and the overrides (NULL: none). */
static inline vecmill_status open_list_bytes(const char *list, size_t n, const char *overrides,
                                             wordlist **list_out, vecmill_error *err) {
  char list_path[] = "/tmp/vecmill-list-XXXXXX", overrides_path[] = "/tmp/vecmill-over-XXXXXX";
  write_file(list_path, list, n);
  if (overrides) write_file(overrides_path, overrides, strlen(overrides));
  vecmill_status status =
      wordlist_open(list_path, overrides ? overrides_path : NULL, list_out, err);
  unlink(list_path);
  if (overrides) unlink(overrides_path);
  return status;
}

static inline vecmill_status open_list(const char *list, const char *overrides, wordlist **list_out,
                                       vecmill_error *err) {
  return open_list_bytes(list, strlen(list), overrides, list_out, err);
}

#endif
