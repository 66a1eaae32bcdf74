/*
 * Metrics beside vectors that are there already: as in pg_backfill.c.
 */
#include "base/clock.h"
#include "store/metrics_table.h"
#include "store/sqlite_parts.h"

/* --- which rows --- */

static void append_lacking(str *sql, const sqlite_store *s) {
  sqlite_append_from(sql, s);
  sqlite_append_considered(sql, s);
  str_append_text(sql, " AND ");
  sqlite_metrics_append_is_candidate(sql, s);
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
  if (s->metrics.is_shared) sqlite_metrics_append_collated_joins(&sql, s);
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

/* The rows that lack metrics, of a page of them: where several share a row of metrics, the first
 * of each. The next page finds it there, or, where its text has changed meanwhile, the others. */
static void append_lacking_page(str *sql, const sqlite_store *s) {
  bool is_shared = s->metrics.is_shared;
  if (is_shared) {
    str_append_text(sql, " FROM (SELECT *, ");
    sqlite_metrics_append_place(sql, s);
    str_append_text(sql, " FROM (SELECT ");
    sqlite_metrics_append_needed(sql, s, true);
  }
  append_lacking(sql, s);
  sqlite_metrics_append_page_end(sql, s);
  for (int i = 0; is_shared && i < 2; i++) {
    str_append_text(sql, ") AS ");
    sql_append_name(sql, s->table);
  }
  if (!is_shared) return;
  str_append_text(sql, " WHERE vecmill_i = 1 ORDER BY ");
  sql_append_ids(sql, s);
}

static vecmill_status compile_page(sqlite_store *s, sqlite3_stmt **statement_out,
                                   vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, ", ");
  sql_append_column(&sql, s, s->text_column);
  append_lacking_page(&sql, s);
  vecmill_status status = sqlite_compile(s, &sql, "cannot read a page", statement_out, err);
  str_fini(&sql);
  return status;
}

vecmill_status sqlite_store_metrics_page(store *base, size_t n_max, store_page *page_out,
                                         vecmill_error *err) {
  sqlite_store *s = of(base);
  str *cursor = &s->metrics.cursor;
  sqlite3_stmt *statement = NULL;
  *page_out = (store_page){0};
  pthread_mutex_lock(&s->mutex);
  sqlite_stop_at_once(s, true);
  vecmill_status status = compile_page(s, &statement, err);
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

static void note_refusal(sqlite_store *s, const store_row *row) {
  str key = {0};
  key_append_json(&key, row->key, row->n_key_bytes);
  metrics_refuse(&s->metrics.refusals, s->table, key.failed ? NULL : key.data,
                 sqlite3_errmsg(s->db));
  str_fini(&key);
}

/* Who writes is alone: the text that a row of the page is compared with is the one that it has, so
 * that what is there may be overwritten. Rows that were refused before are passed over; a trigger's
 * RAISE(ROLLBACK) takes with it what was written. */
static vecmill_status write_rows(sqlite_store *s, const store_page *page, uint64_t *n_written_out,
                                 bool *rolled_back_out, vecmill_error *err) {
  *n_written_out = 0;
  *rolled_back_out = false;
  for (size_t i = 0; i < page->n_rows && !*rolled_back_out; i++) {
    store_row *row = &page->rows[i];
    int code = row->is_written ? sqlite_metrics_write(s, row, !s->metrics.has_ratios) : SQLITE_OK;
    if (code == SQLITE_DONE) *n_written_out += sqlite3_changes64(s->db) > 0;
    if (code == SQLITE_DONE || code == SQLITE_OK) continue;
    if ((code & 0xFF) != SQLITE_CONSTRAINT)
      return sqlite_error(s, code, "cannot write metrics", err);
    note_refusal(s, row);
    row->is_written = false;
    *rolled_back_out = sqlite3_get_autocommit(s->db);
    s->metrics.rolls_back |= *rolled_back_out;
  }
  return VECMILL_OK;
}

vecmill_status sqlite_metrics_write_page(sqlite_store *s, const store_page *page,
                                         uint64_t *n_written_out, vecmill_error *err) {
  bool rolled_back = false;
  for (size_t i = 0; i < page->n_rows; i++) page->rows[i].is_written = true;
  vecmill_status status = write_rows(s, page, n_written_out, &rolled_back, err);
  while (status == VECMILL_OK && rolled_back) {
    status = sqlite_begin(s, err);
    if (status == VECMILL_OK) status = write_rows(s, page, n_written_out, &rolled_back, err);
  }
  return status;
}

/* Each row that rolls back has those before it written once more. */
size_t sqlite_metrics_rows_at_once(const sqlite_store *s) {
  return s->metrics.rolls_back ? 100 : 1000;
}

static vecmill_status commit_rows(sqlite_store *s, const store_page *rows, uint64_t *n_written,
                                  vecmill_error *err) {
  uint64_t n = 0, begun_ns = clock_now_ns();
  vecmill_status status = sqlite_begin(s, err);
  if (status != VECMILL_OK) return status;
  status = sqlite_metrics_write_page(s, rows, &n, err);
  status = sqlite_end(s, status, err);
  if (status == VECMILL_OK) *n_written += n;
  sqlite_give_way(s, begun_ns);
  return status;
}

vecmill_status sqlite_store_metrics_commit(store *base, const store_page *page,
                                           uint64_t *n_written_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  *n_written_out = 0;
  pthread_mutex_lock(&s->mutex);
  vecmill_status status = sqlite_metrics_claim(s, err);
  for (size_t from = 0; status == VECMILL_OK && from < page->n_rows;) {
    size_t n = sqlite_metrics_rows_at_once(s), n_left = page->n_rows - from;
    store_page rows = {.rows = page->rows + from, .n_rows = n < n_left ? n : n_left};
    status = commit_rows(s, &rows, n_written_out, err);
    from += rows.n_rows;
  }
  pthread_mutex_unlock(&s->mutex);
  return status;
}
