/*
 * Numbers of the texts, in a table of their own: as in pg_metrics.c, which says what the key of
 * that table means and why several rows may share a row of metrics.
 */
#include <string.h>

#include "base/mem.h"
#include "store/metrics_table.h"
#include "store/sqlite_parts.h"

void sqlite_metrics_fini(sqlite_metrics *m) {
  sqlite3_finalize(m->upsert);
  for (size_t i = 0; i < m->n_joins; i++) {
    mem_free(m->joins[i]);
    mem_free(m->types[i]);
  }
  mem_free(m->name);
  str_fini(&m->cursor);
  *m = (sqlite_metrics){0};
}

/* --- the table --- */

static vecmill_status add_join(sqlite_metrics *m, const char *name, const char *type,
                               vecmill_error *err) {
  if (m->n_joins == SQLITE_STORE_MAX_KEYS)
    return err_set(err, VECMILL_ERROR_CONFLICT, "table %s: a key of more than %d columns", m->name,
                   SQLITE_STORE_MAX_KEYS);
  size_t i = m->n_joins++;
  m->joins[i] = mem_strdup(name);
  m->types[i] = mem_strdup(type ? type : "");
  return m->joins[i] && m->types[i] ? VECMILL_OK : err_set_memory(err, name, 64);
}

static vecmill_status name_table(sqlite_store *s, const char *wanted, vecmill_error *err) {
  str name = {0};
  if (wanted) str_append_text(&name, wanted);
  else metrics_append_name(&name, s->table);
  s->metrics.name = name.data;
  return name.failed ? err_set_memory(err, "metrics", name.n) : VECMILL_OK;
}

/* Steps to a row or to the end. */
static vecmill_status next_row(sqlite_store *s, sqlite3_stmt *statement, bool *row_out,
                               vecmill_error *err) {
  int code = sqlite3_step(statement);
  *row_out = code == SQLITE_ROW;
  return code == SQLITE_ROW || code == SQLITE_DONE
             ? VECMILL_OK
             : sqlite_error(s, code, "cannot read the schema", err);
}

