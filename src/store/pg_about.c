/* What a server is and whether a run could work there, for who asks before there is a run. */
#include <string.h>

#include "store/pg_parts.h"

/* The session's words, a row of texts. */
static const char about_sql[] =
    "SELECT split_part(current_setting('server_version'), ' ', 1)::text, coalesce((SELECT "
    "extversion FROM pg_extension WHERE extname = 'vector'), '')::text, coalesce((SELECT "
    "default_version FROM pg_available_extensions WHERE name = 'vector'), '')::text, "
    "current_setting('transaction_read_only')::text, current_user::text, current_database()::text";

enum { VERSION, VECTOR, VECTOR_TO_HAVE, READ_ONLY, USER, DATABASE };

/* As ingest asks for it (pg_rights.c). */
static vecmill_status check_state(pg_store *s, const PGresult *row, vecmill_error *err) {
  pg_state state;
  vecmill_status status = pg_ask_state(s, &state, err);
  bool lacks_ddl = !state.is_whole && !state.may_make;
  if (status != VECMILL_OK || (!lacks_ddl && (!state.has_tables || state.may_write))) return status;
  str sql = {0};
  if (state.has_tables) {
    status = lacks_ddl ? pg_append_state_ddl(s, &sql, err) : pg_append_state_grants(s, &sql, err);
  } else {
    str_append_text(&sql, state.has_schema ? "GRANT USAGE, CREATE ON SCHEMA "
                                           : "GRANT CREATE ON DATABASE ");
    pg_append_name(&sql, state.has_schema ? s->state : pg_text(row, 0, DATABASE));
    str_append_text(&sql, " TO ");
    pg_append_name(&sql, pg_text(row, 0, USER));
  }
  const char *verb = !state.has_schema               ? "create"
                     : state.has_tables && lacks_ddl ? "bring up to date"
                                                     : "use";
  if (status == VECMILL_OK)
    status = err_set(
        err, VECMILL_ERROR_DATABASE,
        "%s: this user may not %s schema %s, where vecmill keeps its state (have its owner run "
        "%s%s what vecmill ingest prints)",
        s->shown, verb, s->state, sql.failed ? "GRANT .." : sql.data,
        state.has_tables ? "or" : ", or");
  str_fini(&sql);
  return status;
}

static vecmill_status check(pg_store *s, const PGresult *row, vecmill_error *err) {
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
  PGresult *row = NULL;
  *about_out = (pg_about){0};
  snprintf(about_out->place, sizeof about_out->place, "%s", s->shown);
  const char *tls = PQsslInUse(conn) ? PQsslAttribute(conn, "protocol") : NULL;
  snprintf(about_out->tls, sizeof about_out->tls, "%s", tls ? tls : "");
  str_append_text(&sql, about_sql);
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot read the catalog", &row, err);
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
