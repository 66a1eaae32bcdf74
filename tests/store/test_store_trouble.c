/* The SQLite store when others hold the database, when it is broken, and when memory is short. */
#include "store_test.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

/* --- locks --- */

static void test_second_run_refused(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT); CREATE TABLE u(id INTEGER PRIMARY KEY, "
      "text TEXT)");
  store_counts counts;
  store_target target = {.table = "t"};
  store *first = begin_counted(&target, &counts);
  store *second = open_target(&target, VECMILL_OK);
  assert_int_equal(second->operations->begin(second, &maker, &error), VECMILL_ERROR_BUSY);
  assert_non_null(strstr(error.text, "another vecmill"));
  second->operations->close(second);
  store *other = begin_counted(&(store_target){.table = "u"}, &counts);
  store *column = begin_counted(&(store_target){.table = "t", .vector_column = "e2"}, &counts);
  column->operations->close(column);
  other->operations->close(other);
  first->operations->close(first);
  first = begin_counted(&target, &counts);
  first->operations->close(first);
}

/* kill -9 leaves a lock that nobody holds. */
static void test_lock_dies_with_its_process(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)");
  store_counts counts;
  store_target target = {.table = "t"};
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  pid_t child = fork();
  if (child == 0) {
    begin_counted(&target, &counts);
    (void)!write(ready[1], "x", 1);
    for (;;) pause();
  }
  char byte;
  assert_int_equal(read(ready[0], &byte, 1), 1);
  store *s = open_target(&target, VECMILL_OK);
  assert_int_equal(s->operations->begin(s, &maker, &error), VECMILL_ERROR_BUSY);
  s->operations->close(s);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  s = begin_counted(&target, &counts);
  s->operations->close(s);
  close(ready[0]);
  close(ready[1]);
}

static int n_warnings;
static void count_warning(void *context, vecmill_log_level level, const char *text) {
  (void)context, (void)level;
  n_warnings += strstr(text, "5 s") != NULL;
}

/* Another process holds the database: waited for; with a stop, given up. */
static void test_busy(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO t VALUES(1,'a')");
  store_target target = {.table = "t"};
  store_counts counts;
  store *s = NULL;
  int stop = 0;
  bool may_find;
  store_columns columns;
  store_page page;
  float vectors[1][DIMENSION];
  assert_int_equal(store_open_sqlite(path, &stop, &s, &error), VECMILL_OK);
  assert_int_equal(s->operations->find(s, &target, &columns, &error), VECMILL_OK);
  assert_int_equal(s->operations->begin(s, &maker, &error), VECMILL_OK);
  assert_int_equal(s->operations->count(s, &counts, &error), VECMILL_OK);
  assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
  assert_int_equal(s->operations->claim(s, 1, &page, &error), VECMILL_OK);
  embed_page(&page, vectors);
  vecmill_log_set_handler(count_warning, NULL);
  sqlite3 *db = db_open();
  assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
  store_commit_counts committed;
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  uint64_t from_ns = clock_now_ns();
  assert_int_equal(s->operations->commit(s, &page, &committed, &error), VECMILL_ERROR_BUSY);
  uint64_t waited_ms = (clock_now_ns() - from_ns) / 1000000;
  assert_in_range(waited_ms, 1900, 20000); /* the grace */
  __atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
  sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
  assert_int_equal(s->operations->commit(s, &page, &committed, &error), VECMILL_OK);
  assert_int_equal(committed.n_written, 1);
  sqlite3_close(db);
  s->operations->page_free(s, &page);
  s->operations->close(s);
  vecmill_log_set_handler(NULL, NULL);
}

/* Between calls no transaction is open: others can write, and a checkpoint can empty the WAL. */
static void test_holds_nothing(void **state) {
  (void)state;
  sql("PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);"
      "INSERT INTO t VALUES(1,'a'),(2,'b'),(3,'c')");
  store_counts counts;
  store *s = begin_counted(&(store_target){.table = "t"}, &counts);
  bool may_find;
  store_page page;
  assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
  assert_int_equal(s->operations->claim(s, 2, &page, &error), VECMILL_OK);
  sql("UPDATE t SET text = 'cc' WHERE id = 3");
  assert_string_equal(ask("PRAGMA wal_checkpoint(TRUNCATE)"), "0");
  s->operations->page_free(s, &page);
  s->operations->close(s);
  assert_string_equal(ask("PRAGMA journal_mode"), "wal");
}

/* --- broken databases --- */

static void expect_open_error(vecmill_status expected, const char *words) {
  store *s = NULL;
  memset(&error, 0, sizeof error);
  assert_int_equal(store_open_sqlite(path, NULL, &s, &error), expected);
  assert_null(s);
  if (!strstr(error.text, words)) fail_msg("\"%s\" does not say \"%s\"", error.text, words);
}

