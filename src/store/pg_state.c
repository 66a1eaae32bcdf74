/*
 * The schema of vecmill's own: made, brought up to date, or its owner asked to do so.
 */
#include "store/pg_parts.h"

/* 1 had no number. */
#define STATE_VERSION 3
#define NUMBER(n) NUMBER_(n)
#define NUMBER_(n) #n

/* All of this is printed as it is where the right to do it is missing. */
static const char create_sql[] = "CREATE SCHEMA IF NOT EXISTS %s;\n";
static const char schema_sql[] =
    "CREATE TABLE IF NOT EXISTS %s.columns(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "schema_name text NOT NULL, table_name text NOT NULL, vector_column text NOT NULL, "
    "text_column text NOT NULL, model text NOT NULL, revision text NOT NULL, dimension integer NOT "
    "NULL, pooling text NOT NULL, prefix text NOT NULL, precision text NOT NULL, created "
    "timestamptz "
    "NOT NULL DEFAULT now(), selection text NOT NULL DEFAULT '', pass bigint NOT NULL DEFAULT 0, "
    "cursor text[], pass_over boolean NOT NULL DEFAULT false, pass_claimed bigint NOT NULL DEFAULT "
    "0, "
    "n_total bigint NOT NULL DEFAULT 0, n_done bigint NOT NULL DEFAULT 0, run_began timestamptz, "
    "run bigint NOT NULL DEFAULT 0, cut text[], "
    "UNIQUE(schema_name, table_name, vector_column));\n"
    "CREATE TABLE IF NOT EXISTS %s.leases(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "column_id bigint NOT NULL REFERENCES %s.columns ON DELETE CASCADE, owner uuid NOT NULL, fence "
    "bigint NOT NULL DEFAULT 1, attempts integer NOT NULL DEFAULT 1, first_key text[] NOT NULL, "
    "last_key text[] NOT NULL, n_rows bigint NOT NULL, expires timestamptz NOT NULL, done boolean "
    "NOT "
    "NULL DEFAULT false, n_written bigint, n_failed bigint);\n"
    "CREATE INDEX IF NOT EXISTS leases_column ON %s.leases(column_id, expires);\n"
    "CREATE TABLE IF NOT EXISTS %s.workers(owner uuid PRIMARY KEY, column_id bigint NOT NULL "
    "REFERENCES %s.columns ON DELETE CASCADE, host text NOT NULL, pid integer NOT NULL, "
    "lease_seconds integer NOT NULL DEFAULT 60, started "
    "timestamptz NOT NULL DEFAULT now(), seen timestamptz NOT NULL DEFAULT now());\n"
    "CREATE TABLE IF NOT EXISTS %s.failures(column_id bigint NOT NULL REFERENCES %s.columns ON "
    "DELETE CASCADE, key text[] NOT NULL, reason text NOT NULL, owner uuid NOT NULL, hash uuid NOT "
    "NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY(column_id, key));\n"
    /* no REFERENCES: checking it for every row costs as much as the rest of its insertion */
    "CREATE TABLE IF NOT EXISTS %s.hashes(column_id bigint NOT NULL, key text[] NOT NULL, hash "
    "uuid NOT NULL, PRIMARY KEY(column_id, key));\n";

/* What came later: new tables, then what is to be changed in a schema of before. */
static const char added_sql[] =
    /* keys: a row for each column of the key; not compressed, which costs more than it saves */
    "CREATE TABLE IF NOT EXISTS %s.hash_pages(column_id bigint NOT NULL, id bigint GENERATED "
    "ALWAYS AS IDENTITY, keys text[] NOT NULL, hashes uuid[] NOT NULL, PRIMARY KEY(column_id, "
    "id));\n"
    "ALTER TABLE %s.hash_pages ALTER keys SET STORAGE EXTERNAL, ALTER hashes SET STORAGE "
    "EXTERNAL;\n"
    "CREATE TABLE IF NOT EXISTS %s.version(n integer PRIMARY KEY);\n"
    "INSERT INTO %s.version VALUES(" NUMBER(STATE_VERSION) ") ON CONFLICT DO NOTHING;\n";
static const char changed_sql[] =
    "ALTER TABLE %s.columns ADD COLUMN IF NOT EXISTS run_began timestamptz, ADD COLUMN IF NOT "
    "EXISTS run bigint NOT NULL DEFAULT 0, ADD COLUMN IF NOT EXISTS cut text[];\n"
    "ALTER TABLE %s.workers ADD COLUMN IF NOT EXISTS lease_seconds integer NOT NULL DEFAULT 60;\n"
    "ALTER TABLE %s.hashes DROP CONSTRAINT IF EXISTS hashes_column_id_fkey;\n";

