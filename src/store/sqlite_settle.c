/*
 * The end of a run: metrics that several rows share, or other tables, and equal texts: as in
 * pg_settle.c.
 */
#include <limits.h>

#include "store/metrics_table.h"
#include "store/sqlite_parts.h"

#define KEYS_AT_ONCE 100000 /* each page of them looks at the whole table */
#define TEXTS_AT_ONCE 1000

/* What is there may be the numbers of another row, one that is gone too, or of another table's. */
static bool is_contended(const sqlite_store *s) {
  bool any = s->metrics.is_shared;
  for (size_t i = 0; i < METRICS_N_SHARERS; i++) any |= s->metrics.sharers[i];
  return any;
}

/* " FROM .. WHERE ..": the rows of which some are the first */
static void append_candidates(str *sql, const sqlite_store *s) {
  str_append_text(sql, " FROM ");
  sql_append_table(sql, s);
  str_append_text(sql, " WHERE ");
  sqlite_append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, " IS NOT NULL");
  sqlite_metrics_append_joins_not_null(sql, s);
}

/* --- those that come first --- */

/* The first of each of those that share a row. A subquery under the table's own name, so that all
 * else reads as if it were the table. */
static void append_first(str *sql, const sqlite_store *s) {
  str_append_text(sql, " FROM (SELECT ");
  sqlite_metrics_append_needed(sql, s, false);
  str_append_text(sql, ", ");
  sqlite_metrics_append_place(sql, s);
  append_candidates(sql, s);
  str_append_text(sql, ") AS ");
  sql_append_name(sql, s->table);
  str_append_text(sql, " WHERE vecmill_i = 1");
}

static vecmill_status compile_first(sqlite_store *s, sqlite3_stmt **statement_out,
                                    vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, ", ''"); /* as in a preview */
  append_first(&sql, s);
  sqlite_metrics_append_page_end(&sql, s);
  vecmill_status status = sqlite_compile(s, &sql, "cannot read a page", statement_out, err);
  str_fini(&sql);
  return status;
}

/* The next page, of keys alone. */
static vecmill_status read_first(sqlite_store *s, store_page *page_out, vecmill_error *err) {
  str *cursor = &s->metrics.cursor;
  sqlite3_stmt *statement = NULL;
  *page_out = (store_page){0};
  vecmill_status status = compile_first(s, &statement, err);
  if (status != VECMILL_OK) return status;
  key_bind(statement, 'k', cursor->data, cursor->n);
  sqlite_bind_integer_at(statement, ":n", KEYS_AT_ONCE);
  status = sqlite_read_page(s, statement, false, KEYS_AT_ONCE, page_out, err);
  sqlite3_finalize(statement);
  return status == VECMILL_OK ? metrics_follow_page(&s->base, cursor, page_out, err) : status;
}

/* Of these rows. */
static vecmill_status settle_rows(sqlite_store *s, store_measure_function *measure, void *context,
                                  const store_page *first, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (size_t next = 0; status == VECMILL_OK && next < first->n_rows;) {
    store_page page;
    uint64_t n_written = 0;
    status = sqlite_store_preview_texts(&s->base, first, TEXTS_AT_ONCE, &next, &page, err);
    if (status == VECMILL_OK) status = measure(context, &page, err);
    if (status == VECMILL_OK) status = sqlite_metrics_write_page(s, &page, &n_written, err);
    sqlite_store_page_free(&s->base, &page);
  }
  return status;
}

static vecmill_status settle_first(sqlite_store *s, store_measure_function *measure, void *context,
                                   vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  bool any = true;
  str_clear(&s->metrics.cursor);
  while (status == VECMILL_OK && any) {
    store_page first;
    status = read_first(s, &first, err);
    any = first.n_rows > 0;
    if (status == VECMILL_OK) status = settle_rows(s, measure, context, &first, err);
    sqlite_store_page_free(&s->base, &first);
  }
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

static vecmill_status count_twins(sqlite_store *s, uint64_t *n_changed_out, vecmill_error *err) {
  str sql = {0};
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
  vecmill_status status = sql.failed ? err_set_memory(err, "metrics", sql.n)
                                     : sqlite_run(s, sql.data, "cannot count equal texts", err);
  if (status == VECMILL_OK) *n_changed_out = (uint64_t)sqlite3_changes64(s->db);
  str_fini(&sql);
  return status;
}

/* --- both --- */

static vecmill_status look_for_candidates(sqlite_store *s, bool *any_out, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT EXISTS (SELECT 1");
  append_candidates(&sql, s);
  str_append_char(&sql, ')');
  vecmill_status status =
      is_contended(s) ? sqlite_integer(s, &sql, "cannot look for rows", 0, &n, err) : VECMILL_OK;
  *any_out = n != 0;
  str_fini(&sql);
  return status;
}

vecmill_status sqlite_store_metrics_settle(store *base, store_measure_function *measure,
                                           void *context, uint64_t *n_changed_out,
                                           vecmill_error *err) {
  sqlite_store *s = of(base);
  uint64_t n_changed = 0;
  bool any_first = false;
  *n_changed_out = 0;
  pthread_mutex_lock(&s->mutex);
  sqlite_stop_at_once(s, true);
  vecmill_status status = look_for_candidates(s, &any_first, err);
  if (status == VECMILL_OK && any_first) status = sqlite_metrics_claim(s, err);
  if (status == VECMILL_OK) status = sqlite_begin(s, err);
  if (status == VECMILL_OK) {
    if (any_first) status = settle_first(s, measure, context, err);
    if (status == VECMILL_OK) status = count_twins(s, &n_changed, err);
    status = sqlite_end(s, status, err);
  }
  sqlite_stop_at_once(s, false);
  pthread_mutex_unlock(&s->mutex);
  if (status == VECMILL_OK) *n_changed_out = n_changed;
  return status;
}
