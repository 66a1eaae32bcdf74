/* Who looks: what --where means, and what row-level security shows, depends on that. */
#include "store/pg_parts.h"

/* Policies may go by settings, which PGOPTIONS gives; those that a role or a database has are the
 * same for all who come as that role. */
static const char view_sql[] =
    "SELECT row_security_active($1::oid)::text, '; as ' || current_user::text || ', search path ' "
    "|| array_to_string(ARRAY(SELECT quote_ident(n) FROM unnest(current_schemas(false)) AS n), ', "
    "') || CASE WHEN $2::text = '' THEN '' ELSE ', PGOPTIONS ' || left(md5($2::text), 8) END || "
    "CASE WHEN row_security_active($1::oid) THEN ', under row-level security' ELSE '' END";

vecmill_status pg_ask_view(pg_store *s, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *row = NULL;
  const char *options = PQoptions(s->connections[PG_READER].conn);
  str_append_text(&sql, view_sql);
  pg_add_text(&p, s->table_oid);
  pg_add_text(&p, options ? options : "");
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot ask who sees what", &row, err);
  s->sees_part = status == VECMILL_OK && pg_text(row, 0, 0)[0] == 't';
  if (status == VECMILL_OK && (s->where || s->sees_part))
    str_append_text(&s->viewer, pg_text(row, 0, 1));
  if (s->viewer.failed) status = err_set_memory(err, "user", s->viewer.n);
  PQclear(row);
  str_fini(&sql);
  return status;
}
