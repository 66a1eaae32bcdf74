/*
 * The schema of vecmill's own: made, brought up to date, or its owner asked to do so.
 */
#include <string.h>

#include "store/pg_parts.h"

/* 1 had no number. */
#define STATE_VERSION 4
#define NUMBER(n) NUMBER_(n)
#define NUMBER_(n) #n

/*
 * Its relations, each after those that it refers to. All of their SQL is printed as it is where the
 * right to run it is missing.
 */
typedef struct part {
  const char *name;
  const char *columns; /* that every version's has: by these it is known as ours; NULL: an index */
  const char *added;   /* columns that came later */
  const char *create, *change; /* change: what one of before lacks */
} part;

#define MOST_TRIES 3

enum { COLUMNS, LEASES, LEASES_INDEX, WORKERS, FAILURES, HASHES, HASH_PAGES, VERSION, N_PARTS };

static const part parts[N_PARTS] = {
    {"columns",
     "schema_name,table_name,vector_column,text_column,model,revision,dimension,pooling,prefix,"
     "precision",
     "run_began,run,cut,table_oid,id_columns,metrics_table",
     "CREATE TABLE IF NOT EXISTS %s.columns(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
     "schema_name text NOT NULL, table_name text NOT NULL, vector_column text NOT NULL, "
     "text_column text NOT NULL, model text NOT NULL, revision text NOT NULL, dimension integer "
     "NOT NULL, pooling text NOT NULL, prefix text NOT NULL, precision text NOT NULL, created "
     "timestamptz NOT NULL DEFAULT now(), selection text NOT NULL DEFAULT '', pass bigint NOT NULL "
     "DEFAULT 0, cursor text[], pass_over boolean NOT NULL DEFAULT false, pass_claimed bigint NOT "
     "NULL DEFAULT 0, n_total bigint NOT NULL DEFAULT 0, n_done bigint NOT NULL DEFAULT 0, "
     "run_began timestamptz, run bigint NOT NULL DEFAULT 0, cut text[], table_oid oid, id_columns "
     "text NOT NULL DEFAULT '', metrics_table text NOT NULL DEFAULT E'\\n', "
     "UNIQUE(schema_name, table_name, vector_column));\n",
     "ALTER TABLE %s.columns ADD COLUMN IF NOT EXISTS run_began timestamptz, ADD COLUMN IF NOT "
     "EXISTS run bigint NOT NULL DEFAULT 0, ADD COLUMN IF NOT EXISTS cut text[], ADD COLUMN IF "
     "NOT EXISTS table_oid oid, ADD COLUMN IF NOT EXISTS id_columns text NOT NULL DEFAULT '', ADD "
     "COLUMN IF NOT EXISTS metrics_table text NOT NULL DEFAULT E'\\n';\n"
     "UPDATE %s.columns SET metrics_table = " PG_METRICS_OF_SELECTION " WHERE metrics_table = "
     "E'\\n';\n"},
    {"leases", "column_id,owner,fence,attempts,first_key,last_key,n_rows,expires,done", "",
     "CREATE TABLE IF NOT EXISTS %s.leases(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
     "column_id bigint NOT NULL REFERENCES %s.columns ON DELETE CASCADE, owner uuid NOT NULL, "
     "fence bigint NOT NULL DEFAULT 1, attempts integer NOT NULL DEFAULT 1, first_key text[] NOT "
     "NULL, last_key text[] NOT NULL, n_rows bigint NOT NULL, expires timestamptz NOT NULL, done "
     "boolean NOT NULL DEFAULT false, n_written bigint, n_failed bigint);\n",
     NULL},
    {"leases_column", NULL, NULL,
     "CREATE INDEX IF NOT EXISTS leases_column ON %s.leases(column_id, expires);\n", NULL},
    {"workers", "owner,column_id,host,pid,started,seen", "lease_seconds",
     "CREATE TABLE IF NOT EXISTS %s.workers(owner uuid PRIMARY KEY, column_id bigint NOT NULL "
     "REFERENCES %s.columns ON DELETE CASCADE, host text NOT NULL, pid integer NOT NULL, "
     "lease_seconds integer NOT NULL DEFAULT 60, started timestamptz NOT NULL DEFAULT now(), seen "
     "timestamptz NOT NULL DEFAULT now());\n",
     "ALTER TABLE %s.workers ADD COLUMN IF NOT EXISTS lease_seconds integer NOT NULL DEFAULT "
     "60;\n"},
    {"failures", "column_id,key,reason,owner,hash,at", "",
     "CREATE TABLE IF NOT EXISTS %s.failures(column_id bigint NOT NULL REFERENCES %s.columns ON "
     "DELETE CASCADE, key text[] NOT NULL, reason text NOT NULL, owner uuid NOT NULL, hash uuid "
     "NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY(column_id, key));\n",
     NULL},
    /* no REFERENCES: checking it for every row costs as much as the rest of its insertion */
    {"hashes", "column_id,key,hash", "",
     "CREATE TABLE IF NOT EXISTS %s.hashes(column_id bigint NOT NULL, key text[] NOT NULL, hash "
     "uuid NOT NULL, PRIMARY KEY(column_id, key));\n",
     "ALTER TABLE %s.hashes DROP CONSTRAINT IF EXISTS hashes_column_id_fkey;\n"},
    /* keys: a row for each column of the key; not compressed, which costs more than it saves */
    {"hash_pages", "column_id,id,keys,hashes", "",
     "CREATE TABLE IF NOT EXISTS %s.hash_pages(column_id bigint NOT NULL, id bigint GENERATED "
     "ALWAYS AS IDENTITY, keys text[] NOT NULL, hashes uuid[] NOT NULL, PRIMARY KEY(column_id, "
     "id));\n"
     "ALTER TABLE %s.hash_pages ALTER keys SET STORAGE EXTERNAL, ALTER hashes SET STORAGE "
     "EXTERNAL;\n",
     NULL},
    {"version", "n", "", "CREATE TABLE IF NOT EXISTS %s.version(n integer PRIMARY KEY);\n", NULL},
};
static const char schema_sql[] = "CREATE SCHEMA IF NOT EXISTS %s;\n";
static const char number_sql[] =
    "INSERT INTO %s.version VALUES(" NUMBER(STATE_VERSION) ") ON CONFLICT DO NOTHING;\n";

