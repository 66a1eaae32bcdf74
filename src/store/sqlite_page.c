/*
 * Pages: totals, the statements of a run, claims by key.
 *
 * A page's query passes over blank rows, rows recorded as failed and rows that have a vector inside
 * SQLite: they are looked at once a pass, in the scan that finds the next rows anyway, and never
 * fetched. The cursor is the last key claimed, so that no page reads what its pass has read.
 */
#include <string.h>

#include "base/mem.h"
#include "store/count_sums.h"
#include "store/sqlite_parts.h"

/* --- SQL --- */

void sqlite_append_blank(str *sql, const sqlite_store *s) {
  str_append_text(sql, "vecmill_blank(");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, ")");
}

/* Whether the row is recorded as failed with the text that it has: by this run, or by an earlier
 * one unless those are retried. */
static void append_failed(str *sql, const sqlite_store *s) {
  if (s->is_preview && (!s->has_failures || s->retry_failed)) {
    str_append_text(sql, "0");
    return;
  }
  str_append_text(sql, "EXISTS (SELECT 1 FROM main.vecmill_failures AS vecmill_f WHERE "
                       "vecmill_f.table_name = :table AND "
                       "vecmill_f.vector_column = :column AND vecmill_f.key = vecmill_key(");
  sql_append_ids(sql, s);
  str_append_text(sql, ") AND vecmill_f.text_hash = vecmill_hash(");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, ")");
  if (s->retry_failed) str_append_text(sql, " AND vecmill_f.run = :run");
  str_append_text(sql, ")");
}

/* A column that is still to be added holds nothing. */
static void append_vector(str *sql, const sqlite_store *s) {
  if (s->has_vector_column) sql_append_column(sql, s, s->vector_column);
  else str_append_text(sql, "NULL");
}

void sqlite_append_no_null_keys(str *sql, const sqlite_store *s) {
  if (!s->null_keys) return;
  for (size_t i = 0; i < s->n_ids; i++) {
    str_append_text(sql, " AND ");
    sql_append_column(sql, s, s->ids[i]);
    str_append_text(sql, " IS NOT NULL");
  }
}

void sqlite_append_null_keys(str *sql, const sqlite_store *s) {
  str_append_text(sql, " WHERE (0");
  for (size_t i = 0; i < s->n_ids; i++) {
    str_append_text(sql, " OR ");
    sql_append_column(sql, s, s->ids[i]);
    str_append_text(sql, " IS NULL");
  }
  str_append_char(sql, ')');
}

void sqlite_append_considered(str *sql, const sqlite_store *s) {
  str_append_text(sql, " WHERE 1");
  sqlite_append_no_null_keys(sql, s);
  if (s->cut.n) {
    str_append_text(sql, " AND ");
    sql_append_compare(sql, s, "<=", 'c');
  } else if (s->knows_cut) { /* there was no row */
    str_append_text(sql, " AND 0");
  }
  if (s->where) str_append_format(sql, " AND (%s\n)", s->where);
}

void sqlite_append_from(str *sql, const sqlite_store *s) {
  str_append_text(sql, " FROM ");
  sql_append_table(sql, s);
  str_append_text(sql, s->scan_hint);
}

void sqlite_bind_common(const sqlite_store *s, sqlite3_stmt *statement) {
  sqlite_bind_text_at(statement, ":table", s->table);
  sqlite_bind_text_at(statement, ":column", s->vector_column);
  sqlite_bind_integer_at(statement, ":run", s->run);
  key_bind(statement, 'c', s->cut.data, s->cut.n);
}

static vecmill_status compile_page(sqlite_store *s, bool first, sqlite3_stmt **statement_out,
                                   vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, ", ");
  if (s->is_preview) str_append_text(&sql, "''");
  else sql_append_column(&sql, s, s->text_column);
  sqlite_append_from(&sql, s);
  sqlite_append_considered(&sql, s);
  if (!first) {
    str_append_text(&sql, " AND ");
    sql_append_compare(&sql, s, ">", 'k');
  }
  str_append_text(&sql, " AND ");
  sqlite_append_wants(&sql, s);
  str_append_text(&sql, " AND NOT ");
  sqlite_append_blank(&sql, s);
  str_append_text(&sql, " AND NOT ");
  append_failed(&sql, s);
  str_append_text(&sql, " ORDER BY ");
  if (s->is_preview) str_append_text(&sql, "random()");
  else sql_append_ids(&sql, s);
  str_append_text(&sql, " LIMIT :n");
  vecmill_status status = sqlite_compile(s, &sql, "cannot read a page", statement_out, err);
  str_fini(&sql);
  if (status == VECMILL_OK) sqlite_bind_common(s, *statement_out);
  return status;
}

