/*
 * Metrics beside vectors that are there already, and equal texts: as in pg_backfill.c.
 */
#include <limits.h>

#include "store/metrics_table.h"
#include "store/sqlite_parts.h"

/* --- which rows --- */

static void append_lacking(str *sql, const sqlite_store *s) {
  sqlite_append_from(sql, s);
  sqlite_append_considered(sql, s);
  str_append_text(sql, " AND ");
  sqlite_append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, " IS NOT NULL");
  sqlite_metrics_append_joins_not_null(sql, s);
  if (s->metrics.is_missing && !s->metrics.is_on) return;
  str_append_text(sql, " AND NOT EXISTS (SELECT 1 FROM ");
  sqlite_metrics_append_table(sql, s);
  str_append_text(sql, " AS vecmill_m WHERE vecmill_m.word_count IS NOT NULL");
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(sql, " AND vecmill_m.");
    sql_append_name(sql, s->metrics.joins[i]);
    str_append_text(sql, " = ");
    sql_append_column(sql, s, s->metrics.joins[i]);
  }
  str_append_char(sql, ')');
}

vecmill_status sqlite_store_metrics_count(store *base, uint64_t *n_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  str sql = {0};
  sqlite3_stmt *statement = NULL;
  *n_out = 0;
  if (!s->has_vector_column)
    return err_set(err, VECMILL_ERROR_NOT_FOUND,
                   "table %s: no column %s, so no row has a vector (run without --metrics-only)",
                   s->table, s->vector_column);
  vecmill_status status = sqlite_find_cut(s, err);
  str_append_text(&sql, s->metrics.is_shared ? "SELECT count(*) FROM (SELECT DISTINCT "
                                             : "SELECT count(*)");
  if (s->metrics.is_shared) sqlite_metrics_append_joins(&sql, s);
  append_lacking(&sql, s);
  if (s->metrics.is_shared) str_append_char(&sql, ')');
  if (status == VECMILL_OK)
    status = sqlite_compile(s, &sql, "cannot count the rows", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_common(s, statement);
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) *n_out = (uint64_t)sqlite3_column_int64(statement, 0);
  else status = sqlite_error(s, code, "cannot count the rows", err);
  sqlite3_finalize(statement);
  return status;
}

/* "table"."id" AS "id", .., what metrics go by, and perhaps the text: each once. By name: a rowid
 * has none outside of a subquery. */
static void append_needed(str *sql, const sqlite_store *s, bool with_text) {
  const char *names[2 * SQLITE_STORE_MAX_KEYS + 1];
  size_t n = 0, n_all = 0;
  for (size_t i = 0; i < s->n_ids; i++) names[n_all++] = s->ids[i];
  if (with_text) names[n_all++] = s->text_column;
  for (size_t i = 0; i < s->metrics.n_joins; i++) names[n_all++] = s->metrics.joins[i];
  for (size_t i = 0; i < n_all; i++) {
    bool is_new = true;
    for (size_t j = 0; j < n; j++) is_new &= !str_same(names[j], names[i]);
    if (!is_new) continue;
    if (n > 0) str_append_text(sql, ", ");
    sql_append_column(sql, s, names[i]);
    str_append_text(sql, " AS ");
    sql_append_name(sql, names[i]);
    names[n++] = names[i];
  }
}

/* "row_number() OVER (..) AS vecmill_i": the place among the rows that share one of metrics */
static void append_place(str *sql, const sqlite_store *s) {
  str_append_text(sql, "row_number() OVER (PARTITION BY ");
  sqlite_metrics_append_joins(sql, s);
  str_append_text(sql, " ORDER BY ");
  sql_append_ids(sql, s);
  str_append_text(sql, ") AS vecmill_i");
}

/* What is there may be the numbers of another row, one that is gone too, or of another table's. */
static bool is_contended(const sqlite_store *s) {
  bool any = s->metrics.is_shared;
  for (size_t i = 0; i < METRICS_N_SHARERS; i++) any |= s->metrics.sharers[i];
  return any;
}

/* The first of each of those that share a row. A subquery under the table's own name, so that all
 * else reads as if it were the table. */
