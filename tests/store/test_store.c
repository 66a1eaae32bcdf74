/* The SQLite store on real files: keys of every kind, columns found, claims, commits, records,
 * failures, locks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/blank.h"
#include "store/sqlite.h"

#define DIMENSION 2
static const store_maker maker = {"a/model", "sha256:1", "mean", "", "f32", "", DIMENSION};

static char folder[64], path[128];
static vecmill_error error;

/* --- the database from outside --- */

static sqlite3 *db_open(void) {
  sqlite3 *db;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  sqlite3_busy_timeout(db, 5000);
  return db;
}

static void sql(const char *text) {
  sqlite3 *db = db_open();
  char *message = NULL;
  if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s: %s", text, message);
  sqlite3_close(db);
}

/* The first column of every row, joined by commas. */
static const char *ask(const char *text) {
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

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/vecmill-store-XXXXXX");
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/test.db", folder);
  sql("PRAGMA user_version = 1");
  return 0;
}

static int teardown(void **state) {
  (void)state;
  char name[200];
  const char *const endings[] = {"", "-wal", "-shm", "-journal", "-vecmill-lock"};
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    snprintf(name, sizeof name, "%s%s", path, endings[i]);
    unlink(name);
  }
  return rmdir(folder); /* fails when the store left anything else behind */
}

/* --- the store --- */

static store *open_target(const store_target *target, vecmill_status expected) {
  store *s = NULL;
  store_columns columns;
  memset(&error, 0, sizeof error);
  assert_int_equal(store_open_sqlite(path, NULL, &s, &error), VECMILL_OK);
  vecmill_status status = s->operations->find(s, target, &columns, &error);
  if (status != expected) fail_msg("find: %d instead of %d: %s", status, expected, error.text);
  if (status == VECMILL_OK) return s;
  s->operations->close(s);
  return NULL;
}

static store *begin_counted(const store_target *target, store_counts *counts_out) {
  store *s = open_target(target, VECMILL_OK);
  vecmill_status status = s->operations->begin(s, &maker, &error);
  if (status == VECMILL_OK) status = s->operations->count(s, counts_out, &error);
  if (status != VECMILL_OK) fail_msg("begin: %s", error.text);
  return s;
}

static void refused(const store_target *target, vecmill_status status, const char *words) {
  open_target(target, status);
  if (!strstr(error.text, words)) fail_msg("\"%s\" does not say \"%s\"", error.text, words);
}

/* A vector that tells its text: its length and its first byte. */
static void vector_of(const store_row *row, float *vector_out) {
  vector_out[0] = (float)row->n_text_bytes;
  vector_out[1] = row->n_text_bytes ? (float)(unsigned char)row->text[0] : 0;
}

static void embed_page(store_page *page, float (*vectors)[DIMENSION]) {
  for (size_t i = 0; i < page->n_rows; i++) {
    vector_of(&page->rows[i], vectors[i]);
    page->rows[i].vector = vectors[i];
    page->rows[i].outcome = STORE_EMBEDDED;
  }
}

/* Passes until one finds nothing; returns the rows written; `keys` collects what was claimed. */
static uint64_t embed_all(store *s, size_t batch, str *keys) {
  uint64_t n_written = 0;
  for (;;) {
    bool may_find = false;
    uint64_t n_claimed = 0;
    assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
    for (size_t n = 1; may_find && n > 0;) {
      store_page page;
      float vectors[512][DIMENSION];
      assert_int_equal(s->operations->claim(s, batch, &page, &error), VECMILL_OK);
      n = page.n_rows;
      n_claimed += n;
      for (size_t i = 0; keys && i < n; i++) {
        if (keys->n) str_append_text(keys, " ");
        s->operations->key_json(s, page.rows[i].key, page.rows[i].n_key_bytes, keys);
      }
      embed_page(&page, vectors);
      store_commit_counts counts = {0};
      if (n) assert_int_equal(s->operations->commit(s, &page, &counts, &error), VECMILL_OK);
      n_written += counts.n_written;
      s->operations->page_free(s, &page);
    }
    if (n_claimed == 0) return n_written;
  }
}