/* " WHERE key = :k AND vecmill_same(text, :text) AND " */
static void append_same_text(str *sql, const sqlite_store *s) {
  str_append_text(sql, " WHERE ");
  sql_append_compare(sql, s, "=", 'k');
  str_append_text(sql, " AND vecmill_same(");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, ", :text) AND ");
}

/* .., and it still wants a vector */
static void append_same_row(str *sql, const sqlite_store *s) {
  append_same_text(sql, s);
  sqlite_append_wants(sql, s);
}

/* Whether the vector is there, beside the text that it was made from. */
static vecmill_status compile_landed(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT 1 FROM ");
  sql_append_table(&sql, s);
  append_same_text(&sql, s);
  sql_append_column(&sql, s, s->vector_column);
  str_append_text(&sql, " IS NOT NULL");
  vecmill_status status = sqlite_compile(s, &sql, "cannot read a row", &s->landed, err);
  str_fini(&sql);
  return status;
}

static vecmill_status compile_update(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "UPDATE ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " SET ");
  sql_append_name(&sql, s->vector_column);
  str_append_text(&sql, " = :vector");
  append_same_row(&sql, s);
  vecmill_status status = sqlite_compile(s, &sql, "cannot write vectors", &s->update, err);
  str_fini(&sql);
  if (status == VECMILL_OK) sqlite_bind_common(s, s->update);
  return status;
}

static vecmill_status compile_failures(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql,
                  "INSERT OR REPLACE INTO main.vecmill_failures(table_name, vector_column, key, "
                  "reason, run, at, text_hash) "
                  "SELECT :table, :column, vecmill_key(");
  sql_append_ids(&sql, s);
  str_append_text(&sql, "), :reason, :run, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), vecmill_hash(");
  sql_append_column(&sql, s, s->text_column);
  str_append_text(&sql, ") FROM ");
  sql_append_table(&sql, s);
  append_same_row(&sql, s);
  vecmill_status status = sqlite_compile(s, &sql, "cannot write failures", &s->fail, err);
  str_clear(&sql);
  str_append_text(&sql,
                  "DELETE FROM main.vecmill_failures WHERE table_name = :table AND vector_column = "
                  ":column AND key = :key");
  if (status == VECMILL_OK)
    status = sqlite_compile(s, &sql, "cannot write failures", &s->unfail, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_common(s, s->fail);
  sqlite_bind_common(s, s->unfail);
  return VECMILL_OK;
}

/* --- totals --- */

/* Where `limit` ends: the key of the limit-th considered row, or of the last, where there are
 * fewer: rows that come behind it are not among the first. */
