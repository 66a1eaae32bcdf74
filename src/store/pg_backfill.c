/*
 * Metrics beside vectors that are there already; equal texts; and a look that writes nothing.
 */
#include <limits.h>
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

/* " AND "table"."join" IS NOT NULL ..": such rows have no metrics */
static void append_joins_not_null(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(sql, " AND ");
    pg_append_column(sql, s, s->metrics.joins[i].name);
    str_append_text(sql, " IS NOT NULL");
  }
}

static void append_has_vector(str *sql, const pg_store *s) {
  pg_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL");
}

/* "(ALIAS.hawaiian_word_ratio, ..)", those from `first` on */
static void append_numbers(str *sql, const char *alias, size_t first) {
  str_append_char(sql, '(');
  for (size_t i = first; i < METRICS_N_OF_TEXT; i++)
    str_append_format(sql, "%s%s.%s", i > first ? ", " : "", alias, metrics_columns[i]);
  str_append_char(sql, ')');
}

/*
 * " WHERE ..": which rows of metrics that are there already are overwritten. The row that an INSERT
 * .. ON CONFLICT meets may be younger than the text that the statement sees: somebody else's
 * numbers may be of a later one. So those that lacked metrics must lack them still; and of shared
 * ones none is touched that is not as this statement sees it, by a subquery: whoever wrote it has
 * an end to come that sets it right.
 *
 * A run without a word list does not undo what one with it has found: the same counts say that it
 * is the same text.
 */
static void append_if_wanted(str *sql, const pg_store *s, store_metrics_rows kind) {
  const pg_metrics *m = &s->metrics;
  if (kind == STORE_METRICS_LACKING) {
    str_append_text(sql, " WHERE m.word_count IS NULL");
    return;
  }
  size_t first = m->has_ratios ? 0 : 1;
  str_append_text(sql, " WHERE ");
  append_numbers(sql, "m", first);
  str_append_text(sql, " IS DISTINCT FROM ");
  append_numbers(sql, "excluded", first);
  str_append_format(sql, " AND EXISTS (SELECT 1 FROM %s AS x WHERE ", m->rows_sql);
  for (size_t i = 0; i < m->n_joins; i++) {
    str_append_text(sql, "x.");
    pg_append_name(sql, m->joins[i].name);
    str_append_text(sql, " = m.");
    pg_append_name(sql, m->joins[i].name);
    str_append_text(sql, " AND ");
  }
  append_numbers(sql, "x", 0);
  str_append_text(sql, " IS NOT DISTINCT FROM ");
  append_numbers(sql, "m", 0);
  str_append_char(sql, ')');
}

/* --- which rows --- */

/* "FROM .. WHERE ..": rows with a vector and without metrics */
static void append_lacking(str *sql, const pg_store *s, const char *cut) {
  str_append_format(sql, " FROM %s WHERE ", s->table_sql);
  append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, " IS NOT NULL");
  append_joins_not_null(sql, s);
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

/* "table"."key", .., what metrics go by, and perhaps the text: each once */
static void append_needed(str *sql, const pg_store *s, bool with_text) {
  const char *names[2 * PG_MAX_KEYS + 1];
  size_t n = 0, n_all = 0;
  for (size_t i = 0; i < s->n_keys; i++) names[n_all++] = s->keys[i].name;
  if (with_text) names[n_all++] = s->text_column;
  for (size_t i = 0; i < s->metrics.n_joins; i++) names[n_all++] = s->metrics.joins[i].name;
  for (size_t i = 0; i < n_all; i++) {
    bool is_new = true;
    for (size_t j = 0; j < n; j++) is_new &= strcmp(names[j], names[i]) != 0;
    if (!is_new) continue;
    if (n > 0) str_append_text(sql, ", ");
    pg_append_column(sql, s, names[i]);
    names[n++] = names[i];
  }
}

