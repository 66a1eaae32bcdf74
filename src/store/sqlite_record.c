/*
 * What made a column, and beginning a run: the record, the checks before the
 * first write, and the one transaction that adds what is missing.
 */
#include <string.h>

#include "base/mem.h"
#include "store/sqlite_parts.h"

/* The user's own table and column names are kept as the schema spells them. */
static const char create_tables[] =
    "CREATE TABLE IF NOT EXISTS main.vecmill_columns("
    "table_name TEXT NOT NULL COLLATE NOCASE, vector_column TEXT NOT NULL COLLATE NOCASE, "
    "model TEXT NOT NULL, revision TEXT NOT NULL, dimension INTEGER NOT NULL, pooling TEXT NOT "
    "NULL, "
    "prefix TEXT NOT NULL, precision TEXT NOT NULL, text_column TEXT NOT NULL COLLATE NOCASE, "
    "created TEXT NOT NULL, metrics_table TEXT, "
    "PRIMARY KEY(table_name, vector_column));"
    "CREATE TABLE IF NOT EXISTS main.vecmill_failures("
    "table_name TEXT NOT NULL COLLATE NOCASE, vector_column TEXT NOT NULL COLLATE NOCASE, "
    "key TEXT NOT NULL, reason TEXT NOT NULL, run INTEGER NOT NULL, at TEXT NOT NULL, "
    "text_hash INTEGER NOT NULL, "
    "PRIMARY KEY(table_name, vector_column, key)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS main.vecmill_hashes("
    "table_name TEXT NOT NULL COLLATE NOCASE, vector_column TEXT NOT NULL COLLATE NOCASE, "
    "key NOT NULL, hash INTEGER NOT NULL, "
    "PRIMARY KEY(table_name, vector_column, key)) WITHOUT ROWID;";

/* *columns_out: a record can be read; *all_out: nothing is to be created. */
static vecmill_status own_tables_exist(sqlite_store *s, bool *columns_out, bool *all_out,
                                       vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT sum(CASE name WHEN 'vecmill_columns' THEN 4 ELSE 1 END) FROM "
                        "main.sqlite_schema WHERE type = 'table' AND name IN "
                        "('vecmill_columns', 'vecmill_failures', 'vecmill_hashes')");
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the schema", 0, &n, err);
  *columns_out = n >= 4;
  *all_out = n == 6;
  str_fini(&sql);
  return status;
}

static vecmill_status take_record(sqlite_store *s, sqlite3_stmt *statement, store_maker *maker_out,
                                  vecmill_error *err) {
  int n = sizeof s->maker_text / sizeof *s->maker_text;
  for (int i = 0; i < n; i++) {
    const char *text = (const char *)sqlite3_column_text(statement, i);
    mem_free(s->maker_text[i]);
    s->maker_text[i] = mem_strdup(text ? text : "");
    if (!s->maker_text[i]) return err_set_memory(err, "vecmill_columns", 64);
  }
  sqlite3_int64 dimension = sqlite3_column_int64(statement, n);
  if (dimension < 1 || dimension > 1 << 20)
    return err_set(err, VECMILL_ERROR_FORMAT,
                   "%s: vecmill_columns gives %s.%s %lld dimensions (repair or delete that row)",
                   s->path, s->table, s->vector_column, (long long)dimension);
  *maker_out = (store_maker){.model = s->maker_text[0],
                             .revision = s->maker_text[1],
                             .pooling = s->maker_text[2],
                             .prefix = s->maker_text[3],
                             .precision = s->maker_text[4],
                             .text_column = s->maker_text[5],
                             .dimension = (size_t)dimension};
  return VECMILL_OK;
}

vecmill_status sqlite_store_record(store *base, store_maker *maker_out, bool *found_out,
                                   vecmill_error *err) {
  sqlite_store *s = of(base);
  bool exists = false, all = false;
  *found_out = false;
  vecmill_status status = own_tables_exist(s, &exists, &all, err);
  if (status != VECMILL_OK || !exists) return status;
  sqlite3_stmt *statement = NULL;
  str sql = {0};
  str_append_text(
      &sql, "SELECT model, revision, pooling, prefix, precision, (SELECT c.name FROM "
            "pragma_table_xinfo(:table, 'main') AS c WHERE c.name = text_column), dimension "
            "FROM main.vecmill_columns WHERE table_name = :table AND vector_column = :column");
  status = sqlite_compile(s, &sql, "cannot read vecmill_columns", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(statement, ":table", s->table);
  sqlite_bind_text_at(statement, ":column", s->vector_column);
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) status = take_record(s, statement, maker_out, err);
  else if (code != SQLITE_DONE) status = sqlite_error(s, code, "cannot read vecmill_columns", err);
  *found_out = code == SQLITE_ROW && status == VECMILL_OK;
  sqlite3_finalize(statement);
  return status;
}

