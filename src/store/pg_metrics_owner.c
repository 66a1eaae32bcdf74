/*
 * Of which text a table of metrics holds the numbers, where a row has several that are embedded,
 * each into a vector column of its own: of the first that a run measured. The record of its vector
 * column says so, in lines of its metrics_table: the tables that it wrote, which lie in the table's
 * own schema.
 */
#include "store/pg_parts.h"

#define LINE "E'\\n' || $4::text || E'\\n'"

/* Another text's record that says so, or, in a state of before, whose last run did (as pg_state.c
 * has it); while the table holds anything, or a process is at work there. */
static void append_owner(str *sql, const pg_store *s) {
  str_append_text(sql, "SELECT vector_column, text_column FROM ");
  pg_append_state(sql, s, "columns");
  str_append_text(
      sql,
      " AS c WHERE schema_name = $1::text AND table_name = $2::text AND text_column <> $3::text "
      "AND vector_column <> $6::text AND strpos(coalesce(to_jsonb(c) ->> "
      "'metrics_table', " PG_METRICS_OF_SELECTION "), " LINE
      ") > 0 AND (SELECT count(*) FROM pg_attribute WHERE attrelid = $5::oid AND "
      "NOT attisdropped AND attname IN (text_column, vector_column)) = 2 AND (EXISTS (SELECT 1 "
      "FROM ");
  str_append_format(sql, "%s) OR EXISTS (SELECT 1 FROM ", s->metrics.rows_sql);
  pg_append_state(sql, s, "workers");
  str_append_text(sql, " AS w WHERE w.column_id = c.id AND w.seen > clock_timestamp() - "
                       "coalesce(to_jsonb(w) ->> 'lease_seconds', '60')::int * interval '1 s')) "
                       "ORDER BY id LIMIT 1");
}

/* Both statements name them all: the server wants to know the type of each. */
static void add_params(const pg_store *s, pg_params *p) {
  const char *values[] = {s->schema,       s->table,     s->text_column,
                          s->metrics.name, s->table_oid, s->vector_column};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) pg_add_text(p, values[i]);
}

static vecmill_status look(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  (void)context;
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  append_owner(&sql, s);
  add_params(s, &p);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot read the records", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0)
    status = metrics_owned(s->metrics.name, pg_text(rows, 0, 1), pg_text(rows, 0, 0), err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_metrics_check_owner(pg_store *s, vecmill_error *err) {
  bool exists = false;
  if (s->metrics.is_missing) return VECMILL_OK;
  vecmill_status status = pg_state_exists(s, &exists, err);
  if (status != VECMILL_OK || !exists) return status;
  status = pg_transact(s, PG_READER, look, NULL, "cannot read the records", err);
  /* a right that is missing is told with all else that is */
  return status == VECMILL_ERROR_DATABASE && pg_state_is("42501") ? VECMILL_OK : status;
}

/* One after the other, so that of two who begin together one sees the other. */
static vecmill_status claim(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *lock = NULL, *rows = NULL;
  str_append_text(&sql, "SELECT pg_advisory_xact_lock(8247331862370316)::text");
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot lock the records", &lock, err);
  if (status == VECMILL_OK) status = look(s, conn, context, err);
  str_clear(&sql);
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_text(&sql,
                  " AS c SET metrics_table = n.lines FROM (SELECT id, CASE WHEN vector_column "
                  "<> $6::text THEN replace(metrics_table, " LINE ", E'\\n') WHEN strpos("
                  "metrics_table, " LINE ") > 0 THEN metrics_table ELSE metrics_table || "
                  "$4::text || E'\\n' END AS lines FROM ");
  pg_append_state(&sql, s, "columns");
  str_append_text(&sql, " WHERE schema_name = $1::text AND table_name = $2::text AND (text_column "
                        "<> $3::text OR vector_column = $6::text)) AS n WHERE c.id = n.id AND "
                        "c.metrics_table <> n.lines AND $5::oid IS NOT NULL");
  add_params(s, &p);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot write the record", &rows, err);
  PQclear(lock);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_metrics_claim(pg_store *s, vecmill_error *err) {
  pg_state state;
  if (!s->metrics.is_on || s->metrics.is_claimed) return VECMILL_OK;
  vecmill_status status = pg_ask_state(s, &state, err);
  if (status == VECMILL_OK && state.is_whole && state.may_write)
    status = pg_transact(s, PG_READER, claim, NULL, "cannot write the record", err);
  s->metrics.is_claimed = status == VECMILL_OK;
  return status;
}
