/*
 * Of which text a table of metrics holds the numbers: as pg_metrics_owner.c, in lines of
 * vecmill_columns.metrics_table.
 */
#include "store/sqlite_parts.h"

#define LINE "char(10) || :metrics || char(10)"

/* Whether there is any record, and whether it has the column, which files of before lack. */
static vecmill_status look_for_column(sqlite_store *s, bool *any_out, bool *has_out,
                                      vecmill_error *err) {
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

static vecmill_status compile(sqlite_store *s, const str *sql, sqlite3_stmt **statement_out,
                              vecmill_error *err) {
  vecmill_status status = sqlite_compile(s, sql, "cannot use vecmill_columns", statement_out, err);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(*statement_out, ":table", s->table);
  sqlite_bind_text_at(*statement_out, ":column", s->vector_column);
  sqlite_bind_text_at(*statement_out, ":text", s->text_column);
  sqlite_bind_text_at(*statement_out, ":metrics", s->metrics.name);
  return VECMILL_OK;
}

static vecmill_status holds_any(sqlite_store *s, bool *any_out, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT EXISTS (SELECT 1 FROM ");
  sqlite_metrics_append_table(&sql, s);
  str_append_text(&sql, ")");
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the metrics", 0, &n, err);
  *any_out = n != 0;
  str_fini(&sql);
  return status;
}

/* Another text's record that has the line, while the table holds anything, or a process is at work
 * there. */
static vecmill_status look_for_owner(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  sqlite3_stmt *statement = NULL;
  bool holds = false;
  vecmill_status status = holds_any(s, &holds, err);
  str_append_text(&sql,
                  "SELECT text_column, vector_column FROM main.vecmill_columns AS c WHERE "
                  "table_name = :table AND text_column <> :text COLLATE NOCASE AND instr(lower("
                  "metrics_table), lower(" LINE ")) > 0 AND (SELECT count(*) FROM "
                  "pragma_table_xinfo(:table, 'main') AS i WHERE i.name COLLATE NOCASE IN "
                  "(c.text_column, c.vector_column)) = 2 ORDER BY created, vector_column");
  if (status == VECMILL_OK) status = compile(s, &sql, &statement, err);
  str_fini(&sql);
  int code = SQLITE_DONE;
  while (status == VECMILL_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
    const char *text = (const char *)sqlite3_column_text(statement, 0),
               *vector = (const char *)sqlite3_column_text(statement, 1);
    if (holds || table_lock_is_held(s->path, s->table, vector))
      status = metrics_owned(s->metrics.name, text, vector, err);
  }
  if (status == VECMILL_OK && code != SQLITE_DONE)
    status = sqlite_error(s, code, "cannot use vecmill_columns", err);
  sqlite3_finalize(statement);
  return status;
}

vecmill_status sqlite_metrics_check_owner(sqlite_store *s, vecmill_error *err) {
  bool any = false, has = false;
  if (s->metrics.is_missing) return VECMILL_OK;
  vecmill_status status = look_for_column(s, &any, &has, err);
  return status == VECMILL_OK && has ? look_for_owner(s, err) : status;
}

/* The column's line is to be written, or taken from the others. */
#define CHANGED                                                                                    \
  "CASE WHEN vector_column <> :column COLLATE NOCASE THEN replace(metrics_table, " LINE            \
  ", char(10)) WHEN instr(metrics_table, " LINE ") > 0 THEN metrics_table ELSE "                   \
  "coalesce(metrics_table, char(10)) || :metrics || char(10) END"
#define AFFECTED                                                                                   \
  "table_name = :table AND (vector_column = :column OR text_column <> :text COLLATE NOCASE)"

static vecmill_status run(sqlite_store *s, const char *text, bool *found_out, vecmill_error *err) {
  str sql = {0};
  sqlite3_stmt *statement = NULL;
  str_append_text(&sql, text);
  vecmill_status status = compile(s, &sql, &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  int code = sqlite3_step(statement);
  if (code != SQLITE_ROW && code != SQLITE_DONE)
    status = sqlite_error(s, code, "cannot use vecmill_columns", err);
  *found_out = code == SQLITE_ROW;
  sqlite3_finalize(statement);
  return status;
}

/* Looks first: a run that changes nothing keeps nobody's writers out. */
vecmill_status sqlite_metrics_claim(sqlite_store *s, vecmill_error *err) {
  bool any = false, has = false, is_due = true;
  if (!s->metrics.is_on || s->metrics.is_claimed) return VECMILL_OK;
  vecmill_status status = look_for_column(s, &any, &has, err);
  if (status == VECMILL_OK && any && has)
    status = run(s,
                 "SELECT 1 FROM main.vecmill_columns WHERE " AFFECTED " AND " CHANGED
                 " IS NOT metrics_table",
                 &is_due, err);
  if (status != VECMILL_OK || !any) return status;
  if (is_due) {
    status = sqlite_begin(s, err);
    if (status != VECMILL_OK) return status;
    if (!has)
      status = sqlite_run(s, "ALTER TABLE main.vecmill_columns ADD COLUMN metrics_table TEXT",
                          "cannot use vecmill_columns", err);
    if (status == VECMILL_OK) status = look_for_owner(s, err);
    if (status == VECMILL_OK)
      status = run(s, "UPDATE main.vecmill_columns SET metrics_table = " CHANGED " WHERE " AFFECTED,
                   &is_due, err);
    status = sqlite_end(s, status, err);
  }
  s->metrics.is_claimed = status == VECMILL_OK;
  return status;
}
