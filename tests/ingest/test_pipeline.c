/* The pipeline over a real SQLite file and a provider whose vectors are known. */
#include "sqlite_test.h"

#include <pthread.h>

#include "fake_provider.h"
#include "ingest/nearest.h"
#include "ingest/pipeline.h"
#include "store/sqlite.h"

static const store_maker maker = {"a/model", "sha256:1", "mean", "", "f32", "", FAKE_DIMENSION};
static vecmill_error error;
static fake_provider fake;

/* Rows 1..n in an order of their own, a log of every write of a vector beside. */
static void make_table(int n) {
  char text[600];
  snprintf(text, sizeof text,
           "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, embedding BLOB);"
           "CREATE TABLE log(id INTEGER, n INTEGER);"
           "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < %d)"
           "INSERT INTO t SELECT v, 'text ' || v || substr('............................', v %% "
           "20), NULL FROM n;"
           "CREATE TRIGGER wrote AFTER UPDATE OF embedding ON t BEGIN INSERT INTO log "
           "VALUES(new.id, 1); END",
           n);
  sql(text);
}

static int setup(void **state) {
  (void)state;
  make_database();
  fake_init(&fake);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  return remove_database();
}

/* What the progress showed. */
static struct { uint64_t n_done, n_total, n_calls, n_rows, max_in_flight; } seen;

static void on_progress(void *context, const ingest_progress *now) {
  (void)context;
  if (now->n_in_flight > seen.max_in_flight) seen.max_in_flight = now->n_in_flight;
  if (now->is_tick) return;
  seen.n_calls++;
  seen.n_rows += now->n_batch;
  assert_true(now->progress->n_done > seen.n_done); /* strictly rising */
  assert_true(now->progress->n_done <= now->progress->n_total);
  seen.n_done = now->progress->n_done;
  seen.n_total = now->progress->n_total;
}

typedef struct setting {
  size_t batch;
  unsigned n_workers;
  const char *where;
  uint64_t limit;
  const int *stop;
  bool retry_failed;
  int n_passes_of_others;   /* in which others have all rows */
  const char *after_commit; /* what somebody else says then */
} setting;

/* --- a store whose rows are others' for some passes --- */

static const store_operations *own;
static store_operations shared;
static int n_passes_begun, n_passes_lost;

static vecmill_status shared_pass_begin(store *s, bool *may_find_out, vecmill_error *err) {
  vecmill_status status = own->pass_begin(s, may_find_out, err);
  *may_find_out = n_passes_begun++ <= n_passes_lost;
  return status;
}

static vecmill_status shared_claim(store *s, size_t n_max, store_page *page_out,
                                   vecmill_error *err) {
  *page_out = (store_page){0};
  return n_passes_begun > n_passes_lost ? own->claim(s, n_max, page_out, err) : VECMILL_OK;
}

static void share_store(store *s, int n_passes_of_others) {
  own = s->operations;
  shared = *own;
  shared.pass_begin = shared_pass_begin;
  shared.claim = shared_claim;
  n_passes_begun = 0;
  n_passes_lost = n_passes_of_others;
  s->operations = &shared;
}

/* --- a store where somebody else writes after each commit --- */

static const char *after_commit;
static uint64_t n_commits, n_rows_committed;

static vecmill_status undone_commit(store *s, const store_page *page,
                                    store_commit_counts *counts_out, vecmill_error *err) {
  vecmill_status status = own->commit(s, page, counts_out, err);
  n_commits++;
  n_rows_committed += page->n_rows;
  sql(after_commit);
  return status;
}

static void undo_commits(store *s, const char *statement) {
  own = s->operations;
  shared = *own;
  shared.commit = undone_commit;
  after_commit = statement;
  n_commits = n_rows_committed = 0;
  s->operations = &shared;
}

