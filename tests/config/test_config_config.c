/* config/config.h and config/prefix.h: which layer wins, what a value may be, how it is told. */
#include "config_test.h"

#include "config/config.h"
#include "config/prefix.h"

static char *folder, path[200];

static int begin_in_folder(void **state) {
  folder = folder_open();
  snprintf(path, sizeof path, "%s/.env", folder);
  return begin(state);
}

static int end_in_folder(void **state) {
  folder_close(folder);
  return 0;
}

static config *opened(const char *text) {
  config *c = NULL;
  write_file(path, text);
  assert_int_equal(config_open(path, &c, &error), VECMILL_OK);
  return c;
}

static void test_layers(void **state) {
  unsigned n = 99;
  config *c = opened("EMBED_WORKERS=2\nEMBED_MODEL=file\nPGUSER=ana\n");
  assert_int_equal(config_workers(c, &n, &error), VECMILL_OK);
  assert_int_equal(n, 2);
  setenv("EMBED_WORKERS", "", 1); /* empty: unset */
  assert_string_equal(config_get(c, "EMBED_WORKERS"), "2");
  setenv("EMBED_WORKERS", "3", 1);
  assert_string_equal(config_get(c, "EMBED_WORKERS"), "3");
  assert_int_equal(config_set(c, "EMBED_WORKERS", "4", "--workers", &error), VECMILL_OK);
  assert_int_equal(config_workers(c, &n, &error), VECMILL_OK);
  assert_int_equal(n, 4);
  assert_int_equal(config_set(c, "EMBED_WORKERS", "auto", "--workers", &error), VECMILL_OK);
  assert_int_equal(config_workers(c, &n, &error), VECMILL_OK);
  assert_int_equal(n, 0);
  assert_string_equal(config_get(c, "PGUSER"), "ana");
  assert_null(getenv("PGUSER")); /* the environment stays as it was */
  assert_null(config_get(c, "NO_SUCH_NAME"));
  assert_null(config_get(NULL, "EMBED_MODEL"));
  assert_string_equal(config_get(NULL, "EMBED_WORKERS"), "3");
  assert_int_equal(config_set(c, "PGUSER", "x", "--user", &error), VECMILL_ERROR_ARGUMENT);
  config_close(&c);
  assert_null(c);
  config_close(&c);
}

/* An empty EMBED_PREFIX means none; all other empty variables are unset. */
static void test_empty(void **state) {
  config_value value;
  config *c = opened("EMBED_PREFIX=file\nEMBED_MODEL=\n");
  setenv("EMBED_PREFIX", "", 1);
  assert_true(config_find(c, "EMBED_PREFIX", &value));
  assert_string_equal(value.text, "");
  assert_int_equal(value.source, CONFIG_ENVIRONMENT);
  assert_false(config_find(c, "EMBED_MODEL", &value));
  unsetenv("EMBED_PREFIX");
  assert_true(config_find(c, "EMBED_PREFIX", &value));
  assert_string_equal(value.text, "file");
  config_close(&c);
}

static void test_any(void **state) {
  static const char *const names[] = {"PG_DATABASE", "PG_DB", "PGDATABASE", NULL};
  config_value value;
  config *c = opened("PG_DATABASE=one\nPGDATABASE=two\n");
  assert_true(config_find_any(c, names, &value));
  assert_string_equal(value.text, "one");
  assert_int_equal(value.line, 1);
  setenv("PGDATABASE", "three", 1); /* the environment's last name before the file's first */
  assert_true(config_find_any(c, names, &value));
  assert_string_equal(value.text, "three");
  setenv("PG_DB", "four", 1);
  assert_true(config_find_any(c, names, &value));
  assert_string_equal(value.text, "four");
  assert_string_equal(value.name, "PG_DB");
  config_close(&c);
}

static void expect_refused(const char *name, const char *value, const char *why) {
  char wanted[400];
  size_t batch;
  unsigned workers;
  uint64_t sleep_ns;
  const char *device;
  config *c = NULL;
  assert_int_equal(config_open(NULL, &c, &error), VECMILL_OK);
  setenv(name, value, 1);
  vecmill_status status = strcmp(name, "EMBED_WORKERS") == 0 ? config_workers(c, &workers, &error)
                          : strcmp(name, "EMBED_BATCH_SIZE") == 0 ? config_batch(c, &batch, &error)
                          : strcmp(name, "EMBED_SLEEP") == 0 ? config_sleep(c, &sleep_ns, &error)
                                                             : config_device(c, &device, &error);
  snprintf(wanted, sizeof wanted, "%s=%s (environment): %s", name, value, why);
  assert_int_equal(status, VECMILL_ERROR_ARGUMENT);
  assert_string_equal(error.text, wanted);
  unsetenv(name);
  config_close(&c);
}

