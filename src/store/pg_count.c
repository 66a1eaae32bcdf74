/* The totals, so that progress has one, and where `limit` ends. */
#include "store/count_sums.h"
#include "store/pg_parts.h"

static void append_vector(str *sql, const pg_store *s) {
  if (s->has_vector_column) pg_append_column(sql, s, s->vector_column);
  else str_append_text(sql, "NULL");
}

static void append_null_vector(str *sql, const pg_store *s) {
  append_vector(sql, s);
  str_append_text(sql, " IS NULL");
}

/* --- where `limit` ends --- */

/* The key of the limit-th considered row, or of the last, where there are fewer: rows that come
 * behind it are not among the first. No row: nothing is. */
static void append_cut(str *sql, pg_store *s) {
  str_clear(&s->cut);
  s->knows_cut = false;
  str_append_text(sql, "SELECT ");
  pg_append_key_texts(sql, s);
  str_append_format(sql, " FROM %s WHERE true", s->table_sql);
  pg_append_considered(sql, s, "");
  str_append_format(sql,
                    " ORDER BY %s LIMIT 1 OFFSET (SELECT greatest(least(%llu, count(*)), 1) - 1 "
                    "FROM %s WHERE true",
                    s->keys_sql, (unsigned long long)(s->limit < INT64_MAX ? s->limit : INT64_MAX),
                    s->table_sql);
  pg_append_considered(sql, s, "");
  str_append_text(sql, ")");
}

/* From a row of keys, or of NULLs, at its field `first`. */
static vecmill_status take_cut(pg_store *s, const PGresult *rows, int first, vecmill_error *err) {
  str_clear(&s->cut);
  if (PQntuples(rows) > 0 && !PQgetisnull(rows, 0, first))
    pg_key_append(&s->cut, rows, 0, first, s->n_keys);
  s->knows_cut = true;
  return s->cut.failed ? err_set_memory(err, "limit", s->cut.n) : VECMILL_OK;
}

