/* What the tests of config/ share: warnings kept, the environment emptied of what is looked up. */
#ifndef TESTS_CONFIG_TEST_H
#define TESTS_CONFIG_TEST_H

#include "../base/base_test.h"

#include <vecmill/log.h>

#include "base/mem.h"

static char warnings[8192];
static vecmill_error error;

static void keep_warning(void *context, vecmill_log_level level, const char *text) {
  (void)context, (void)level;
  size_t n = strlen(warnings);
  snprintf(warnings + n, sizeof warnings - n, "%s\n", text);
}

static inline void clear_environment(void) {
  static const char *const names[] = {
      "EMBED_WORKERS", "EMBED_BATCH_SIZE", "EMBED_SLEEP", "EMBED_DEVICE",
      "EMBED_MODEL",   "EMBED_PREFIX",     "PG_HOST",     "PGHOST",
      "PG_PORT",       "PGPORT",           "PG_DATABASE", "PG_DB",
      "PGDATABASE",    "PG_USER",          "PGUSER",      "PG_PASSWORD",
      "PGPASSWORD",    "PGSERVICE",        "PGSSLMODE",   "PGHOSTADDR",
      "PGSERVICEFILE", "PGSYSCONFDIR",     "PGLOCALEDIR", "PGDATESTYLE",
      "PGTZ",          "PGGEQO",           "PGREQUIRESSL"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
}

static int begin(void **state) {
  (void)state;
  clear_environment();
  warnings[0] = '\0';
  memset(&error, 0, sizeof error);
  vecmill_log_set_handler(keep_warning, NULL);
  return 0;
}

static inline void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
  assert_int_equal(fclose(file), 0);
}

#endif