vecmill_status sqlite_find_cut(sqlite_store *s, vecmill_error *err) {
  if (s->limit == 0) return VECMILL_OK;
  str sql = {0};
  sqlite3_stmt *statement = NULL;
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  sqlite_append_from(&sql, s);
  sqlite_append_considered(&sql, s);
  str_append_text(&sql, " ORDER BY ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, " LIMIT :n");
  vecmill_status status = sqlite_compile(s, &sql, "cannot read the keys", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_integer_at(statement, ":n",
                         s->limit > INT64_MAX ? INT64_MAX : (sqlite3_int64)s->limit);
  int code;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    str_clear(&s->cut);
    key_append_columns(&s->cut, statement, 0, s->n_ids);
  }
  if (code != SQLITE_DONE) status = sqlite_error(s, code, "cannot read the keys", err);
  s->knows_cut = status == VECMILL_OK;
  if (s->cut.failed) status = err_set_memory(err, "limit", s->cut.n);
  sqlite3_finalize(statement);
  return status;
}

static vecmill_status count_null_keys(sqlite_store *s, uint64_t *n_out, vecmill_error *err) {
  *n_out = 0;
  if (!s->null_keys) return VECMILL_OK;
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT count(*)");
  sqlite_append_from(&sql, s);
  sqlite_append_null_keys(&sql, s);
  if (s->where) str_append_format(&sql, " AND (%s\n)", s->where);
  vecmill_status status = sqlite_integer(s, &sql, "cannot count the rows", 0, &n, err);
  str_fini(&sql);
  *n_out = (uint64_t)n;
  return status;
}

/* ", sum(...), sum(...), sum(...)": with a vector of an older text, of them failed, with a vector
 * of unknown text. */
static void append_outdated_counts(str *sql, const sqlite_store *s) {
  if (!s->changed) {
    str_append_text(sql, ", 0, 0, 0");
    return;
  }
  for (int failed = 0; failed < 2; failed++) {
    str_append_text(sql, ", sum(");
    sql_append_column(sql, s, s->vector_column);
    str_append_text(sql, " IS NOT NULL AND NOT ");
    sqlite_append_blank(sql, s);
    str_append_text(sql, " AND ");
    sqlite_append_same_hash(sql, s);
    str_append_text(sql, " IS 0");
    if (failed) str_append_text(sql, " AND ");
    if (failed) append_failed(sql, s);
    str_append_text(sql, ")");
  }
  str_append_text(sql, ", sum(");
  sql_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL AND ");
  sqlite_append_same_hash(sql, s);
  str_append_text(sql, " IS NULL)");
}

static vecmill_status compile_count(sqlite_store *s, sqlite3_stmt **statement_out,
                                    vecmill_error *err) {
  str sql = {0}, vector = {0};
  append_vector(&vector, s);
  const char *v = vector.failed ? "" : vector.data;
  str_append_format(&sql, "SELECT count(*), count(%s), sum(%s IS NULL AND ", v, v);
  sqlite_append_blank(&sql, s);
  str_append_format(&sql, "), sum(%s IS NULL AND NOT ", v);
  sqlite_append_blank(&sql, s);
  str_append_text(&sql, " AND ");
  append_failed(&sql, s);
  str_append_text(&sql, ")");
  append_outdated_counts(&sql, s);
  str_append_text(&sql, " FROM ");
  sql_append_table(&sql, s);
  sqlite_append_considered(&sql, s);
  if (vector.failed) sql.failed = true;
  str_fini(&vector);
  vecmill_status status = sqlite_compile(s, &sql, "cannot count the rows", statement_out, err);
  str_fini(&sql);
  if (status == VECMILL_OK) sqlite_bind_common(s, *statement_out);
  return status;
}

static vecmill_status count_rows(sqlite_store *s, store_counts *counts_out, vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  vecmill_status status = compile_count(s, &statement, err);
  if (status != VECMILL_OK) return status;
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) {
    uint64_t n[N_SUMS];
    for (int i = 0; i < N_SUMS; i++) n[i] = (uint64_t)sqlite3_column_int64(statement, i);
    *counts_out = store_counts_of(n);
  } else {
    status = sqlite_error(s, code, "cannot count the rows", err);
  }
  sqlite3_finalize(statement);
  return status;
}

static vecmill_status look_for_failures(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT 1 FROM main.vecmill_failures WHERE table_name = ");
  sql_append_string(&sql, s->table);
  str_append_text(&sql, " AND vector_column = ");
  sql_append_string(&sql, s->vector_column);
  str_append_text(&sql, " LIMIT 1");
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the failures", 0, &n, err);
  s->has_failures = n != 0;
  str_fini(&sql);
  return status;
}

static vecmill_status count_all(sqlite_store *s, store_counts *counts_out, vecmill_error *err) {
  vecmill_status status = sqlite_find_cut(s, err);
  if (status == VECMILL_OK && s->changed) status = sqlite_remove_blank(s, err);
  if (status == VECMILL_OK) status = count_rows(s, counts_out, err);
  if (status == VECMILL_OK && s->changed) {
    uint64_t n_vectors = counts_out->n_done + counts_out->n_outdated;
    status = sqlite_prune_hashes(s, n_vectors - counts_out->n_unknown, err);
  }
  return status == VECMILL_OK ? count_null_keys(s, &counts_out->n_null_keys, err) : status;
}

vecmill_status sqlite_store_count(store *base, store_counts *counts_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  *counts_out = (store_counts){0};
  sqlite_stop_at_once(s, true);
  vecmill_status status = count_all(s, counts_out, err);
  sqlite_stop_at_once(s, false);
  if (status == VECMILL_OK) status = compile_page(s, true, &s->first_page, err);
  if (status == VECMILL_OK) status = compile_page(s, false, &s->next_page, err);
  if (status == VECMILL_OK) status = compile_update(s, err);
  if (status == VECMILL_OK) status = compile_landed(s, err);
  if (status == VECMILL_OK) status = sqlite_compile_hash(s, err);
  if (status == VECMILL_OK) status = compile_failures(s, err);
  if (status == VECMILL_OK) status = look_for_failures(s, err);
  return status;
}