vecmill_status pg_find_cut(pg_store *s, vecmill_error *err) {
  if (s->limit == 0) return VECMILL_OK;
  str sql = {0};
  PGresult *rows = NULL;
  append_cut(&sql, s);
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot read the keys", &rows, err);
  if (status == VECMILL_OK) status = take_cut(s, rows, 0, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

void pg_append_cut_names(str *sql, const pg_store *s) {
  for (size_t i = 0; s->limit && i < s->n_keys; i++)
    str_append_format(sql, ", cut[%zu]::text", i + 1);
}

static vecmill_status keep_cut(pg_store *s, PGconn *conn, vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql, " SET cut = $1::text[] WHERE id = %s", s->column_id);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot share the limit", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

vecmill_status pg_settle_cut(pg_store *s, PGconn *conn, const PGresult *run, int first,
                             vecmill_error *err) {
  if (s->limit == 0) return VECMILL_OK;
  vecmill_status status = take_cut(s, run, first, err);
  if (status != VECMILL_OK || s->cut.n) return status;
  str sql = {0};
  PGresult *rows = NULL;
  append_cut(&sql, s);
  status = pg_step(s, conn, &sql, NULL, "cannot read the keys", &rows, err);
  if (status == VECMILL_OK) status = take_cut(s, rows, 0, err);
  if (status == VECMILL_OK && s->cut.n) status = keep_cut(s, conn, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_add_cut(pg_store *s, pg_params *p, str *array, vecmill_error *err) {
  if (!s->cut.n) return VECMILL_OK;
  pg_key_array(array, s->cut.data, s->cut.n);
  pg_add_binary(p, array);
  return array->failed ? err_set_memory(err, "limit", array->n) : VECMILL_OK;
}

/* --- the totals --- */

/* With a vector of an older text, of them failed, with a vector of unknown text. */
static void append_outdated_counts(str *sql, const pg_store *s) {
  if (!s->changed) {
    str_append_text(sql, ", '0', '0', '0'");
    return;
  }
  str_append_text(sql, ", count(*) FILTER (WHERE NOT ");
  pg_append_blank(sql, s);
  str_append_text(sql, " AND ");
  pg_append_outdated(sql, s);
  str_append_text(sql, ")::text, count(*) FILTER (WHERE NOT ");
  pg_append_blank(sql, s);
  str_append_text(sql, " AND ");
  pg_append_outdated(sql, s);
  str_append_text(sql, " AND ");
  pg_append_failed(sql, s);
  str_append_text(sql, ")::text, count(*) FILTER (WHERE ");
  pg_append_unknown(sql, s);
  str_append_text(sql, ")::text");
}

/* *n_run_done_out: what the run has done, as of the same moment; NULL: there is none. */
static vecmill_status count_rows(pg_store *s, store_counts *counts_out, uint64_t *n_run_done_out,
                                 vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT count(*)::text, count(");
  append_vector(&sql, s);
  str_append_text(&sql, ")::text, count(*) FILTER (WHERE ");
  append_null_vector(&sql, s);
  str_append_text(&sql, " AND ");
  pg_append_blank(&sql, s);
  str_append_text(&sql, ")::text, count(*) FILTER (WHERE ");
  append_null_vector(&sql, s);
  str_append_text(&sql, " AND "); /* first, as it costs nothing where none is */
  pg_append_failed(&sql, s);
  str_append_text(&sql, " AND NOT ");
  pg_append_blank(&sql, s);
  str_append_text(&sql, ")::text");
  append_outdated_counts(&sql, s);
  if (n_run_done_out) {
    str_append_text(&sql, ", (SELECT ");
    pg_append_run_done(&sql, s, "c");
    str_append_text(&sql, "::text FROM ");
    pg_append_state(&sql, s, "columns");
    str_append_format(&sql, " AS c WHERE c.id = %s)", s->column_id);
  }
  pg_append_from(&sql, s);
  str_append_text(&sql, " WHERE true");
  pg_append_considered(&sql, s, "$1::text[]");
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_run(s, PG_READER, &sql, &p, "cannot count the rows", &rows, err);
  if (status == VECMILL_OK && n_run_done_out)
    *n_run_done_out = (uint64_t)pg_integer(rows, 0, N_SUMS);
  if (status == VECMILL_OK) {
    uint64_t n[N_SUMS];
    for (int i = 0; i < N_SUMS; i++) n[i] = (uint64_t)pg_integer(rows, 0, i);
    *counts_out = store_counts_of(n);
  }
  PQclear(rows);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

static vecmill_status count_null_keys(pg_store *s, uint64_t *n_out, vecmill_error *err) {
  *n_out = 0;
  if (!s->null_keys) return VECMILL_OK;
  str sql = {0};
  PGresult *rows = NULL;
  str_append_format(&sql, "SELECT count(*)::text FROM %s WHERE (false", s->table_sql);
  for (size_t i = 0; i < s->n_keys; i++) {
    str_append_text(&sql, " OR ");
    pg_append_column(&sql, s, s->keys[i].name);
    str_append_text(&sql, " IS NULL");
  }
  str_append_text(&sql, ")");
  if (s->where) str_append_format(&sql, " AND (%s\n)", s->where);
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot count the rows", &rows, err);
  if (status == VECMILL_OK) *n_out = (uint64_t)pg_integer(rows, 0, 0);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

void pg_append_run_done(str *sql, const pg_store *s, const char *columns) {
  str_append_format(sql, "(%s.n_done + (SELECT coalesce(sum(n_written + n_failed), 0) FROM ",
                    columns);
  pg_append_state(sql, s, "leases");
  str_append_format(sql, " WHERE column_id = %s.id))", columns);
}

void pg_append_count(str *sql, const pg_store *s, const char *gone, size_t n_claimed) {
  str_append_text(sql, "UPDATE ");
  pg_append_state(sql, s, "columns");
  str_append_format(sql,
                    " SET n_done = n_done + (SELECT coalesce(sum(n_written + n_failed), 0) FROM "
                    "%s), pass_claimed = pass_claimed + %zu WHERE id = %s",
                    gone, n_claimed, s->column_id);
  if (n_claimed == 0) str_append_format(sql, " AND EXISTS (SELECT 1 FROM %s)", gone);
}

/* The totals of the run: what it had done and what was left when this process counted; more, where
 * others have counted more. None where another run began meanwhile, which the first claim tells. */
static vecmill_status share_totals(pg_store *s, store_counts *counts, uint64_t n_run_done,
                                   vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql,
                    " AS c SET n_total = greatest(n_total, %llu) WHERE id = %s AND run = %lld "
                    "RETURNING n_total::text, ",
                    (unsigned long long)(counts->n_left + n_run_done), s->column_id,
                    (long long)s->run);
  pg_append_run_done(&sql, s, "c");
  str_append_text(&sql, "::text");
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot share the totals", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0) {
    counts->n_run_total = (uint64_t)pg_integer(rows, 0, 0);
    counts->n_run_done = (uint64_t)pg_integer(rows, 0, 1);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_count_considered(pg_store *s, store_counts *counts_out, vecmill_error *err) {
  vecmill_status status = count_rows(s, counts_out, NULL, err);
  return status == VECMILL_OK ? count_null_keys(s, &counts_out->n_null_keys, err) : status;
}

/* With the run's row locked: where `limit` ends. */
static vecmill_status look_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  (void)context;
  PGresult *rows = NULL;
  vecmill_status status = pg_lock_run(s, conn, "id::text", &rows, err);
  PQclear(rows);
  return status;
}

static vecmill_status count_all(pg_store *s, store_counts *counts_out, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  uint64_t n_run_done = 0;
  if (s->limit) status = pg_transact(s, PG_READER, look_body, NULL, "cannot read the run", err);
  if (status == VECMILL_OK && s->changed) status = pg_remove_blank(s, err);
  if (status == VECMILL_OK) status = count_rows(s, counts_out, &n_run_done, err);
  if (status == VECMILL_OK) status = count_null_keys(s, &counts_out->n_null_keys, err);
  if (status == VECMILL_OK && s->changed && s->is_alone) {
    uint64_t n_vectors = counts_out->n_done + counts_out->n_outdated;
    status = pg_prune_hashes(s, n_vectors - counts_out->n_unknown, err);
  }
  if (status == VECMILL_OK) status = share_totals(s, counts_out, n_run_done, err);
  if (status == VECMILL_OK && counts_out->n_left > 0) status = pg_tell_indexes(s, err);
  return status;
}

vecmill_status pg_store_count(store *base, store_counts *counts_out, vecmill_error *err) {
  *counts_out = (store_counts){0};
  pg_stop_at_once(true);
  vecmill_status status = count_all(pg_of(base), counts_out, err);
  pg_stop_at_once(false);
  return status;
}

vecmill_status pg_store_count_failed(store *base, uint64_t *n_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  str sql = {0};
  PGresult *rows = NULL;
  store_counts counts = {0};
  s->has_ended = true; /* when what failed did so says nothing: another run may have begun */
  str_append_text(&sql, "SELECT EXISTS (SELECT 1 FROM ");
  pg_append_state(&sql, s, "failures");
  str_append_format(&sql, " WHERE column_id = %s)::text", s->column_id);
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot read the failures", &rows, err);
  if (status == VECMILL_OK && pg_text(rows, 0, 0)[0] == 't')
    status = count_rows(s, &counts, NULL, err);
  *n_out = counts.n_failed;
  PQclear(rows);
  str_fini(&sql);
  return status;
}
