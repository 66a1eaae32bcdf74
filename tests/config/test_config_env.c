/* config/env.h: the forms that python-dotenv's own tests name, and what is wrong with a file. */
#include "config_test.h"

#include "config/env.h"

static env_file parsed(const char *text, size_t n) {
  env_file file;
  char *bytes = mem_strndup(text, n);
  assert_non_null(bytes);
  warnings[0] = '\0';
  assert_int_equal(env_parse(bytes, n, ".env", &file, &error), VECMILL_OK);
  return file;
}

/* One entry and no warning. */
static void expect_one(const char *text, const char *key, const char *value) {
  env_file file = parsed(text, strlen(text));
  if (file.n != 1 || *warnings) fail_msg("%s: %zu entries, %s", text, file.n, warnings);
  assert_string_equal(file.entries[0].key, key);
  assert_string_equal(file.entries[0].value, value);
  env_fini(&file);
}

static void test_forms(void **state) {
  expect_one("a=b", "a", "b");
  expect_one("'a'=b", "a", "b");
  expect_one("[=b", "[", "b");
  expect_one(" a = b ", "a", "b");
  expect_one("export a=b", "a", "b");
  expect_one(" export 'a b'=b", "a b", "b");
  expect_one("export export_a=1", "export_a", "1");
  expect_one("exported=1", "exported", "1");
  expect_one("export=1", "export", "1");
  expect_one("a=b#c", "a", "b#c");
  expect_one("a=b #c", "a", "b");
  expect_one("a=b\t#c", "a", "b");
  expect_one("a= #c", "a", "");
  expect_one("a=  # comment", "a", "");
  expect_one("a=#b", "a", "#b");
  expect_one("a=b  c ", "a", "b  c");
  expect_one("a=b\xC2\xA0 c", "a", "b\xC2\xA0 c");
  expect_one("a='b c '", "a", "b c ");
  expect_one("a=\"b c \"  # d", "a", "b c ");
  expect_one("a=\"b\nc\"", "a", "b\nc");
  expect_one("a=\"b\\nc\"", "a", "b\nc");
  expect_one("a='b\\nc'", "a", "b\\nc");
  expect_one("a=\"b\\\"c\"", "a", "b\"c");
  expect_one("a='b\\'c'", "a", "b'c");
  expect_one("a=\"\\a\\b\\f\\r\\t\\v\\\\\\x\"", "a", "\a\b\f\r\t\v\\\\x");
  expect_one("a=\"b\\\\\"", "a", "b\\");
  expect_one("a=\xC3\xA0", "a", "\xC3\xA0");
  expect_one("uglyKey[%$=\"S3cr3t_P4ssw#rD\" #\n", "uglyKey[%$", "S3cr3t_P4ssw#rD");
  expect_one("\xEF\xBB\xBF"
             "a=b",
             "a", "b");
  expect_one("a=x'y\"z", "a", "x'y\"z");
  expect_one("a=${HOME} $HOME", "a", "${HOME} $HOME"); /* nothing is expanded */
  expect_one("a=", "a", "");
  expect_one("a=\"\"", "a", "");
  expect_one("a=b=c=d", "a", "b=c=d");
  expect_one("no_value\n\n# c\n  # d\na=b", "a", "b");
}

static void expect_two(const char *text, unsigned line) {
  env_file file = parsed(text, strlen(text));
  assert_string_equal(warnings, "");
  assert_int_equal(file.n, 2);
  assert_string_equal(file.entries[0].value, "b");
  assert_string_equal(file.entries[1].key, "c");
  assert_string_equal(file.entries[1].value, "d");
  assert_int_equal(file.entries[0].line, 1);
  assert_int_equal(file.entries[1].line, line);
  env_fini(&file);
}

static void test_lines(void **state) {
  expect_two("a=b\nc=d", 2);
  expect_two("a=b\r\nc=d\r\n", 2);
  expect_two("a=b\rc=d\r", 2);
  expect_two("a=b\r\n\r\n#x\r\nc=d", 4);
  expect_two("a='b'\n\n\n\nc=\"d\"", 5);
  env_file file = parsed("a=\"1\r\n2\n3\"\nc=d\na=last\n", 23);
  assert_int_equal(file.n, 3);
  assert_int_equal(env_find(&file, "c")->line, 4);
  assert_string_equal(env_find(&file, "a")->value, "last");
  assert_int_equal(env_find(&file, "a")->line, 5);
  assert_null(env_find(&file, "A"));
  env_fini(&file);
}