/* "SELECT WHAT FROM main."t" WHERE "t"."v" IS NOT NULL" */
static void select_vectors(str *sql, const sqlite_store *s, const char *what) {
  str_append_format(sql, "SELECT %s FROM ", what);
  sql_append_table(sql, s);
  str_append_text(sql, " WHERE ");
  sql_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL");
}

static vecmill_status find_vectors(sqlite_store *s, bool *has_out, vecmill_error *err) {
  sqlite3_int64 n = 0;
  str sql = {0};
  *has_out = false;
  if (!s->has_vector_column) return VECMILL_OK;
  select_vectors(&sql, s, "1");
  str_append_text(&sql, " LIMIT 1");
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the vector column", 0, &n, err);
  str_fini(&sql);
  *has_out = n != 0;
  return status;
}

vecmill_status sqlite_store_inspect(store *base, size_t dimension, bool *has_vectors_out,
                                    vecmill_error *err) {
  sqlite_store *s = of(base);
  sqlite3_int64 n_bytes_bad = -1;
  str sql = {0}, column = {0}, what = {0};
  vecmill_status status = find_vectors(s, has_vectors_out, err);
  if (status != VECMILL_OK || !*has_vectors_out) return status;
  sql_append_column(&column, s, s->vector_column);
  str_append_format(&what, "length(%s)", column.data ? column.data : "");
  /* length and typeof look at the record's header alone: no vector is read. */
  select_vectors(&sql, s, what.data ? what.data : "");
  str_append_format(&sql, " AND (typeof(%s) <> 'blob' OR length(%s) <> %zu) LIMIT 1",
                    column.data ? column.data : "", column.data ? column.data : "", 4 * dimension);
  if (column.failed || what.failed) sql.failed = true;
  status = sqlite_integer(s, &sql, "cannot read the vector column", -1, &n_bytes_bad, err);
  str_fini(&sql);
  str_fini(&column);
  str_fini(&what);
  if (status != VECMILL_OK || n_bytes_bad < 0) return status;
  return err_set(
      err, VECMILL_ERROR_CONFLICT,
      "table %s: column %s holds other things than vectors of %zu numbers (%zu bytes each; one has "
      "%lld) (use the model that made it, or another --vector-column)",
      s->table, s->vector_column, dimension, 4 * dimension, (long long)n_bytes_bad);
}