/* "row_number() OVER (..) AS vecmill_i": the place among the rows that share one of metrics */
static void append_place(str *sql, const pg_store *s) {
  str_append_text(sql, "row_number() OVER (PARTITION BY ");
  pg_metrics_append_joins(sql, s);
  str_append_format(sql, " ORDER BY %s) AS vecmill_i", s->keys_sql);
}

/* What is there may be the numbers of another row, one that is gone too, or of another table's. */
static bool is_contended(const pg_store *s) {
  return s->metrics.is_shared || s->metrics.sharers[0];
}

/* The first of each of those that share a row, without its text, as a preview picks rows. A
 * subquery under the table's own name, so that all else reads as if it were the table. */
static void append_first_page(str *sql, const pg_store *s, const char *cursor, size_t n_max) {
  str_append_text(sql, "SELECT ");
  pg_append_key_texts(sql, s);
  str_append_text(sql, ", vecmill_l::text, '' FROM (SELECT ");
  append_needed(sql, s, false);
  str_append_text(sql, ", octet_length(");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, "::text) AS vecmill_l, ");
  append_place(sql, s);
  str_append_format(sql, " FROM %s WHERE ", s->table_sql);
  append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, " IS NOT NULL");
  append_joins_not_null(sql, s);
  str_append_text(sql, ") AS ");
  pg_append_name(sql, s->table);
  str_append_text(sql, " WHERE vecmill_i = 1");
  if (cursor) str_append_text(sql, " AND ");
  if (cursor) pg_append_compare(sql, s, ">", cursor);
  str_append_format(sql, " ORDER BY %s LIMIT %zu", s->keys_sql, n_max);
}

/* The rows that lack metrics, of a page of them: where several share a row of metrics, the first
 * of each. The next page finds it there, or, where its text has changed meanwhile, the others. */
static void append_lacking_page(str *sql, const pg_store *s, const char *cut, const char *cursor,
                                size_t n_max) {
  bool is_shared = s->metrics.is_shared;
  if (is_shared) {
    str_append_text(sql, " FROM (SELECT *, ");
    append_place(sql, s);
    str_append_text(sql, " FROM (SELECT ");
    append_needed(sql, s, true);
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
  store_metrics_rows kind;
  size_t n_max;
  PGresult *rows;
} metrics_read;

/* As in claim_body, the planner is kept from sorting all of the table for each page. */
static vecmill_status read_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  metrics_read *read = context;
  PGresult *set = NULL;
  str sql = {0}, cursor = {0}, cut = {0};
  pg_params p = {0};
  vecmill_status status = VECMILL_OK;
  PQclear(read->rows);
  read->rows = NULL;
  if (read->kind == STORE_METRICS_LACKING) {
    str_append_text(
        &sql,
        "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true), "
        "set_config('enable_bitmapscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
        "set_config('enable_mergejoin', 'off', true)");
    status = pg_step(s, conn, &sql, NULL, "cannot read a page", &set, err);
    PQclear(set);
    str_clear(&sql);
  }
  bool has_cursor = s->metrics.cursor.n > 0;
  const char *after = has_cursor ? "$1::text[]" : NULL;
  if (has_cursor) {
    pg_key_array(&cursor, s->metrics.cursor.data, s->metrics.cursor.n);
    pg_add_binary(&p, &cursor);
  }
  if (read->kind == STORE_METRICS_LACKING) {
    pg_append_page_columns(&sql, s);
    append_lacking_page(&sql, s, has_cursor ? "$2::text[]" : "$1::text[]", after, read->n_max);
    if (status == VECMILL_OK) status = pg_add_cut(s, &p, &cut, err);
  } else {
    append_first_page(&sql, s, after, read->n_max);
  }
  if (status == VECMILL_OK && cursor.failed) status = err_set_memory(err, "page", cursor.n);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read a page", &read->rows, err);
  str_fini(&sql);
  str_fini(&cursor);
  str_fini(&cut);
  return status;
}