static vecmill_status own_table_exists(sqlite_store *s, const char *name, bool *exists_out,
                                       vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ");
  sql_append_string(&sql, name);
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the schema", 0, &n, err);
  str_fini(&sql);
  *exists_out = n != 0;
  return status;
}

vecmill_status sqlite_store_preview(store *base, size_t n_max, store_counts *counts_out,
                                    store_page *page_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  bool has_hashes = false;
  *counts_out = (store_counts){0};
  *page_out = (store_page){0};
  s->is_preview = true;
  vecmill_status status = own_table_exists(s, "vecmill_failures", &s->has_failures, err);
  if (status == VECMILL_OK) status = own_table_exists(s, "vecmill_hashes", &has_hashes, err);
  s->changed &= has_hashes && s->has_vector_column;
  if (status == VECMILL_OK) status = sqlite_find_cut(s, err);
  if (status == VECMILL_OK) status = count_rows(s, counts_out, err);
  if (status == VECMILL_OK) status = count_null_keys(s, &counts_out->n_null_keys, err);
  if (status == VECMILL_OK) status = compile_page(s, true, &s->first_page, err);
  if (status != VECMILL_OK) return status;
  sqlite_bind_integer_at(s->first_page, ":n", (sqlite3_int64)n_max);
  return sqlite_read_page(s, s->first_page, false, n_max, page_out, err);
}

/* --- claims --- */

vecmill_status sqlite_store_pass_begin(store *base, bool *may_find_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  str sql = {0};
  sqlite3_int64 version = 0;
  pthread_mutex_lock(&s->mutex);
  /* Changes when another connection has committed; our own commits do not count
   * (sqlite.org/pragma.html#pragma_data_version). */
  str_append_text(&sql, "PRAGMA main.data_version");
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the database", 0, &version, err);
  str_fini(&sql);
  /* a pass that found nothing was the last, even if others go on writing elsewhere */
  *may_find_out = version != s->data_version && !(s->pass_over && s->cursor.n == 0);
  s->data_version = version;
  if (status == VECMILL_OK && *may_find_out) status = sqlite_metrics_claim(s, err);
  /* after the look: what comes in between is the next pass's */
  if (status == VECMILL_OK && *may_find_out && s->changed && !s->is_first_pass)
    status = sqlite_remove_blank(s, err);
  s->is_first_pass = false;
  s->pass_over = false;
  str_clear(&s->cursor);
  pthread_mutex_unlock(&s->mutex);
  return status;
}

/* Offsets while the memory still moves; pointers once it is complete. */
static void set_pointers(store_page *page) {
  for (size_t i = 0; i < page->n_rows; i++) {
    store_row *row = &page->rows[i];
    const char *memory = page->memory;
    row->key = memory + (uintptr_t)row->key;
    row->text = memory + (uintptr_t)row->text;
    if (row->vector) row->vector = (const float *)(const void *)(memory + (uintptr_t)row->vector);
  }
}

static void append_row(sqlite_store *s, sqlite3_stmt *statement, bool has_vector, str *memory,
                       store_row *row) {
  *row = (store_row){0};
  size_t at = memory->n;
  row->key = (const void *)at;
  key_append_columns(memory, statement, 0, s->n_ids);
  row->n_key_bytes = memory->n - at;
  const char *text = sqlite_text_of(statement, (int)s->n_ids, &row->n_text_bytes);
  row->text = (const char *)memory->n;
  str_append(memory, text, row->n_text_bytes);
  if (!has_vector) return;
  while (!memory->failed && memory->n % sizeof(float)) str_append_char(memory, 0);
  row->vector = (const float *)memory->n;
  const void *vector = sqlite3_column_blob(statement, (int)s->n_ids + 1);
  str_append(memory, vector ? vector : "",
             (size_t)sqlite3_column_bytes(statement, (int)s->n_ids + 1));
}