vecmill_status sqlite_store_sample(store *base, size_t dimension, size_t n_max,
                                   store_page *page_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  *page_out = (store_page){0};
  if (!s->has_vector_column) return VECMILL_OK;
  str sql = {0};
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, ", ");
  sql_append_column(&sql, s, s->text_column);
  str_append_text(&sql, ", ");
  sql_append_column(&sql, s, s->vector_column);
  str_append_text(&sql, " FROM ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " WHERE length(");
  sql_append_column(&sql, s, s->vector_column);
  str_append_format(&sql, ") = %zu AND vecmill_blank(", 4 * dimension);
  sql_append_column(&sql, s, s->text_column);
  str_append_format(&sql, ") = 0 ORDER BY random() LIMIT %zu", n_max);
  sqlite3_stmt *statement = NULL;
  vecmill_status status = sqlite_compile(s, &sql, "cannot read the vector column", &statement, err);
  str_fini(&sql);
  if (status == VECMILL_OK) status = sqlite_read_page(s, statement, true, n_max, page_out, err);
  sqlite3_finalize(statement);
  return status;
}

/* --- begin --- */

static vecmill_status add_column(sqlite_store *s, vecmill_error *err) {
  if (s->has_vector_column) return VECMILL_OK;
  str sql = {0};
  str_append_text(&sql, "ALTER TABLE ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " ADD COLUMN ");
  sql_append_name(&sql, s->vector_column);
  str_append_text(&sql, " BLOB");
  vecmill_status status = sql.failed ? err_set_memory(err, s->table, sql.n)
                                     : sqlite_run(s, sql.data, "cannot add the vector column", err);
  str_fini(&sql);
  return status;
}

static vecmill_status write_record(sqlite_store *s, const store_maker *maker, vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  str sql = {0};
  str_append_text(&sql,
                  "INSERT INTO main.vecmill_columns(table_name, vector_column, model, revision, "
                  "dimension, pooling, "
                  "prefix, precision, text_column, created) VALUES(:table, :column, :model, "
                  ":revision, :dimension, :pooling, "
                  ":prefix, :precision, :text, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))");
  vecmill_status status = sqlite_compile(s, &sql, "cannot write vecmill_columns", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(statement, ":table", s->table);
  sqlite_bind_text_at(statement, ":column", s->vector_column);
  sqlite_bind_text_at(statement, ":model", maker->model);
  sqlite_bind_text_at(statement, ":revision", maker->revision);
  sqlite_bind_text_at(statement, ":pooling", maker->pooling);
  sqlite_bind_text_at(statement, ":prefix", maker->prefix);
  sqlite_bind_text_at(statement, ":precision", maker->precision);
  sqlite_bind_text_at(statement, ":text", s->text_column);
  sqlite_bind_integer_at(statement, ":dimension", (sqlite3_int64)maker->dimension);
  int code = sqlite3_step(statement);
  if (code != SQLITE_DONE) status = sqlite_error(s, code, "cannot write vecmill_columns", err);
  sqlite3_finalize(statement);
  return status;
}

static bool agrees(const sqlite_store *s, const store_maker *there, const store_maker *maker) {
  return strcmp(there->revision, maker->revision) == 0 && there->dimension == maker->dimension &&
         strcmp(there->prefix, maker->prefix) == 0 &&
         strcmp(there->precision, maker->precision) == 0 &&
         (!*there->text_column || strcmp(there->text_column, s->text_column) == 0);
}

/* A record without any vector binds nobody; what failed under it may succeed now. */
static vecmill_status remove_record(sqlite_store *s, const store_maker *there, vecmill_error *err) {
  static const char *const removals[] = {
      "DELETE FROM main.vecmill_columns WHERE table_name = :table AND vector_column = :column",
      "DELETE FROM main.vecmill_failures WHERE table_name = :table AND vector_column = :column",
      "DELETE FROM main.vecmill_hashes WHERE table_name = :table AND vector_column = :column"};
  bool has_vectors = false;
  vecmill_status status = find_vectors(s, &has_vectors, err);
  if (status == VECMILL_OK && has_vectors)
    status = err_set(err, VECMILL_ERROR_CONFLICT,
                     "table %s: column %s is made by %s, prefix \"%s\", from column %s (run it so, "
                     "or give another --vector-column)",
                     s->table, s->vector_column, there->model, there->prefix, there->text_column);
  for (size_t i = 0; status == VECMILL_OK && i < sizeof removals / sizeof *removals; i++) {
    sqlite3_stmt *statement = NULL;
    str sql = {0};
    str_append_text(&sql, removals[i]);
    status = sqlite_compile(s, &sql, "cannot write vecmill_columns", &statement, err);
    str_fini(&sql);
    if (status != VECMILL_OK) break;
    sqlite_bind_text_at(statement, ":table", s->table);
    sqlite_bind_text_at(statement, ":column", s->vector_column);
    int code = sqlite3_step(statement);
    if (code != SQLITE_DONE) status = sqlite_error(s, code, "cannot write vecmill_columns", err);
    sqlite3_finalize(statement);
  }
  return status;
}

/* Inside the transaction: somebody may have come between the caller's look at the record and this.
 */
static vecmill_status settle_record(sqlite_store *s, const store_maker *maker, vecmill_error *err) {
  store_maker there;
  bool found = false;
  vecmill_status status = sqlite_store_record(&s->base, &there, &found, err);
  if (status != VECMILL_OK || (found && agrees(s, &there, maker))) return status;
  if (found) status = remove_record(s, &there, err);
  return status == VECMILL_OK ? write_record(s, maker, err) : status;
}

static vecmill_status something_missing(sqlite_store *s, const store_maker *maker,
                                        bool *missing_out, vecmill_error *err) {
  store_maker there;
  bool exists = false, all = false, found = false;
  vecmill_status status = own_tables_exist(s, &exists, &all, err);
  if (status == VECMILL_OK) status = sqlite_store_record(&s->base, &there, &found, err);
  *missing_out = !all || !found || !s->has_vector_column || !agrees(s, &there, maker);
  return status;
}

vecmill_status sqlite_store_begin(store *base, const store_maker *maker, vecmill_error *err) {
  sqlite_store *s = of(base);
  bool missing = true;
  s->n_vector_bytes = maker->dimension * sizeof(float);
  vecmill_status status = table_lock_take(&s->lock, s->path, s->table, s->vector_column, err);
  if (status == VECMILL_OK) status = something_missing(s, maker, &missing, err);
  if (status != VECMILL_OK || !missing) return status;
  status = sqlite_begin(s, err);
  if (status != VECMILL_OK) return status;
  status = sqlite_run(s, create_tables, "cannot create vecmill's tables", err);
  if (status == VECMILL_OK) status = add_column(s, err);
  if (status == VECMILL_OK) status = settle_record(s, maker, err);
  status = sqlite_end(s, status, err);
  if (status == VECMILL_OK) s->has_vector_column = true;
  return status;
}
