/*
 * Numbers of the texts, in a table of their own.
 *
 * That table's primary key says which columns of the table of texts it goes by (joins). As a rule
 * they are its key; where they are not (document_metrics goes by sourceid), several rows may share
 * one row of metrics, which then is that of the first of them in key order. Commits cannot know
 * which is the first, so the end of a run sets that right.
 */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/metrics_table.h"
#include "store/pg_parts.h"

static const char *const metric_types[METRICS_N_COLUMNS] = {"real",    "integer", "integer",
                                                            "integer", "integer", "timestamptz"};

void pg_metrics_fini(pg_metrics *m) {
  for (size_t i = 0; i < m->n_joins; i++) pg_key_column_fini(&m->joins[i]);
  mem_free(m->schema);
  mem_free(m->name);
  mem_free(m->sql);
  mem_free(m->rows_sql);
  for (size_t i = 0; i < METRICS_N_SHARERS; i++) mem_free(m->sharers[i]);
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
 * rule that is in the way, behind its event. Then, of its columns again: whose values are the
 * server's alone, as ALTER TABLE undoes it (18 cannot of a virtual one, which goes and comes again,
 * and its type is to follow); those that take no NULL, and the domain which says so where the
 * column does not; those that take none from an UPDATE. And of the table: it is partitioned; who
 * inherits from one that is not. */
enum {
  IS_TABLE = 5,
  IS_IMMEDIATE,
  RULE,
  UNDO_GENERATED,
  IS_NOT_NULL,
  DOMAIN_NOT_NULL,
  TAKES_NO_NULL,
  IS_PARTITIONED,
  HEIRS
};

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

/* Of the domains that a column's type is over, one by way of another, the first that takes no NULL.
 * (Their defaults are copied from each to the next.) */
static const char domain_not_null[] =
    "(WITH RECURSIVE d AS (SELECT 0 AS n, a.atttypid AS t UNION ALL SELECT n + 1, typbasetype FROM "
    "d JOIN pg_type ON oid = t AND typtype = 'd') SELECT " PG_TYPE_NAME_OF "b.oid) AS name FROM d "
    "JOIN pg_type AS b ON b.oid = t AND typnotnull ORDER BY n LIMIT 1) AS o";

/* The column itself takes none, and no trigger may put something there before a row is looked at:
 * row 1, before 2, insert 4 (pg_trigger.h), of the table or of a partition. Whether one does nobody
 * can tell. What a domain says holds before triggers. */
static const char column_not_null[] =
    "(SELECT a.attnotnull AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE NOT tgisinternal AND "
    "tgtype & 7 = 7 AND tgenabled IN " PG_ENABLED_STATES " AND (tgrelid = c.oid OR tgrelid IN "
    "(SELECT relid FROM pg_partition_tree(c.oid)))) AS holds) AS f";

/* Its columns: name, place in the primary key from 1 on (INCLUDE is no part of it), the type of
 * that name's column in the table of texts, if it has one, and the collation if that has another.
 */
