/* A database of a test's own, in a folder of its own, as others see it. */
#ifndef TESTS_SQLITE_TEST_H
#define TESTS_SQLITE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

static char folder[64], path[128];

static inline sqlite3 *db_open(void) {
  sqlite3 *db;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  sqlite3_busy_timeout(db, 20000);
  return db;
}

static inline void sql(const char *text) {
  sqlite3 *db = db_open();
  char *message = NULL;
  if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s: %s", text, message);
  sqlite3_close(db);
}

/* The first column of every row, joined by commas. */
static inline const char *ask(const char *text) {
  static str answer;
  sqlite3 *db = db_open();
  sqlite3_stmt *statement;
  str_clear(&answer);
  assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    const unsigned char *value = sqlite3_column_text(statement, 0);
    str_append_format(&answer, "%s%s", answer.n ? "," : "", value ? (const char *)value : "NULL");
  }
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return answer.data ? answer.data : "";
}

static inline long long ask_number(const char *text) {
  return atoll(ask(text));
}

static inline void make_database(void) {
  strcpy(folder, "/tmp/vecmill-store-XXXXXX");
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/test.db", folder);
  sql("PRAGMA user_version = 1");
}

/* What rmdir says: it fails when anything else was left behind. */
static inline int remove_database(void) {
  char name[200];
  const char *const endings[] = {"", "-wal", "-shm", "-journal", "-vecmill-lock"};
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    snprintf(name, sizeof name, "%s%s", path, endings[i]);
    unlink(name);
  }
  return rmdir(folder);
}

#endif
