/*
 * Rights. All that this user lacks is told at once, before anything is made, as what the owners are
 * to run. Rows are read and written by their place and writer too (ctid, xmin, tableoid): who has
 * rights on columns needs them on these.
 */
#include <string.h>

#include "store/pg_parts.h"

#define N_SYSTEM 3
static const char *const system_columns[N_SYSTEM] = {"ctid", "xmin", "tableoid"};
#define MOST_READ (2 * PG_MAX_KEYS + 2 + N_SYSTEM)

/* Fields of the answer; then one for each column that is read. */
enum {
  USER,
  IS_OWNER,
  READS_ALL,
  WRITES,
  SCHEMAS, /* what is to be run for those that this user may not use */
  PARENT,  /* of a partition */
  OF_TYPE, /* of a typed table */
  MAKES_TABLES,
  HAS_METRICS,
  FIRST_READ
};

typedef struct rights {
  const char *read[MOST_READ]; /* columns */
  size_t n_read;
  bool adds_vector, writes_vector; /* what the run is to do */
  PGresult *row;
} rights;

static bool has(const rights *r, int field) {
  return pg_text(r->row, 0, field)[0] == 't';
}

static void add_column(rights *r, const char *name) {
  for (size_t i = 0; i < r->n_read; i++)
    if (strcmp(r->read[i], name) == 0) return;
  r->read[r->n_read++] = name;
}

static void list_columns(const pg_store *s, rights *r) {
  for (size_t i = 0; i < s->n_keys; i++) add_column(r, s->keys[i].name);
  add_column(r, s->text_column);
  if (s->has_vector_column) add_column(r, s->vector_column);
  if (s->only_reads) return;
  for (size_t i = 0; i < s->metrics.n_joins; i++) add_column(r, s->metrics.joins[i].name);
  for (size_t i = 0; i < N_SYSTEM; i++) add_column(r, system_columns[i]);
}

/* Rows of texts that became blank lose their metrics. */
static bool deletes_metrics(const pg_store *s) {
  return s->changed && !s->metrics.has_more;
}

/* Those who own what inherits from a table must agree to another column. */
static const char is_owner[] =
    "(pg_has_role(c.relowner, 'USAGE') AND NOT EXISTS (WITH RECURSIVE h AS (SELECT inhrelid FROM "
    "pg_inherits WHERE inhparent = c.oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN h ON "
    "i.inhparent = h.inhrelid) SELECT 1 FROM h JOIN pg_class AS k ON k.oid = h.inhrelid WHERE NOT "
    "pg_has_role(k.relowner, 'USAGE')))::text";

/* The schemas of what a run calls by name: the table, pgvector's type, and the types and collations
 * of the columns that rows are found by. */
static void append_schemas(str *sql, const pg_store *s) {
  str names = {0};
  for (size_t i = 0; i < s->n_keys + s->metrics.n_joins; i++) {
    if (i > 0) str_append_text(&names, ", ");
    pg_append_string(&names,
                     i < s->n_keys ? s->keys[i].name : s->metrics.joins[i - s->n_keys].name);
  }
  str_append_format(
      sql,
      "(SELECT string_agg(format('GRANT USAGE ON SCHEMA \"%%s\" TO \"%%s\";', replace(nspname, "
      "'\"', '\"\"'), replace(current_user, '\"', '\"\"')) || chr(10), '' ORDER BY n.oid <> "
      "c.relnamespace, nspname) FROM pg_namespace AS n WHERE NOT has_schema_privilege(n.oid, "
      "'USAGE') AND (n.oid IN (c.relnamespace%s) OR EXISTS (SELECT 1 FROM pg_attribute AS a JOIN "
      "pg_type AS ty ON ty.oid = a.atttypid LEFT JOIN pg_collation AS l ON l.oid = a.attcollation "
      "WHERE attrelid = c.oid AND attname IN (%s) AND n.oid IN (ty.typnamespace, "
      "l.collnamespace))))",
      s->only_reads ? "" : ", y.typnamespace", names.failed ? "" : names.data);
  if (names.failed) sql->failed = true;
  str_fini(&names);
}

