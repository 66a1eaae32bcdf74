/* base/json.h: members with defaults, types and ranges that are checked, errors that name the
 * member. */
#include "base_test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

static const char document[] =
    "{\"yes\": true, \"none\": null, \"n\": 42, \"real\": 2.5, \"whole\": 3.0, \"big\": 1e300,"
    " \"text\": \"a\\u0000b\", \"twice\": 1, \"twice\": 2, \"list\": []}";

static int set_up(void **state) {
  *state = json_loads(document, JSON_ALLOW_NUL, NULL);
  return *state == NULL;
}

static int tear_down(void **state) {
  json_decref(*state);
  return 0;
}

static void assert_names(const vecmill_error *err, const char *member) {
  assert_int_equal(err->status, VECMILL_ERROR_FORMAT);
  assert_non_null(strstr(err->text, "config.json"));
  assert_non_null(strstr(err->text, member));
}

static void test_bool(void **state) {
  bool value;
  vecmill_error err = {0};
  assert_int_equal(json_get_bool(*state, "config.json", "yes", false, &value, &err), VECMILL_OK);
  assert_true(value);
  assert_int_equal(json_get_bool(*state, "config.json", "none", true, &value, &err), VECMILL_OK);
  assert_true(value);
  assert_int_equal(json_get_bool(*state, "config.json", "absent", false, &value, &err), VECMILL_OK);
  assert_false(value);
  assert_int_equal(json_get_bool(*state, "config.json", "n", false, &value, &err),
                   VECMILL_ERROR_FORMAT);
  assert_names(&err, "\"n\"");
}

static void test_int(void **state) {
  int64_t value;
  vecmill_error err = {0};
  assert_int_equal(json_get_int(*state, "config.json", "n", 0, 42, 1, &value, &err), VECMILL_OK);
  assert_int_equal(value, 42);
  assert_int_equal(json_get_int(*state, "config.json", "whole", 0, 9, 1, &value, &err), VECMILL_OK);
  assert_int_equal(value, 3);
  assert_int_equal(json_get_int(*state, "config.json", "twice", 0, 9, 1, &value, &err), VECMILL_OK);
  assert_int_equal(value, 2);
  assert_int_equal(json_get_int(*state, "config.json", "absent", 5, 9, 1, &value, &err),
                   VECMILL_OK);
  assert_int_equal(value, 1); /* a default need not lie in the range */
  static const char *const wrong[] = {"real", "text", "big", "list", "yes"};
  for (size_t i = 0; i < 5; i++) {
    assert_int_equal(json_get_int(*state, "config.json", wrong[i], 0, 99, 1, &value, &err),
                     VECMILL_ERROR_FORMAT);
    assert_names(&err, wrong[i]);
  }
  assert_int_equal(json_get_int(*state, "config.json", "n", 43, 99, 1, &value, &err),
                   VECMILL_ERROR_FORMAT);
  assert_int_equal(json_get_int(*state, "config.json", "n", 0, 41, 1, &value, &err),
                   VECMILL_ERROR_FORMAT);
  assert_non_null(strstr(err.text, "41"));
}

static void test_real(void **state) {
  double value;
  vecmill_error err = {0};
  assert_int_equal(json_get_real(*state, "config.json", "real", 0, &value, &err), VECMILL_OK);
  assert_true(value == 2.5);
  assert_int_equal(json_get_real(*state, "config.json", "n", 0, &value, &err), VECMILL_OK);
  assert_true(value == 42);
  assert_int_equal(json_get_real(*state, "config.json", "absent", 1.5, &value, &err), VECMILL_OK);
  assert_true(value == 1.5);
  assert_int_equal(json_get_real(*state, "config.json", "text", 0, &value, &err),
                   VECMILL_ERROR_FORMAT);
  assert_names(&err, "\"text\"");
}

static void test_string(void **state) {
  const char *value;
  vecmill_error err = {0};
  assert_int_equal(json_get_string(*state, "config.json", "text", NULL, &value, &err), VECMILL_OK);
  assert_memory_equal(value, "a\0b", 4);
  assert_int_equal(json_get_string(*state, "config.json", "none", "x", &value, &err), VECMILL_OK);
  assert_string_equal(value, "x");
  assert_int_equal(json_get_string(*state, "config.json", "n", NULL, &value, &err),
                   VECMILL_ERROR_FORMAT);
  assert_names(&err, "\"n\"");
}

static void test_file(void **state) {
  char *folder = folder_open(), *path = file_join(folder, "config.json");
  json_t *root = NULL;
  vecmill_error err = {0};
  assert_int_equal(json_read_file(path, 1000, &root, &err), VECMILL_ERROR_NOT_FOUND);
  assert_int_equal(file_replace(path, document, strlen(document), NULL), VECMILL_OK);
  assert_int_equal(json_read_file(path, 1000, &root, NULL), VECMILL_OK);
  assert_int_equal(json_integer_value(json_object_get(root, "twice")), 2);
  json_decref(root);
  assert_int_equal(json_read_file(path, 10, &root, &err), VECMILL_ERROR_FORMAT);
  assert_int_equal(file_replace(path, "{\"a\":\n 1,}", 10, NULL), VECMILL_OK);
  assert_int_equal(json_read_file(path, 1000, &root, &err), VECMILL_ERROR_FORMAT);
  assert_non_null(strstr(err.text, "line 2"));
  assert_non_null(strstr(err.text, path));
  mem_free(path);
  folder_close(folder);
}

/* As tokenizer_config.json says "no limit": more than 64 bits hold. */
static void test_big_integer(void **state) {
  static const char text[] = "{\"most\": 1000000000000000019884624838656, \"n\": 42}";
  char *folder = folder_open(), *path = file_join(folder, "config.json");
  json_t *root = NULL;
  vecmill_error err = {0};
  double most;
  int64_t n;
  assert_int_equal(file_replace(path, text, sizeof text - 1, NULL), VECMILL_OK);
  assert_int_equal(json_read_file(path, 1000, &root, &err), VECMILL_OK);
  assert_int_equal(json_get_real(root, path, "most", 0, &most, &err), VECMILL_OK);
  assert_true(most == 1e30);
  assert_int_equal(json_get_int(root, path, "n", 0, 100, 0, &n, &err), VECMILL_OK);
  assert_int_equal(n, 42);
  assert_int_equal(json_get_int(root, path, "most", 0, 100, 0, &n, &err), VECMILL_ERROR_FORMAT);
  json_decref(root);
  assert_int_equal(file_replace(path, "{\"a\": 1e999}", 12, NULL), VECMILL_OK);
  assert_int_equal(json_read_file(path, 1000, &root, &err), VECMILL_ERROR_FORMAT);
  assert_names(&err, "real number overflow");
  mem_free(path);
  folder_close(folder);
  (void)state;
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_bool),
      TEST(test_int),
      TEST(test_real),
      TEST(test_string),
      cmocka_unit_test(test_file),
      cmocka_unit_test(test_big_integer),
  };
  return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