vecmill_status pg_store_metrics_page(store *base, store_metrics_rows kind, size_t n_max,
                                     store_page *page_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  metrics_read read = {.kind = kind, .n_max = n_max};
  *page_out = (store_page){0};
  if (kind == STORE_METRICS_FIRST && !is_contended(s)) return VECMILL_OK;
  pg_stop_at_once(true);
  vecmill_status status = pg_transact(s, PG_READER, read_body, &read, "cannot read a page", err);
  pg_stop_at_once(false);
  if (status == VECMILL_OK) status = pg_take_page(s, pg_all_rows(read.rows), page_out, err);
  for (size_t i = 0; kind == STORE_METRICS_FIRST && i < page_out->n_rows; i++)
    pg_take_length(s, read.rows, i, &page_out->rows[i]);
  PQclear(read.rows);
  return status == VECMILL_OK ? metrics_follow_page(base, &s->metrics.cursor, page_out, err)
                              : status;
}

/* "INSERT .. SELECT .. FROM (unnest .. and the rows as they are now) ..": parameters from $1 on:
 * hashes, keys, metrics. */
static void append_metrics_commit(str *sql, const pg_store *s, store_metrics_rows kind) {
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
  append_has_vector(&source, s);
  str_append_text(&source, " AND ");
  pg_append_hash(&source, s);
  str_append_text(&source, " = vecmill_d.h OFFSET 0) AS r) AS u");
  pg_metrics_append_insert(sql, s, source.data && !source.failed ? source.data : "");
  append_if_wanted(sql, s, kind);
  if (source.failed) sql->failed = true;
  str_fini(&source);
}

/* A foreign key refuses a row whose text has gone since the statement began: the next one does not
 * see it any more. Where it refuses for another reason it does so again. */
#define MOST_REFUSALS 10

static vecmill_status write_metrics(pg_store *s, const str *sql, const pg_params *p,
                                    uint64_t *n_written_out, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (int i = 0; i <= MOST_REFUSALS; i++) {
    PGresult *done = NULL;
    status = pg_run(s, PG_WRITER, sql, p, "cannot write metrics", &done, err);
    if (status == VECMILL_OK) *n_written_out = strtoull(PQcmdTuples(done), NULL, 10);
    PQclear(done);
    if (status == VECMILL_OK || !pg_state_is("23503")) break;
  }
  return status;
}

vecmill_status pg_store_metrics_commit(store *base, store_metrics_rows kind, const store_page *page,
                                       uint64_t *n_written_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  str sql = {0}, hashes = {0}, keys[PG_MAX_KEYS] = {{0}};
  pg_metrics_arrays a = {0};
  pg_params p = {0};
  bool failed = false;
  *n_written_out = 0;
  pg_array_begin(&hashes, UUID_OID, page->n_rows);
  pg_metrics_arrays_begin(&a, page->n_rows);
  for (size_t i = 0; i < s->n_keys; i++) pg_array_begin(&keys[i], TEXT_OID, page->n_rows);
  for (size_t row = 0; row < page->n_rows; row++) {
    const store_row *r = &page->rows[row];
    pg_version version = pg_version_of(r);
    pg_array_add(&hashes, version.hash, sizeof version.hash);
    pg_metrics_arrays_add(&a, &r->metrics);
    for (size_t i = 0; i < s->n_keys; i++) {
      size_t n = 0;
      const char *part = pg_key_part(r->key, r->n_key_bytes, i, &n);
      pg_array_add(&keys[i], part, n);
    }
  }
  append_metrics_commit(&sql, s, kind);
  pg_add_binary(&p, &hashes);
  for (size_t i = 0; i < s->n_keys; i++) pg_add_binary(&p, &keys[i]);
  pg_metrics_add_params(&p, &a);
  failed = hashes.failed || pg_metrics_arrays_failed(&a);
  for (size_t i = 0; i < s->n_keys; i++) failed |= keys[i].failed;
  vecmill_status status =
      failed ? err_set_memory(err, "metrics", hashes.n) : pg_metrics_claim(s, err);
  if (status == VECMILL_OK) status = write_metrics(s, &sql, &p, n_written_out, err);
  str_fini(&sql);
  str_fini(&hashes);
  for (size_t i = 0; i < s->n_keys; i++) str_fini(&keys[i]);
  pg_metrics_arrays_fini(&a);
  return status;
}

