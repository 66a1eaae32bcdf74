/*
 * Numbers of the texts, in a table of their own.
 *
 * That table's primary key says which columns of the table of texts it goes by (joins). As a rule
 * they are its key; where they are not (document_metrics goes by sourceid), several rows may share
 * one row of metrics, which then is that of the first of them in key order. Commits cannot know
 * which is the first, so the end of a run sets that right.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <string.h>

#include "base/mem.h"
#include "store/metrics_table.h"
#include "store/pg_parts.h"

#define INT4_OID 23 /* pg_type.h */
#define FLOAT8_OID 701

void pg_metrics_fini(pg_metrics *m) {
  for (size_t i = 0; i < m->n_joins; i++) pg_key_column_fini(&m->joins[i]);
  mem_free(m->name);
  mem_free(m->sql);
  str_fini(&m->cursor);
  *m = (pg_metrics){0};
}

/* --- the table --- */

static vecmill_status add_join(pg_metrics *m, const char *name, const char *type,
                               const char *collation, vecmill_error *err) {
  if (m->n_joins == PG_MAX_KEYS)
    return err_set(err, VECMILL_ERROR_CONFLICT, "table %s: a key of more than %d columns", m->name,
                   PG_MAX_KEYS);
  return pg_key_column_init(&m->joins[m->n_joins++], name, type, collation, err);
}

/* What it is, the same in each row: a table; its primary key, if any, is not deferrable; the first
 * rule that is in the way, behind its event. */
enum { IS_TABLE = 5, IS_IMMEDIATE, RULE };

/*
 * Rules that the server does not take (rewriteHandler.c), alike in 16 and 18: for INSERT .. ON
 * CONFLICT one on UPDATE, whatever it does and disabled too, and an active one on INSERT, but for
 * those that do nothing beside it or for some rows; for a DELETE within WITH an active one, but for
 * these and for one statement in its place. The last come last: not every run deletes.
 */
#define RULE_IS_SINGLE "is_instead AND ev_qual::text = '<>' AND ev_action::text !~ '[}] [{]QUERY '"
static const char rule_in_the_way[] =
    "(SELECT (array_agg(ev_type::text || quote_ident(rulename) ORDER BY ev_type, rulename))[1] "
    "FROM pg_rewrite WHERE ev_class = c.oid AND (ev_type = '2' OR ev_type IN ('3', '4') "
    "AND " PG_RULE_IS_ACTIVE " AND CASE WHEN " PG_RULE_DOES_NOTHING " THEN is_instead AND "
    "ev_qual::text = '<>' ELSE ev_type = '3' OR NOT (" RULE_IS_SINGLE ") END))";

/* Its columns: name, place in the primary key from 1 on (INCLUDE is no part of it), the type of
 * that name's column in the table of texts, if it has one, and the collation if that has another.
 */
static vecmill_status read_metrics_table(pg_store *s, PGresult **rows_out, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  str_append_text(
      &sql,
      "SELECT a.attname::text, coalesce(array_position((i.indkey::int2[])[0:i.indnkeyatts - "
      "1], a.attnum), 0)::text, format_type(t.atttypid, NULL), (a.attnotnull AND NOT "
      "a.atthasdef AND a.attidentity = '')::text, CASE WHEN a.attcollation <> t.attcollation AND "
      "t.attcollation <> 0 THEN " PG_COLLATION_OF_A " END, (c.relkind IN ('r', 'p'))::text, "
      "i.indimmediate::text, ");
  str_append_text(&sql, rule_in_the_way);
  str_append_text(
      &sql,
      " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_attribute AS a "
      "ON a.attrelid = c.oid AND a.attnum > 0 "
      "AND NOT a.attisdropped LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary "
      "LEFT JOIN pg_attribute AS t ON t.attrelid = $3::oid AND t.attname = a.attname AND "
      "t.attnum > 0 AND NOT t.attisdropped WHERE n.nspname = $1::text AND c.relname = $2::text "
      "ORDER BY a.attnum");
  pg_add_text(&p, s->schema);
  pg_add_text(&p, s->metrics.name);
  pg_add_text(&p, s->table_oid);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", rows_out, err);
  str_fini(&sql);
  return status;
}

/* What would refuse every row that is written. */
static vecmill_status check_kind(const pg_metrics *m, const PGresult *rows, vecmill_error *err) {
  if (pg_text(rows, 0, IS_TABLE)[0] != 't')
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "%s: no table, so it cannot hold metrics (name another with --metrics-table)",
                   m->name);
  if (pg_text(rows, 0, IS_IMMEDIATE)[0] == 'f')
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: its primary key is DEFERRABLE, and INSERT .. ON CONFLICT takes no "
                   "such key (drop it and add it again without, or name another table with "
                   "--metrics-table)",
                   m->name);
  return VECMILL_OK;
}

