/*
 * Metrics beside vectors that are there already.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

#define TEXT_OID 25 /* pg_type.h */
#define UUID_OID 2950

/* ALIAS."join" = "table"."join" AND .., as the index of the metrics compares */
static void append_joined(str *sql, const pg_store *s, const char *alias) {
  const pg_metrics *m = &s->metrics;
  for (size_t i = 0; i < m->n_joins; i++) {
    str_append_format(sql, "%s%s.", i ? " AND " : "", alias);
    pg_append_name(sql, m->joins[i].name);
    str_append_text(sql, " = ");
    pg_append_column(sql, s, m->joins[i].name);
    pg_metrics_append_collation(sql, &m->joins[i]);
  }
}

/* --- which rows --- */

/* "FROM .. WHERE ..": rows with a vector and without metrics */
static void append_lacking(str *sql, const pg_store *s, const char *cut) {
  pg_metrics_append_candidates(sql, s);
  if (s->metrics.is_on || !s->metrics.is_missing) {
    const char *m = pg_alias(s, "vecmill_m");
    str_append_format(sql, " AND NOT EXISTS (SELECT 1 FROM %s AS %s WHERE ", s->metrics.rows_sql,
                      m);
    append_joined(sql, s, m);
    str_append_format(sql, " AND %s.word_count IS NOT NULL)", m);
  }
  pg_append_considered(sql, s, cut);
}

vecmill_status pg_store_metrics_count(store *base, uint64_t *n_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  *n_out = 0;
  if (!s->has_vector_column)
    return err_set(err, VECMILL_ERROR_NOT_FOUND,
                   "table %s: no column %s, so no row has a vector (run without --metrics-only)",
                   s->table, s->vector_column);
  vecmill_status status = pg_find_cut(s, err);
  if (status == VECMILL_OK) status = pg_add_cut(s, &p, &cut, err);
  if (s->metrics.is_shared) {
    str_append_text(&sql, "SELECT count(*)::text FROM (SELECT DISTINCT ");
    pg_metrics_append_joins(&sql, s);
    append_lacking(&sql, s, "$1::text[]");
    str_append_text(&sql, ") AS x");
  } else {
    str_append_text(&sql, "SELECT count(*)::text");
    append_lacking(&sql, s, "$1::text[]");
  }
  if (status == VECMILL_OK)
    status = pg_run(s, PG_READER, &sql, &p, "cannot count the rows", &rows, err);
  if (status == VECMILL_OK) *n_out = (uint64_t)pg_integer(rows, 0, 0);
  PQclear(rows);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

/* The rows that lack metrics, of a page of them: where several share a row of metrics, the first
 * of each. The next page finds it there, or, where its text has changed meanwhile, the others. */
static void append_lacking_page(str *sql, const pg_store *s, const char *cut, const char *cursor,
                                size_t n_max) {
  bool is_shared = s->metrics.is_shared;
  if (is_shared) {
    str_append_text(sql, " FROM (SELECT *, ");
    pg_metrics_append_place(sql, s);
    str_append_text(sql, " FROM (SELECT ");
    pg_metrics_append_needed(sql, s, true);
  }
  append_lacking(sql, s, cut);
  if (cursor) str_append_text(sql, " AND ");
  if (cursor) pg_append_compare(sql, s, ">", cursor);
  str_append_format(sql, " ORDER BY %s LIMIT %zu", s->keys_sql, n_max);
  for (int i = 0; is_shared && i < 2; i++) {
    str_append_text(sql, ") AS ");
    pg_append_name(sql, s->table);
  }
  if (is_shared) str_append_format(sql, " WHERE vecmill_i = 1 ORDER BY %s", s->keys_sql);
}

typedef struct metrics_read {
  size_t n_max;
  PGresult *rows;
} metrics_read;

/* As in claim_body, the planner is kept from sorting all of the table for each page. */
static vecmill_status read_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  metrics_read *read = context;
  PGresult *set = NULL;
  str sql = {0}, cursor = {0}, cut = {0};
  pg_params p = {0};
  PQclear(read->rows);
  read->rows = NULL;
  str_append_text(
      &sql,
      "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true), "
      "set_config('enable_bitmapscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
      "set_config('enable_mergejoin', 'off', true)");
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read a page", &set, err);
  PQclear(set);
  str_clear(&sql);
  bool has_cursor = s->metrics.cursor.n > 0;
  if (has_cursor) {
    pg_key_array(&cursor, s->metrics.cursor.data, s->metrics.cursor.n);
    pg_add_binary(&p, &cursor);
  }
  pg_append_page_columns(&sql, s);
  append_lacking_page(&sql, s, has_cursor ? "$2::text[]" : "$1::text[]",
                      has_cursor ? "$1::text[]" : NULL, read->n_max);
  if (status == VECMILL_OK) status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK && cursor.failed) status = err_set_memory(err, "page", cursor.n);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read a page", &read->rows, err);
  str_fini(&sql);
  str_fini(&cursor);
  str_fini(&cut);
  return status;
}