static void expect_run(const store_target *target, size_t batch, uint64_t n_left,
                       const char *keys) {
  store_counts counts;
  str claimed = {0};
  store *s = begin_counted(target, &counts);
  assert_int_equal(counts.n_left, n_left);
  assert_int_equal(embed_all(s, batch, &claimed), n_left);
  assert_string_equal(claimed.data ? claimed.data : "", keys);
  str_fini(&claimed);
  s->operations->close(s);
}

/* --- keys --- */

static void test_integer_key(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);"
      "INSERT INTO t VALUES(7,'g'),(-3,'n'),(9223372036854775807,'max'),(1,'a'),(2,'bb')");
  store_target target = {.table = "T"};
  expect_run(&target, 2, 5, "-3 1 2 7 9223372036854775807");
  assert_string_equal(ask("SELECT hex(embedding) FROM t WHERE id = 2"),
                      "000000400000C442"); /* 2.0, 98.0 */
  expect_run(&target, 2, 0, "");
}

static void test_text_keys(void **state) {
  (void)state;
  sql("CREATE TABLE t(name TEXT PRIMARY KEY, text TEXT);"
      "INSERT INTO t VALUES('b','x'),('a\"\\','y'),(NULL,'null key'),('é','z'),(x'00ff','blob');"
      "CREATE TABLE w(name TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID;"
      "INSERT INTO w VALUES('q','x'),('p','y'),('r','z')");
  store_target target = {.table = "t"};
  store_counts counts;
  store *s = begin_counted(&target, &counts);
  assert_int_equal(counts.n_null_keys, 1);
  assert_int_equal(counts.n_rows, 4);
  str keys = {0};
  assert_int_equal(embed_all(s, 3, &keys), 4);
  assert_string_equal(keys.data, "\"a\\\"\\\\\" \"b\" \"é\" \"x'00ff'\"");
  str_fini(&keys);
  s->operations->close(s);
  assert_string_equal(ask("SELECT count(*) FROM t WHERE embedding IS NULL"), "1");
  store_target without = {.table = "w"};
  expect_run(&without, 1, 3, "\"p\" \"q\" \"r\"");
}

static void test_composite_keys(void **state) {
  (void)state;
  sql("CREATE TABLE t(n INTEGER, a TEXT, text TEXT, PRIMARY KEY(a, n));"
      "INSERT INTO t "
      "VALUES(2,'a','x'),(1,'b','x'),(1,'a','x'),(NULL,'a','x'),(3,'b','x'),(2.5,'b','x');"
      "CREATE TABLE w(a TEXT, n INTEGER, \"the text\" TEXT, PRIMARY KEY(a, n DESC)) WITHOUT ROWID;"
      "INSERT INTO w VALUES('a',1,'x'),('a',2,'x'),('b',1,'x')");
  store_target target = {.table = "t"};
  for (size_t batch = 1; batch <= 4; batch++) {
    expect_run(&target, batch, 5, "[\"a\",1] [\"a\",2] [\"b\",1] [\"b\",2.5] [\"b\",3]");
    sql("UPDATE t SET embedding = NULL");
  }
  store_target without = {.table = "w"};
  expect_run(&without, 2, 3, "[\"a\",1] [\"a\",2] [\"b\",1]");
}