/* The type of a column of the table of texts; *found_out false: there is no such column. */
static vecmill_status column_type(sqlite_store *s, const char *column, str *type_out,
                                  bool *found_out, vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  str sql = {0};
  str_append_text(&sql, "SELECT type FROM pragma_table_xinfo(:table, 'main') WHERE name = :column "
                        "COLLATE NOCASE");
  vecmill_status status = sqlite_compile(s, &sql, "cannot read the schema", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(statement, ":table", s->table);
  sqlite_bind_text_at(statement, ":column", column);
  status = next_row(s, statement, found_out, err);
  const char *type = *found_out ? (const char *)sqlite3_column_text(statement, 0) : NULL;
  str_append_text(type_out, type ? type : "");
  if (status == VECMILL_OK && type_out->failed) status = err_set_memory(err, column, 64);
  sqlite3_finalize(statement);
  return status;
}

/* The key of a table that is to be made. A rowid that has no column of its own is an integer. */
static vecmill_status choose_joins(sqlite_store *s, vecmill_error *err) {
  const char *shared = metrics_shared_key(s->metrics.name);
  str type = {0};
  bool found = false;
  vecmill_status status = VECMILL_OK;
  if (shared) status = column_type(s, shared, &type, &found, err);
  if (status == VECMILL_OK && found) status = add_join(&s->metrics, shared, type.data, err);
  for (size_t i = 0; status == VECMILL_OK && !found && i < s->n_ids; i++) {
    str_clear(&type);
    bool has = false;
    status = column_type(s, s->ids[i], &type, &has, err);
    if (status == VECMILL_OK)
      status = add_join(&s->metrics, s->ids[i], has ? type.data : "INTEGER", err);
  }
  str_fini(&type);
  return status;
}

/* Reads name and key of each column, and whether it takes NULL; counts those that metrics need. */
static vecmill_status read_columns(sqlite_store *s, sqlite3_stmt *statement, bool *exists_out,
                                   vecmill_error *err) {
  sqlite_metrics *m = &s->metrics;
  bool row = false, found[METRICS_N_COLUMNS] = {false};
  vecmill_status status;
  while ((status = next_row(s, statement, &row, err)) == VECMILL_OK && row) {
    const char *name = (const char *)sqlite3_column_text(statement, 0);
    bool is_key = sqlite3_column_int(statement, 1) > 0, has = sqlite3_column_int(statement, 2) != 0;
    *exists_out = true;
    bool ours = is_key;
    for (size_t i = 0; i < METRICS_N_COLUMNS; i++) {
      bool same = str_same(name, metrics_columns[i]);
      found[i] |= same;
      ours |= same;
      m->is_strict[i] |= same && sqlite3_column_int(statement, 3) != 0;
    }
    m->has_more |= !ours;
    bool is_rowid = s->n_ids == 1 && str_same(name, s->ids[0]);
    if (is_key && !has && !is_rowid)
      return err_set(err, VECMILL_ERROR_CONFLICT,
                     "table %s: its key has %s, which table %s has not (name another with "
                     "--metrics-table)",
                     m->name, name, s->table);
    if (is_key) status = add_join(m, name, NULL, err);
    if (status != VECMILL_OK) return status;
  }
  if (status != VECMILL_OK || !*exists_out) return status;
  for (size_t i = 0; i < METRICS_N_COLUMNS; i++)
    if (!found[i])
      return err_set(err, VECMILL_ERROR_CONFLICT,
                     "table %s: no column %s, so it cannot hold metrics (name another with "
                     "--metrics-table)",
                     m->name, metrics_columns[i]);
  return m->n_joins
             ? VECMILL_OK
             : err_set(err, VECMILL_ERROR_CONFLICT,
                       "table %s: no primary key, so its rows cannot be found (add one)", m->name);
}

/* Which of the corpus's other tables have texts behind the same metrics. */
static vecmill_status find_sharers(sqlite_store *s, vecmill_error *err) {
  sqlite_metrics *m = &s->metrics;
  const char *key = metrics_shared_key(m->name);
  vecmill_status status = VECMILL_OK;
  if (!key || m->n_joins != 1 || !str_same(m->joins[0], key)) return VECMILL_OK;
  for (size_t i = 0; status == VECMILL_OK && i < METRICS_N_SHARERS; i++) {
    sqlite3_int64 n = 0;
    str sql = {0};
    str_append_format(&sql,
                      "SELECT count(*) FROM pragma_table_xinfo('%s', 'main') AS c, sqlite_schema "
                      "AS x WHERE x.name = '%s' COLLATE NOCASE AND x.type = 'table' AND "
                      "lower(c.name) IN ('%s', 'text')",
                      metrics_sharers[i], metrics_sharers[i], key);
    status = sqlite_integer(s, &sql, "cannot read the schema", 0, &n, err);
    str_fini(&sql);
    m->sharers[i] = n == 2 && !str_same(s->table, metrics_sharers[i]);
  }
  return status;
}

static const char *collation_of(const sqlite_store *s, const char *table, const char *column) {
  const char *collation = NULL;
  int code = sqlite3_table_column_metadata(s->db, "main", table, column, NULL, &collation, NULL,
                                           NULL, NULL);
  return code == SQLITE_OK && collation ? collation : "BINARY"; /* as in one that is to be made */
}

const char *sqlite_metrics_collation(const sqlite_store *s, size_t join) {
  return collation_of(s, s->metrics.name, s->metrics.joins[join]);
}

/* Whether keys that are two to the table of texts may be one to the metrics'. */
static bool is_coarser(const sqlite_store *s, size_t join) {
  const char *collation = sqlite_metrics_collation(s, join);
  return !str_same(collation, "BINARY") &&
         !str_same(collation, collation_of(s, s->table, s->metrics.joins[join]));
}

static vecmill_status settle_table(sqlite_store *s, const store_metrics_target *target,
                                   vecmill_error *err) {
  sqlite_metrics *m = &s->metrics;
  sqlite3_stmt *statement = NULL;
  str sql = {0};
  bool exists = false;
  str_append_text(
      &sql, "SELECT m.name, m.pk, EXISTS (SELECT 1 FROM pragma_table_xinfo(:table, 'main') AS "
            "t WHERE t.name = m.name COLLATE NOCASE), m.\"notnull\" FROM "
            "pragma_table_info(:metrics, 'main') AS m, sqlite_schema AS x WHERE x.name = :metrics "
            "COLLATE NOCASE AND x.type = 'table' ORDER BY m.pk");
  vecmill_status status = sqlite_compile(s, &sql, "cannot read the schema", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(statement, ":table", s->table);
  sqlite_bind_text_at(statement, ":metrics", m->name);
  status = read_columns(s, statement, &exists, err);
  sqlite3_finalize(statement);
  m->is_missing = !exists;
  if (status == VECMILL_OK && !exists)
    status = target->creates
                 ? choose_joins(s, err)
                 : err_set(err, VECMILL_ERROR_NOT_FOUND,
                           "%s: no table %s for the metrics (--create-metrics makes it)", s->path,
                           m->name);
  for (size_t i = 0; i < s->n_ids; i++) {
    bool found = false;
    for (size_t j = 0; j < m->n_joins; j++) found |= str_same(s->ids[i], m->joins[j]);
    m->is_shared |= !found;
  }
  for (size_t i = 0; i < m->n_joins; i++) m->is_shared |= is_coarser(s, i);
  return status == VECMILL_OK ? find_sharers(s, err) : status;
}

vecmill_status sqlite_store_metrics_find(store *base, const store_metrics_target *target,
                                         const char **table_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  vecmill_error why = {0};
  *table_out = NULL;
  s->metrics.has_ratios = target->words != 0;
  vecmill_status status = name_table(s, target->table, &why);
  if (status == VECMILL_OK) status = settle_table(s, target, &why);
  if (status == VECMILL_OK) status = sqlite_metrics_check_owner(s, &why);
  if (status == VECMILL_OK) *table_out = s->metrics.name;
  else sqlite_metrics_fini(&s->metrics);
  return status == VECMILL_OK ? status : metrics_do_without(target, status, &why, err);
}

void sqlite_metrics_append_table(str *sql, const sqlite_store *s) {
  str_append_text(sql, "main.");
  sql_append_name(sql, s->metrics.name);
}

/* "a", "b" */
static void append_names(str *sql, const sqlite_metrics *m) {
  for (size_t i = 0; i < m->n_joins; i++) {
    if (i > 0) str_append_text(sql, ", ");
    sql_append_name(sql, m->joins[i]);
  }
}

void sqlite_metrics_append_joins(str *sql, const sqlite_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    if (i > 0) str_append_text(sql, ", ");
    sql_append_column(sql, s, s->metrics.joins[i]);
  }
}

void sqlite_metrics_append_collated_joins(str *sql, const sqlite_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    if (i > 0) str_append_text(sql, ", ");
    sql_append_column(sql, s, s->metrics.joins[i]);
    str_append_text(sql, " COLLATE ");
    sql_append_name(sql, sqlite_metrics_collation(s, i));
  }
}