vecmill_status pg_store_metrics_page(store *base, size_t n_max, store_page *page_out,
                                     vecmill_error *err) {
  pg_store *s = pg_of(base);
  metrics_read read = {.n_max = n_max};
  *page_out = (store_page){0};
  pg_stop_at_once(true);
  vecmill_status status = pg_transact(s, PG_READER, read_body, &read, "cannot read a page", err);
  pg_stop_at_once(false);
  if (status == VECMILL_OK) status = pg_take_page(s, pg_all_rows(read.rows), page_out, err);
  PQclear(read.rows);
  return status == VECMILL_OK ? metrics_follow_page(base, &s->metrics.cursor, page_out, err)
                              : status;
}

/* "INSERT .. SELECT .. FROM (unnest .. and the rows as they are now) ..": parameters from $1 on:
 * hashes, keys, metrics. */
static void append_write(str *sql, const pg_store *s) {
  int n = 1;
  str source = {0};
  str_append_format(&source,
                    "(SELECT vecmill_d.m0, vecmill_d.m1, vecmill_d.m2, "
                    "vecmill_d.m3, r.* FROM unnest($%d::uuid[]",
                    n++);
  for (size_t i = 0; i < s->n_keys; i++) str_append_format(&source, ", $%d::text[]", n++);
  pg_metrics_append_unnest(&source, n);
  str_append_text(&source, ") AS vecmill_d(h, ");
  pg_append_numbered(&source, "k", s->n_keys);
  pg_metrics_append_names(&source);
  str_append_text(&source, "), LATERAL (SELECT 1");
  pg_metrics_append_places(&source, s);
  str_append_format(&source, " FROM %s WHERE ", s->table_sql);
  for (size_t i = 0; i < s->n_keys; i++) {
    pg_append_column(&source, s, s->keys[i].name);
    str_append_format(&source, " = vecmill_d.k%zu::", i);
    pg_append_type(&source, &s->keys[i]);
    str_append_text(&source, " AND ");
  }
  pg_append_has_vector(&source, s);
  str_append_text(&source, " AND ");
  pg_append_hash(&source, s);
  str_append_text(&source, " = vecmill_d.h OFFSET 0) AS r) AS u");
  pg_metrics_append_insert(sql, s, source.data && !source.failed ? source.data : "");
  if (source.failed) sql->failed = true;
  str_fini(&source);
}

void pg_metrics_write_init(pg_metrics_write *w, const pg_store *s, const store_page *page) {
  *w = (pg_metrics_write){0};
  pg_array_begin(&w->hashes, UUID_OID, page->n_rows);
  pg_metrics_arrays_begin(&w->metrics, page->n_rows);
  for (size_t i = 0; i < s->n_keys; i++) pg_array_begin(&w->keys[i], TEXT_OID, page->n_rows);
  for (size_t row = 0; row < page->n_rows; row++) {
    const store_row *r = &page->rows[row];
    pg_version version = pg_version_of(r);
    pg_array_add(&w->hashes, version.hash, sizeof version.hash);
    pg_metrics_arrays_add(&w->metrics, &r->metrics);
    for (size_t i = 0; i < s->n_keys; i++) {
      size_t n = 0;
      const char *part = pg_key_part(r->key, r->n_key_bytes, i, &n);
      pg_array_add(&w->keys[i], part, n);
    }
  }
  append_write(&w->sql, s);
  pg_add_binary(&w->params, &w->hashes);
  for (size_t i = 0; i < s->n_keys; i++) pg_add_binary(&w->params, &w->keys[i]);
  pg_metrics_add_params(&w->params, &w->metrics);
  w->sql.failed |= w->hashes.failed || pg_metrics_arrays_failed(&w->metrics);
  for (size_t i = 0; i < s->n_keys; i++) w->sql.failed |= w->keys[i].failed;
}