static void test_named_keys(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER, code TEXT, text TEXT);"
      "INSERT INTO t VALUES(5,'x','one'),(4,'y','two')");
  refused(&(store_target){.table = "t"}, VECMILL_ERROR_ARGUMENT, "--id-column");
  refused(&(store_target){.table = "t", .id_column = "id"}, VECMILL_ERROR_ARGUMENT,
          "CREATE UNIQUE INDEX");
  refused(&(store_target){.table = "t", .id_column = "nope"}, VECMILL_ERROR_NOT_FOUND,
          "columns: id, code, text");
  expect_run(&(store_target){.table = "t", .id_column = "rowid"}, 1, 2, "1 2");
  sql("CREATE UNIQUE INDEX \"i \"\"x\" ON t(id); UPDATE t SET embedding = NULL");
  expect_run(&(store_target){.table = "t", .id_column = "ID"}, 1, 2, "4 5");
  sql("CREATE UNIQUE INDEX part ON t(code) WHERE id > 0; UPDATE t SET embedding = NULL");
  refused(&(store_target){.table = "t", .id_column = "code"}, VECMILL_ERROR_ARGUMENT,
          "CREATE UNIQUE INDEX");
  sql("CREATE UNIQUE INDEX both ON t(code, id)");
  expect_run(&(store_target){.table = "t", .id_column = "code, id"}, 1, 2, "[\"x\",5] [\"y\",4]");
  sql("CREATE TABLE w(a TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID");
  refused(&(store_target){.table = "w", .id_column = "rowid"}, VECMILL_ERROR_ARGUMENT, "rowid");
  sql("CREATE TABLE c(a INTEGER, b INTEGER, text TEXT, PRIMARY KEY(a, b))");
  refused(&(store_target){.table = "c", .id_column = "a"}, VECMILL_ERROR_ARGUMENT,
          "nothing keeps a unique");
  /* columns that take the rowid's names from it */
  sql("CREATE TABLE r(ROWID TEXT, _rowid_ TEXT, text TEXT)");
  refused(&(store_target){.table = "r"}, VECMILL_ERROR_ARGUMENT, ", or --id-column oid)");
  refused(&(store_target){.table = "r", .id_column = "rowid"}, VECMILL_ERROR_ARGUMENT,
          "(CREATE UNIQUE INDEX on it, or use --id-column oid)");
  sql("ALTER TABLE r ADD COLUMN oid");
  refused(&(store_target){.table = "r"}, VECMILL_ERROR_ARGUMENT, "with --id-column)");
}

/* --- columns --- */

static void test_detection(void **state) {
  (void)state;
  sql("CREATE TABLE byname(id INTEGER PRIMARY KEY, title TEXT, Description VARCHAR(9));"
      "CREATE TABLE only(id TEXT PRIMARY KEY, n INT, words CLOB, embedding BLOB);"
      "CREATE TABLE two(id INTEGER PRIMARY KEY, uno TEXT, due TEXT);"
      "CREATE TABLE none(id INTEGER PRIMARY KEY, n INT);"
      "CREATE TABLE \"odd \"\"name\"\"; --\"(\"id]\" INTEGER PRIMARY KEY, \"te\"\"xt\" TEXT);"
      "INSERT INTO \"odd \"\"name\"\"; --\" VALUES(1,'x');"
      "CREATE VIEW v AS SELECT * FROM byname; CREATE VIRTUAL TABLE f USING fts5(body)");
  store_columns columns;
  store *s = NULL;
  assert_int_equal(store_open_sqlite(path, NULL, &s, &error), VECMILL_OK);
  assert_int_equal(s->operations->find(s, &(store_target){.table = "BYNAME"}, &columns, &error),
                   VECMILL_OK);
  assert_string_equal(columns.table, "byname");
  assert_string_equal(columns.text_column, "Description");
  assert_string_equal(columns.id_columns, "id");
  assert_string_equal(columns.vector_column, "embedding");
  assert_false(columns.has_vector_column);
  s->operations->close(s);
  s = open_target(&(store_target){.table = "only"}, VECMILL_OK);
  s->operations->close(s);
  refused(&(store_target){.table = "two"}, VECMILL_ERROR_ARGUMENT, "uno, due");
  refused(&(store_target){.table = "none"}, VECMILL_ERROR_ARGUMENT, "--text-column");
  refused(&(store_target){.table = "nope"}, VECMILL_ERROR_NOT_FOUND, "byname");
  refused(&(store_target){.table = "v"}, VECMILL_ERROR_UNSUPPORTED, "view");
  refused(&(store_target){.table = "f"}, VECMILL_ERROR_UNSUPPORTED, "virtual");
  refused(&(store_target){.table = "two", .text_column = "tre"}, VECMILL_ERROR_NOT_FOUND, "tre");
  refused(&(store_target){.table = "two", .text_column = "uno", .vector_column = "uno"},
          VECMILL_ERROR_ARGUMENT, "--vector-column");
  refused(&(store_target){.table = "two", .text_column = "uno", .vector_column = "id"},
          VECMILL_ERROR_ARGUMENT, "--vector-column");
  expect_run(
      &(store_target){.table = "odd \"name\"; --", .vector_column = "v\"; DROP TABLE two; --"}, 5,
      1, "1");
}

