/*
 * Of which text a table of metrics holds the numbers, where a row has several that are embedded,
 * each into a vector column of its own: of the first that a run measured.
 */
#include "store/pg_parts.h"

vecmill_status pg_metrics_check_owner(pg_store *s, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  bool exists = false;
  vecmill_status status = pg_state_exists(s, &exists, err);
  if (status != VECMILL_OK || !exists) return status;
  /* an earlier version's state lacks the column */
  str_append_text(&sql, "SELECT vector_column, text_column FROM ");
  pg_append_state(&sql, s, "columns");
  str_append_text(
      &sql,
      " AS c WHERE schema_name = $1::text AND table_name = $2::text AND text_column <> $3::text "
      "AND to_jsonb(c) ->> 'metrics_table' = $4::text AND (SELECT count(*) FROM pg_attribute WHERE "
      "attrelid = $5::oid AND NOT attisdropped AND attname IN (text_column, vector_column)) = 2 "
      "ORDER BY id LIMIT 1");
  pg_add_text(&p, s->schema);
  pg_add_text(&p, s->table);
  pg_add_text(&p, s->text_column);
  pg_add_text(&p, s->metrics.sql);
  pg_add_text(&p, s->table_oid);
  status = pg_run(s, PG_READER, &sql, &p, "cannot read the records", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0)
    status = metrics_owned(s->metrics.name, pg_text(rows, 0, 1), pg_text(rows, 0, 0), err);
  else if (pg_state_is("42501")) status = VECMILL_OK; /* that is told with all that is missing */
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_metrics_note_owner(pg_store *s, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  if (!s->column_id) return VECMILL_OK;
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql,
                    " SET metrics_table = $1::text WHERE id = %s AND metrics_table <> $1::text",
                    s->column_id);
  pg_add_text(&p, s->metrics.sql);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot write the record", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}