static void append_ddl(str *sql, const pg_store *s, const char *text) {
  str name = {0};
  pg_append_name(&name, s->state);
  for (const char *c = text; *c && !name.failed; c++) {
    if (c[0] == '%' && c[1] == 's') {
      str_append(sql, name.data, name.n);
      c++;
    } else {
      str_append_char(sql, *c);
    }
  }
  if (name.failed) sql->failed = true;
  str_fini(&name);
}

/* Which of its tables there are. */
static vecmill_status look_for(pg_store *s, const char *table, bool *found_out,
                               vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql,
                  "SELECT count(*)::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = "
                  "relnamespace WHERE nspname = $1::text AND relkind = 'r' AND relname = $2::text");
  pg_add_text(&p, s->state);
  pg_add_text(&p, table);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &rows, err);
  *found_out = status == VECMILL_OK && pg_integer(rows, 0, 0) > 0;
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_state_exists(pg_store *s, bool *exists_out, vecmill_error *err) {
  return look_for(s, "columns", exists_out, err);
}

/* Its tables have identity columns, whose sequences want no rights. */
static const char rights_sql[] =
    "SELECT (n.oid IS NOT NULL)::text, (t.n > 0)::text, CASE WHEN n.oid IS NULL THEN "
    "has_database_privilege(current_database(), 'CREATE') ELSE has_schema_privilege(n.oid, "
    "'CREATE') AND has_schema_privilege(n.oid, 'USAGE') END::text, "
    "coalesce(has_schema_privilege(n.oid, 'USAGE') AND writes, "
    "false)::text, coalesce(has_schema_privilege(n.oid, 'USAGE') AND reads, false)::text FROM "
    "(SELECT 1) AS one LEFT JOIN pg_namespace AS n ON nspname = $1::text, LATERAL (SELECT count(*) "
    "FILTER (WHERE relname = 'columns') AS n, bool_and(has_table_privilege(c.oid, 'SELECT')) AS "
    "reads, bool_and(has_table_privilege(c.oid, 'SELECT') AND (relname = 'version' OR "
    "(has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') AND "
    "has_table_privilege(c.oid, 'DELETE')))) AS writes FROM pg_class AS c WHERE relnamespace = "
    "n.oid AND relkind = 'r' AND relname IN ('columns', 'leases', 'workers', 'failures', 'hashes', "
    "'hash_pages', 'version')) AS t";

vecmill_status pg_ask_state(pg_store *s, pg_state_rights *out, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *row = NULL;
  *out = (pg_state_rights){0};
  str_append_text(&sql, rights_sql);
  pg_add_text(&p, s->state);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the rights", &row, err);
  bool *fields[] = {&out->has_schema, &out->has_tables, &out->may_make, &out->may_write,
                    &out->may_read};
  for (int i = 0; status == VECMILL_OK && i < (int)(sizeof fields / sizeof *fields); i++)
    *fields[i] = pg_text(row, 0, i)[0] == 't';
  PQclear(row);
  str_fini(&sql);
  return status;
}

/* The schema is created where it is missing only: CREATE SCHEMA wants the right to do so even if
 * there is nothing to do. */
static vecmill_status append_schema(pg_store *s, str *sql, vecmill_error *err) {
  pg_state_rights rights;
  vecmill_status status = pg_ask_state(s, &rights, err);
  if (status != VECMILL_OK) return status;
  if (!rights.has_schema) append_ddl(sql, s, create_sql);
  append_ddl(sql, s, schema_sql);
  return VECMILL_OK;
}

/* What the owner of the schema says so that this user may work with it. */
vecmill_status pg_append_state_grants(pg_store *s, str *sql, vecmill_error *err) {
  str query = {0};
  PGresult *rows = NULL;
  str_append_text(&query, "SELECT current_user::text");
  vecmill_status status = pg_run(s, PG_READER, &query, NULL, "cannot ask who we are", &rows, err);
  str_fini(&query);
  if (status == VECMILL_OK) {
    str_append_text(sql, "GRANT USAGE ON SCHEMA ");
    pg_append_name(sql, s->state);
    str_append_text(sql, " TO ");
    pg_append_name(sql, pg_text(rows, 0, 0));
    str_append_format(sql, ";\nGRANT SELECT%s ON ALL TABLES IN SCHEMA ",
                      s->only_reads ? "" : ", INSERT, UPDATE, DELETE");
    pg_append_name(sql, s->state);
    str_append_text(sql, " TO ");
    pg_append_name(sql, pg_text(rows, 0, 0));
    str_append_text(sql, ";\n");
  }
  PQclear(rows);
  return status;
}