/* What is wrong is told by its line alone, and what follows it is read. */
static void expect_warning(const char *text, size_t n, const char *warning) {
  env_file file = parsed(text, n);
  char wanted[200];
  snprintf(wanted, sizeof wanted, ".env line 2: %s (left out)\n", warning);
  assert_string_equal(warnings, wanted);
  assert_int_equal(file.n, 2);
  assert_string_equal(env_find(&file, "first")->value, "1");
  assert_string_equal(env_find(&file, "last")->value, "2");
  env_fini(&file);
}

#define EXPECT_WARNING(line, warning)                                                              \
  expect_warning("first=1\n" line "\nlast=2", sizeof("first=1\n" line "\nlast=2") - 1, warning)

static void test_ill_formed(void **state) {
  EXPECT_WARNING("secret: word", "not KEY=VALUE");
  EXPECT_WARNING("secret word", "not KEY=VALUE");
  EXPECT_WARNING("=secret", "not KEY=VALUE");
  EXPECT_WARNING("export =secret", "not KEY=VALUE");
  EXPECT_WARNING("''=secret", "not KEY=VALUE");
  EXPECT_WARNING("'key=secret", "a quote is not closed");
  EXPECT_WARNING("key=\"secret", "a quote is not closed");
  EXPECT_WARNING("key='secret\\'", "a quote is not closed");
  EXPECT_WARNING("key='secret'word", "something stands after the closing quote");
  EXPECT_WARNING("key=\"secret\" word # x", "something stands after the closing quote");
  EXPECT_WARNING("key=sec\0ret", "it holds a NUL");
  EXPECT_WARNING("key='sec\0ret'", "it holds a NUL");
  EXPECT_WARNING("k\0ey=secret", "it holds a NUL");
}

static void test_many_warnings(void **state) {
  char text[400] = "";
  for (int i = 0; i < 25; i++) strcat(text, "a b\n");
  env_file file = parsed(text, strlen(text));
  assert_int_equal(file.n, 0);
  assert_non_null(strstr(warnings, ".env line 10: "));
  assert_null(strstr(warnings, ".env line 11: "));
  assert_non_null(strstr(warnings, ".env: 15 more lines are not KEY=VALUE (left out)"));
  env_fini(&file);
}

static void test_files(void **state) {
  char *folder = folder_open(), path[200];
  env_file file;
  snprintf(path, sizeof path, "%s/.env", folder);
  assert_int_equal(env_read(path, &file, &error), VECMILL_OK); /* none there */
  assert_int_equal(file.n, 0);
  assert_int_equal(env_read(folder, &file, &error), VECMILL_OK); /* a folder */
  assert_string_equal(warnings, "");
  write_file(path, "a=b\n");
  assert_int_equal(env_read(path, &file, &error), VECMILL_OK);
  assert_string_equal(env_find(&file, "a")->value, "b");
  env_fini(&file);
  assert_null(file.entries);
  assert_int_equal(truncate(path, ENV_MAX_BYTES + 1), 0);
  assert_int_equal(env_read(path, &file, &error), VECMILL_OK);
  assert_int_equal(file.n, 0);
  assert_non_null(strstr(warnings, "more than the 1048576 allowed (left out)"));
  assert_int_equal(env_read("/dev/null", &file, &error), VECMILL_OK);
  assert_non_null(strstr(warnings, "cannot read /dev/null: not a regular file (left out)"));
  folder_close(folder);
}

static void test_memory_fails(void **state) {
  long n = 0;
  for (vecmill_status status = VECMILL_ERROR_MEMORY; status != VECMILL_OK; n++) {
    env_file file;
    char *bytes = mem_strdup("a=1\nb=2\nc=3\nd=4\ne=5\n");
    mem_fail_after(n);
    status = env_parse(bytes, strlen(bytes), ".env", &file, &error);
    mem_fail_after(-1);
    assert_true(status == VECMILL_OK || status == VECMILL_ERROR_MEMORY);
    if (status == VECMILL_OK) assert_int_equal(file.n, 5);
    env_fini(&file);
  }
  assert_true(n > 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_forms, begin),
      cmocka_unit_test_setup(test_lines, begin),
      cmocka_unit_test_setup(test_ill_formed, begin),
      cmocka_unit_test_setup(test_many_warnings, begin),
      cmocka_unit_test_setup(test_files, begin),
      cmocka_unit_test_setup(test_memory_fails, begin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
