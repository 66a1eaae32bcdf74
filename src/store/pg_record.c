/*
 * What made a column, and beginning a run.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

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
                             .dimension = (size_t)pg_integer(rows, 0, 6),
                             .is_doubtful = pg_text(rows, 0, 8)[0] == 't'};
  s->is_doubtful = maker_out->is_doubtful;
  s->is_noted = pg_text(rows, 0, 9)[0] == 't';
  s->has_other_key = pg_text(rows, 0, 10)[0] == 't';
  return VECMILL_OK;
}

/* The state is not ours to read: while the columns are being found a run goes on without, so that
 * this is told with all else that is missing. */
static vecmill_status barred(pg_store *s, vecmill_error *err) {
  s->is_barred = !s->only_reads;
  if (s->is_barred && !s->text_column) return VECMILL_OK;
  vecmill_status status = s->is_barred ? pg_check_rights(s, 0, err) : VECMILL_OK;
  return status == VECMILL_OK ? pg_ask_for_grants(s, err) : status;
}

vecmill_status pg_store_record(store *base, store_maker *maker_out, bool *found_out,
                               vecmill_error *err) {
  pg_store *s = pg_of(base);
  bool exists = false;
  *found_out = false;
  vecmill_status status = pg_state_exists(s, &exists, err);
  if (status != VECMILL_OK || !exists) return status;
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT model, revision, pooling, prefix, precision, (SELECT attname::text "
                        "FROM pg_attribute WHERE attrelid = $4::oid AND attname = text_column "
                        "AND NOT attisdropped), dimension::text, id::text, "
                        "((r ->> 'table_oid') <> $4::text)::text, ((r ->> 'table_oid') = $4::text "
                        "AND (r ->> 'id_columns') <> '')::text, (coalesce(r ->> 'id_columns', '') "
                        "NOT IN ('', $5::text))::text FROM (SELECT *, to_jsonb(c) AS r FROM ");
  pg_append_state(&sql, s, "columns");
  str_append_text(
      &sql,
      " AS c) AS c WHERE schema_name = $1::text AND table_name = $2::text AND vector_column = "
      "$3::text");
  pg_add_text(&p, s->schema);
  pg_add_text(&p, s->table);
  pg_add_text(&p, s->vector_column);
  pg_add_text(&p, s->table_oid);
  pg_add_text(&p, s->id_list);
  status = pg_run(s, PG_READER, &sql, &p, "cannot read the record", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0) {
    status = take_record(s, rows, maker_out, err);
    *found_out = status == VECMILL_OK;
  } else if (status != VECMILL_OK && pg_state_is("42501")) {
    status = barred(s, err);
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

/* The server refuses an UPDATE .. RETURNING, within WITH, of a table that has a rule on UPDATE, but
 * for those that do nothing beside it. */
static vecmill_status look_for_rules(pg_store *s, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT min(quote_ident(rulename)) FROM pg_rewrite WHERE ev_class = "
                        "$1::oid AND ev_type = '2' /* UPDATE */ AND " PG_RULE_IS_ACTIVE
                        " AND (is_instead OR NOT (" PG_RULE_DOES_NOTHING "))");
  pg_add_text(&p, s->table_oid);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &rows, err);
  if (status == VECMILL_OK && !PQgetisnull(rows, 0, 0))
    status = err_set(err, VECMILL_ERROR_UNSUPPORTED,
                     "table %s: rule %s stands in place of an UPDATE, or beside it, so vectors "
                     "cannot be written (ALTER TABLE %s DISABLE RULE %s; a trigger does it too)",
                     s->table, pg_text(rows, 0, 0), s->table_name, pg_text(rows, 0, 0));
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static void append_any_vector(str *sql, const pg_store *s) {
  str_append_format(sql, "SELECT EXISTS (SELECT 1 FROM %s WHERE ", s->table_sql);
  pg_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL)::text");
}

/* Those that this user may not see are no less made by what the record says. */
static bool shows_any(const pg_store *s, const PGresult *rows) {
  return (s->sees_part && s->column_id) || pg_text(rows, 0, 0)[0] == 't';
}