static vecmill_status run_pipeline(const setting *how, ingest_outcome *outcome_out) {
  store *s = NULL;
  store_columns columns;
  store_counts counts;
  store_target target = {
      .table = "t", .where = how->where, .limit = how->limit, .retry_failed = how->retry_failed};
  memset(&seen, 0, sizeof seen);
  assert_int_equal(store_open_sqlite(path, how->stop, &s, &error), VECMILL_OK);
  assert_int_equal(s->operations->find(s, &target, &columns, &error), VECMILL_OK);
  assert_int_equal(s->operations->begin(s, &maker, &error), VECMILL_OK);
  assert_int_equal(s->operations->count(s, &counts, &error), VECMILL_OK);
  if (how->n_passes_of_others) share_store(s, how->n_passes_of_others);
  if (how->after_commit) undo_commits(s, how->after_commit);
  ingest_plan plan = {.store = s,
                      .provider = &fake.base,
                      .batch = how->batch,
                      .n_workers = how->n_workers,
                      .n_total = counts.n_left,
                      .stop = how->stop,
                      .on_progress = on_progress};
  vecmill_status status = ingest_pipeline_run(&plan, outcome_out, &error);
  s->operations->close(s);
  assert_int_equal(seen.n_rows, outcome_out->n_written + outcome_out->n_failed);
  return status;
}

static void outcome_fini(ingest_outcome *outcome) {
  mem_free(outcome->worker_busy);
  mem_free(outcome->first_failure);
}

/* Every row that has a vector has the one of its own text, and each write was logged once. */
static void expect_right_vectors(long long n_expected) {
  sqlite3 *db = db_open();
  sqlite3_stmt *statement;
  long long n = 0;
  assert_int_equal(sqlite3_prepare_v2(db,
                                      "SELECT text, embedding FROM t WHERE embedding IS NOT NULL",
                                      -1, &statement, NULL),
                   SQLITE_OK);
  for (; sqlite3_step(statement) == SQLITE_ROW; n++) {
    float expected[FAKE_DIMENSION];
    const char *text = (const char *)sqlite3_column_text(statement, 0);
    fake_vector(text, (size_t)sqlite3_column_bytes(statement, 0), expected);
    assert_int_equal(sqlite3_column_bytes(statement, 1), sizeof expected);
    assert_memory_equal(sqlite3_column_blob(statement, 1), expected, sizeof expected);
  }
  sqlite3_finalize(statement);
  sqlite3_close(db);
  assert_int_equal(n, n_expected);
}

static void test_every_shape(void **state) {
  (void)state;
  const setting shapes[] = {{100, 1}, {7, 2}, {1, 4}, {1000, 3}, {250, 2}};
  make_table(500);
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    ingest_outcome outcome;
    if (run_pipeline(&shapes[i], &outcome) != VECMILL_OK) fail_msg("%s", error.text);
    assert_int_equal(outcome.n_written, 500);
    assert_int_equal(outcome.n_failed + outcome.n_changed + outcome.n_left, 0);
    assert_int_equal(outcome.n_workers, shapes[i].n_workers);
    assert_int_equal(outcome.n_batches, (500 + shapes[i].batch - 1) / shapes[i].batch);
    assert_int_equal(seen.n_done, 500);
    assert_int_equal(seen.n_total, 500);
    assert_int_equal(seen.n_calls, outcome.n_batches);
    expect_right_vectors(500);
    assert_int_equal(ask_number("SELECT count(*) = 500 AND count(DISTINCT id) = 500 FROM log"), 1);
    outcome_fini(&outcome);
    sql("UPDATE t SET embedding = NULL; DELETE FROM log");
  }
}

static void test_second_run_finds_nothing(void **state) {
  (void)state;
  make_table(50);
  ingest_outcome outcome;
  assert_int_equal(run_pipeline(&(setting){10, 2}, &outcome), VECMILL_OK);
  outcome_fini(&outcome);
  fake.n_run = 0;
  assert_int_equal(run_pipeline(&(setting){10, 2}, &outcome), VECMILL_OK);
  assert_int_equal(outcome.n_written, 0);
  assert_int_equal(fake.n_run, 0);
  assert_int_equal(seen.n_calls, 0);
  outcome_fini(&outcome);
}