static vecmill_status create_table(sqlite_store *s, vecmill_error *err) {
  const sqlite_metrics *m = &s->metrics;
  static const char *const types[METRICS_N_COLUMNS] = {"REAL",    "INTEGER", "INTEGER",
                                                       "INTEGER", "INTEGER", "TEXT"};
  str sql = {0};
  str_append_text(&sql, "CREATE TABLE IF NOT EXISTS ");
  sqlite_metrics_append_table(&sql, s);
  str_append_char(&sql, '(');
  for (size_t i = 0; i < m->n_joins; i++) {
    sql_append_name(&sql, m->joins[i]);
    str_append_format(&sql, " %s, ", m->types[i]);
  }
  for (size_t i = 0; i < METRICS_N_COLUMNS; i++)
    str_append_format(&sql, "%s %s, ", metrics_columns[i], types[i]);
  str_append_text(&sql, "PRIMARY KEY(");
  append_names(&sql, m);
  str_append_text(&sql, "))");
  vecmill_status status = sql.failed
                              ? err_set_memory(err, m->name, sql.n)
                              : sqlite_run(s, sql.data, "cannot create the metrics table", err);
  str_fini(&sql);
  return status;
}

void sqlite_append_has_vector(str *sql, const sqlite_store *s) {
  sql_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL");
}