static vecmill_status ask(pg_store *s, rights *r, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  char vector_oid[16];
  snprintf(vector_oid, sizeof vector_oid, "%u", (unsigned)s->vector_oid);
  pg_add_text(&p, s->table_oid);
  pg_add_text(&p, vector_oid);
  str_append_format(&sql,
                    "SELECT current_user::text, %s, has_table_privilege(c.oid, 'SELECT')::text, ",
                    is_owner);
  if (s->has_vector_column) {
    str_append_text(&sql, "has_column_privilege(c.oid, ");
    pg_append_string(&sql, s->vector_column);
    str_append_text(&sql, ", 'UPDATE')::text");
  } else {
    str_append_text(&sql, "has_table_privilege(c.oid, 'UPDATE')::text");
  }
  str_append_text(&sql, ", ");
  append_schemas(&sql, s);
  str_append_text(&sql, ", CASE WHEN c.relispartition THEN (SELECT inhparent::regclass::text FROM "
                        "pg_inherits WHERE inhrelid = c.oid) END, CASE WHEN c.reloftype <> 0 THEN "
                        "c.reloftype::regtype::text END, "
                        "has_schema_privilege(c.relnamespace, 'CREATE')::text, ");
  if (s->metrics.sql && !s->metrics.is_missing) {
    str_append_format(&sql,
                      "(SELECT has_any_column_privilege(m.oid, 'SELECT') AND "
                      "has_any_column_privilege(m.oid, 'INSERT') AND "
                      "has_any_column_privilege(m.oid, 'UPDATE')%s FROM pg_class AS m WHERE "
                      "m.relnamespace = c.relnamespace AND m.relname = $3::text)::text",
                      deletes_metrics(s) ? " AND has_table_privilege(m.oid, 'DELETE')" : "");
    pg_add_text(&p, s->metrics.name);
  } else {
    str_append_text(&sql, "'true'");
  }
  for (size_t i = 0; i < r->n_read; i++) {
    str_append_text(&sql, ", has_column_privilege(c.oid, ");
    pg_append_string(&sql, r->read[i]);
    str_append_text(&sql, ", 'SELECT')::text");
  }
  str_append_text(
      &sql, " FROM pg_class AS c LEFT JOIN pg_type AS y ON y.oid = $2::oid WHERE c.oid = $1::oid");
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the rights", &r->row, err);
  str_fini(&sql);
  return status;
}

static void append_to(str *sql, const rights *r) {
  str_append_text(sql, " TO ");
  pg_append_name(sql, pg_text(r->row, 0, USER));
  str_append_text(sql, ";\n");
}

/* "GRANT SELECT ("a", "b"), UPDATE ("v") ON t TO user": SELECT of all where it has none of them. */
static void append_table_grant(str *sql, const pg_store *s, const rights *r) {
  size_t n_lacking = 0, n_listed = 0;
  bool lacks_vector = r->adds_vector && !has(r, READS_ALL);
  bool lacks_write = r->writes_vector && !has(r, WRITES);
  for (size_t i = 0; i < r->n_read; i++) n_lacking += !has(r, FIRST_READ + (int)i);
  if (n_lacking == 0 && !lacks_vector && !lacks_write) return;
  str_append_text(sql, "GRANT ");
  if (n_lacking == r->n_read) {
    str_append_text(sql, "SELECT");
  } else if (n_lacking > 0 || lacks_vector) {
    str_append_text(sql, "SELECT (");
    for (size_t i = 0; i < r->n_read; i++) {
      if (has(r, FIRST_READ + (int)i)) continue;
      if (n_listed++) str_append_text(sql, ", ");
      pg_append_name(sql, r->read[i]);
    }
    if (lacks_vector && n_listed > 0) str_append_text(sql, ", ");
    if (lacks_vector) pg_append_name(sql, s->vector_column);
    str_append_char(sql, ')');
  }
  if (lacks_write) {
    str_append_text(sql, n_lacking > 0 || lacks_vector ? ", UPDATE (" : "UPDATE (");
    pg_append_name(sql, s->vector_column);
    str_append_char(sql, ')');
  }
  str_append_format(sql, " ON %s", s->table_name);
  append_to(sql, r);
}

