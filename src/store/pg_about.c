/* What a server is and whether a run could work there, for who asks before there is a run. */
#include <string.h>

#include "store/pg_parts.h"

/* The session's words, a row of texts; $1 is the state's schema. */
static const char about_sql[] =
    "SELECT split_part(current_setting('server_version'), ' ', 1)::text, coalesce((SELECT "
    "extversion FROM pg_extension WHERE extname = 'vector'), '')::text, coalesce((SELECT "
    "default_version FROM pg_available_extensions WHERE name = 'vector'), '')::text, "
    "current_setting('transaction_read_only')::text, coalesce((SELECT "
    "has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1::text), "
    "has_database_privilege(current_database(), 'CREATE'))::text, current_user::text, "
    "current_database()::text, (SELECT count(*) FROM pg_namespace WHERE nspname = $1::text)::text";

enum { VERSION, VECTOR, VECTOR_TO_HAVE, READ_ONLY, MAY_KEEP_STATE, USER, DATABASE, HAS_STATE };

static vecmill_status check_state(const pg_store *s, const PGresult *row, vecmill_error *err) {
  if (strcmp(pg_text(row, 0, MAY_KEEP_STATE), "true") == 0) return VECMILL_OK;
  bool has_state = pg_integer(row, 0, HAS_STATE) > 0;
  str sql = {0};
  str_append_text(&sql, has_state ? "GRANT USAGE ON SCHEMA " : "GRANT CREATE ON DATABASE ");
  pg_append_name(&sql, has_state ? s->state : pg_text(row, 0, DATABASE));
  str_append_text(&sql, " TO ");
  pg_append_name(&sql, pg_text(row, 0, USER));
  vecmill_status status =
      err_set(err, VECMILL_ERROR_DATABASE,
              "%s: this user may not %s schema %s, where vecmill keeps its state (have its owner "
              "run %s, or what vecmill ingest prints)",
              s->shown, has_state ? "use" : "create", s->state, sql.failed ? "GRANT .." : sql.data);
  str_fini(&sql);
  return status;
}

static vecmill_status check(const pg_store *s, const PGresult *row, vecmill_error *err) {
  const char *to_have = pg_text(row, 0, VECTOR_TO_HAVE);
  if (!*pg_text(row, 0, VECTOR))
    return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                   *to_have ? "%s: this database has no pgvector (as a superuser: CREATE EXTENSION "
                              "vector; the server has version %s)"
                            : "%s: this database has no pgvector (install it, then as a "
                              "superuser: CREATE EXTENSION vector)",
                   s->shown, to_have);
  if (strcmp(pg_text(row, 0, READ_ONLY), "off") != 0)
    return err_set(err, VECMILL_ERROR_DATABASE,
                   "%s: the server takes no writes: a standby, or default_transaction_read_only "
                   "(name the primary)",
                   s->shown);
  return check_state(s, row, err);
}

/* As every run has them: pgbouncer's pool_mode = statement lets none through. */
static vecmill_status in_transaction(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  (void)s;
  (void)conn;
  (void)context;
  (void)err;
  return VECMILL_OK;
}

vecmill_status store_about_pg(store *base, pg_about *about_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  PGconn *conn = s->connections[PG_READER].conn;
  str sql = {0};
  pg_params p = {0};
  PGresult *row = NULL;
  *about_out = (pg_about){0};
  snprintf(about_out->place, sizeof about_out->place, "%s", s->shown);
  const char *tls = PQsslInUse(conn) ? PQsslAttribute(conn, "protocol") : NULL;
  snprintf(about_out->tls, sizeof about_out->tls, "%s", tls ? tls : "");
  str_append_text(&sql, about_sql);
  pg_add_text(&p, s->state);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &row, err);
  if (status == VECMILL_OK) {
    snprintf(about_out->version, sizeof about_out->version, "%s", pg_text(row, 0, VERSION));
    snprintf(about_out->vector, sizeof about_out->vector, "%s", pg_text(row, 0, VECTOR));
    status = check(s, row, err);
    if (status == VECMILL_OK)
      status = pg_transact(s, PG_READER, in_transaction, NULL, "no transaction can be begun", err);
  }
  PQclear(row);
  str_fini(&sql);
  return status;
}
