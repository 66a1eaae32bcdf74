/* What every cmocka test of base/ opens with, and a folder that is empty at first and gone at the
 * end. */
#ifndef TESTS_BASE_TEST_H
#define TESTS_BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline char *folder_open(void) {
  char pattern[] = "/tmp/vecmill-test-XXXXXX";
  assert_non_null(mkdtemp(pattern));
  char *copy = strdup(pattern);
  assert_non_null(copy);
  return copy;
}

/* How many entries a folder holds; their names do not matter. */
static inline size_t folder_n_entries(const char *folder) {
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  size_t n = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) n++;
  closedir(dir);
  return n;
}

/* A flat folder: its files, then itself. */
static inline void folder_close(char *folder) {
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char path[512];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    assert_int_equal(unlink(path), 0);
  }
  closedir(dir);
  assert_int_equal(rmdir(folder), 0);
  free(folder);
}

#endif