void sqlite_metrics_append_joins_not_null(str *sql, const sqlite_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(sql, " AND ");
    sql_append_column(sql, s, s->metrics.joins[i]);
    str_append_text(sql, " IS NOT NULL");
  }
}

void sqlite_metrics_append_is_candidate(str *sql, const sqlite_store *s) {
  sqlite_append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, " IS NOT NULL");
  sqlite_metrics_append_joins_not_null(sql, s);
}

void sqlite_metrics_append_needed(str *sql, const sqlite_store *s, bool with_text) {
  const char *names[2 * SQLITE_STORE_MAX_KEYS + 1];
  size_t n = 0, n_all = 0;
  for (size_t i = 0; i < s->n_ids; i++) names[n_all++] = s->ids[i];
  if (with_text) names[n_all++] = s->text_column;
  for (size_t i = 0; i < s->metrics.n_joins; i++) names[n_all++] = s->metrics.joins[i];
  for (size_t i = 0; i < n_all; i++) {
    bool is_new = true;
    for (size_t j = 0; j < n; j++) is_new &= !str_same(names[j], names[i]);
    if (!is_new) continue;
    if (n > 0) str_append_text(sql, ", ");
    sql_append_column(sql, s, names[i]);
    str_append_text(sql, " AS ");
    sql_append_name(sql, names[i]);
    names[n++] = names[i];
  }
}

void sqlite_metrics_append_place(str *sql, const sqlite_store *s) {
  str_append_text(sql, "row_number() OVER (PARTITION BY ");
  sqlite_metrics_append_collated_joins(sql, s);
  str_append_text(sql, " ORDER BY ");
  sql_append_ids(sql, s);
  str_append_text(sql, ") AS vecmill_i");
}

void sqlite_metrics_append_page_end(str *sql, const sqlite_store *s) {
  if (s->metrics.cursor.n) {
    str_append_text(sql, " AND ");
    sql_append_compare(sql, s, ">", 'k');
  }
  str_append_text(sql, " ORDER BY ");
  sql_append_ids(sql, s);
  str_append_text(sql, " LIMIT :n");
}

/* One statement serves commits, which have just written the vector, and what comes after. A row of
 * metrics that would stay as it is is not written. */
static vecmill_status compile_upsert(sqlite_store *s, vecmill_error *err) {
  sqlite_metrics *m = &s->metrics;
  str sql = {0};
  str_append_text(&sql, "INSERT INTO ");
  sqlite_metrics_append_table(&sql, s);
  str_append_text(&sql, " AS vecmill_m(");
  append_names(&sql, m);
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++)
    str_append_format(&sql, ", %s", metrics_columns[i]);
  str_append_text(&sql, ", updated_at) SELECT ");
  sqlite_metrics_append_joins(&sql, s);
  str_append_text(&sql, ", :m0, :m1, :m2, :m3, strftime('%Y-%m-%dT%H:%M:%SZ', 'now') FROM ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " WHERE ");
  sql_append_compare(&sql, s, "=", 'k');
  str_append_text(&sql, " AND vecmill_same(");
  sql_append_column(&sql, s, s->text_column);
  str_append_text(&sql, ", :text) AND ");
  sqlite_append_has_vector(&sql, s);
  sqlite_metrics_append_joins_not_null(&sql, s);
  str_append_text(&sql, " ON CONFLICT(");
  append_names(&sql, m);
  str_append_text(&sql, ") DO UPDATE SET ");
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++)
    str_append_format(&sql, "%s = excluded.%s, ", metrics_columns[i], metrics_columns[i]);
  str_append_text(&sql, "updated_at = excluded.updated_at WHERE 0");
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++)
    str_append_format(&sql, " OR %svecmill_m.%s IS NOT excluded.%s", i == 0 ? "NOT :keep AND " : "",
                      metrics_columns[i], metrics_columns[i]);
  vecmill_status status = sqlite_compile(s, &sql, "cannot write metrics", &m->upsert, err);
  str_fini(&sql);
  return status;
}