vecmill_status sqlite_read_page(sqlite_store *s, sqlite3_stmt *statement, bool has_vector,
                                size_t n_max, store_page *page_out, vecmill_error *err) {
  str memory = {0};
  int code = SQLITE_NOMEM;
  store_page page = {.rows = mem_calloc(n_max, sizeof *page.rows)};
  while (page.rows && !memory.failed && (code = sqlite3_step(statement)) == SQLITE_ROW &&
         page.n_rows < n_max)
    append_row(s, statement, has_vector, &memory, &page.rows[page.n_rows++]);
  sqlite3_reset(statement);
  page.memory = memory.data;
  bool has_memory = page.rows && !memory.failed && code != SQLITE_ROW;
  if (has_memory && code == SQLITE_DONE) {
    set_pointers(&page);
    *page_out = page;
    return VECMILL_OK;
  }
  sqlite_store_page_free(&s->base, &page);
  return has_memory ? sqlite_error(s, code, "cannot read a page", err)
                    : err_set_memory(err, "page", n_max * sizeof *page.rows);
}

/* "SELECT key, text .. WHERE key = :k" */
static vecmill_status compile_text(sqlite_store *s, sqlite3_stmt **statement_out,
                                   vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, ", ");
  sql_append_column(&sql, s, s->text_column);
  str_append_text(&sql, " FROM ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " WHERE ");
  sql_append_compare(&sql, s, "=", 'k');
  vecmill_status status = sqlite_compile(s, &sql, "cannot read a text", statement_out, err);
  str_fini(&sql);
  return status;
}

vecmill_status sqlite_store_preview_texts(store *base, const store_page *picked, size_t n_max,
                                          size_t *next, store_page *page_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  sqlite3_stmt *statement = NULL;
  str memory = {0};
  int code = SQLITE_DONE;
  *page_out = (store_page){0};
  vecmill_status status = compile_text(s, &statement, err);
  if (status != VECMILL_OK) return status;
  store_page page = {.rows = mem_calloc(n_max ? n_max : 1, sizeof *page.rows)};
  while (page.rows && !memory.failed && page.n_rows < n_max && *next < picked->n_rows &&
         memory.n < STORE_PREVIEW_BYTES) {
    const store_row *row = &picked->rows[(*next)++];
    key_bind(statement, 'k', row->key, row->n_key_bytes);
    code = sqlite3_step(statement);
    if (code == SQLITE_ROW) append_row(s, statement, false, &memory, &page.rows[page.n_rows++]);
    else if (code != SQLITE_DONE) break;
    sqlite3_reset(statement);
  }
  page.memory = memory.data;
  if (!page.rows || memory.failed) status = err_set_memory(err, "sample", memory.n);
  else if (code != SQLITE_ROW && code != SQLITE_DONE)
    status = sqlite_error(s, code, "cannot read a text", err);
  sqlite3_finalize(statement);
  if (status == VECMILL_OK) {
    set_pointers(&page);
    *page_out = page;
  } else {
    sqlite_store_page_free(&s->base, &page);
  }
  return status;
}

vecmill_status sqlite_store_claim(store *base, size_t n_max, store_page *page_out,
                                  vecmill_error *err) {
  sqlite_store *s = of(base);
  *page_out = (store_page){0};
  if (s->pass_over) return VECMILL_OK;
  pthread_mutex_lock(&s->mutex);
  sqlite3_stmt *statement = s->cursor.n ? s->next_page : s->first_page;
  key_bind(statement, 'k', s->cursor.data, s->cursor.n);
  sqlite_bind_integer_at(statement, ":n", (sqlite3_int64)n_max);
  vecmill_status status = sqlite_read_page(s, statement, false, n_max, page_out, err);
  pthread_mutex_unlock(&s->mutex);
  if (status != VECMILL_OK) return status;
  /* A short page was the last one: SQLite has looked to the end. */
  s->pass_over = page_out->n_rows < n_max;
  if (page_out->n_rows == 0) return VECMILL_OK;
  const store_row *last = &page_out->rows[page_out->n_rows - 1];
  str_clear(&s->cursor);
  str_append(&s->cursor, last->key, last->n_key_bytes);
  if (!s->cursor.failed) return VECMILL_OK;
  size_t n_key_bytes = last->n_key_bytes;
  sqlite_store_page_free(base, page_out);
  return err_set_memory(err, "page", n_key_bytes);
}

void sqlite_store_page_free(store *s, store_page *page) {
  mem_free(page->rows);
  mem_free(page->memory);
  *page = (store_page){0};
}
