/*
 * The schema of vecmill's own, what made a column, and beginning a run.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

/* Printed as it is where the right to create it is missing. */
static const char schema_sql[] =
    "CREATE SCHEMA IF NOT EXISTS %s;\n"
    "CREATE TABLE IF NOT EXISTS %s.columns(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "schema_name text NOT NULL, table_name text NOT NULL, vector_column text NOT NULL, "
    "text_column text NOT NULL, model text NOT NULL, revision text NOT NULL, dimension integer NOT "
    "NULL, pooling text NOT NULL, prefix text NOT NULL, precision text NOT NULL, created "
    "timestamptz "
    "NOT NULL DEFAULT now(), selection text NOT NULL DEFAULT '', pass bigint NOT NULL DEFAULT 0, "
    "cursor text[], pass_over boolean NOT NULL DEFAULT false, pass_claimed bigint NOT NULL DEFAULT "
    "0, "
    "n_total bigint NOT NULL DEFAULT 0, n_done bigint NOT NULL DEFAULT 0, run_began timestamptz, "
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
    "timestamptz NOT NULL DEFAULT now(), seen timestamptz NOT NULL DEFAULT now(), n_done bigint "
    "NOT "
    "NULL DEFAULT 0, n_failed bigint NOT NULL DEFAULT 0);\n"
    "CREATE TABLE IF NOT EXISTS %s.failures(column_id bigint NOT NULL REFERENCES %s.columns ON "
    "DELETE CASCADE, key text[] NOT NULL, reason text NOT NULL, owner uuid NOT NULL, hash uuid NOT "
    "NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY(column_id, key));\n"
    /* no REFERENCES: checking it for every row costs as much as the rest of its insertion */
    "CREATE TABLE IF NOT EXISTS %s.hashes(column_id bigint NOT NULL, key text[] NOT NULL, hash "
    "uuid NOT NULL, PRIMARY KEY(column_id, key));\n"
    /* keys: a row for each column of the key; not compressed, which costs more than it saves */
    "CREATE TABLE IF NOT EXISTS %s.hash_pages(column_id bigint NOT NULL, id bigint GENERATED "
    "ALWAYS AS IDENTITY, keys text[] NOT NULL, hashes uuid[] NOT NULL, PRIMARY KEY(column_id, "
    "id));\n"
    "ALTER TABLE %s.hash_pages ALTER keys SET STORAGE EXTERNAL, ALTER hashes SET STORAGE "
    "EXTERNAL;\n";