void pg_metrics_write_fini(pg_metrics_write *w) {
  str_fini(&w->sql);
  str_fini(&w->hashes);
  for (size_t i = 0; i < PG_MAX_KEYS; i++) str_fini(&w->keys[i]);
  pg_metrics_arrays_fini(&w->metrics);
}

static const char writing[] = "cannot write metrics";

static void note_refusal(pg_store *s, store_row *row, const vecmill_error *words) {
  str key = {0};
  const char *why = strstr(words->text, writing);
  pg_key_json(&s->base, row->key, row->n_key_bytes, &key);
  metrics_refuse(&s->metrics.refusals, s->table, key.failed ? NULL : key.data,
                 why ? why + strlen(writing) + strlen(": ") : words->text);
  row->is_written = false;
  str_fini(&key);
}

static vecmill_status write_at_once(pg_store *s, PGconn *conn, const store_page *page,
                                    pg_append_condition *condition, uint64_t *n_written,
                                    vecmill_error *err) {
  pg_metrics_write w;
  PGresult *done = NULL;
  pg_metrics_write_init(&w, s, page);
  condition(&w.sql, s);
  vecmill_status status = conn ? pg_step(s, conn, &w.sql, &w.params, writing, &done, err)
                               : pg_run(s, PG_WRITER, &w.sql, &w.params, writing, &done, err);
  if (status == VECMILL_OK) *n_written += strtoull(PQcmdTuples(done), NULL, 10);
  PQclear(done);
  pg_metrics_write_fini(&w);
  return status;
}

vecmill_status pg_metrics_write_page(pg_store *s, PGconn *conn, const store_page *page,
                                     pg_append_condition *condition, uint64_t *n_written,
                                     vecmill_error *err) {
  vecmill_error words = {0};
  size_t n = page->n_rows / 2;
  store_page low = {.rows = page->rows, .n_rows = n},
             high = {.rows = page->rows + n, .n_rows = page->n_rows - n};
  if (page->n_rows == 0) return VECMILL_OK;
  vecmill_status status = pg_command(s, conn, "SAVEPOINT vecmill", writing, err);
  if (status != VECMILL_OK) return status;
  status = write_at_once(s, conn, page, condition, n_written, &words);
  if (status == VECMILL_OK) return pg_command(s, conn, "RELEASE vecmill", writing, err);
  if (!pg_is_refusal()) {
    if (err) *err = words;
    return status;
  }
  if (n == 0) note_refusal(s, page->rows, &words);
  status = pg_command(s, conn, "ROLLBACK TO vecmill; RELEASE vecmill", writing, err);
  if (status == VECMILL_OK && n > 0)
    status = pg_metrics_write_page(s, conn, &low, condition, n_written, err);
  if (status == VECMILL_OK && n > 0)
    status = pg_metrics_write_page(s, conn, &high, condition, n_written, err);
  return status;
}

/* The row that is met may be younger than the text that the statement sees. */
static void append_if_lacking(str *sql, const pg_store *s) {
  (void)s;
  str_append_text(sql, " WHERE m.word_count IS NULL");
}

typedef struct slow_write {
  const store_page *page;
  uint64_t n_written;
  metrics_refusals before;
} slow_write;

static vecmill_status slow_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  slow_write *slow = context;
  slow->n_written = 0;
  s->metrics.refusals = slow->before;
  vecmill_status status = pg_command(s, conn, "SET CONSTRAINTS ALL IMMEDIATE", writing, err);
  return status == VECMILL_OK
             ? pg_metrics_write_page(s, conn, slow->page, append_if_lacking, &slow->n_written, err)
             : status;
}

vecmill_status pg_store_metrics_commit(store *base, const store_page *page, uint64_t *n_written_out,
                                       vecmill_error *err) {
  pg_store *s = pg_of(base);
  *n_written_out = 0;
  for (size_t i = 0; i < page->n_rows; i++) page->rows[i].is_written = true;
  vecmill_status status = pg_metrics_claim(s, err);
  if (status == VECMILL_OK)
    status = write_at_once(s, NULL, page, append_if_lacking, n_written_out, err);
  if (status == VECMILL_OK || !pg_is_refusal()) return status;
  slow_write slow = {.page = page, .before = s->metrics.refusals};
  status = pg_transact(s, PG_WRITER, slow_body, &slow, writing, err);
  *n_written_out = slow.n_written;
  return status;
}