vecmill_status pg_ask_for_grants(pg_store *s, vecmill_error *err) {
  str sql = {0};
  vecmill_status status = pg_append_state_grants(s, &sql, err);
  if (status == VECMILL_OK)
    status =
        err_set(err, VECMILL_ERROR_DATABASE,
                "%s: this user may not use schema %s (have its owner run this, or name another "
                "with --state-schema): %s",
                s->shown, s->state, sql.failed ? "GRANT .." : sql.data);
  str_fini(&sql);
  return status;
}

/* 0: there is none. 1: it is older than its numbers. */
static vecmill_status read_version(pg_store *s, int64_t *version_out, vecmill_error *err) {
  bool exists = false, has_number = false;
  vecmill_status status = look_for(s, "columns", &exists, err);
  if (status == VECMILL_OK && exists) status = look_for(s, "version", &has_number, err);
  *version_out = exists ? 1 : 0;
  if (status != VECMILL_OK || !has_number) return status;
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT max(n)::text FROM ");
  pg_append_state(&sql, s, "version");
  status = pg_run(s, PG_READER, &sql, NULL, "cannot read the schema's version", &rows, err);
  if (status == VECMILL_OK) *version_out = pg_integer(rows, 0, 0);
  else if (pg_state_is("42501")) status = pg_ask_for_grants(s, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_append_state_ddl(pg_store *s, str *sql, vecmill_error *err) {
  vecmill_status status = append_schema(s, sql, err);
  if (status != VECMILL_OK) return status;
  append_ddl(sql, s, added_sql);
  return pg_append_state_grants(s, sql, err);
}

/* `ddl` was refused: the owner is to run it, and to let this user in. */
static vecmill_status ask_for_ddl(pg_store *s, str *ddl, vecmill_error *err) {
  vecmill_status status = pg_append_state_grants(s, ddl, err);
  if (status != VECMILL_OK) return status;
  return err_set(err, VECMILL_ERROR_DATABASE,
                 "%s: schema %s was made by an earlier vecmill, and this user may not bring it "
                 "up to date (have its owner run this, or name another with --state-schema): %s",
                 s->shown, s->state, ddl->failed ? "ALTER .." : ddl->data);
}

vecmill_status pg_create_state(pg_store *s, vecmill_error *err) {
  int64_t version = 0;
  vecmill_status status = read_version(s, &version, err);
  if (status != VECMILL_OK || version == STATE_VERSION) return status;
  if (version > STATE_VERSION)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                   "%s: schema %s was made by a later vecmill (use that one, or name another with "
                   "--state-schema)",
                   s->shown, s->state);
  str ddl = {0}, sql = {0};
  vecmill_error words = {0};
  if (version > 0) append_ddl(&ddl, s, changed_sql);
  else status = append_schema(s, &ddl, err);
  append_ddl(&ddl, s, added_sql);
  /* the lock: two that create at once would trip over each other in the catalog */
  str_append_text(&sql, "SELECT pg_advisory_xact_lock(8247331862370315);\n");
  str_append(&sql, ddl.data, ddl.n);
  bool is_good = status == VECMILL_OK; /* else `err` is set */
  if (is_good && (sql.failed || ddl.failed)) status = err_set_memory(&words, "schema", sql.n);
  else if (is_good)
    status = pg_run_script(s, PG_READER, sql.data, "cannot create vecmill's schema", &words);
  if (is_good && status != VECMILL_OK && version > 0 && pg_state_is("42501"))
    status = ask_for_ddl(s, &ddl, err);
  else if (is_good && status != VECMILL_OK && err) *err = words;
  str_fini(&ddl);
  str_fini(&sql);
  return status;
}

vecmill_status pg_check_state(pg_store *s, vecmill_error *err) {
  int64_t version = 0;
  vecmill_status status = read_version(s, &version, err);
  if (status != VECMILL_OK || version == 0 || version == STATE_VERSION) return status;
  return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                 version < STATE_VERSION
                     ? "%s: schema %s was made by an earlier vecmill (the next ingest into this "
                       "database brings it up to date)"
                     : "%s: schema %s was made by a later vecmill (use that one)",
                 s->shown, s->state);
}
