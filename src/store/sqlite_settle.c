/*
 * The end of a run: metrics that several rows share, or other tables, and equal texts.
 *
 * Not in one transaction, as in pg_settle.c: that would shut out all other writers of the file for
 * as long. What is to be written is found first (sqlite_twins.c) and kept in a table of this
 * connection's own; then a page of it after the other is written, counts and frequency together. So
 * of two runs that end at the same time none puts the frequency of its texts beside the counts that
 * the other one wrote.
 */
#include "base/clock.h"
#include "store/metrics_table.h"
#include "store/sqlite_parts.h"

/* "table"."join" AS j0, .., */
static void append_joins(str *sql, const sqlite_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    sql_append_column(sql, s, s->metrics.joins[i]);
    str_append_format(sql, " AS j%zu, ", i);
  }
}

static void append_where_other(str *sql, const sqlite_store *s) {
  str_append_text(sql, " WHERE vecmill_m.frequency IS NOT f.n");
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(sql, " AND vecmill_m.");
    sql_append_name(sql, s->metrics.joins[i]);
    str_append_format(sql, " = +f.j%zu", i); /* +: converted as that key is, and by its index */
  }
}

/* --- a page of it --- */

/* Those behind row `after`, of keys alone. */
static vecmill_status read_first(sqlite_store *s, uint64_t after, store_page *page_out,
                                 vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  str sql = {0};
  *page_out = (store_page){0};
  str_append_text(&sql, "SELECT ");
  sqlite_append_key_names(&sql, s);
  str_append_text(&sql, ", '' FROM temp.vecmill_first WHERE i > :after ORDER BY i LIMIT "
                        ":n"); /* without texts, as in a preview */
  vecmill_status status = sqlite_compile(s, &sql, "cannot read a page", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_integer_at(statement, ":after", (sqlite3_int64)after);
  sqlite_bind_integer_at(statement, ":n", SQLITE_KEYS_AT_ONCE);
  status = sqlite_read_page(s, statement, false, SQLITE_KEYS_AT_ONCE, page_out, err);
  sqlite3_finalize(statement);
  return status;
}

/* Of rows `from` to `to`, as far as they have their texts still. These are found first (CROSS JOIN,
 * LIMIT), and then what is to be changed of them. */
static vecmill_status compile_frequency(sqlite_store *s, sqlite3_stmt **statement_out,
                                        vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "UPDATE ");
  sqlite_metrics_append_table(&sql, s);
  str_append_text(&sql, " AS vecmill_m SET frequency = f.n, updated_at = "
                        "strftime('%Y-%m-%dT%H:%M:%SZ', 'now') FROM (SELECT ");
  append_joins(&sql, s);
  str_append_text(&sql, "vecmill_f.n FROM temp.vecmill_first AS vecmill_f CROSS JOIN ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " WHERE vecmill_f.i BETWEEN :from AND :to");
  for (size_t i = 0; i < s->n_ids; i++) {
    str_append_text(&sql, " AND ");
    sql_append_column(&sql, s, s->ids[i]);
    str_append_format(&sql, " = vecmill_f.k%zu", i);
  }
  str_append_text(&sql, " AND vecmill_hash(");
  sql_append_column(&sql, s, s->text_column);
  str_append_format(&sql, ") = vecmill_f.h LIMIT %d) AS f", SQLITE_KEYS_AT_ONCE);
  append_where_other(&sql, s);
  vecmill_status status = sqlite_compile(s, &sql, "cannot count equal texts", statement_out, err);
  str_fini(&sql);
  return status;
}

typedef struct settling {
  store_measure_function *measure;
  void *context;
  sqlite3_stmt *frequency;
  uint64_t n_changed;
} settling;

static vecmill_status write_frequencies(sqlite_store *s, settling *all, uint64_t from, uint64_t to,
                                        uint64_t *n_changed_out, vecmill_error *err) {
  sqlite_bind_integer_at(all->frequency, ":from", (sqlite3_int64)from);
  sqlite_bind_integer_at(all->frequency, ":to", (sqlite3_int64)to);
  int code = sqlite3_step(all->frequency);
  *n_changed_out = (uint64_t)sqlite3_changes64(s->db);
  vecmill_status status =
      code == SQLITE_DONE ? VECMILL_OK : sqlite_error(s, code, "cannot count equal texts", err);
  sqlite3_reset(all->frequency);
  return status;
}

/* Rows `from` to `to` of those that come first, whose texts `page` has. */
static vecmill_status write_rows(sqlite_store *s, settling *all, const store_page *page,
                                 uint64_t from, uint64_t to, vecmill_error *err) {
  uint64_t n_written = 0, n_changed = 0;
  vecmill_status status = sqlite_begin(s, err);
  if (status != VECMILL_OK) return status;
  status = sqlite_metrics_write_page(s, page, &n_written, err);
  if (status == VECMILL_OK) status = write_frequencies(s, all, from, to, &n_changed, err);
  status = sqlite_end(s, status, err);
  if (status == VECMILL_OK) all->n_changed += n_changed;
  return status;
}

/* Of these rows, the first of which is the one behind row `before`. */
static vecmill_status settle_page(sqlite_store *s, settling *all, const store_page *first,
                                  uint64_t before, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (size_t next = 0; status == VECMILL_OK && next < first->n_rows;) {
    store_page page;
    uint64_t from = before + next + 1;
    size_t n_max = sqlite_metrics_rows_at_once(s);
    status = sqlite_store_preview_texts(&s->base, first, n_max, &next, &page, err);
    if (status == VECMILL_OK) status = all->measure(all->context, &page, err);
    uint64_t begun_ns = clock_now_ns();
    if (status == VECMILL_OK) status = write_rows(s, all, &page, from, before + next, err);
    sqlite_give_way(s, begun_ns);
    sqlite_store_page_free(&s->base, &page);
  }
  return status;
}

/* All that come first, their other numbers too. */
static vecmill_status settle_first(sqlite_store *s, settling *all, vecmill_error *err) {
  uint64_t n_done = 0;
  bool any = true;
  vecmill_status status = VECMILL_OK;
  s->metrics.refusals = (metrics_refusals){0}; /* those that lacked metrics are among them */
  while (status == VECMILL_OK && any) {
    store_page first;
    status = read_first(s, n_done, &first, err);
    any = first.n_rows > 0;
    if (status == VECMILL_OK) status = settle_page(s, all, &first, n_done, err);
    n_done += first.n_rows;
    sqlite_store_page_free(&s->base, &first);
  }
  return status;
}

static vecmill_status settle_frequencies(sqlite_store *s, settling *all, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT max(i) FROM temp.vecmill_first");
  vecmill_status status = sqlite_integer(s, &sql, "cannot count equal texts", 0, &n, err);
  for (uint64_t done = 0; status == VECMILL_OK && done < (uint64_t)n; done += SQLITE_KEYS_AT_ONCE) {
    uint64_t n_changed = 0, begun_ns = clock_now_ns();
    status = write_frequencies(s, all, done + 1, done + SQLITE_KEYS_AT_ONCE, &n_changed, err);
    if (status == VECMILL_OK) all->n_changed += n_changed;
    sqlite_give_way(s, begun_ns);
  }
  str_fini(&sql);
  return status;
}

static vecmill_status settle(sqlite_store *s, settling *all, vecmill_error *err) {
  bool any = true, is_contended = sqlite_is_contended(s);
  vecmill_status status = is_contended ? sqlite_look_for_candidates(s, &any, err) : VECMILL_OK;
  if (status != VECMILL_OK || !any) return status;
  if (is_contended) status = sqlite_metrics_claim(s, err);
  if (status == VECMILL_OK) status = sqlite_find_settling(s, err);
  if (status == VECMILL_OK) status = compile_frequency(s, &all->frequency, err);
  if (status == VECMILL_OK)
    status = is_contended ? settle_first(s, all, err) : settle_frequencies(s, all, err);
  sqlite3_finalize(all->frequency);
  sqlite_forget_settling(s);
  return status;
}

vecmill_status sqlite_store_metrics_settle(store *base, store_measure_function *measure,
                                           void *context, uint64_t *n_changed_out,
                                           vecmill_error *err) {
  sqlite_store *s = of(base);
  settling all = {.measure = measure, .context = context};
  pthread_mutex_lock(&s->mutex);
  sqlite_stop_at_once(s, true);
  vecmill_status status = settle(s, &all, err);
  sqlite_stop_at_once(s, false);
  pthread_mutex_unlock(&s->mutex);
  *n_changed_out = all.n_changed;
  return status == VECMILL_OK ? metrics_refused(&s->metrics.refusals, s->metrics.name, err)
                              : status;
}