/* After has_more: who has columns there keeps the rows. */
static vecmill_status check_rules(const pg_store *s, const PGresult *rows, vecmill_error *err) {
  const pg_metrics *m = &s->metrics;
  const char *rule = pg_text(rows, 0, RULE), *name = *rule ? rule + 1 : "";
  bool is_delete = *rule == '4';
  if (*rule == '2')
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: it has rule %s on UPDATE, and INSERT .. ON CONFLICT takes no table "
                   "with such a rule, a disabled one too (DROP RULE %s ON %s, a trigger does it "
                   "too; or name another table with --metrics-table)",
                   m->name, name, name, m->sql);
  if (*rule && (!is_delete || (s->changed && !m->has_more)))
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: rule %s stands in place of %s, or beside it, so metrics cannot be "
                   "%s (ALTER TABLE %s DISABLE RULE %s, a trigger does it too; or name another "
                   "table with --metrics-table)",
                   m->name, name, is_delete ? "a DELETE" : "an INSERT",
                   is_delete ? "removed, as --changed does" : "written", m->sql, name);
  return VECMILL_OK;
}

static vecmill_status check_columns(const pg_metrics *m, const PGresult *rows, vecmill_error *err) {
  for (size_t i = 0; i < METRICS_N_COLUMNS; i++) {
    bool found = false;
    for (int row = 0; !found && row < PQntuples(rows); row++)
      found = strcmp(pg_text(rows, row, 0), metrics_columns[i]) == 0;
    if (!found)
      return err_set(err, VECMILL_ERROR_CONFLICT,
                     "table %s: no column %s, so it cannot hold metrics (name another with "
                     "--metrics-table)",
                     m->name, metrics_columns[i]);
  }
  return VECMILL_OK;
}

static bool is_join(const pg_metrics *m, const char *name) {
  for (size_t i = 0; i < m->n_joins; i++)
    if (strcmp(m->joins[i].name, name) == 0) return true;
  return false;
}

/* A column that wants a value which nobody gives would make every row fail. */
static vecmill_status check_others(const pg_metrics *m, const PGresult *rows, vecmill_error *err) {
  for (int row = 0; row < PQntuples(rows); row++) {
    const char *name = pg_text(rows, row, 0);
    bool is_ours = is_join(m, name);
    for (size_t i = 0; i < METRICS_N_COLUMNS; i++) is_ours |= !strcmp(name, metrics_columns[i]);
    if (!is_ours && pg_text(rows, row, 3)[0] == 't')
      return err_set(err, VECMILL_ERROR_CONFLICT,
                     "table %s: column %s is NOT NULL without a default, and no metric (name "
                     "another with --metrics-table)",
                     m->name, name);
  }
  return VECMILL_OK;
}

static vecmill_status take_joins(pg_store *s, const PGresult *rows, vecmill_error *err) {
  pg_metrics *m = &s->metrics;
  for (int place = 1;; place++) {
    int row = 0;
    while (row < PQntuples(rows) && pg_integer(rows, row, 1) != place) row++;
    if (row == PQntuples(rows)) break;
    if (PQgetisnull(rows, row, 2))
      return err_set(err, VECMILL_ERROR_CONFLICT,
                     "table %s: its key has %s, which table %s has not (name another with "
                     "--metrics-table)",
                     m->name, pg_text(rows, row, 0), s->table);
    vecmill_status status =
        add_join(m, pg_text(rows, row, 0), pg_text(rows, row, 2), pg_text(rows, row, 4), err);
    if (status != VECMILL_OK) return status;
  }
  return m->n_joins
             ? VECMILL_OK
             : err_set(err, VECMILL_ERROR_CONFLICT,
                       "table %s: no primary key, so its rows cannot be found (add one)", m->name);
}