/* --- frequency --- */

/* Blank texts have none; but where rows share one, it is of the first, whatever that is, until
 * --changed takes its vector. */
static void append_has_metrics(str *sql, const pg_store *s) {
  if (is_contended(s)) {
    pg_append_column(sql, s, s->text_column);
    str_append_text(sql, " IS NOT NULL");
  } else {
    str_append_text(sql, "NOT ");
    pg_append_blank(sql, s);
  }
}

/* "t AS (texts and how many rows have each), r AS (which text a row of metrics is of)" */
static void append_twins(str *sql, const pg_store *s) {
  str_append_text(sql, "WITH t AS (SELECT ");
  pg_append_hash(sql, s);
  str_append_format(sql, " AS h, least(count(*), %d)::integer AS n FROM %s WHERE ", INT_MAX,
                    s->table_sql);
  append_has_metrics(sql, s);
  str_append_text(sql, " GROUP BY 1), r AS (SELECT ");
  if (is_contended(s)) {
    str_append_text(sql, "DISTINCT ON (");
    pg_metrics_append_joins(sql, s);
    str_append_text(sql, ") ");
  }
  pg_append_hash(sql, s);
  str_append_text(sql, " AS h");
  pg_metrics_append_places(sql, s);
  str_append_format(sql, " FROM %s", s->table_sql);
  if (is_contended(s)) {
    str_append_text(sql, " WHERE ");
    append_has_metrics(sql, s);
    str_append_text(sql, " AND ");
    append_has_vector(sql, s);
    str_append_text(sql, " ORDER BY ");
    pg_metrics_append_joins(sql, s);
    str_append_format(sql, ", %s", s->keys_sql);
  }
  str_append_text(sql, ")");
}

/* One process after the other: each would lock the other's rows in an order of its own. */
static vecmill_status twins_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  uint64_t *n_changed = context;
  str sql = {0};
  pg_params p = {0};
  PGresult *lock = NULL, *done = NULL;
  str_append_text(&sql,
                  "SELECT pg_advisory_xact_lock(1447382861, $1::regclass::oid::integer)::text");
  pg_add_text(&p, s->metrics.sql);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot count equal texts", &lock, err);
  PQclear(lock);
  str_clear(&sql);
  append_twins(&sql, s);
  str_append_format(&sql,
                    " UPDATE %s AS m SET frequency = t.n, updated_at = now() FROM t JOIN r ON "
                    "r.h = t.h WHERE ",
                    s->metrics.rows_sql);
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(&sql, "m.");
    pg_append_name(&sql, s->metrics.joins[i].name);
    str_append_format(&sql, " = r.j%zu", i);
    pg_metrics_append_collation(&sql, &s->metrics.joins[i]);
    str_append_text(&sql, " AND ");
  }
  str_append_text(&sql, "m.frequency IS DISTINCT FROM t.n");
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, NULL, "cannot count equal texts", &done, err);
  if (status == VECMILL_OK) *n_changed = strtoull(PQcmdTuples(done), NULL, 10);
  PQclear(done);
  str_fini(&sql);
  return status;
}

vecmill_status pg_store_metrics_count_twins(store *base, uint64_t *n_changed_out,
                                            vecmill_error *err) {
  pg_store *s = pg_of(base);
  *n_changed_out = 0;
  pg_stop_at_once(true);
  vecmill_status status =
      pg_transact(s, PG_WRITER, twins_body, n_changed_out, "cannot count equal texts", err);
  pg_stop_at_once(false);
  return status;
}