static vecmill_status read_metrics_table(pg_store *s, PGresult **rows_out, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  str_append_text(
      &sql,
      "SELECT a.attname::text, coalesce(array_position((i.indkey::int2[])[0:i.indnkeyatts - "
      "1], a.attnum), 0)::text, " PG_TYPE_NAME_OF "t.atttypid), ((f.holds OR o.name IS NOT "
      "NULL) AND NOT a.atthasdef AND a.attidentity = '' AND y.typdefault IS NULL)::text, CASE WHEN "
      "a.attcollation <> t.attcollation AND "
      "t.attcollation <> 0 THEN " PG_COLLATION_OF_A " END, (c.relkind IN ('r', 'p'))::text, "
      "i.indimmediate::text, ");
  str_append_text(&sql, rule_in_the_way);
  str_append_text(
      &sql,
      ", CASE WHEN a.attgenerated = 'v' THEN format('DROP %1$I, ADD %1$I ', a.attname) WHEN "
      "a.attgenerated <> '' THEN format('ALTER %I DROP EXPRESSION', a.attname) WHEN a.attidentity "
      "= 'a' THEN format('ALTER %I SET GENERATED BY DEFAULT', a.attname) END, (f.holds OR o.name "
      "IS NOT NULL)::text, CASE WHEN NOT f.holds THEN o.name END, (a.attnotnull OR o.name IS NOT "
      "NULL)::text, (c.relkind = 'p')::text, (SELECT string_agg(i::regclass::text, ', ') FROM "
      "(SELECT inhrelid AS i FROM pg_inherits WHERE inhparent = c.oid AND c.relkind = 'r' ORDER BY "
      "1 LIMIT 10) AS h) FROM "
      "pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_attribute AS a ON "
      "a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type AS y ON y.oid = "
      "a.atttypid LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary "
      "LEFT JOIN pg_attribute AS t ON t.attrelid = $3::oid AND t.attname = a.attname AND "
      "t.attnum > 0 AND NOT t.attisdropped ");
  str_append_format(
      &sql,
      "LEFT JOIN LATERAL %s ON true CROSS JOIN LATERAL %s WHERE n.nspname = $1::text AND c.relname "
      "= $2::text ORDER BY a.attnum",
      domain_not_null, column_not_null);
  pg_add_text(&p, s->metrics.schema);
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

static size_t place_of_metric(const char *name) {
  size_t i = 0;
  while (i < METRICS_N_COLUMNS && strcmp(name, metrics_columns[i]) != 0) i++;
  return i;
}

/* Of the key or a metric: what is written there. */
static vecmill_status check_ours(const pg_metrics *m, const PGresult *rows, int row,
                                 vecmill_error *err) {
  const char *name = pg_text(rows, row, 0), *undo = pg_text(rows, row, UNDO_GENERATED);
  size_t place = place_of_metric(name);
  bool wants_type = *undo == 'D' && place < METRICS_N_COLUMNS; /* DROP, ADD */
  if (*undo)
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: column %s is GENERATED ALWAYS, so it takes no values (ALTER TABLE %s "
                   "%s%s; or name another table with --metrics-table)",
                   m->name, name, m->sql, undo, wants_type ? metric_types[place] : "");
  if (place != 0 || m->has_ratios || pg_text(rows, row, IS_NOT_NULL)[0] != 't') return VECMILL_OK;
  str alter = {0};
  const char *domain = pg_text(rows, row, DOMAIN_NOT_NULL);
  if (*domain) str_append_format(&alter, "DOMAIN %s", domain);
  else str_append_format(&alter, "TABLE %s ALTER %s", m->sql, name);
  vecmill_status status =
      err_set(err, VECMILL_ERROR_CONFLICT,
              "table %s: column %s is NOT NULL, and NULL without a word list (give --wordlist "
              "FILE; or ALTER %s DROP NOT NULL; or name another table with --metrics-table)",
              m->name, name, alter.failed ? ".." : alter.data);
  str_fini(&alter);
  return status;
}

/* A column that wants a value which nobody gives would make every row fail: frequency too, which
 * comes at the end alone. */
static vecmill_status check_values(const pg_metrics *m, const PGresult *rows, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (int row = 0; status == VECMILL_OK && row < PQntuples(rows); row++) {
    const char *name = pg_text(rows, row, 0);
    size_t place = place_of_metric(name);
    bool is_key = is_join(m, name), is_given = place != METRICS_N_OF_TEXT;
    if (is_key || place < METRICS_N_COLUMNS) status = check_ours(m, rows, row, err);
    if (status != VECMILL_OK || is_key || (place < METRICS_N_COLUMNS && is_given)) continue;
    if (pg_text(rows, row, 3)[0] == 't')
      status = err_set(err, VECMILL_ERROR_CONFLICT,
                       "table %s: column %s is NOT NULL without a default, and %s (name "
                       "another with --metrics-table)",
                       m->name, name, is_given ? "no metric" : "has no number before a run's end");
  }
  return status;
}

/* Types that cannot be written or compared: the server is asked, and runs nothing. Who lacks rights
 * there is told of these. */
static vecmill_status check_types(pg_store *s, vecmill_error *err) {
  const pg_metrics *m = &s->metrics;
  str source = {0}, sql = {0};
  PGresult *rows = NULL;
  vecmill_error words = {0};
  str_append_text(&source, "(SELECT NULL::float8 AS m0, NULL::integer AS m1, NULL::integer AS m2, "
                           "NULL::integer AS m3");
  pg_metrics_append_places(&source, s);
  str_append_format(&source, " FROM %s) AS u", s->table_sql);
  str_append_text(&sql, "EXPLAIN WITH m AS (");
  pg_metrics_append_insert(&sql, s, source.data && !source.failed ? source.data : "");
  const char *alias = pg_alias(s, "vecmill_m");
  str_append_format(&sql, ") SELECT 1 FROM %s, %s AS %s WHERE %s.frequency IS DISTINCT FROM 1",
                    s->table_sql, m->rows_sql, alias, alias);
  for (size_t i = 0; i < m->n_joins; i++) {
    str_append_format(&sql, " AND %s.", alias);
    pg_append_name(&sql, m->joins[i].name);
    str_append_text(&sql, " = ");
    pg_append_column(&sql, s, m->joins[i].name);
    pg_metrics_append_collation(&sql, &m->joins[i]);
  }
  sql.failed |= source.failed;
  static const char what[] = "cannot check the metrics table";
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, what, &rows, &words);
  PQclear(rows);
  str_fini(&source);
  str_fini(&sql);
  if (status == VECMILL_OK || pg_state_is("42501")) return VECMILL_OK;
  const char *why = strstr(words.text, what);
  if (why && (pg_state_is("42") || pg_state_is("0A")))
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: %s (its key must be of the types of table %s, its numbers numbers; "
                   "or name another table with --metrics-table)",
                   m->name, why + strlen(what) + strlen(": "), s->table);
  if (err) *err = words;
  return status;
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
  str_append_text(&sql, "SELECT " PG_TYPE_NAME_OF "atttypid), CASE WHEN attcollation <> (SELECT "
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

/* The table that is there by the rules of the table of texts' name, or the one to make. */
static vecmill_status find_names(pg_store *s, const char *wanted, vecmill_error *err) {
  pg_metrics *m = &s->metrics;
  PGresult *rows = NULL;
  vecmill_status status = pg_find_beside(s, wanted, &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) == 0) {
    status = pg_part_name(s, wanted, &m->schema, &m->name, err);
  } else if (status == VECMILL_OK) {
    m->schema = mem_strdup(pg_text(rows, 0, 1));
    m->name = mem_strdup(pg_text(rows, 0, 2));
  }
  PQclear(rows);
  if (status == VECMILL_OK && m->schema && strcmp(m->schema, s->schema) != 0)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "--metrics-table %s: means one in schema %s, and metrics lie in the schema of "
                   "their table, %s (name one there)",
                   wanted, m->schema, s->schema);
  return status;
}