/* The key of a table that is to be made. */
static vecmill_status choose_joins(pg_store *s, vecmill_error *err) {
  const char *shared = metrics_shared_key(s->metrics.name);
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  vecmill_status status = VECMILL_OK;
  str_append_text(&sql, "SELECT format_type(atttypid, NULL), CASE WHEN attcollation <> (SELECT "
                        "typcollation FROM pg_type WHERE oid = atttypid) THEN " PG_COLLATION_OF_A
                        " END FROM pg_attribute AS a WHERE attrelid = $1::oid AND "
                        "attname = $2::text AND attnum > 0 AND NOT attisdropped");
  pg_add_text(&p, s->table_oid);
  pg_add_text(&p, shared ? shared : "");
  if (shared) status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &rows, err);
  bool is_shared = shared && status == VECMILL_OK && PQntuples(rows) > 0;
  if (is_shared)
    status = add_join(&s->metrics, shared, pg_text(rows, 0, 0), pg_text(rows, 0, 1), err);
  for (size_t i = 0; !is_shared && status == VECMILL_OK && i < s->n_keys; i++)
    status = add_join(&s->metrics, s->keys[i].name, s->keys[i].type, s->keys[i].collation, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status name_table(pg_store *s, const char *wanted, vecmill_error *err) {
  pg_metrics *m = &s->metrics;
  str name = {0}, sql = {0};
  size_t n_schema = strlen(s->schema);
  if (wanted && strncmp(wanted, s->schema, n_schema) == 0 && wanted[n_schema] == '.')
    wanted += n_schema + 1; /* said as SQL would; it lies where the table lies */
  if (wanted) str_append_text(&name, wanted);
  else metrics_append_name(&name, s->table);
  pg_append_name(&sql, s->schema);
  str_append_char(&sql, '.');
  pg_append_name(&sql, name.data ? name.data : "");
  m->name = name.data;
  m->sql = sql.data;
  return name.failed || sql.failed ? err_set_memory(err, "metrics", name.n) : VECMILL_OK;
}

/* Columns beside its key and ours: whose they are, a row is not removed. */
static bool has_more_columns(const PGresult *rows) {
  for (int row = 0; row < PQntuples(rows); row++) {
    bool ours = pg_integer(rows, row, 1) > 0;
    for (size_t i = 0; !ours && i < METRICS_N_COLUMNS; i++)
      ours = strcmp(pg_text(rows, row, 0), metrics_columns[i]) == 0;
    if (!ours) return true;
  }
  return false;
}

static vecmill_status settle_table(pg_store *s, const store_metrics_target *target,
                                   vecmill_error *err) {
  pg_metrics *m = &s->metrics;
  PGresult *rows = NULL;
  vecmill_status status = read_metrics_table(s, &rows, err);
  m->is_missing = status == VECMILL_OK && PQntuples(rows) == 0;
  if (status == VECMILL_OK && m->is_missing)
    status = target->creates
                 ? choose_joins(s, err)
                 : err_set(err, VECMILL_ERROR_NOT_FOUND,
                           "%s: no table %s for the metrics (--create-metrics makes it)", s->shown,
                           m->name);
  else if (status == VECMILL_OK) {
    status = check_kind(m, rows, err);
    if (status == VECMILL_OK) status = check_columns(m, rows, err);
    if (status == VECMILL_OK) status = take_joins(s, rows, err);
    if (status == VECMILL_OK) status = check_others(m, rows, err);
    m->has_more = has_more_columns(rows);
    if (status == VECMILL_OK) status = check_rules(s, rows, err);
  }
  PQclear(rows);
  for (size_t i = 0; i < s->n_keys; i++) m->is_shared |= !is_join(m, s->keys[i].name);
  return status;
}

vecmill_status pg_store_metrics_find(store *base, const store_metrics_target *target,
                                     const char **table_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  vecmill_error why = {0};
  *table_out = NULL;
  s->metrics.has_ratios = target->has_ratios;
  vecmill_status status = name_table(s, target->table, &why);
  const pg_given_name name = {"--metrics-table", s->metrics.name, NULL};
  if (status == VECMILL_OK && (target->table || target->creates))
    status = pg_check_names(s, &name, 1, &why);
  if (status == VECMILL_OK) status = settle_table(s, target, &why);
  if (status == VECMILL_OK) *table_out = s->metrics.name;
  else pg_metrics_fini(&s->metrics);
  return status == VECMILL_OK ? status : metrics_do_without(target, status, &why, err);
}

void pg_metrics_append_create(str *sql, const pg_store *s) {
  const pg_metrics *m = &s->metrics;
  static const char *const types[METRICS_N_COLUMNS] = {"real",    "integer", "integer",
                                                       "integer", "integer", "timestamptz"};
  str_append_format(sql, "CREATE TABLE IF NOT EXISTS %s(", m->sql);
  for (size_t i = 0; i < m->n_joins; i++) {
    pg_append_name(sql, m->joins[i].name);
    str_append_char(sql, ' ');
    pg_append_type(sql, &m->joins[i]);
    str_append_text(sql, ", ");
  }
  for (size_t i = 0; i < METRICS_N_COLUMNS; i++)
    str_append_format(sql, "%s %s, ", metrics_columns[i], types[i]);
  str_append_text(sql, "PRIMARY KEY(");
  for (size_t i = 0; i < m->n_joins; i++) {
    if (i > 0) str_append_text(sql, ", ");
    pg_append_name(sql, m->joins[i].name);
  }
  str_append_text(sql, "))");
}

static vecmill_status check_rights(pg_store *s, vecmill_error *err) {
  str grant = {0};
  pg_params p = {0};
  const char *wanted = NULL;
  pg_add_text(&p, s->metrics.sql);
  str_append_format(&grant, "GRANT SELECT, INSERT, UPDATE ON %s", s->metrics.sql);
  vecmill_status status = pg_ask_rights(s,
                                        "has_any_column_privilege($1::text, 'SELECT') AND "
                                        "has_any_column_privilege($1::text, 'INSERT') AND "
                                        "has_any_column_privilege($1::text, 'UPDATE')",
                                        &p, &grant, &wanted, err);
  if (wanted)
    status = err_set(err, VECMILL_ERROR_DATABASE,
                     "%s: this user may not write the metrics into table %s (have its owner run "
                     "this): %s",
                     s->shown, s->metrics.name, wanted);
  str_fini(&grant);
  return status;
}

vecmill_status pg_store_metrics_begin(store *base, vecmill_error *err) {
  pg_store *s = pg_of(base);
  str sql = {0};
  vecmill_error why = {0};
  vecmill_status status = VECMILL_OK;
  if (s->metrics.is_missing) {
    /* the lock: two that create at once would trip over each other in the catalog */
    str_append_text(&sql, "SELECT pg_advisory_xact_lock(8247331862370315);\n");
    size_t n_before = sql.n;
    pg_metrics_append_create(&sql, s);
    status = sql.failed
                 ? err_set_memory(&why, "metrics", sql.n)
                 : pg_run_script(s, PG_READER, sql.data, "cannot create the metrics table", &why);
    if (status != VECMILL_OK && strcmp(pg_last_state(), "42501") == 0)
      status = err_set(err, VECMILL_ERROR_DATABASE,
                       "%s: table %s is missing, and this user may not create it (have this run): "
                       "%s",
                       s->shown, s->metrics.name, sql.data + n_before);
    else if (status != VECMILL_OK && err) *err = why;
    str_fini(&sql);
  }
  if (status == VECMILL_OK) status = check_rights(s, err);
  s->metrics.is_on = status == VECMILL_OK;
  return status;
}

/* --- SQL in pieces --- */

void pg_append_numbered(str *sql, const char *prefix, size_t n) {
  for (size_t i = 0; i < n; i++) str_append_format(sql, "%s%s%zu", i ? ", " : "", prefix, i);
}

void pg_metrics_append_collation(str *sql, const pg_key_column *join) {
  if (*join->collation) str_append_format(sql, " COLLATE %s", join->collation);
}

void pg_metrics_append_joins(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    if (i > 0) str_append_text(sql, ", ");
    pg_append_column(sql, s, s->metrics.joins[i].name);
  }
}