static void append_schema_sql(str *sql, const pg_store *s) {
  str name = {0};
  pg_append_name(&name, s->state);
  for (const char *c = schema_sql; *c && !name.failed; c++) {
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

/* Whether all of it is there. */
static vecmill_status state_exists(pg_store *s, bool *exists_out, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql,
                  "SELECT count(*)::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = "
                  "relnamespace WHERE nspname = $1::text AND relkind = 'r' AND relname IN "
                  "('columns', 'leases', 'workers', 'failures', 'hashes', "
                  "'hash_pages')");
  pg_add_text(&p, s->state);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &rows, err);
  *exists_out = status == VECMILL_OK && pg_integer(rows, 0, 0) == 6;
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* What the owner of the schema says so that this user may work with it. */
static vecmill_status append_grants(pg_store *s, str *sql, vecmill_error *err) {
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

/* The state is there, and its owner has not let this user in. */
static vecmill_status ask_for_grants(pg_store *s, vecmill_error *err) {
  str sql = {0};
  vecmill_status status = append_grants(s, &sql, err);
  if (status == VECMILL_OK)
    status =
        err_set(err, VECMILL_ERROR_DATABASE,
                "%s: this user may not use schema %s (have its owner run this, or name another "
                "with --state-schema): %s",
                s->shown, s->state, sql.failed ? "GRANT .." : sql.data);
  str_fini(&sql);
  return status;
}

static vecmill_status create_state(pg_store *s, vecmill_error *err) {
  bool exists = false;
  vecmill_status status = state_exists(s, &exists, err);
  if (status != VECMILL_OK || exists) return status;
  str sql = {0};
  vecmill_error words = {0};
  /* the lock: two that create at once would trip over each other in the catalog */
  str_append_text(&sql, "SELECT pg_advisory_xact_lock(8247331862370315);\n");
  size_t n_before = sql.n;
  append_schema_sql(&sql, s);
  status = sql.failed
               ? err_set_memory(&words, "schema", sql.n)
               : pg_run_script(s, PG_READER, sql.data, "cannot create vecmill's schema", &words);
  if (status != VECMILL_OK && pg_state_is("42501")) {
    status = append_grants(s, &sql, err);
    if (status == VECMILL_OK)
      status = err_set(err, VECMILL_ERROR_DATABASE,
                       "%s: schema %s is missing, and this user may not create it (have the "
                       "database's owner run this, or name another with --state-schema): %s",
                       s->shown, s->state, sql.failed ? "CREATE .." : sql.data + n_before);
  } else if (status != VECMILL_OK && err) {
    *err = words;
  }
  str_fini(&sql);
  return status;
}

/* --- the record --- */

static vecmill_status take_record(pg_store *s, const PGresult *rows, store_maker *maker_out,
                                  vecmill_error *err) {
  for (int i = 0; i < 6; i++) {
    mem_free(s->maker_text[i]);
    s->maker_text[i] = mem_strdup(pg_text(rows, 0, i));
    if (!s->maker_text[i]) return err_set_memory(err, "record", 64);
  }
  mem_free(s->column_id);
  s->column_id = mem_strdup(pg_text(rows, 0, 7));
  if (!s->column_id) return err_set_memory(err, "record", 64);
  *maker_out = (store_maker){.model = s->maker_text[0],
                             .revision = s->maker_text[1],
                             .pooling = s->maker_text[2],
                             .prefix = s->maker_text[3],
                             .precision = s->maker_text[4],
                             .text_column = s->maker_text[5],
                             .dimension = (size_t)pg_integer(rows, 0, 6)};
  return VECMILL_OK;
}

vecmill_status pg_store_record(store *base, store_maker *maker_out, bool *found_out,
                               vecmill_error *err) {
  pg_store *s = pg_of(base);
  bool exists = false;
  *found_out = false;
  vecmill_status status = state_exists(s, &exists, err);
  if (status != VECMILL_OK || !exists) return status;
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT model, revision, pooling, prefix, precision, (SELECT attname::text "
                        "FROM pg_attribute WHERE attrelid = $4::regclass AND attname = text_column "
                        "AND NOT attisdropped), dimension::text, id::text FROM ");
  pg_append_state(&sql, s, "columns");
  str_append_text(&sql,
                  " WHERE schema_name = $1::text AND table_name = $2::text AND vector_column = "
                  "$3::text");
  pg_add_text(&p, s->schema);
  pg_add_text(&p, s->table);
  pg_add_text(&p, s->vector_column);
  pg_add_text(&p, s->table_name);
  status = pg_run(s, PG_READER, &sql, &p, "cannot read the record", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0) {
    status = take_record(s, rows, maker_out, err);
    *found_out = status == VECMILL_OK;
  } else if (status != VECMILL_OK && pg_state_is("42501")) {
    status = ask_for_grants(s, err);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status no_pgvector(const pg_store *s, vecmill_error *err) {
  return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                 "%s: this database has no pgvector (install it, then as a superuser: CREATE "
                 "EXTENSION vector)",
                 s->shown);
}

vecmill_status pg_store_inspect(store *base, size_t dimension, bool *has_vectors_out,
                                vecmill_error *err) {
  pg_store *s = pg_of(base);
  *has_vectors_out = false;
  if (!s->vector_type) return no_pgvector(s, err);
  if (!s->has_vector_column) return VECMILL_OK;
  if (s->vector_dimension > 0 && (size_t)s->vector_dimension != dimension)
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: column %s holds vectors of %d numbers, the model makes %zu (use the "
                   "model that made it, or another --vector-column)",
                   s->table, s->vector_column, s->vector_dimension, dimension);
  str sql = {0};
  PGresult *rows = NULL;
  str_append_format(&sql, "SELECT EXISTS (SELECT 1 FROM %s WHERE ", s->table_sql);
  pg_append_column(&sql, s, s->vector_column);
  str_append_text(&sql, " IS NOT NULL)::text");
  vecmill_status status =
      pg_run(s, PG_READER, &sql, NULL, "cannot read the vector column", &rows, err);
  *has_vectors_out = status == VECMILL_OK && pg_text(rows, 0, 0)[0] == 't';
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_store_sample(store *base, size_t dimension, size_t n_max, store_page *page_out,
                               vecmill_error *err) {
  pg_store *s = pg_of(base);
  *page_out = (store_page){0};
  if (!s->has_vector_column) return VECMILL_OK;
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT ");
  pg_append_key_texts(&sql, s);
  str_append_text(&sql, ", ");
  pg_append_column(&sql, s, s->text_column);
  str_append_text(&sql, "::text, '', ");
  pg_append_column(&sql, s, s->vector_column);
  str_append_format(&sql, " FROM %s WHERE ", s->table_sql);
  pg_append_column(&sql, s, s->vector_column);
  str_append_text(&sql, " IS NOT NULL AND NOT ");
  pg_append_blank(&sql, s);
  pg_append_considered(&sql, s, "$1");
  str_append_format(&sql, " ORDER BY random() LIMIT %zu", n_max);
  vecmill_status status =
      pg_run(s, PG_READER, &sql, NULL, "cannot read the vector column", &rows, err);
  if (status == VECMILL_OK) status = pg_take_page(s, rows, true, dimension, page_out, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* --- begin --- */

static vecmill_status add_column(pg_store *s, size_t dimension, vecmill_error *err) {
  if (s->has_vector_column) return VECMILL_OK;
  str sql = {0};
  vecmill_error words = {0};
  str_append_format(&sql, "ALTER TABLE %s ADD COLUMN IF NOT EXISTS ", s->table_name);
  pg_append_name(&sql, s->vector_column);
  str_append_format(&sql, " %s(%zu)", s->vector_type, dimension);
  vecmill_status status =
      sql.failed ? err_set_memory(&words, s->table, sql.n)
                 : pg_run_script(s, PG_READER, sql.data, "cannot add the vector column", &words);
  if (status == VECMILL_OK) s->has_vector_column = true;
  else if (pg_state_is("42501"))
    err_set(err, status,
            "%s: table %s has no column %s, and this user may not add it (have its owner run "
            "this): %s",
            s->shown, s->table, s->vector_column, sql.data);
  else if (err) *err = words;
  str_fini(&sql);
  return status;
}

/* Rights that are missing are told before the first row is embedded. */
static vecmill_status check_rights(pg_store *s, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT has_column_privilege($1::text, $2::text, 'UPDATE')::text, "
                        "current_user::text");
  pg_add_text(&p, s->table_name);
  pg_add_text(&p, s->vector_column);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the rights", &rows, err);
  if (status == VECMILL_OK && pg_text(rows, 0, 0)[0] != 't') {
    str_clear(&sql);
    str_append_text(&sql, "GRANT UPDATE (");
    pg_append_name(&sql, s->vector_column);
    str_append_format(&sql, ") ON %s TO ", s->table_name);
    pg_append_name(&sql, pg_text(rows, 0, 1));
    status = err_set(err, VECMILL_ERROR_DATABASE,
                     "%s: this user may not write column %s of table %s (have its owner run this): "
                     "%s",
                     s->shown, s->vector_column, s->table, sql.failed ? "GRANT .." : sql.data);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static bool agrees(const pg_store *s, const store_maker *there, const store_maker *maker) {
  return strcmp(there->revision, maker->revision) == 0 && there->dimension == maker->dimension &&
         strcmp(there->prefix, maker->prefix) == 0 &&
         strcmp(there->precision, maker->precision) == 0 &&
         (!*there->text_column || strcmp(there->text_column, s->text_column) == 0);
}

/* Adds the record, or, where `replaces`, takes the place of one that no vector stands behind. */
static vecmill_status write_record(pg_store *s, const store_maker *maker, bool replaces,
                                   vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  char dimension[24];
  snprintf(dimension, sizeof dimension, "%zu", maker->dimension);
  if (replaces) {
    str_append_text(&sql, "WITH gone AS (DELETE FROM ");
    pg_append_state(&sql, s, "failures");
    str_append_format(&sql, " WHERE column_id = %s), forgotten AS (DELETE FROM ", s->column_id);
    pg_append_state(&sql, s, "hashes");
    str_append_format(&sql, " WHERE column_id = %s), and_pages AS (DELETE FROM ", s->column_id);
    pg_append_state(&sql, s, "hash_pages");
    str_append_format(&sql, " WHERE column_id = %s) ", s->column_id);
  }
  str_append_text(&sql, "INSERT INTO ");
  pg_append_state(&sql, s, "columns");
  str_append_text(&sql,
                  "(schema_name, table_name, vector_column, text_column, model, revision, "
                  "dimension, pooling, prefix, precision) VALUES($1::text, $2::text, $3::text, "
                  "$4::text, $5::text, $6::text, $7::integer, $8::text, $9::text, $10::text) "
                  "ON CONFLICT (schema_name, table_name, vector_column) DO ");
  str_append_text(&sql, replaces
                            ? "UPDATE SET text_column = excluded.text_column, model = "
                              "excluded.model, revision = excluded.revision, dimension = "
                              "excluded.dimension, pooling = excluded.pooling, prefix = "
                              "excluded.prefix, precision = excluded.precision, created = now()"
                            : "NOTHING");
  const char *values[] = {s->schema,     s->table,        s->vector_column, s->text_column,
                          maker->model,  maker->revision, dimension,        maker->pooling,
                          maker->prefix, maker->precision};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) pg_add_text(&p, values[i]);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot write the record", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status settle_record(pg_store *s, const store_maker *maker, vecmill_error *err) {
  store_maker there = {0};
  bool found = false, has_vectors = false;
  vecmill_status status = pg_store_record(&s->base, &there, &found, err);
  if (status == VECMILL_OK && found && !agrees(s, &there, maker)) {
    status = pg_store_inspect(&s->base, maker->dimension, &has_vectors, err);
    if (status == VECMILL_OK && !has_vectors) status = write_record(s, maker, true, err);
  } else if (status == VECMILL_OK && !found) {
    status = write_record(s, maker, false, err);
  }
  /* read again: somebody may have come between, and this is whose record stands */
  if (status == VECMILL_OK) status = pg_store_record(&s->base, &there, &found, err);
  if (status != VECMILL_OK || (found && agrees(s, &there, maker))) return status;
  if (!found)
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "%s: the record of column %s is gone (somebody removed it; run again)", s->shown,
                   s->vector_column);
  return err_set(err, VECMILL_ERROR_CONFLICT,
                 "table %s: column %s is made by %s, prefix \"%s\", from column %s (run it so, or "
                 "give another --vector-column)",
                 s->table, s->vector_column, there.model, there.prefix, there.text_column);
}

vecmill_status pg_store_begin(store *base, const store_maker *maker, vecmill_error *err) {
  pg_store *s = pg_of(base);
  s->dimension = maker->dimension;
  vecmill_status status = create_state(s, err);
  if (status == VECMILL_OK) status = add_column(s, maker->dimension, err);
  if (status == VECMILL_OK) status = check_rights(s, err);
  if (status == VECMILL_OK) status = settle_record(s, maker, err);
  if (status == VECMILL_OK) status = pg_open_all(s, err);
  if (status == VECMILL_OK) status = pg_join(s, err);
  if (status == VECMILL_OK && s->changed) status = pg_sort_hashes(s, err);
  if (status == VECMILL_OK) s->has_begun = true;
  return status;
}