static void test_where_and_limit(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, section TEXT, text TEXT); CREATE INDEX s ON "
      "t(section);"
      "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 20)"
      "INSERT INTO t SELECT v, iif(v % 2, 'odd', 'even'), 'text ' || v FROM n");
  const char *bad[] = {"section = ", "nope = 1", "1; DROP TABLE t",
                       "id = ?",     "id = :k0", "count(*) > 1"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    refused(&(store_target){.table = "t", .text_column = "text", .where = bad[i]},
            VECMILL_ERROR_ARGUMENT, "--where");
  assert_string_equal(ask("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'vecmill%'"), "0");
  store_target target = {.table = "t", .where = "section = 'odd' -- comment", .limit = 3};
  expect_run(&target, 2, 3, "1 3 5");
  expect_run(&target, 2, 0, ""); /* the first three are considered, embedded or not */
  target.limit = 5;
  expect_run(&target, 2, 2, "7 9");
  target.limit = 0;
  target.where = "section = 'odd' OR id = 2"; /* precedence */
  expect_run(&target, 100, 6, "2 11 13 15 17 19");
  expect_run(&(store_target){.table = "t", .limit = 1000}, 3, 9, "4 6 8 10 12 14 16 18 20");
}

/* --- texts --- */

static void test_blank_characters(void **state) {
  (void)state;
  assert_true(store_is_blank("", 0));
  assert_true(store_is_blank(
      " \t\n\v\f\r\xC2\x85\xC2\xA0\xE1\x9A\x80\xE2\x80\x80\xE2\x80\x8A\xE2\x80\xA8\xE2\x80\xA9"
      "\xE2\x80\xAF\xE2\x81\x9F\xE3\x80\x80",
      34));
  const char *const not_blank[] = {"a",        " a",   "\xE2\x80\x8B", "\xEF\xBB\xBF", "\xC2",
                                   "\xE2\x80", "\x01", "\x1C",         "\xC2\x84"};
  for (size_t i = 0; i < sizeof not_blank / sizeof *not_blank; i++)
    assert_false(store_is_blank(not_blank[i], strlen(not_blank[i])));
  assert_false(store_is_blank("\0", 1));
}

static void test_texts(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text COLLATE NOCASE);"
      "INSERT INTO t "
      "VALUES(1,NULL),(2,''),(3,char(32,9,160,0x3000)),(4,'word'),(5,x'6162'),(6,12),(7,1.5),"
      "(8,CAST(x'61ff62' AS TEXT)),(9,'a'||char(0)||'b'),(10,x'20'),(11,x'')");
  store_target target = {.table = "t"};
  store_counts counts;
  store *s = begin_counted(&target, &counts);
  assert_int_equal(counts.n_rows, 11);
  assert_int_equal(counts.n_blank, 5);
  assert_int_equal(counts.n_left, 6);
  bool may_find;
  store_page page;
  float vectors[16][DIMENSION];
  assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
  assert_int_equal(s->operations->claim(s, 16, &page, &error), VECMILL_OK);
  assert_int_equal(page.n_rows, 6);
  const char *const texts[] = {"word",
                               "ab",
                               "12",
                               "1.5",
                               ("a\xff"
                                "b"),
                               "a\0b"};
  const size_t lengths[] = {4, 2, 2, 3, 3, 3};
  for (size_t i = 0; i < 6; i++) {
    assert_int_equal(page.rows[i].n_text_bytes, lengths[i]);
    assert_memory_equal(page.rows[i].text, texts[i], lengths[i]);
  }
  /* NOCASE says that 'WORD' equals 'word'; its vector would not. */
  sql("UPDATE t SET text = 'WORD' WHERE id = 4");
  embed_page(&page, vectors);
  store_commit_counts committed;
  assert_int_equal(s->operations->commit(s, &page, &committed, &error), VECMILL_OK);
  assert_int_equal(committed.n_written, 5);
  assert_int_equal(committed.n_changed, 1);
  s->operations->page_free(s, &page);
  assert_int_equal(embed_all(s, 16, NULL), 1);
  s->operations->close(s);
  assert_string_equal(ask("SELECT count(*) FROM t WHERE embedding IS NOT NULL"), "6");
}