static void test_failures(void **state) {
  (void)state;
  make_table(30);
  sql("UPDATE t SET text = 'FAIL ' || id WHERE id IN (3, 20); UPDATE t SET text = 'NAN' WHERE id = "
      "9;"
      "UPDATE t SET text = ' ' WHERE id = 10");
  ingest_outcome outcome;
  assert_int_equal(run_pipeline(&(setting){4, 2}, &outcome), VECMILL_OK);
  assert_int_equal(outcome.n_written, 26);
  assert_int_equal(outcome.n_failed, 3);
  assert_int_equal(seen.n_done, 29);
  assert_int_equal(seen.n_total, 29);
  assert_non_null(outcome.first_failure);
  outcome_fini(&outcome);
  assert_int_equal(
      ask_number("SELECT count(*) FROM vecmill_failures WHERE reason LIKE '%told to fail%'"), 2);
  assert_int_equal(
      ask_number("SELECT count(*) FROM vecmill_failures WHERE reason LIKE '%not finite%'"), 1);
  expect_right_vectors(26);
  sql("UPDATE t SET text = 'well' WHERE id = 3");
  assert_int_equal(run_pipeline(&(setting){4, 2}, &outcome), VECMILL_OK);
  assert_int_equal(outcome.n_written, 1); /* another text: the record was not about it */
  assert_int_equal(outcome.n_failed, 0);
  outcome_fini(&outcome);
  sql("UPDATE t SET text = 'FAIL too' WHERE id = 20");
  assert_int_equal(run_pipeline(&(setting){4, 2, .retry_failed = true}, &outcome), VECMILL_OK);
  assert_int_equal(outcome.n_written, 0);
  assert_int_equal(outcome.n_failed, 2);
  outcome_fini(&outcome);
  assert_int_equal(ask_number("SELECT count(*) FROM vecmill_failures"), 2);
}

/* --- others write meanwhile --- */

static volatile int editing;

/* Rewrites texts, deletes, inserts, until told to stop; never touches the vector column but for new
 * texts' sake. */
static void *edit(void *context) {
  unsigned seed = *(unsigned *)context;
  sqlite3 *db = db_open();
  for (int i = 0; __atomic_load_n(&editing, __ATOMIC_RELAXED); i++) {
    char text[200];
    int id = 1 + (int)(rand_r(&seed) % 600), what = (int)(rand_r(&seed) % 8);
    if (what == 0) snprintf(text, sizeof text, "DELETE FROM t WHERE id = %d", id);
    else if (what == 1)
      snprintf(text, sizeof text, "INSERT OR IGNORE INTO t(id, text) VALUES(%d, 'new %d')", id, i);
    else
      snprintf(text, sizeof text, "UPDATE t SET text = 'edit %d', embedding = NULL WHERE id = %d",
               i, id);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) break;
    if (what == 7) usleep(500);
  }
  sqlite3_close(db);
  return NULL;
}

static void *stop_editing(void *context) {
  (void)context;
  usleep(700000);
  __atomic_store_n(&editing, 0, __ATOMIC_RELAXED);
  return NULL;
}

/* No vector ever lands on a text it was not made from, and once the edits rest nothing is left. */
static void test_edits_meanwhile(void **state) {
  (void)state;
  make_table(400);
  sql("PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL; DROP TRIGGER wrote");
  fake.delay_us = 300;
  pthread_t editor, timer;
  const char *other = getenv("VECMILL_SEED"); /* make torture runs many */
  unsigned seed = other ? (unsigned)strtoul(other, NULL, 10) : 20261121;
  editing = 1;
  pthread_create(&editor, NULL, edit, &seed);
  pthread_create(&timer, NULL, stop_editing, NULL);
  ingest_outcome outcome;
  for (int round = 0; round < 50; round++) {
    vecmill_status status = run_pipeline(&(setting){16, 2}, &outcome);
    if (status != VECMILL_OK) fail_msg("%s", error.text);
    outcome_fini(&outcome);
    bool over = !__atomic_load_n(&editing, __ATOMIC_RELAXED);
    if (over) break;
  }
  pthread_join(editor, NULL);
  pthread_join(timer, NULL);
  assert_int_equal(run_pipeline(&(setting){16, 2}, &outcome), VECMILL_OK);
  outcome_fini(&outcome);
  expect_right_vectors(ask_number("SELECT count(*) FROM t"));
}

