/* Of which text a table of metrics holds the numbers: as pg_metrics_owner.c. */
#include "store/sqlite_parts.h"

/* Whether there is any record, and whether it has the column, which files of before lack. */
static vecmill_status look(sqlite_store *s, bool *any_out, bool *has_out, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT count(*) + sum(name = 'metrics_table') * 1000 FROM "
                        "pragma_table_info('vecmill_columns', 'main')");
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the schema", 0, &n, err);
  *any_out = n > 0;
  *has_out = n >= 1000;
  str_fini(&sql);
  return status;
}

static vecmill_status compile(sqlite_store *s, const char *text, sqlite3_stmt **statement_out,
                              vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, text);
  vecmill_status status = sqlite_compile(s, &sql, "cannot use vecmill_columns", statement_out, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(*statement_out, ":table", s->table);
  sqlite_bind_text_at(*statement_out, ":metrics", s->metrics.name);
  return VECMILL_OK;
}

vecmill_status sqlite_metrics_check_owner(sqlite_store *s, vecmill_error *err) {
  static const char sql[] =
      "SELECT text_column, vector_column FROM main.vecmill_columns AS c WHERE table_name = :table "
      "AND text_column <> :text COLLATE NOCASE AND metrics_table = :metrics COLLATE NOCASE AND "
      "(SELECT count(*) FROM pragma_table_xinfo(:table, 'main') AS i WHERE i.name IN "
      "(c.text_column, c.vector_column)) = 2 ORDER BY created, vector_column LIMIT 1";
  bool any = false, has = false;
  sqlite3_stmt *statement = NULL;
  vecmill_status status = look(s, &any, &has, err);
  if (status == VECMILL_OK && has) status = compile(s, sql, &statement, err);
  if (status != VECMILL_OK || !has) return status;
  sqlite_bind_text_at(statement, ":text", s->text_column);
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW)
    status = metrics_owned(s->metrics.name, (const char *)sqlite3_column_text(statement, 0),
                           (const char *)sqlite3_column_text(statement, 1), err);
  else if (code != SQLITE_DONE) status = sqlite_error(s, code, "cannot use vecmill_columns", err);
  sqlite3_finalize(statement);
  return status;
}

static vecmill_status step(sqlite_store *s, const char *sql, bool *found_out, vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  vecmill_status status = compile(s, sql, &statement, err);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(statement, ":column", s->vector_column);
  int code = sqlite3_step(statement);
  if (code != SQLITE_ROW && code != SQLITE_DONE)
    status = sqlite_error(s, code, "cannot use vecmill_columns", err);
  *found_out = code == SQLITE_ROW;
  sqlite3_finalize(statement);
  return status;
}

#define OF_COLUMN                                                                                  \
  "table_name = :table AND vector_column = :column AND metrics_table IS NOT :metrics"

/* Looks first: a run that changes nothing keeps nobody's writers out. */
vecmill_status sqlite_metrics_note_owner(sqlite_store *s, vecmill_error *err) {
  bool any = false, has = false, is_due = false;
  vecmill_status status = look(s, &any, &has, err);
  if (status == VECMILL_OK && any)
    status = step(s,
                  has ? "SELECT 1 FROM main.vecmill_columns WHERE " OF_COLUMN
                      : "SELECT 1 FROM main.vecmill_columns WHERE table_name = :table AND "
                        "vector_column = :column AND :metrics <> ''",
                  &is_due, err);
  if (status != VECMILL_OK || !is_due) return status;
  status = sqlite_begin(s, err);
  if (status != VECMILL_OK) return status;
  if (!has)
    status = sqlite_run(s, "ALTER TABLE main.vecmill_columns ADD COLUMN metrics_table TEXT",
                        "cannot use vecmill_columns", err);
  if (status == VECMILL_OK)
    status = step(s, "UPDATE main.vecmill_columns SET metrics_table = :metrics WHERE " OF_COLUMN,
                  &is_due, err);
  return sqlite_end(s, status, err);
}