static void append_first(str *sql, const sqlite_store *s) {
  str_append_text(sql, " FROM (SELECT ");
  append_needed(sql, s, false);
  str_append_text(sql, ", ");
  append_place(sql, s);
  str_append_text(sql, " FROM ");
  sql_append_table(sql, s);
  str_append_text(sql, " WHERE ");
  sqlite_append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, " IS NOT NULL");
  sqlite_metrics_append_joins_not_null(sql, s);
  str_append_text(sql, ") AS ");
  sql_append_name(sql, s->table);
  str_append_text(sql, " WHERE vecmill_i = 1");
}

/* " AND after the cursor ORDER BY ids LIMIT :n" */
static void append_page_end(str *sql, const sqlite_store *s) {
  if (s->metrics.cursor.n) {
    str_append_text(sql, " AND ");
    sql_append_compare(sql, s, ">", 'k');
  }
  str_append_text(sql, " ORDER BY ");
  sql_append_ids(sql, s);
  str_append_text(sql, " LIMIT :n");
}

/* The rows that lack metrics, of a page of them: where several share a row of metrics, the first
 * of each. The next page finds it there, or, where its text has changed meanwhile, the others. */
static void append_lacking_page(str *sql, const sqlite_store *s) {
  bool is_shared = s->metrics.is_shared;
  if (is_shared) {
    str_append_text(sql, " FROM (SELECT *, ");
    append_place(sql, s);
    str_append_text(sql, " FROM (SELECT ");
    append_needed(sql, s, true);
  }
  append_lacking(sql, s);
  append_page_end(sql, s);
  for (int i = 0; is_shared && i < 2; i++) {
    str_append_text(sql, ") AS ");
    sql_append_name(sql, s->table);
  }
  if (!is_shared) return;
  str_append_text(sql, " WHERE vecmill_i = 1 ORDER BY ");
  sql_append_ids(sql, s);
}

static vecmill_status compile_page(sqlite_store *s, store_metrics_rows kind,
                                   sqlite3_stmt **statement_out, vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, ", ");
  if (kind == STORE_METRICS_LACKING) {
    sql_append_column(&sql, s, s->text_column);
    append_lacking_page(&sql, s);
  } else {
    str_append_text(&sql, "''"); /* as in a preview */
    append_first(&sql, s);
    append_page_end(&sql, s);
  }
  vecmill_status status = sqlite_compile(s, &sql, "cannot read a page", statement_out, err);
  str_fini(&sql);
  return status;
}

vecmill_status sqlite_store_metrics_page(store *base, store_metrics_rows kind, size_t n_max,
                                         store_page *page_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  str *cursor = &s->metrics.cursor;
  sqlite3_stmt *statement = NULL;
  *page_out = (store_page){0};
  if (kind == STORE_METRICS_FIRST && !is_contended(s)) return VECMILL_OK;
  pthread_mutex_lock(&s->mutex);
  sqlite_stop_at_once(s, true);
  vecmill_status status = compile_page(s, kind, &statement, err);
  if (status == VECMILL_OK) {
    sqlite_bind_common(s, statement);
    key_bind(statement, 'k', cursor->data, cursor->n);
    sqlite_bind_integer_at(statement, ":n", (sqlite3_int64)n_max);
    status = sqlite_read_page(s, statement, false, n_max, page_out, err);
  }
  sqlite3_finalize(statement);
  sqlite_stop_at_once(s, false);
  pthread_mutex_unlock(&s->mutex);
  return status == VECMILL_OK ? metrics_follow_page(base, cursor, page_out, err) : status;
}

/* Who writes is alone: the text that a row of the page is compared with is the one that it has, so
 * that of either kind what is there may be overwritten. */