/* Rows that come while the run goes on are found by a later pass; progress still ends at its total.
 */
static void insert_one(void *context, size_t n_run) {
  (void)context;
  if (n_run == 20)
    sql("INSERT INTO t(id, text) VALUES(-1, 'before all'), (-2, 'and before that'); DELETE FROM t "
        "WHERE id = 60");
}

static void test_inserted_behind(void **state) {
  (void)state;
  make_table(60);
  fake.on_text = insert_one;
  ingest_outcome outcome;
  assert_int_equal(run_pipeline(&(setting){1, 1}, &outcome), VECMILL_OK);
  assert_true(outcome.n_written >= 61);
  assert_true(outcome.n_passes >= 2);
  assert_int_equal(seen.n_done, seen.n_total);
  outcome_fini(&outcome);
  expect_right_vectors(61);
}

/* Who takes a vector away each time does not keep the run going for ever. */
static void test_vectors_taken_away(void **state) {
  (void)state;
  make_table(60);
  ingest_outcome outcome;
  const setting how = {10, 1,
                       .after_commit =
                           "UPDATE t SET embedding = NULL WHERE id = 7 AND embedding IS NOT NULL"};
  assert_int_equal(run_pipeline(&how, &outcome), VECMILL_OK);
  assert_int_equal(outcome.n_left, 1);
  assert_int_equal(outcome.n_worn, 1);
  assert_in_range(outcome.n_written, 59 + TRIES_UNTIL_WORN, 59 + TRIES_UNTIL_WORN + 4);
  outcome_fini(&outcome);
  assert_int_equal(ask_number("SELECT count(*) FROM t WHERE embedding IS NOT NULL"), 59);
}

/* While rows come that were not there before, the run goes on, and such a row with it; a row that
 * changes while it is embedded is not told as one of them. */
static void test_vectors_taken_away_beside_others(void **state) {
  (void)state;
  make_table(6);
  ingest_outcome outcome;
  const setting how = {
      10, 1,
      .after_commit =
          "UPDATE t SET embedding = NULL WHERE id = 3; INSERT INTO t(id, text) "
          "SELECT id + 1, 'more' FROM t WHERE id = (SELECT max(id) FROM t) AND id < 46"};
  assert_int_equal(run_pipeline(&how, &outcome), VECMILL_OK);
  assert_int_equal(outcome.n_left, 1);
  assert_int_equal(outcome.n_worn, 1);
  assert_int_equal(ask_number("SELECT count(*) FROM t WHERE embedding IS NOT NULL"), 45);
  assert_in_range(ask_number("SELECT count(*) FROM log WHERE id = 3"), 80, 100); /* and taken */
  outcome_fini(&outcome);
}

/* All of them, and more than are counted. */
static void test_all_vectors_taken_away(void **state) {
  (void)state;
  make_table(6000);
  sql("DROP TRIGGER wrote");
  ingest_outcome outcome;
  const setting how = {6000, 1, .after_commit = "UPDATE t SET embedding = NULL"};
  assert_int_equal(run_pipeline(&how, &outcome), VECMILL_OK);
  assert_int_equal(outcome.n_left, 6000);
  assert_int_equal(outcome.n_worn, 6000);
  assert_int_equal(outcome.n_passes, 1 + TRIES_UNTIL_WORN + 3);
  assert_int_equal(n_commits, outcome.n_passes); /* the last one of nothing */
  assert_int_equal(n_rows_committed, 6000 * (outcome.n_passes - 1));
  outcome_fini(&outcome);
}