vecmill_status pg_store_inspect(store *base, size_t dimension, bool *has_vectors_out,
                                vecmill_error *err) {
  pg_store *s = pg_of(base);
  *has_vectors_out = false;
  if (!s->vector_type) return no_pgvector(s, err);
  vecmill_status status = pg_check_rights(s, dimension, err);
  if (status == VECMILL_OK) status = look_for_rules(s, err);
  if (status != VECMILL_OK || !s->has_vector_column) return status;
  if (s->vector_dimension > 0 && (size_t)s->vector_dimension != dimension)
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: column %s holds vectors of %d numbers, the model makes %zu (use the "
                   "model that made it, or another --vector-column)",
                   s->table, s->vector_column, s->vector_dimension, dimension);
  str sql = {0};
  PGresult *rows = NULL;
  append_any_vector(&sql, s);
  status = pg_run(s, PG_READER, &sql, NULL, "cannot read the vector column", &rows, err);
  *has_vectors_out = s->has_vectors = status == VECMILL_OK && shows_any(s, rows);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Of all rows, `where` or not: what it leaves out may have been made by another model. */
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
  str_append_format(&sql, " ORDER BY random() LIMIT %zu", n_max);
  vecmill_status status =
      pg_run(s, PG_READER, &sql, NULL, "cannot read the vector column", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) == 0 && s->sees_part && s->column_id)
    status = err_set(err, VECMILL_ERROR_CONFLICT,
                     "table %s: the record of column %s may be that of another table, which had "
                     "this name, and row-level security shows this user no vector beside a text to "
                     "tell by (have somebody who sees all rows run once)",
                     s->table, s->vector_column);
  if (status == VECMILL_OK)
    status = pg_take_page(s, (pg_rows){rows, 0, (size_t)PQntuples(rows), dimension}, page_out, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* --- begin --- */

void pg_append_add_column(str *sql, const pg_store *s, size_t dimension) {
  str_append_format(sql, "ALTER TABLE %s ADD COLUMN IF NOT EXISTS ", s->table_name);
  pg_append_name(sql, s->vector_column);
  str_append_format(sql, " %s(%zu)", s->vector_type, dimension);
}

vecmill_status pg_ask_rights(pg_store *s, const char *question, const pg_params *params, str *grant,
                             const char **wanted_out, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  *wanted_out = NULL;
  str_append_format(&sql, "SELECT (%s)::text, current_user::text", question);
  vecmill_status status = pg_run(s, PG_READER, &sql, params, "cannot read the rights", &rows, err);
  if (status == VECMILL_OK && pg_text(rows, 0, 0)[0] != 't') {
    str_append_text(grant, " TO ");
    pg_append_name(grant, pg_text(rows, 0, 1));
    *wanted_out = grant->failed ? "GRANT .." : grant->data;
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Triggers before the UPDATE of a row: what it writes may not be what stands there then. */
static vecmill_status look_for_triggers(pg_store *s, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE NOT tgisinternal AND "
                        "tgenabled <> 'D' AND tgtype & 19 = 19 /* row, before, update */ AND "
                        "(tgrelid = $1::oid OR tgrelid IN (SELECT relid FROM "
                        "pg_partition_tree($1::regclass))))::text");
  pg_add_text(&p, s->table_oid);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &rows, err);
  s->has_triggers = status == VECMILL_OK && pg_text(rows, 0, 0)[0] == 't';
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Adds the record, or, where `replaces`, takes the place of one that no vector stands behind: in
 * the transaction that is open on `conn`. */
static vecmill_status write_record(pg_store *s, PGconn *conn, const store_maker *maker,
                                   bool replaces, vecmill_error *err) {
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
                  "dimension, pooling, prefix, precision, table_oid, id_columns) VALUES($1::text, "
                  "$2::text, $3::text, $4::text, $5::text, $6::text, $7::integer, $8::text, "
                  "$9::text, $10::text, $11::oid, $12::text) "
                  "ON CONFLICT (schema_name, table_name, vector_column) DO ");
  str_append_text(&sql, replaces
                            ? "UPDATE SET text_column = excluded.text_column, model = "
                              "excluded.model, revision = excluded.revision, dimension = "
                              "excluded.dimension, pooling = excluded.pooling, prefix = "
                              "excluded.prefix, precision = excluded.precision, table_oid = "
                              "excluded.table_oid, id_columns = excluded.id_columns, created = "
                              "now()"
                            : "NOTHING");
  const char *values[] = {s->schema,     s->table,         s->vector_column, s->text_column,
                          maker->model,  maker->revision,  dimension,        maker->pooling,
                          maker->prefix, maker->precision, s->table_oid,     s->id_list};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) pg_add_text(&p, values[i]);
  static const char what[] = "cannot write the record";
  vecmill_status status = replaces ? pg_step(s, conn, &sql, &p, what, &rows, err)
                                   : pg_run(s, PG_READER, &sql, &p, what, &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Which table it is that the record is of, and which key its hashes are kept by, where that is not
 * said yet, or was of another table by this name: a copy of it, as the caller knows by now. */
static vecmill_status note_table(pg_store *s, PGconn *conn, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql,
                    " SET table_oid = $1::oid, id_columns = coalesce(nullif(id_columns, ''), "
                    "$2::text) WHERE id = %s",
                    s->column_id);
  pg_add_text(&p, s->table_oid);
  pg_add_text(&p, s->id_list);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot write the record", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* One that is there and does not agree is pg_hold_record's to judge. */
static vecmill_status settle_record(pg_store *s, const store_maker *maker, vecmill_error *err) {
  store_maker there = {0};
  bool found = false;
  vecmill_status status = pg_store_record(&s->base, &there, &found, err);
  if (status == VECMILL_OK && !found) {
    status = write_record(s, NULL, maker, false, err);
    /* read again: somebody may have come between, and this is whose record stands */
    if (status == VECMILL_OK) status = pg_store_record(&s->base, &there, &found, err);
  }
  if (status != VECMILL_OK) return status;
  if (!found)
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "%s: the record of column %s is gone (somebody removed it; run again)", s->shown,
                   s->vector_column);
  return VECMILL_OK;
}

/* The record as it is now: whether it agrees with what `maker` makes from our text column; since
 * when it stands; whether it is in doubt; and what it says. */
static vecmill_status look_at_record(pg_store *s, PGconn *conn, const store_maker *maker,
                                     PGresult **rows_out, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  char dimension[24];
  snprintf(dimension, sizeof dimension, "%zu", maker->dimension);
  str_append_text(&sql, "SELECT (revision = $1::text AND dimension = $2::integer AND prefix = "
                        "$3::text AND precision = $4::text AND (text_column = $5::text OR NOT "
                        "EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = $6::oid AND attname = "
                        "text_column AND NOT attisdropped)))::text, extract(epoch FROM "
                        "created)::text, (table_oid <> $6::oid)::text, model, prefix, text_column "
                        "FROM ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql, " WHERE id = %s", s->column_id);
  const char *values[] = {maker->revision,  dimension,      maker->prefix,
                          maker->precision, s->text_column, s->table_oid};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) pg_add_text(&p, values[i]);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot read the record", rows_out, err);
  str_fini(&sql);
  return status;
}

static vecmill_status look_for_vectors(pg_store *s, PGconn *conn, bool *any_out,
                                       vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  append_any_vector(&sql, s);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read the vector column", &rows, err);
  *any_out = status == VECMILL_OK && shows_any(s, rows);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* The vector column as it is now: whether it is for these vectors, and what it is. No row: there is
 * none. */
static vecmill_status look_at_column(pg_store *s, PGconn *conn, size_t dimension,
                                     PGresult **rows_out, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  char text[24];
  snprintf(text, sizeof text, "%zu", dimension);
  str_append_text(&sql, "SELECT (atttypid = ");
  pg_append_string(&sql, s->vector_type);
  str_append_text(&sql, "::regtype AND atttypmod = $1::integer)::text, format_type(atttypid, "
                        "atttypmod) FROM pg_attribute WHERE attrelid = $2::oid AND attname = "
                        "$3::text AND NOT attisdropped");
  pg_add_text(&p, text);
  pg_add_text(&p, s->table_oid);
  pg_add_text(&p, s->vector_column);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot read the catalog", rows_out, err);
  str_fini(&sql);
  return status;
}

static vecmill_status check_column(const pg_store *s, const PGresult *column, size_t dimension,
                                   vecmill_error *err) {
  if (pg_text(column, 0, 0)[0] == 't') return VECMILL_OK;
  return err_set(err, VECMILL_ERROR_CONFLICT,
                 "table %s: column %s was added meanwhile, as %s, and the model makes vectors of "
                 "%zu numbers (use the model that it is for, or another --vector-column)",
                 s->table, s->vector_column, pg_text(column, 0, 1), dimension);
}

/* By whose record stands: another's column would refuse all that is written. While this waits for
 * the table somebody else may add one. */
static vecmill_status add_column(pg_store *s, PGconn *conn, size_t dimension,
                                 const PGresult *column, vecmill_error *err) {
  str sql = {0};
  PGresult *added = NULL, *now = NULL;
  if (PQntuples(column) > 0) return check_column(s, column, dimension, err);
  pg_append_add_column(&sql, s, dimension);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot add the vector column", &added, err);
  if (status == VECMILL_OK) status = look_at_column(s, conn, dimension, &now, err);
  if (status == VECMILL_OK) status = check_column(s, now, dimension, err);
  PQclear(added);
  PQclear(now);
  str_fini(&sql);
  return status;
}

/* The record gives way to `maker`, if nothing stands behind it, with what failed under it: one that
 * agrees, too, which is of another table that had this name. Then *rows is the new one. */
static vecmill_status replace_record(pg_store *s, PGconn *conn, const store_maker *maker,
                                     bool has_column, PGresult **rows, vecmill_error *err) {
  bool any = false, agrees = pg_text(*rows, 0, 0)[0] == 't',
       is_doubtful = pg_text(*rows, 0, 2)[0] == 't';
  if (agrees && !is_doubtful) return VECMILL_OK;
  vecmill_status status = has_column ? look_for_vectors(s, conn, &any, err) : VECMILL_OK;
  if (status != VECMILL_OK || (any && (agrees || !is_doubtful))) return status;
  status = write_record(s, conn, maker, true, err);
  s->is_noted = true;
  s->has_other_key = false;
  if (status != VECMILL_OK) return status;
  PQclear(*rows);
  *rows = NULL;
  return look_at_record(s, conn, maker, rows, err);
}

static vecmill_status refuse_maker(const pg_store *s, const PGresult *rows, bool is_free,
                                   vecmill_error *err) {
  const char *model = pg_text(rows, 0, 3), *prefix = pg_text(rows, 0, 4),
             *text_column = pg_text(rows, 0, 5);
  if (is_free)
    return err_set(
        err, VECMILL_ERROR_CONFLICT,
        "table %s: column %s is made by %s, prefix \"%s\", from column %s (run it so, or "
        "give another --vector-column)",
        s->table, s->vector_column, model, prefix, text_column);
  return err_set(err, VECMILL_ERROR_BUSY,
                 "table %s: another vecmill is working on its column %s, with model %s, prefix "
                 "\"%s\", from column %s (run it so, wait until it has finished, or give another "
                 "--vector-column)",
                 s->table, s->vector_column, model, prefix, text_column);
}

vecmill_status pg_hold_record(pg_store *s, PGconn *conn, const store_maker *maker, bool is_free,
                              vecmill_error *err) {
  PGresult *rows = NULL, *column = NULL;
  vecmill_status status = look_at_record(s, conn, maker, &rows, err);
  if (status == VECMILL_OK && !s->has_vector_column)
    status = look_at_column(s, conn, maker->dimension, &column, err);
  bool has_column = s->has_vector_column || PQntuples(column) > 0;
  if (status == VECMILL_OK && is_free)
    status = replace_record(s, conn, maker, has_column, &rows, err);
  if (status == VECMILL_OK && pg_text(rows, 0, 0)[0] != 't')
    status = refuse_maker(s, rows, is_free, err);
  if (status == VECMILL_OK && !s->is_noted) status = note_table(s, conn, err);
  if (status == VECMILL_OK && !s->has_vector_column)
    status = add_column(s, conn, maker->dimension, column, err);
  mem_free(s->record_since);
  s->record_since = status == VECMILL_OK ? mem_strdup(pg_text(rows, 0, 1)) : NULL;
  if (status == VECMILL_OK && !s->record_since) status = err_set_memory(err, "record", 64);
  PQclear(rows);
  PQclear(column);
  return status;
}

vecmill_status pg_store_begin(store *base, const store_maker *maker, vecmill_error *err) {
  pg_store *s = pg_of(base);
  s->dimension = maker->dimension;
  vecmill_status status = pg_create_state(s, err);
  if (status == VECMILL_OK) status = look_for_triggers(s, err);
  if (status == VECMILL_OK) status = settle_record(s, maker, err);
  if (status == VECMILL_OK) status = pg_open_all(s, err);
  if (status == VECMILL_OK) status = pg_join(s, maker, err);
  if (status == VECMILL_OK && s->changed) status = pg_sort_hashes(s, err);
  if (status == VECMILL_OK) s->has_begun = true;
  return status;
}