static void test_refusals(void **state) {
  static const char *const wrong_numbers[] = {
      "abc", "0", "-1", "+1", "1.0", " 1", "1 ", "99999999999999999999", "0x2"};
  for (size_t i = 0; i < sizeof wrong_numbers / sizeof *wrong_numbers; i++) {
    expect_refused("EMBED_WORKERS", wrong_numbers[i],
                   "not a number of workers (1 to 4096, or auto)");
    expect_refused("EMBED_BATCH_SIZE", wrong_numbers[i], "not a number of rows (1 to 1000000)");
  }
  expect_refused("EMBED_WORKERS", "4097", "not a number of workers (1 to 4096, or auto)");
  expect_refused("EMBED_BATCH_SIZE", "1000001", "not a number of rows (1 to 1000000)");
  static const char *const wrong_seconds[] = {"x",
                                              "-1",
                                              ".",
                                              "1e3",
                                              "1,5",
                                              "86400.1",
                                              "86401",
                                              "nan",
                                              "inf",
                                              "1.5s",
                                              "99999999999999999999"};
  for (size_t i = 0; i < sizeof wrong_seconds / sizeof *wrong_seconds; i++)
    expect_refused("EMBED_SLEEP", wrong_seconds[i], "not a number of seconds (0 to 86400, as 0.5)");
  expect_refused("EMBED_DEVICE", "cuda", "cuda: not supported; use cpu");
  expect_refused("EMBED_DEVICE", "cuda:0", "cuda:0: not supported; use cpu");
  expect_refused("EMBED_DEVICE", "mps", "unknown device (auto or cpu)");
  expect_refused("EMBED_DEVICE", "cudaX", "unknown device (auto or cpu)");
}

static void test_origins(void **state) {
  unsigned n;
  const char *device;
  char wanted[400];
  config *c = opened("# one\n\nEMBED_WORKERS=abc\nEMBED_DEVICE=cuda\n");
  assert_int_equal(config_workers(c, &n, &error), VECMILL_ERROR_ARGUMENT);
  snprintf(wanted, sizeof wanted,
           "EMBED_WORKERS=abc (%s line 3): not a number of workers (1 to 4096, or auto)", path);
  assert_string_equal(error.text, wanted);
  config_set(c, "EMBED_WORKERS", "abc", "--workers", &error);
  assert_int_equal(config_workers(c, &n, &error), VECMILL_ERROR_ARGUMENT);
  assert_string_equal(error.text, "--workers abc: not a number of workers (1 to 4096, or auto)");
  config_set(c, "EMBED_DEVICE", "cuda", "--device", &error);
  assert_int_equal(config_device(c, &device, &error), VECMILL_ERROR_ARGUMENT);
  assert_string_equal(error.text, "--device cuda: not supported; use cpu");
  /* A value of any length leaves the reason in place. */
  char longest[2000];
  memset(longest, 'x', sizeof longest - 1);
  longest[sizeof longest - 1] = '\0';
  setenv("EMBED_WORKERS", longest, 1);
  assert_int_equal(config_workers(NULL, &n, &error), VECMILL_ERROR_ARGUMENT);
  assert_non_null(strstr(error.text, "xx (environment): not a number of workers"));
  /* Another room's error, blamed on a value. */
  config_value value;
  setenv("EMBED_MODEL", "m", 1);
  config_find(c, "EMBED_MODEL", &value);
  snprintf(error.text, sizeof error.text, "model m: gone");
  assert_int_equal(config_blame(&value, VECMILL_ERROR_NOT_FOUND, &error), VECMILL_ERROR_NOT_FOUND);
  assert_string_equal(error.text, "EMBED_MODEL=m (environment): model m: gone");
  config_close(&c);
}

