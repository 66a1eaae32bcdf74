/* The SQLite store on real files: keys of every kind, columns found, claims, commits, records,
 * failures. */
#include "store_test.h"

#include "base/mem.h"
#include "store/blank.h"

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

static void test_version(void **state) {
  (void)state;
  vecmill_error why = {0};
  assert_int_equal(store_check_sqlite_version(3037000, "3.37.0", &why), VECMILL_OK);
  assert_int_equal(store_check_sqlite_version(3036000, "3.36.0", &why), VECMILL_ERROR_UNSUPPORTED);
  assert_string_equal(why.text,
                      "SQLite 3.36.0 is loaded: 3.37 or newer is needed (update libsqlite3)");
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
      cmocka_unit_test(test_blank_characters),
      cmocka_unit_test(test_version),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