/* --- stop --- */

static int stop;

static void stop_at(void *context, size_t n_run) {
  if (n_run == *(size_t *)context) __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

/* With fewer rows than `limit`, what comes behind the last is not among the first. */
static void insert_beyond(void *context, size_t n_run) {
  (void)context;
  if (n_run == 20) sql("INSERT INTO t(id, text) VALUES(1000, 'behind all'), (-1, 'before all')");
}

static void test_limit_beyond_the_end(void **state) {
  (void)state;
  make_table(60);
  fake.on_text = insert_beyond;
  ingest_outcome outcome;
  assert_int_equal(run_pipeline(&(setting){1, 1, .limit = 100}, &outcome), VECMILL_OK);
  outcome_fini(&outcome);
  expect_right_vectors(61);
  assert_int_equal(ask_number("SELECT count(*) FROM t WHERE id = 1000 AND embedding IS NULL"), 1);
}

/* Who finds all rows in the hands of others stays, as they may give them up. */
static void test_others_have_the_rows(void **state) {
  (void)state;
  make_table(60);
  ingest_outcome outcome;
  assert_int_equal(run_pipeline(&(setting){10, 1, .n_passes_of_others = 7}, &outcome), VECMILL_OK);
  assert_int_equal(outcome.n_written, 60);
  outcome_fini(&outcome);
  expect_right_vectors(60);
}

static void test_stop_and_go_on(void **state) {
  (void)state;
  make_table(2000);
  fake.delay_us = 50;
  long long n_before = 0;
  int n_runs = 0;
  for (vecmill_status status = VECMILL_ERROR_STOPPED; status != VECMILL_OK; n_runs++) {
    size_t at = 150;
    fake.n_run = 0;
    fake.on_text = stop_at;
    fake.context = &at;
    stop = 0;
    ingest_outcome outcome;
    status = run_pipeline(&(setting){20, 2, .stop = &stop}, &outcome);
    assert_true(status == VECMILL_OK || status == VECMILL_ERROR_STOPPED);
    long long n_now = ask_number("SELECT count(*) FROM t WHERE embedding IS NOT NULL");
    /* All that was computed is kept. */
    assert_int_equal(n_now - n_before, (long long)outcome.n_written);
    assert_int_equal(outcome.n_written, fake.n_run);
    if (status == VECMILL_ERROR_STOPPED) assert_true(outcome.n_written >= 150);
    n_before = n_now;
    outcome_fini(&outcome);
    assert_true(n_runs < 50);
  }
  assert_true(n_runs >= 2);
  expect_right_vectors(2000);
  assert_int_equal(ask_number("SELECT count(*) = 2000 AND count(DISTINCT id) = 2000 FROM log"), 1);
}

/* --- memory is bounded by pages, not by the table --- */

static void test_in_flight_is_bounded(void **state) {
  (void)state;
  make_table(3000);
  ingest_outcome outcome;
  assert_int_equal(run_pipeline(&(setting){10, 2}, &outcome), VECMILL_OK);
  outcome_fini(&outcome);
  assert_true(seen.max_in_flight <= 10 * (3 + (2 * 128 + 9) / 10));
}

/* --- a database that fails under way --- */

static void lose_the_table(void *context, size_t n_run) {
  (void)context;
  if (n_run == 30) sql("DROP TABLE t");
}

static void test_table_dropped_meanwhile(void **state) {
  (void)state;
  make_table(400);
  fake.on_text = lose_the_table;
  ingest_outcome outcome;
  assert_int_equal(run_pipeline(&(setting){5, 2}, &outcome), VECMILL_ERROR_DATABASE);
  assert_non_null(strstr(error.text, "no such table"));
  outcome_fini(&outcome);
}

/* --- search --- */

static void test_nearest(void **state) {
  (void)state;
  make_table(300);
  ingest_outcome outcome;
  assert_int_equal(run_pipeline(&(setting){50, 2}, &outcome), VECMILL_OK);
  outcome_fini(&outcome);
  /* Twins tie and come in key order; scaled vectors keep their cosine; what is no vector is
   * counted. */
  sql("INSERT INTO t SELECT 1000 + id, text, embedding FROM t WHERE id = 77;"
      "INSERT INTO t SELECT 500, 'twin', embedding FROM t WHERE id = 77;"
      "INSERT INTO t VALUES(-5, 'zero', zeroblob(32)), (-6, 'short', x'00'), (-7, 'nan', "
      "x'0000C07F' || zeroblob(28)), (-8, 'text', 'x');"
      "UPDATE t SET text = 'gone' WHERE id = 500");
  store *s = NULL;
  store_columns columns;
  assert_int_equal(store_open_sqlite(path, NULL, &s, &error), VECMILL_OK);
  assert_int_equal(s->operations->find(s, &(store_target){.table = "t"}, &columns, &error),
                   VECMILL_OK);
  float query[FAKE_DIMENSION];
  sqlite3 *db = db_open();
  sqlite3_stmt *statement;
  sqlite3_prepare_v2(db, "SELECT embedding FROM t WHERE id = 77", -1, &statement, NULL);
  sqlite3_step(statement);
  memcpy(query, sqlite3_column_blob(statement, 0), sizeof query);
  sqlite3_finalize(statement);
  for (size_t i = 0; i < FAKE_DIMENSION; i++) query[i] *= 3;
  vecmill_search_result result = {0};
  if (nearest_scan(s, query, FAKE_DIMENSION, 5, true, &result, &error) != VECMILL_OK)
    fail_msg("%s", error.text);
  assert_int_equal(result.n_hits, 5);
  assert_int_equal(result.n_scanned, 302);
  assert_int_equal(result.n_skipped, 4);
  assert_string_equal(result.hits[0].id_json, "77");
  assert_string_equal(result.hits[1].id_json, "500");
  assert_string_equal(result.hits[1].text, "gone");
  assert_string_equal(result.hits[2].id_json, "1077");
  assert_true(result.hits[0].score > 0.99999f && result.hits[0].score <= 1.0f);
  assert_true(result.hits[2].score == result.hits[0].score);
  assert_true(result.hits[3].score >= result.hits[4].score);
  /* The fourth is what a plain loop finds too. */
  double best = -2;
  long long best_id = 0;
  sqlite3_prepare_v2(
      db, "SELECT id, embedding FROM t WHERE id BETWEEN 1 AND 300 AND id <> 77 ORDER BY id", -1,
      &statement, NULL);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    float v[FAKE_DIMENSION];
    memcpy(v, sqlite3_column_blob(statement, 1), sizeof v);
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < FAKE_DIMENSION; i++)
      ab += (double)v[i] * query[i], aa += (double)v[i] * v[i], bb += (double)query[i] * query[i];
    if (ab / sqrt(aa * bb) > best)
      best = ab / sqrt(aa * bb), best_id = sqlite3_column_int64(statement, 0);
  }
  sqlite3_finalize(statement);
  sqlite3_close(db);
  assert_int_equal(atoll(result.hits[3].id_json), best_id);
  assert_float_equal(result.hits[3].score, best, 1e-5);
  for (size_t i = 0; i < result.n_hits; i++)
    mem_free(result.hits[i].id_json), mem_free(result.hits[i].text);
  mem_free(result.hits);
  s->operations->close(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
      CASE(test_every_shape),
      CASE(test_second_run_finds_nothing),
      CASE(test_failures),
      CASE(test_edits_meanwhile),
      CASE(test_inserted_behind),
      CASE(test_limit_beyond_the_end),
      CASE(test_others_have_the_rows),
      CASE(test_vectors_taken_away),
      CASE(test_vectors_taken_away_beside_others),
      CASE(test_all_vectors_taken_away),
      CASE(test_stop_and_go_on),
      CASE(test_in_flight_is_bounded),
      CASE(test_table_dropped_meanwhile),
      CASE(test_nearest),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