void pg_metrics_append_places(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(sql, ", ");
    pg_append_column(sql, s, s->metrics.joins[i].name);
    str_append_format(sql, " AS j%zu", i);
  }
  for (size_t i = 0; s->metrics.is_shared && i < s->n_keys; i++) {
    str_append_text(sql, ", ");
    pg_append_column(sql, s, s->keys[i].name);
    str_append_format(sql, " AS o%zu", i);
  }
}

void pg_metrics_append_insert(str *sql, const pg_store *s, const char *source) {
  const pg_metrics *m = &s->metrics;
  str_append_format(sql, "INSERT INTO %s AS m(", m->sql);
  for (size_t i = 0; i < m->n_joins; i++) {
    pg_append_name(sql, m->joins[i].name);
    str_append_text(sql, ", ");
  }
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++) str_append_format(sql, "%s, ", metrics_columns[i]);
  str_append_text(sql, "updated_at) SELECT ");
  if (m->is_shared) {
    str_append_text(sql, "DISTINCT ON (");
    pg_append_numbered(sql, "j", m->n_joins);
    str_append_text(sql, ") ");
  }
  pg_append_numbered(sql, "j", m->n_joins);
  str_append_format(sql, ", m0, m1, m2, m3, now() FROM %s WHERE j0 IS NOT NULL", source);
  for (size_t i = 1; i < m->n_joins; i++) str_append_format(sql, " AND j%zu IS NOT NULL", i);
  if (m->is_shared) {
    str_append_text(sql, " ORDER BY ");
    pg_append_numbered(sql, "j", m->n_joins);
    str_append_text(sql, ", ");
    pg_append_numbered(sql, "o", s->n_keys);
  }
  str_append_text(sql, " ON CONFLICT (");
  for (size_t i = 0; i < m->n_joins; i++) {
    if (i > 0) str_append_text(sql, ", ");
    pg_append_name(sql, m->joins[i].name);
  }
  str_append_text(sql, ") DO UPDATE SET ");
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++)
    str_append_format(sql, "%s = excluded.%s, ", metrics_columns[i], metrics_columns[i]);
  str_append_text(sql, "updated_at = excluded.updated_at");
}