static void append_sql(str *sql, const pg_store *s, const char *text) {
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

/* --- what is there --- */

/* A row for each part, whoever's it is. A table's name is also that of a type. Identity columns'
 * sequences want no rights. */
static const char look_sql[] =
    "SELECT (n.oid IS NOT NULL)::text, coalesce(has_schema_privilege(n.oid, 'USAGE'), "
    "false)::text, CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), "
    "'CREATE') ELSE has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE') "
    "END::text, CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view' "
    "WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'S' THEN "
    "'sequence' WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type' ELSE CASE WHEN c.oid IS NOT "
    "NULL THEN 'relation' WHEN y.oid IS NOT NULL THEN 'type' ELSE '' END END, coalesce(CASE WHEN "
    "o.columns = '' THEN c.relkind = 'i' AND EXISTS (SELECT 1 FROM pg_index AS i JOIN pg_class AS "
    "t ON t.oid = indrelid WHERE indexrelid = c.oid AND t.relname = 'leases') ELSE c.relkind = 'r' "
    "AND string_to_array(o.columns, ',') <@ a.names END, false)::text, "
    "coalesce(string_to_array(o.added, ',') <@ a.names, false)::text, "
    "coalesce(pg_has_role(c.relowner, 'USAGE'), false)::text, coalesce(has_table_privilege(c.oid, "
    "'SELECT'), false)::text, coalesce(has_table_privilege(c.oid, 'INSERT') AND "
    "has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'), false)::text "
    "FROM (SELECT 1) AS one LEFT JOIN pg_namespace AS n ON nspname = $1::text CROSS JOIN "
    "unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS o(name, columns, added, place) "
    "LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = o.name LEFT JOIN pg_type AS "
    "y ON y.typnamespace = n.oid AND y.typname = o.name AND o.columns <> '' LEFT JOIN LATERAL "
    "(SELECT array_agg(attname::text) AS names FROM pg_attribute WHERE attrelid = c.oid AND attnum "
    "> 0 AND NOT attisdropped) AS a ON true ORDER BY o.place";

enum { HAS_SCHEMA, USES, MAY_CREATE, KIND, IS_OURS, IS_CURRENT, OWNS, READS, WRITES };

static bool is(const PGresult *rows, int i, int field) {
  return pg_text(rows, i, field)[0] == 't';
}

/* '{"..","..",..}' of them */
static void append_array(str *array, const char *text, bool is_first) {
  str_append_text(array, is_first ? "{" : ",");
  str_append_quoted(array, text ? text : "", '"');
}

static vecmill_status look(pg_store *s, PGresult **rows_out, vecmill_error *err) {
  str sql = {0}, arrays[3] = {0};
  pg_params p = {0};
  vecmill_status status = VECMILL_OK;
  str_append_text(&sql, look_sql);
  pg_add_text(&p, s->state);
  for (int i = 0; i < N_PARTS; i++) {
    append_array(&arrays[0], parts[i].name, i == 0);
    append_array(&arrays[1], parts[i].columns, i == 0);
    append_array(&arrays[2], parts[i].added, i == 0);
  }
  for (int i = 0; i < 3; i++) {
    str_append_char(&arrays[i], '}');
    if (arrays[i].failed) status = err_set_memory(err, "schema", arrays[i].n);
    else pg_add_text(&p, arrays[i].data);
  }
  if (status == VECMILL_OK)
    status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", rows_out, err);
  for (int i = 0; i < 3; i++) str_fini(&arrays[i]);
  str_fini(&sql);
  return status;
}

/* The number that it has; 0: none. */
static vecmill_status read_number(pg_store *s, int64_t *number_out, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT max(n)::text FROM ");
  pg_append_state(&sql, s, "version");
  vecmill_status status =
      pg_run(s, PG_READER, &sql, NULL, "cannot read the schema's version", &rows, err);
  *number_out = status == VECMILL_OK ? pg_integer(rows, 0, 0) : 0;
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Other people's, by whatever of our names, would be written into, or be in the way. A `version`
 * that stands alone is not known by its one column. */
static vecmill_status check_ours(const pg_store *s, const PGresult *rows, vecmill_error *err) {
  for (int i = 0; i < N_PARTS; i++) {
    const char *kind = pg_text(rows, i, KIND);
    if (!*kind || (is(rows, i, IS_OURS) && is(rows, COLUMNS, IS_OURS))) continue;
    if (is(rows, i, IS_OURS) && i != VERSION)
      return err_set(err, VECMILL_ERROR_CONFLICT,
                     "schema %s holds vecmill's %s %s, and its table columns is gone (drop what is "
                     "left, or name another with --state-schema)",
                     s->state, kind, parts[i].name);
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "schema %s holds %s %s %s that is not vecmill's (name another with "
                   "--state-schema)",
                   s->state, kind[0] == 'i' ? "an" : "a", kind, parts[i].name);
  }
  return VECMILL_OK;
}

/* With has_tables and number set. */
static void sum_up(const PGresult *rows, pg_state *out) {
  bool owns = true, is_current = true;
  out->may_read = out->may_write = is(rows, 0, USES);
  for (int i = 0; i < N_PARTS; i++) {
    if (!*pg_text(rows, i, KIND)) {
      out->lacking |= 1u << i;
      continue;
    }
    owns &= is(rows, i, OWNS);
    if (!parts[i].columns) continue;
    is_current &= is(rows, i, IS_CURRENT);
    out->may_read &= is(rows, i, READS);
    out->may_write &= is(rows, i, READS) && (i == VERSION || is(rows, i, WRITES));
  }
  bool is_numbered = out->number == STATE_VERSION || out->number < 0;
  out->is_old = out->has_tables && (!is_current || !is_numbered);
  out->is_whole = out->has_tables && !out->is_old && !out->lacking;
  out->may_make = owns && is(rows, 0, out->lacking ? MAY_CREATE : USES);
}

vecmill_status pg_ask_state(pg_store *s, pg_state *out, vecmill_error *err) {
  PGresult *rows = NULL;
  *out = (pg_state){0};
  if (strncmp(s->state, "pg_", 3) == 0) /* IsReservedName of the server's catalog.c */
    return err_set(
        err, VECMILL_ERROR_ARGUMENT,
        "--state-schema %s: names that begin with pg_ are the server's own (give another)",
        s->state);
  vecmill_status status = look(s, &rows, err);
  if (status == VECMILL_OK) {
    out->has_schema = is(rows, 0, HAS_SCHEMA);
    out->has_tables = is(rows, COLUMNS, IS_OURS);
    if (out->has_tables && is(rows, VERSION, IS_OURS)) {
      if (is(rows, 0, USES) && is(rows, VERSION, READS)) status = read_number(s, &out->number, err);
      else out->number = -1;
    }
  }
  if (status == VECMILL_OK && out->number > STATE_VERSION)
    status = err_set(err, VECMILL_ERROR_UNSUPPORTED,
                     "%s: schema %s was made by a later vecmill (use that one, or name another "
                     "with --state-schema)",
                     s->shown, s->state);
  else if (status == VECMILL_OK) status = check_ours(s, rows, err);
  if (status == VECMILL_OK) sum_up(rows, out);
  PQclear(rows);
  return status;
}

vecmill_status pg_state_exists(pg_store *s, bool *exists_out, vecmill_error *err) {
  pg_state state;
  vecmill_status status = pg_ask_state(s, &state, err);
  *exists_out = status == VECMILL_OK && state.has_tables;
  return status;
}

vecmill_status pg_check_state(pg_store *s, vecmill_error *err) {
  pg_state state;
  vecmill_status status = pg_ask_state(s, &state, err);
  if (status != VECMILL_OK || !state.has_tables || state.is_whole) return status;
  if (state.is_old)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                   "%s: schema %s was made by an earlier vecmill (the next ingest into this "
                   "database brings it up to date)",
                   s->shown, s->state);
  return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                 "%s: schema %s lacks %s, which somebody dropped (the next ingest into this "
                 "database puts it back)",
                 s->shown, s->state, parts[__builtin_ctz(state.lacking)].name);
}