static void test_open_errors(void **state) {
  (void)state;
  unlink(path);
  expect_open_error(VECMILL_ERROR_NOT_FOUND, "no such database");
  FILE *file = fopen(path, "w");
  for (int i = 0; i < 200; i++) fputs("this is not a database\n", file);
  fclose(file);
  expect_open_error(VECMILL_ERROR_DATABASE, "is it an SQLite database?");
  unlink(path);
  assert_int_equal(mkdir(path, 0777), 0);
  expect_open_error(VECMILL_ERROR_ARGUMENT, "not a file");
  rmdir(path);
}

/* What the database says when a page cannot be read is what is told. */
static void test_page_error(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO t VALUES(1,'a'),(2,'b')");
  store *s = open_target(&(store_target){.table = "t"}, VECMILL_OK);
  store_counts counts;
  store_page page;
  bool may_find;
  assert_int_equal(s->operations->begin(s, &maker, &error), VECMILL_OK);
  assert_int_equal(s->operations->count(s, &counts, &error), VECMILL_OK);
  assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
  sql("DROP TABLE vecmill_failures");
  assert_int_equal(s->operations->claim(s, 2, &page, &error), VECMILL_ERROR_DATABASE);
  assert_non_null(strstr(error.text, "cannot read a page: no such table"));
  s->operations->close(s);
}

/* A damaged table is named as such, whatever meets it first. */
static void test_damaged(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO t VALUES(1,'a'),(2,'b')");
  expect_run(&(store_target){.table = "t"}, 2, 2, "1 2");
  FILE *file = fopen(path, "r+");
  fseek(file, atol(ask("SELECT (rootpage - 1) * 4096 FROM sqlite_schema WHERE name = 't'")),
        SEEK_SET);
  for (int i = 0; i < 4096; i++) fputc(0xEE, file);
  fclose(file);
  store *s = open_target(&(store_target){.table = "t"}, VECMILL_OK);
  bool has_vectors;
  assert_int_equal(s->operations->inspect(s, DIMENSION, &has_vectors, &error),
                   VECMILL_ERROR_DATABASE);
  assert_non_null(strstr(error.text, "damaged"));
  s->operations->close(s);
}

/* Every allocation of the store fails once: an error that says so, never a crash, and nothing half
 * done. */
static vecmill_status whole_flow(void) {
  store *s = NULL;
  store_columns columns;
  store_maker record;
  store_counts counts;
  store_page page = {0};
  store_commit_counts committed;
  bool found, has_vectors, may_find;
  float vectors[3][DIMENSION];
  str text = {0};
  store_target target = {.table = "t", .where = "id < 9", .limit = 2, .retry_failed = true};
  vecmill_status status = store_open_sqlite(path, NULL, &s, &error);
  if (status != VECMILL_OK) return status;
  status = s->operations->find(s, &target, &columns, &error);
  if (status == VECMILL_OK) status = s->operations->record(s, &record, &found, &error);
  if (status == VECMILL_OK) status = s->operations->inspect(s, DIMENSION, &has_vectors, &error);
  if (status == VECMILL_OK) status = s->operations->sample(s, DIMENSION, 3, &page, &error);
  if (status == VECMILL_OK) s->operations->page_free(s, &page);
  if (status == VECMILL_OK) status = s->operations->begin(s, &maker, &error);
  if (status == VECMILL_OK) status = s->operations->count(s, &counts, &error);
  if (status == VECMILL_OK) status = s->operations->pass_begin(s, &may_find, &error);
  if (status == VECMILL_OK) status = s->operations->claim(s, 3, &page, &error);
  if (status == VECMILL_OK && page.n_rows > 0) {
    embed_page(&page, vectors);
    page.rows[0].outcome = STORE_FAILED;
    page.rows[0].reason = "x";
    status = s->operations->commit(s, &page, &committed, &error);
    if (status == VECMILL_OK)
      status =
          s->operations->read_text(s, page.rows[0].key, page.rows[0].n_key_bytes, &text, &error);
  }
  str_fini(&text);
  if (page.memory) s->operations->page_free(s, &page);
  s->operations->close(s);
  return status;
}

static void test_memory_fails(void **state) {
  (void)state;
  const char *fresh =
      "DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS vecmill_columns; DROP TABLE IF EXISTS "
      "vecmill_failures;"
      "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, embedding BLOB);"
      "INSERT INTO t VALUES(1,'a',NULL),(2,'b',NULL),(3,'c',x'0000803F00000040')";
  vecmill_status status = VECMILL_ERROR_MEMORY;
  long n = 0;
  for (; status != VECMILL_OK; n++) {
    sql(fresh);
    mem_fail_after(n);
    status = whole_flow();
    mem_fail_after(-1);
    if (status != VECMILL_OK && status != VECMILL_ERROR_MEMORY)
      fail_msg("allocation %ld: %d %s", n, status, error.text);
    assert_true(n < 1000);
  }
  assert_true(n > 10);
  assert_string_equal(ask("SELECT count(*) FROM t WHERE embedding IS NOT NULL"), "2");
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
      CASE(test_second_run_refused),
      CASE(test_lock_dies_with_its_process),
      CASE(test_busy),
      CASE(test_holds_nothing),
      CASE(test_open_errors),
      CASE(test_page_error),
      CASE(test_damaged),
      CASE(test_memory_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