static void test_utf16(void **state) {
  (void)state;
  unlink(path);
  sql("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(id TEXT PRIMARY KEY, text TEXT);"
      "INSERT INTO t VALUES('é','naïve 𝄞'),('b','x')");
  expect_run(&(store_target){.table = "t"}, 1, 2, "\"b\" \"é\"");
}

/* --- what others do meanwhile --- */

static void test_concurrent_edits(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);"
      "INSERT INTO t VALUES(1,'a'),(2,'b'),(3,'c'),(4,'d'),(5,'e')");
  store_counts counts;
  store *s = begin_counted(&(store_target){.table = "t"}, &counts);
  bool may_find;
  store_page page;
  float vectors[8][DIMENSION];
  assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
  assert_true(may_find);
  assert_int_equal(s->operations->claim(s, 4, &page, &error), VECMILL_OK);
  assert_int_equal(page.n_rows, 4);
  sql("UPDATE t SET text = 'other' WHERE id = 1; DELETE FROM t WHERE id = 2;"
      "UPDATE t SET embedding = x'0000000000000000' WHERE id = 3; INSERT INTO t "
      "VALUES(0,'new',NULL)");
  embed_page(&page, vectors);
  store_commit_counts committed;
  assert_int_equal(s->operations->commit(s, &page, &committed, &error), VECMILL_OK);
  assert_int_equal(committed.n_written, 1);
  assert_int_equal(committed.n_changed, 3);
  s->operations->page_free(s, &page);
  str keys = {0};
  assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
  assert_true(may_find);
  assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
  assert_false(may_find); /* nobody but us since */
  sql("UPDATE t SET text = 'ee' WHERE id = 5");
  assert_int_equal(embed_all(s, 2, &keys), 3);
  assert_string_equal(keys.data, "0 1 5");
  assert_string_equal(ask("SELECT hex(embedding) FROM t WHERE id = 1"),
                      "0000A0400000DE42"); /* 5, 'o' */
  str_fini(&keys);
  s->operations->close(s);
}

static void test_failures(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, key TEXT, text TEXT);"
      "INSERT INTO t VALUES(1,'','a'),(2,'','b'),(3,'','c');"
      "CREATE TRIGGER no BEFORE UPDATE OF embedding ON t WHEN new.id = 3 BEGIN SELECT raise(ABORT, "
      "'not three'); END");
  /* The trigger names a column that does not exist yet: it is made here, as a user would. */
  sql("ALTER TABLE t ADD COLUMN embedding BLOB");
  store_target target = {.table = "t", .text_column = "text"};
  store_counts counts;
  store *s = begin_counted(&target, &counts);
  bool may_find;
  store_page page;
  float vectors[8][DIMENSION];
  assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
  assert_int_equal(s->operations->claim(s, 8, &page, &error), VECMILL_OK);
  embed_page(&page, vectors);
  page.rows[0].outcome = STORE_FAILED;
  page.rows[0].reason = "too odd";
  store_commit_counts committed;
  assert_int_equal(s->operations->commit(s, &page, &committed, &error), VECMILL_OK);
  assert_int_equal(committed.n_written, 1);
  assert_int_equal(committed.n_failed, 2);
  s->operations->page_free(s, &page);
  sql("UPDATE t SET key = 'x' WHERE id = 2"); /* makes another pass worth while */
  assert_int_equal(embed_all(s, 8, NULL), 0);
  s->operations->close(s);
  assert_string_equal(ask("SELECT key || ' ' || reason FROM vecmill_failures ORDER BY key"),
                      "1 too odd,3 the database refused the vector: not three");
  s = begin_counted(&target, &counts);
  assert_int_equal(counts.n_failed, 2);
  assert_int_equal(counts.n_left, 0);
  s->operations->close(s);
  target.retry_failed = true;
  s = begin_counted(&target, &counts);
  assert_int_equal(counts.n_failed, 0);
  assert_int_equal(counts.n_left, 2);
  str keys = {0};
  assert_int_equal(embed_all(s, 1, &keys), 1);
  assert_string_equal(keys.data, "1 3"); /* each once, though 3 failed again */
  str_fini(&keys);
  s->operations->close(s);
  assert_string_equal(ask("SELECT key FROM vecmill_failures"), "3");
}