static void append_metrics(str *sql, const pg_store *s, const rights *r) {
  bool makes = s->metrics.is_missing && !has(r, MAKES_TABLES);
  if (!makes && has(r, HAS_METRICS)) return;
  if (makes) {
    pg_metrics_append_create(sql, s);
    str_append_text(sql, ";\n");
  }
  str_append_format(sql, "GRANT SELECT, INSERT, UPDATE%s ON %s",
                    deletes_metrics(s) ? ", DELETE" : "", s->metrics.sql);
  append_to(sql, r);
}

static vecmill_status append_lacking(str *sql, pg_store *s, const rights *r, size_t dimension,
                                     bool *lacks_state_out, vecmill_error *err) {
  pg_state state;
  vecmill_status status = pg_ask_state(s, &state, err);
  if (status != VECMILL_OK) return status;
  bool lacks_ddl = !s->only_reads && !state.is_whole && !state.may_make;
  *lacks_state_out =
      lacks_ddl || (state.has_tables && !(s->only_reads ? state.may_read : state.may_write));
  if (*lacks_state_out)
    status = lacks_ddl ? pg_append_state_ddl(s, sql, err) : pg_append_state_grants(s, sql, err);
  str_append_text(sql, pg_text(r->row, 0, SCHEMAS));
  if (r->adds_vector && !has(r, IS_OWNER)) {
    pg_append_add_column(sql, s, dimension);
    str_append_text(sql, ";\n");
  }
  if (!has(r, IS_OWNER) || s->has_vector_column) append_table_grant(sql, s, r);
  if (!s->only_reads) append_metrics(sql, s, r);
  return status;
}

/* Where a column cannot be added to this table alone, whoever asks. */
static vecmill_status check_kind(const pg_store *s, const rights *r, vecmill_error *err) {
  const char *parent = pg_text(r->row, 0, PARENT), *type = pg_text(r->row, 0, OF_TYPE);
  if (s->has_vector_column || !s->vector_type) return VECMILL_OK;
  if (*parent)
    return err_set(
        err, VECMILL_ERROR_UNSUPPORTED,
        "table %s: a partition of %s, and a column comes to all of that or to none (name "
        "%s, or add column %s to it first)",
        s->table, parent, parent, s->vector_column);
  if (*type)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                   "table %s: its columns are those of type %s (ALTER TYPE %s ADD ATTRIBUTE \"%s\" "
                   "%s CASCADE)",
                   s->table, type, type, s->vector_column, s->vector_type);
  return VECMILL_OK;
}

vecmill_status pg_check_rights(pg_store *s, size_t dimension, vecmill_error *err) {
  rights r = {0};
  str sql = {0};
  bool lacks_state = false;
  r.adds_vector = !s->only_reads && !s->has_vector_column && dimension > 0;
  r.writes_vector = !s->only_reads && (s->has_vector_column || dimension > 0);
  list_columns(s, &r);
  vecmill_status status = ask(s, &r, err);
  bool is_there = status == VECMILL_OK && PQntuples(r.row) > 0; /* else the next call tells */
  if (is_there && dimension > 0) status = check_kind(s, &r, err);
  if (is_there && status == VECMILL_OK)
    status = append_lacking(&sql, s, &r, dimension, &lacks_state, err);
  if (status == VECMILL_OK && (sql.n > 0 || sql.failed))
    status = err_set(err, VECMILL_ERROR_DATABASE,
                     "%s: this user lacks rights that the run needs (have the owners of what it "
                     "names run this%s): %s",
                     s->shown, lacks_state ? "; --state-schema names another schema" : "",
                     sql.failed ? "GRANT .." : sql.data);
  PQclear(r.row);
  str_fini(&sql);
  return status;
}