vecmill_status sqlite_store_metrics_commit(store *base, store_metrics_rows kind,
                                           const store_page *page, uint64_t *n_written_out,
                                           vecmill_error *err) {
  sqlite_store *s = of(base);
  (void)kind;
  *n_written_out = 0;
  pthread_mutex_lock(&s->mutex);
  vecmill_status status = sqlite_metrics_claim(s, err);
  if (status == VECMILL_OK) status = sqlite_begin(s, err);
  if (status == VECMILL_OK) {
    uint64_t n_written = 0;
    for (size_t i = 0; status == VECMILL_OK && i < page->n_rows; i++) {
      int code = sqlite_metrics_write(s, &page->rows[i], !s->metrics.has_ratios);
      if (code != SQLITE_DONE) status = sqlite_error(s, code, "cannot write metrics", err);
      else n_written += sqlite3_changes64(s->db) > 0;
    }
    status = sqlite_end(s, status, err);
    if (status == VECMILL_OK) *n_written_out = n_written;
  }
  pthread_mutex_unlock(&s->mutex);
  return status;
}

/* --- frequency --- */

/* A number and its digits are the same text; of equal words in other case neither is the other. */
static void append_exact_text(str *sql, const sqlite_store *s) {
  str_append_text(sql, "CAST(");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, " AS TEXT) COLLATE BINARY");
}

/* Blank texts have none; but where rows share one, it is of the first, whatever that is, until
 * --changed takes its vector. */
static void append_has_metrics(str *sql, const sqlite_store *s) {
  if (is_contended(s)) {
    sql_append_column(sql, s, s->text_column);
    str_append_text(sql, " IS NOT NULL");
  } else {
    str_append_text(sql, "NOT ");
    sqlite_append_blank(sql, s);
  }
}

static void append_twins(str *sql, const sqlite_store *s) {
  str_append_text(sql, "WITH t AS (SELECT ");
  append_exact_text(sql, s);
  str_append_format(sql, " AS x, min(count(*), %d) AS n FROM ", INT_MAX);
  sql_append_table(sql, s);
  str_append_text(sql, " GROUP BY 1), r AS (SELECT ");
  append_exact_text(sql, s);
  str_append_text(sql, " AS x");
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(sql, ", ");
    sql_append_column(sql, s, s->metrics.joins[i]);
    str_append_format(sql, " AS j%zu", i);
  }
  if (is_contended(s)) {
    str_append_text(sql, ", row_number() OVER (PARTITION BY ");
    sqlite_metrics_append_joins(sql, s);
    str_append_text(sql, " ORDER BY ");
    sql_append_ids(sql, s);
    str_append_text(sql, ") AS i");
  } else {
    str_append_text(sql, ", 1 AS i");
  }
  str_append_text(sql, " FROM ");
  sql_append_table(sql, s);
  str_append_text(sql, " WHERE ");
  append_has_metrics(sql, s);
  if (is_contended(s)) {
    str_append_text(sql, " AND ");
    sqlite_append_has_vector(sql, s);
  }
  str_append_text(sql, ")");
}

vecmill_status sqlite_store_metrics_count_twins(store *base, uint64_t *n_changed_out,
                                                vecmill_error *err) {
  sqlite_store *s = of(base);
  str sql = {0};
  *n_changed_out = 0;
  append_twins(&sql, s);
  str_append_text(&sql, " UPDATE ");
  sqlite_metrics_append_table(&sql, s);
  str_append_text(&sql, " AS vecmill_m SET frequency = f.n, updated_at = "
                        "strftime('%Y-%m-%dT%H:%M:%SZ', 'now') FROM (SELECT r.*, t.n FROM r JOIN t "
                        "ON t.x = r.x WHERE r.i = 1) AS f WHERE vecmill_m.frequency IS NOT f.n");
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(&sql, " AND vecmill_m.");
    sql_append_name(&sql, s->metrics.joins[i]);
    str_append_format(&sql, " = f.j%zu", i);
  }
  pthread_mutex_lock(&s->mutex);
  sqlite_stop_at_once(s, true);
  vecmill_status status = sql.failed ? err_set_memory(err, "metrics", sql.n)
                                     : sqlite_run(s, sql.data, "cannot count equal texts", err);
  sqlite_stop_at_once(s, false);
  if (status == VECMILL_OK) *n_changed_out = (uint64_t)sqlite3_changes64(s->db);
  pthread_mutex_unlock(&s->mutex);
  str_fini(&sql);
  return status;
}