/* --- what is to be run --- */

/* Of what is there and what is not; CREATE SCHEMA wants the right to do so even if there is nothing
 * to do. */
static void append_ddl(str *sql, const pg_store *s, const pg_state *state) {
  if (!state->has_schema) append_sql(sql, s, schema_sql);
  for (int i = 0; i < N_PARTS; i++) {
    if (state->lacking & 1u << i) append_sql(sql, s, parts[i].create);
    else if (parts[i].change && state->is_old) append_sql(sql, s, parts[i].change);
  }
  if (state->number != STATE_VERSION) append_sql(sql, s, number_sql);
}

/* To this user, of our tables alone: others may lie there too. `without`: but for these parts. */
static vecmill_status append_grants(str *sql, pg_store *s, unsigned without, vecmill_error *err) {
  str query = {0};
  PGresult *rows = NULL;
  str_append_text(&query, "SELECT current_user::text");
  vecmill_status status = pg_run(s, PG_READER, &query, NULL, "cannot ask who we are", &rows, err);
  str_fini(&query);
  if (status == VECMILL_OK) {
    const char *user = pg_text(rows, 0, 0), *separator = " ON ";
    str_append_text(sql, "GRANT USAGE ON SCHEMA ");
    pg_append_name(sql, s->state);
    str_append_text(sql, " TO ");
    pg_append_name(sql, user);
    str_append_format(sql, ";\nGRANT SELECT%s", s->only_reads ? "" : ", INSERT, UPDATE, DELETE");
    for (int i = 0; i < N_PARTS; i++) {
      if (!parts[i].columns || without & 1u << i) continue;
      str_append_text(sql, separator);
      pg_append_state(sql, s, parts[i].name);
      separator = ", ";
    }
    str_append_text(sql, " TO ");
    pg_append_name(sql, user);
    str_append_text(sql, ";\n");
  }
  PQclear(rows);
  return status;
}

