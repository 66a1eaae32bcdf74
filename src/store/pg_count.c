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

/* The key of the limit-th considered row, or of the last, where there are fewer: rows that come
 * behind it are not among the first. */
vecmill_status pg_find_cut(pg_store *s, vecmill_error *err) {
  if (s->limit == 0) return VECMILL_OK;
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT ");
  pg_append_key_texts(&sql, s);
  str_append_format(&sql, " FROM %s WHERE true", s->table_sql);
  pg_append_considered(&sql, s, "");
  str_append_format(&sql,
                    " ORDER BY %s LIMIT 1 OFFSET (SELECT greatest(least(%llu, count(*)), 1) - 1 "
                    "FROM %s WHERE true",
                    s->keys_sql, (unsigned long long)(s->limit < INT64_MAX ? s->limit : INT64_MAX),
                    s->table_sql);
  pg_append_considered(&sql, s, "");
  str_append_text(&sql, ")");
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot read the keys", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0) pg_key_append(&s->cut, rows, 0, 0, s->n_keys);
  if (s->cut.failed) status = err_set_memory(err, "limit", s->cut.n);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Whoever is the first to know says where it ends for all: with rows coming and going, another
 * would end elsewhere. */
static vecmill_status share_cut(pg_store *s, vecmill_error *err) {
  if (!s->cut.n) return VECMILL_OK;
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql,
                    " SET cut = coalesce(cut, $1::text[]) WHERE id = %s AND selection = $2::text "
                    "RETURNING ",
                    s->column_id);
  for (size_t i = 0; i < s->n_keys; i++)
    str_append_format(&sql, "%scut[%zu]::text", i ? ", " : "", i + 1);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  pg_add_text(&p, s->selection.data);
  if (status == VECMILL_OK)
    status = pg_run(s, PG_READER, &sql, &p, "cannot share the limit", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0) {
    str_clear(&s->cut);
    pg_key_append(&s->cut, rows, 0, 0, s->n_keys);
    if (s->cut.failed) status = err_set_memory(err, "limit", s->cut.n);
  }
  PQclear(rows);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

vecmill_status pg_add_cut(pg_store *s, pg_params *p, str *array, vecmill_error *err) {
  if (!s->cut.n) return VECMILL_OK;
  pg_key_array(array, s->cut.data, s->cut.n);
  pg_add_binary(p, array);
  return array->failed ? err_set_memory(err, "limit", array->n) : VECMILL_OK;
}

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

static vecmill_status count_rows(pg_store *s, store_counts *counts_out, vecmill_error *err) {
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
  pg_append_from(&sql, s);
  str_append_text(&sql, " WHERE true");
  pg_append_considered(&sql, s, "$1::text[]");
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_run(s, PG_READER, &sql, &p, "cannot count the rows", &rows, err);
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

void pg_append_failed_elsewhere(str *sql, const pg_store *s) {
  str_append_text(sql, "SELECT count(*) FROM ");
  pg_append_state(sql, s, "failures");
  str_append_text(sql, " AS f JOIN ");
  pg_append_state(sql, s, "columns");
  str_append_format(sql,
                    " AS r ON r.id = f.column_id WHERE r.id = %s AND f.at >= r.run_began AND "
                    "f.owner <> '%s'::uuid",
                    s->column_id, s->owner);
}

vecmill_status pg_store_count_failed_elsewhere(store *base, uint64_t *n_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT (");
  pg_append_failed_elsewhere(&sql, s);
  str_append_text(&sql, ")::text");
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot read the failures", &rows, err);
  uint64_t n = status == VECMILL_OK ? (uint64_t)pg_integer(rows, 0, 0) : 0;
  *n_out = n > s->n_failed_at_join ? n - s->n_failed_at_join : 0;
  PQclear(rows);
  str_fini(&sql);
  return status;
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

/* The totals of the run: what it had done when this process came and what is left now; more, where
 * others have counted more. What was done in between is missing, but nothing is counted twice. None
 * where a run of other rows began meanwhile, which the first claim tells. */
static vecmill_status share_totals(pg_store *s, store_counts *counts, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql,
                    " AS c SET n_total = greatest(n_total, %llu) WHERE id = %s AND selection = "
                    "$1::text RETURNING n_total::text, ",
                    (unsigned long long)counts->n_left + s->n_done_at_join, s->column_id);
  pg_add_text(&p, s->selection.data);
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
  vecmill_status status = count_rows(s, counts_out, err);
  return status == VECMILL_OK ? count_null_keys(s, &counts_out->n_null_keys, err) : status;
}

static vecmill_status count_all(pg_store *s, store_counts *counts_out, vecmill_error *err) {
  vecmill_status status = pg_find_cut(s, err);
  if (status == VECMILL_OK) status = share_cut(s, err);
  if (status == VECMILL_OK && s->changed) status = pg_remove_blank(s, err);
  if (status == VECMILL_OK) status = pg_count_considered(s, counts_out, err);
  if (status == VECMILL_OK && s->changed && s->is_alone) {
    uint64_t n_vectors = counts_out->n_done + counts_out->n_outdated;
    status = pg_prune_hashes(s, n_vectors - counts_out->n_unknown, err);
  }
  if (status == VECMILL_OK) status = share_totals(s, counts_out, err);
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
