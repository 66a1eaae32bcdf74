/* base/file.h: reading with limits, mapping, and replacing whole. */
#include "base_test.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>

#include "base/file.h"
#include "base/mem.h"

static int set_up(void **state) {
  *state = folder_open();
  return 0;
}

static int tear_down(void **state) {
  folder_close(*state);
  return 0;
}

static void assert_holds(const char *path, const char *bytes, size_t n_bytes) {
  char *data;
  size_t n;
  assert_int_equal(file_read(path, 1 << 24, &data, &n, NULL), VECMILL_OK);
  assert_int_equal(n, n_bytes);
  assert_memory_equal(data, bytes, n_bytes);
  assert_int_equal(data[n], '\0');
  mem_free(data);
}

static void test_replace_and_read(void **state) {
  char *path = file_join(*state, "a");
  assert_false(file_exists(path));
  assert_int_equal(file_replace(path, "one", 3, NULL), VECMILL_OK);
  assert_holds(path, "one", 3);
  assert_int_equal(file_replace(path, "tw\0o", 4, NULL), VECMILL_OK);
  assert_holds(path, "tw\0o", 4);
  assert_int_equal(file_replace(path, "", 0, NULL), VECMILL_OK);
  assert_holds(path, "", 0);
  assert_int_equal(folder_n_entries(*state), 1); /* nothing temporary is left */
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0644);
  mem_free(path);
}

/* A reader that holds the old file keeps the whole of it: the new one is another file. */
static void test_replace_is_atomic(void **state) {
  char *path = file_join(*state, "a"), seen[4] = {0};
  assert_int_equal(file_replace(path, "old", 3, NULL), VECMILL_OK);
  FILE *reader = fopen(path, "r");
  assert_non_null(reader);
  assert_int_equal(file_replace(path, "new", 3, NULL), VECMILL_OK);
  assert_int_equal(fread(seen, 1, 3, reader), 3);
  assert_string_equal(seen, "old");
  fclose(reader);
  mem_free(path);
}

/* A write that fails half-way leaves the old file and no other. */
static void test_replace_fails_whole(void **state) {
  char *path = file_join(*state, "a");
  static char big[100000];
  struct rlimit before, low;
  vecmill_error err = {0};
  assert_int_equal(file_replace(path, "old", 3, NULL), VECMILL_OK);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  low = (struct rlimit){.rlim_cur = 5000, .rlim_max = before.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
  vecmill_status status = file_replace(path, big, sizeof big, &err);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(status, VECMILL_ERROR_IO);
  assert_non_null(strstr(err.text, path));
  assert_non_null(strstr(err.text, "File too large"));
  assert_holds(path, "old", 3);
  assert_int_equal(folder_n_entries(*state), 1);
  mem_free(path);
}

static void test_read_limits(void **state) {
  char *path = file_join(*state, "a"), *gone = file_join(*state, "gone"), *data = NULL;
  size_t n;
  vecmill_error err = {0};
  assert_int_equal(file_replace(path, "12345", 5, NULL), VECMILL_OK);
  assert_int_equal(file_read(path, 4, &data, &n, &err), VECMILL_ERROR_FORMAT);
  assert_non_null(strstr(err.text, path));
  assert_int_equal(file_read(path, 5, &data, &n, NULL), VECMILL_OK);
  mem_free(data);
  assert_int_equal(file_read(gone, 5, &data, &n, &err), VECMILL_ERROR_NOT_FOUND);
  assert_int_equal(file_read(*state, 5, &data, &n, &err), VECMILL_ERROR_IO);
  assert_non_null(strstr(err.text, "not a regular file"));
  mem_fail_after(0);
  vecmill_status status = file_read(path, 5, &data, &n, &err);
  mem_fail_after(-1);
  assert_int_equal(status, VECMILL_ERROR_MEMORY);
  mem_free(path);
  mem_free(gone);
}

static void test_map(void **state) {
  char *path = file_join(*state, "a");
  static char text[20000];
  file_map map;
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * 7);
  assert_int_equal(file_replace(path, text, sizeof text, NULL), VECMILL_OK);
  assert_int_equal(file_map_open(path, &map, NULL), VECMILL_OK);
  assert_int_equal(map.n_bytes, sizeof text);
  assert_memory_equal(map.data, text, sizeof text);
  file_map_release(&map, 1, sizeof text - 1); /* given back, read again */
  file_map_release(&map, 5, SIZE_MAX);        /* nonsense is ignored */
  file_map_release(&map, SIZE_MAX, 1);
  assert_memory_equal(map.data, text, sizeof text);
  file_map_close(&map);
  assert_null(map.data);
  file_map_close(&map);
  assert_int_equal(file_replace(path, "", 0, NULL), VECMILL_OK);
  assert_int_equal(file_map_open(path, &map, NULL), VECMILL_OK);
  assert_null(map.data);
  assert_int_equal(map.n_bytes, 0);
  file_map_release(&map, 0, 0);
  file_map_close(&map);
  mem_free(path);
}

static void test_folders(void **state) {
  char *deep = file_join(*state, "a//b/c"), *file = file_join(*state, "f");
  vecmill_error err = {0};
  assert_int_equal(file_make_folders(deep, NULL), VECMILL_OK);
  assert_true(file_is_folder(deep));
  assert_int_equal(file_make_folders(deep, NULL), VECMILL_OK);
  assert_int_equal(file_replace(file, "x", 1, NULL), VECMILL_OK);
  assert_false(file_is_folder(file));
  char *below = file_join(file, "b");
  assert_int_equal(file_make_folders(below, &err), VECMILL_ERROR_IO);
  assert_non_null(strstr(err.text, below));
  const char *const made[] = {"a/b/c", "a/b", "a"};
  for (size_t i = 0; i < 3; i++) {
    char *path = file_join(*state, made[i]);
    assert_int_equal(rmdir(path), 0);
    mem_free(path);
  }
  mem_free(deep);
  mem_free(file);
  mem_free(below);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_replace_and_read),
      TEST(test_replace_is_atomic),
      TEST(test_replace_fails_whole),
      TEST(test_read_limits),
      TEST(test_map),
      TEST(test_folders),
  };
  return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