static void test_values(void **state) {
  static const struct {
    const char *text;
    uint64_t ns;
  } seconds[] = {{"0", 0},
                 {"2", 2000000000},
                 {"0.5", 500000000},
                 {".25", 250000000},
                 {"1.", 1000000000},
                 {"0.0000000019", 1},
                 {"86400", 86400000000000},
                 {"0.123456789", 123456789}};
  for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
    uint64_t ns = 7;
    setenv("EMBED_SLEEP", seconds[i].text, 1);
    assert_int_equal(config_sleep(NULL, &ns, &error), VECMILL_OK);
    assert_int_equal(ns, seconds[i].ns);
  }
  static const char *const devices[] = {"", "auto", "cpu", "CPU"};
  for (size_t i = 0; i < 4; i++) {
    const char *device = NULL;
    setenv("EMBED_DEVICE", devices[i], 1);
    assert_int_equal(config_device(NULL, &device, &error), VECMILL_OK);
    assert_string_equal(device, "cpu");
  }
  size_t batch = 7;
  assert_int_equal(config_batch(NULL, &batch, &error), VECMILL_OK);
  assert_int_equal(batch, 0);
  setenv("EMBED_BATCH_SIZE", "1000000", 1);
  assert_int_equal(config_batch(NULL, &batch, &error), VECMILL_OK);
  assert_int_equal(batch, 1000000);
}

static void test_e5_names(void **state) {
  static const char *const yes[] = {"intfloat/multilingual-e5-small",
                                    "e5-base-v2",
                                    "E5",
                                    "/models/e5_large/",
                                    "me/my.E5.tuned",
                                    "/c/models--intfloat--multilingual-e5-small/snapshots/0a1b2c",
                                    "intfloat/e5-mistral-7b"};
  static const char *const no[] = {"",
                                   "/",
                                   "sentence-transformers/all-MiniLM-L6-v2",
                                   "e5/minilm",
                                   "me55",
                                   "the5th",
                                   "e50",
                                   "intfloat/multilingual-e5-large-instruct",
                                   "E5-Instruct",
                                   "/c/models--a--b/snapshots/e55",
                                   "e\xC3\xA9"
                                   "5",
                                   "\xC3\xA9"
                                   "e5"};
  for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
    if (!prefix_is_e5(yes[i])) fail_msg("%s is an E5", yes[i]);
  for (size_t i = 0; i < sizeof no / sizeof *no; i++)
    if (prefix_is_e5(no[i])) fail_msg("%s is no E5", no[i]);
}

static void test_prefixes(void **state) {
  static const char *const pairs[][2] = {{"", ""},
                                         {"passage", "passage: "},
                                         {"passage:", "passage: "},
                                         {"passage: ", "passage: "},
                                         {":", ": "},
                                         {" ", " : "},
                                         {"a", "a: "},
                                         {": ", ": "},
                                         {"a ", "a : "},
                                         {"a:  ", "a:  "}};
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    char *whole = prefix_completed(pairs[i][0]);
    assert_string_equal(whole, pairs[i][1]);
    mem_free(whole);
  }
}

static void test_memory_fails(void **state) {
  long n = 0;
  write_file(path, "a=1\nb=2\n");
  for (vecmill_status status = VECMILL_ERROR_MEMORY; status != VECMILL_OK; n++) {
    config *c = NULL;
    mem_fail_after(n);
    status = config_open(path, &c, &error);
    if (status == VECMILL_OK) status = config_set(c, "EMBED_MODEL", "m", "--model", &error);
    mem_fail_after(-1);
    assert_true(status == VECMILL_OK || status == VECMILL_ERROR_MEMORY);
    config_close(&c);
  }
  assert_true(n > 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_layers, begin_in_folder, end_in_folder),
      cmocka_unit_test_setup_teardown(test_empty, begin_in_folder, end_in_folder),
      cmocka_unit_test_setup_teardown(test_any, begin_in_folder, end_in_folder),
      cmocka_unit_test_setup_teardown(test_origins, begin_in_folder, end_in_folder),
      cmocka_unit_test_setup_teardown(test_memory_fails, begin_in_folder, end_in_folder),
      cmocka_unit_test_setup(test_refusals, begin),
      cmocka_unit_test_setup(test_values, begin),
      cmocka_unit_test_setup(test_e5_names, begin),
      cmocka_unit_test_setup(test_prefixes, begin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