/* --- arrays --- */

static void add_integer(str *array, int32_t value) {
  uint32_t wire = htonl((uint32_t)value);
  pg_array_add(array, &wire, sizeof wire);
}

void pg_metrics_arrays_begin(pg_metrics_arrays *a, size_t n) {
  pg_array_begin(&a->columns[0], FLOAT8_OID, n);
  for (size_t i = 1; i < METRICS_N_OF_TEXT; i++) pg_array_begin(&a->columns[i], INT4_OID, n);
}

void pg_metrics_arrays_add(pg_metrics_arrays *a, const store_metrics *metrics) {
  uint64_t bits;
  memcpy(&bits, &metrics->ratio, sizeof bits);
  bits = htobe64(bits);
  if (metrics->has_ratio) pg_array_add(&a->columns[0], &bits, sizeof bits);
  else pg_array_add_null(&a->columns[0]);
  add_integer(&a->columns[1], metrics->word_count);
  add_integer(&a->columns[2], metrics->length);
  add_integer(&a->columns[3], metrics->entity_count);
}

bool pg_metrics_arrays_failed(const pg_metrics_arrays *a) {
  bool failed = false;
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++) failed |= a->columns[i].failed;
  return failed;
}

void pg_metrics_arrays_fini(pg_metrics_arrays *a) {
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++) str_fini(&a->columns[i]);
}

void pg_metrics_add_params(pg_params *p, const pg_metrics_arrays *a) {
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++) pg_add_binary(p, &a->columns[i]);
}

void pg_metrics_append_unnest(str *sql, int first) {
  str_append_format(sql, ", $%d::float8[], $%d::int4[], $%d::int4[], $%d::int4[]", first, first + 1,
                    first + 2, first + 3);
}

void pg_metrics_append_names(str *sql) {
  str_append_text(sql, ", m0, m1, m2, m3");
}

void pg_metrics_append_returning(str *sql, const pg_store *s) {
  str_append_text(sql, ", vecmill_d.m0, vecmill_d.m1, vecmill_d.m2, vecmill_d.m3");
  pg_metrics_append_places(sql, s);
}

void pg_metrics_append_removal(str *sql, const pg_store *s) {
  const pg_metrics *m = &s->metrics;
  str_append_format(sql, ", m AS (%s %s AS m", m->has_more ? "UPDATE" : "DELETE FROM", m->sql);
  for (size_t i = 0; m->has_more && i < METRICS_N_COLUMNS; i++)
    str_append_format(sql, "%s%s = %s", i ? ", " : " SET ", metrics_columns[i],
                      i + 1 < METRICS_N_COLUMNS ? "NULL" : "now()");
  str_append_text(sql, m->has_more ? " FROM u WHERE true" : " USING u WHERE true");
  for (size_t i = 0; i < m->n_joins; i++) {
    str_append_text(sql, " AND m.");
    pg_append_name(sql, m->joins[i].name);
    str_append_format(sql, " = u.j%zu", i);
    pg_metrics_append_collation(sql, &m->joins[i]);
  }
  if (m->is_shared) { /* another row's, if there is one: the end of the run puts its numbers there
                       */
    str_append_format(sql, " AND NOT EXISTS (SELECT 1 FROM %s WHERE ", s->table_sql);
    pg_append_column(sql, s, s->vector_column);
    str_append_text(sql, " IS NOT NULL AND NOT EXISTS (SELECT 1 FROM u AS v WHERE v.key = ");
    pg_append_record_key(sql, s, NULL);
    str_append_char(sql, ')');
    for (size_t i = 0; i < m->n_joins; i++) {
      str_append_text(sql, " AND ");
      pg_append_column(sql, s, m->joins[i].name);
      str_append_format(sql, " = u.j%zu", i);
    }
    str_append_char(sql, ')');
  }
  str_append_char(sql, ')');
}

void pg_metrics_append_cte(str *sql, const pg_store *s) {
  str_append_text(sql, ", m AS (");
  pg_metrics_append_insert(sql, s, "(SELECT * FROM u WHERE kept) AS u");
  str_append_char(sql, ')');
}