vecmill_status sqlite_store_metrics_begin(store *base, vecmill_error *err) {
  sqlite_store *s = of(base);
  vecmill_status status = VECMILL_OK;
  if (s->metrics.is_missing) status = create_table(s, err);
  if (status == VECMILL_OK) status = compile_upsert(s, err);
  s->metrics.is_on = status == VECMILL_OK;
  return status;
}

/* --- writing --- */

int sqlite_metrics_write(sqlite_store *s, const store_row *row, bool keeps_ratio) {
  sqlite3_stmt *upsert = s->metrics.upsert;
  const store_metrics *metrics = &row->metrics;
  key_bind(upsert, 'k', row->key, row->n_key_bytes);
  sqlite3_bind_text64(upsert, sqlite3_bind_parameter_index(upsert, ":text"), row->text,
                      row->n_text_bytes, SQLITE_STATIC, SQLITE_UTF8);
  int ratio = sqlite3_bind_parameter_index(upsert, ":m0");
  if (metrics->has_ratio) sqlite3_bind_double(upsert, ratio, metrics->ratio);
  else sqlite3_bind_null(upsert, ratio);
  sqlite_bind_integer_at(upsert, ":keep", keeps_ratio);
  sqlite_bind_integer_at(upsert, ":m1", metrics->word_count);
  sqlite_bind_integer_at(upsert, ":m2", metrics->length);
  sqlite_bind_integer_at(upsert, ":m3", metrics->entity_count);
  int code = sqlite3_step(upsert);
  sqlite3_reset(upsert);
  return code;
}

/* "(a, b) IN (SELECT a, b FROM table" */
static void append_among(str *sql, const sqlite_store *s) {
  str_append_char(sql, '(');
  append_names(sql, &s->metrics);
  str_append_text(sql, ") IN (SELECT ");
  sqlite_metrics_append_joins(sql, s);
  str_append_text(sql, " FROM ");
  sql_append_table(sql, s);
}

/* " AND NOT ..": the row may be that of a text of another table of the corpus, which its length
 * then tells: of another text it would be numbers that are wrong. */
static void append_unless_of_sharers(str *sql, const sqlite_metrics *m) {
  for (size_t i = 0; i < METRICS_N_SHARERS; i++) {
    if (!m->sharers[i]) continue;
    str_append_text(sql, " AND (");
    append_names(sql, m);
    str_append_format(sql,
                      ", coalesce(length, -1)) NOT IN (SELECT sourceid, length(text) FROM main.%s "
                      "WHERE sourceid IS NOT NULL AND NOT vecmill_blank(text))",
                      metrics_sharers[i]);
  }
}

/* A row that several share stays while one of them has a vector: the end of the run puts that one's
 * numbers there. */
void sqlite_metrics_append_removal(str *sql, const sqlite_store *s, const str *removed) {
  const sqlite_metrics *m = &s->metrics;
  str_append_text(sql, m->has_more ? "UPDATE " : "DELETE FROM ");
  sqlite_metrics_append_table(sql, s);
  for (size_t i = 0; m->has_more && i < METRICS_N_COLUMNS; i++)
    str_append_format(sql, "%s%s = %s", i ? ", " : " SET ", metrics_columns[i],
                      i + 1 < METRICS_N_COLUMNS ? metrics_nothing(m->is_strict[i])
                                                : "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')");
  str_append_text(sql, " WHERE ");
  append_among(sql, s);
  str_append(sql, removed->data, removed->n);
  str_append_char(sql, ')');
  append_unless_of_sharers(sql, m);
  if (!m->is_shared) return;
  str_append_text(sql, " AND NOT ");
  append_among(sql, s);
  str_append_text(sql, " WHERE ");
  sqlite_append_has_vector(sql, s);
  sqlite_metrics_append_joins_not_null(sql, s);
  str_append_char(sql, ')');
}