/* --- records --- */

static void test_record(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO t VALUES(1,'a')");
  store_target target = {.table = "t"};
  expect_run(&target, 1, 1, "1");
  store *s = open_target(&(store_target){.table = "T", .vector_column = "EMBEDDING"}, VECMILL_OK);
  store_maker there;
  bool found = false, has_vectors = false;
  assert_int_equal(s->operations->record(s, &there, &found, &error), VECMILL_OK);
  assert_true(found);
  assert_string_equal(there.model, maker.model);
  assert_string_equal(there.revision, maker.revision);
  assert_int_equal(there.dimension, DIMENSION);
  assert_int_equal(s->operations->inspect(s, DIMENSION, &has_vectors, &error), VECMILL_OK);
  assert_true(has_vectors);
  assert_int_equal(s->operations->inspect(s, 3, &has_vectors, &error), VECMILL_ERROR_CONFLICT);
  assert_non_null(strstr(error.text, "--vector-column"));
  store_maker other = maker;
  other.revision = "sha256:2";
  assert_int_equal(s->operations->begin(s, &other, &error), VECMILL_ERROR_CONFLICT);
  s->operations->close(s);
  s = open_target(&(store_target){.table = "t", .vector_column = "second"}, VECMILL_OK);
  assert_int_equal(s->operations->record(s, &there, &found, &error), VECMILL_OK);
  assert_false(found);
  s->operations->close(s);
}

static void test_sample(void **state) {
  (void)state;
  sql("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, embedding);"
      "INSERT INTO t SELECT value, 'x', x'0000803F00000040' FROM json_each('[1,2,3,4,5,6,7,8,9]');"
      "UPDATE t SET text = '' WHERE id > 7; UPDATE t SET embedding = NULL WHERE id = 1");
  store *s = open_target(&(store_target){.table = "t"}, VECMILL_OK);
  store_page page;
  assert_int_equal(s->operations->sample(s, DIMENSION, 20, &page, &error), VECMILL_OK);
  assert_int_equal(page.n_rows, 6);
  for (size_t i = 0; i < 6; i++)
    assert_true(page.rows[i].vector[0] == 1 && page.rows[i].vector[1] == 2);
  s->operations->page_free(s, &page);
  assert_int_equal(s->operations->sample(s, DIMENSION, 4, &page, &error), VECMILL_OK);
  assert_int_equal(page.n_rows, 4);
  s->operations->page_free(s, &page);
  sql("UPDATE t SET embedding = 'text of 8' WHERE id = 4");
  bool has_vectors;
  assert_int_equal(s->operations->inspect(s, DIMENSION, &has_vectors, &error),
                   VECMILL_ERROR_CONFLICT);
  s->operations->close(s);
}

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

/* A damaged table is named as such, whatever meets it first. */
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
      CASE(test_integer_key),
      CASE(test_text_keys),
      CASE(test_composite_keys),
      CASE(test_named_keys),
      CASE(test_detection),
      CASE(test_where_and_limit),
      CASE(test_texts),
      CASE(test_utf16),
      CASE(test_concurrent_edits),
      CASE(test_failures),
      CASE(test_record),
      CASE(test_sample),
      CASE(test_second_run_refused),
      CASE(test_lock_dies_with_its_process),
      CASE(test_busy),
      CASE(test_holds_nothing),
      CASE(test_open_errors),
      CASE(test_page_error),
      CASE(test_damaged),
      CASE(test_memory_fails),
      cmocka_unit_test(test_blank_characters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