static vecmill_status name_table(pg_store *s, const char *wanted, vecmill_error *err) {
  pg_metrics *m = &s->metrics;
  str name = {0}, sql = {0};
  vecmill_status status = wanted ? find_names(s, wanted, err) : VECMILL_OK;
  if (status != VECMILL_OK) return status;
  if (!wanted) {
    metrics_append_name(&name, s->table);
    m->schema = mem_strdup(s->schema);
    m->name = name.data;
  }
  pg_append_name(&sql, m->schema ? m->schema : "");
  str_append_char(&sql, '.');
  pg_append_name(&sql, m->name ? m->name : "");
  m->sql = sql.data;
  return !m->schema || !m->name || name.failed || sql.failed ? err_set_memory(err, "metrics", sql.n)
                                                             : VECMILL_OK;
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

/* Who inherits from a table has rows of its own; a partitioned one has all of its partitions'. */
static vecmill_status settle_rows(pg_metrics *m, const PGresult *rows, vecmill_error *err) {
  str sql = {0};
  bool is_partitioned = !m->is_missing && pg_text(rows, 0, IS_PARTITIONED)[0] == 't';
  str_append_format(&sql, "%s%s", is_partitioned ? "" : "ONLY ", m->sql);
  m->rows_sql = sql.data;
  return sql.failed ? err_set_memory(err, "metrics", sql.n) : VECMILL_OK;
}

static void settle_strict(pg_metrics *m, const PGresult *rows) {
  for (int row = 0; row < PQntuples(rows); row++) {
    size_t place = place_of_metric(pg_text(rows, row, 0));
    if (place < METRICS_N_COLUMNS)
      m->is_strict[place] = pg_text(rows, row, TAKES_NO_NULL)[0] == 't';
  }
}

static void settle_shared(pg_store *s) {
  for (size_t i = 0; i < s->n_keys; i++)
    s->metrics.is_shared |= !is_join(&s->metrics, s->keys[i].name);
}

/*
 * Which of the corpus's tables, $4 and $5, have texts behind the same metrics: in the same schema,
 * by the key that the metrics have and a text, both for this user to read. None that holds rows of
 * the table of texts itself, or is held by it.
 */
static const char sharers_sql[] =
    "SELECT CASE WHEN c.relkind = 'r' THEN 'ONLY ' ELSE '' END || quote_ident(n.nspname) || '.' || "
    "quote_ident(c.relname) FROM pg_namespace AS n JOIN pg_class AS c ON c.relnamespace = n.oid "
    "JOIN pg_class AS k ON k.relnamespace = n.oid AND k.relname = $2::text JOIN pg_attribute AS ka "
    "ON ka.attrelid = k.oid AND ka.attname = $3::text JOIN pg_attribute AS a ON a.attrelid = c.oid "
    "AND a.attname = ka.attname AND a.atttypid = ka.atttypid AND a.attcollation = ka.attcollation "
    "JOIN pg_attribute AS t ON t.attrelid = c.oid AND t.attname = 'text' AND NOT t.attisdropped "
    "JOIN pg_type AS y ON y.oid = t.atttypid AND y.typcategory = 'S' WHERE n.nspname = $1::text "
    "AND c.relkind IN ('r', 'p') AND lower(c.relname::text COLLATE pg_catalog.\"C\") IN ($4::text, "
    "$5::text) AND c.oid <> $6::oid AND NOT EXISTS (SELECT 1 FROM pg_partition_tree(c.oid) WHERE "
    "relid = $6::oid) AND NOT EXISTS (SELECT 1 FROM pg_partition_tree($6::oid) WHERE relid = "
    "c.oid) "
    "AND has_column_privilege(c.oid, a.attnum, 'SELECT') AND has_column_privilege(c.oid, t.attnum, "
    "'SELECT') ORDER BY c.relname";

static vecmill_status find_sharers(pg_store *s, vecmill_error *err) {
  pg_metrics *m = &s->metrics;
  const char *key = metrics_shared_key(m->name);
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  if (!key || m->n_joins != 1 || strcmp(m->joins[0].name, key) != 0)
    return VECMILL_OK;
  str_append_text(&sql, sharers_sql);
  const char *values[] = {s->schema,          m->name,     key, metrics_sharers[0],
                          metrics_sharers[1], s->table_oid};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) pg_add_text(&p, values[i]);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &rows, err);
  for (int i = 0; status == VECMILL_OK && i < PQntuples(rows) && i < METRICS_N_SHARERS; i++) {
    m->sharers[i] = mem_strdup(pg_text(rows, i, 0));
    if (!m->sharers[i]) status = err_set_memory(err, m->name, 64);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status check_table(pg_store *s, const PGresult *rows, vecmill_error *err) {
  pg_metrics *m = &s->metrics;
  vecmill_status status = check_kind(m, rows, err);
  if (status == VECMILL_OK) status = check_columns(m, rows, err);
  if (status == VECMILL_OK) status = take_joins(s, rows, err);
  if (status == VECMILL_OK) status = check_values(m, rows, err);
  m->has_more = has_more_columns(rows);
  settle_strict(m, rows);
  if (status == VECMILL_OK) status = check_rules(s, rows, err);
  if (status != VECMILL_OK) return status;
  settle_shared(s);
  status = check_types(s, err);
  if (status == VECMILL_OK) status = find_sharers(s, err);
  if (status == VECMILL_OK && *pg_text(rows, 0, HEIRS))
    log_note("table %s: metrics are its own rows alone, not those of tables that inherit from it: "
             "%s (--metrics-table names another)",
             m->name, pg_text(rows, 0, HEIRS));
  return status;
}

static vecmill_status settle_table(pg_store *s, const store_metrics_target *target,
                                   vecmill_error *err) {
  pg_metrics *m = &s->metrics;
  PGresult *rows = NULL;
  vecmill_status status = read_metrics_table(s, &rows, err);
  m->is_missing = status == VECMILL_OK && PQntuples(rows) == 0;
  if (status == VECMILL_OK) status = settle_rows(m, rows, err);
  if (status == VECMILL_OK && !m->is_missing) status = check_table(s, rows, err);
  else if (status == VECMILL_OK && target->creates) status = choose_joins(s, err), settle_shared(s);
  else if (status == VECMILL_OK)
    status =
        err_set(err, VECMILL_ERROR_NOT_FOUND,
                "%s: no table %s for the metrics (--create-metrics makes it)", s->shown, m->name);
  PQclear(rows);
  return status;
}

vecmill_status pg_store_metrics_find(store *base, const store_metrics_target *target,
                                     const char **table_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  vecmill_error why = {0};
  *table_out = NULL;
  s->metrics.has_ratios = target->words != 0;
  s->metrics.words = target->words;
  vecmill_status status = name_table(s, target->table, &why);
  const pg_given_name name = {"--metrics-table", s->metrics.name, NULL};
  if (status == VECMILL_OK && (target->table || target->creates))
    status = pg_check_names(s, &name, 1, &why);
  if (status == VECMILL_OK) status = settle_table(s, target, &why);
  if (status == VECMILL_OK) status = pg_metrics_check_owner(s, &why);
  if (status == VECMILL_OK) *table_out = s->metrics.name;
  else pg_metrics_fini(&s->metrics);
  return status == VECMILL_OK ? status : metrics_do_without(target, status, &why, err);
}

void pg_metrics_append_create(str *sql, const pg_store *s) {
  const pg_metrics *m = &s->metrics;
  str_append_format(sql, "CREATE TABLE IF NOT EXISTS %s(", m->sql);
  for (size_t i = 0; i < m->n_joins; i++) {
    pg_append_name(sql, m->joins[i].name);
    str_append_char(sql, ' ');
    pg_append_type(sql, &m->joins[i]);
    str_append_text(sql, ", ");
  }
  for (size_t i = 0; i < METRICS_N_COLUMNS; i++)
    str_append_format(sql, "%s %s, ", metrics_columns[i], metric_types[i]);
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
  /* Where nothing is embedded this is where the run begins. All that comes bears to be done again:
   * what is written already is not written twice. */
  s->has_begun |= s->metrics.is_on;
  return status;
}