vecmill_status pg_append_state_grants(pg_store *s, str *sql, vecmill_error *err) {
  pg_state state;
  vecmill_status status = pg_ask_state(s, &state, err);
  return status == VECMILL_OK ? append_grants(sql, s, state.lacking, err) : status;
}

vecmill_status pg_append_state_ddl(pg_store *s, str *sql, vecmill_error *err) {
  pg_state state;
  vecmill_status status = pg_ask_state(s, &state, err);
  if (status != VECMILL_OK) return status;
  append_ddl(sql, s, &state);
  return append_grants(sql, s, 0, err);
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

/* The lock: two that create at once would trip over each other in the catalog. */
static vecmill_status make_state(pg_store *s, const pg_state *state, vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT pg_advisory_xact_lock(8247331862370315);\n");
  append_ddl(&sql, s, state);
  vecmill_status status =
      sql.failed ? err_set_memory(err, "schema", sql.n)
                 : pg_run_script(s, PG_READER, sql.data, "cannot create vecmill's schema", err);
  str_fini(&sql);
  return status;
}

/* Looks again: another version may have made its own while the lock was waited for. */
vecmill_status pg_create_state(pg_store *s, vecmill_error *err) {
  pg_state state;
  vecmill_status status = pg_ask_state(s, &state, err);
  for (int i = 0; status == VECMILL_OK && !state.is_whole && i < MOST_TRIES; i++) {
    status = make_state(s, &state, err);
    if (status == VECMILL_OK) status = pg_ask_state(s, &state, err);
  }
  return status;
}
