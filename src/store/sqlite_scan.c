/* Reading vectors back: the stream that a search looks through, and the text of what it found. */
#include "store/sqlite_parts.h"

static void vector_of(sqlite3_stmt *statement, int column, store_scan_row *row_out) {
  if (sqlite3_column_type(statement, column) != SQLITE_BLOB) return;
  row_out->vector = sqlite3_column_blob(statement, column);
  row_out->n_vector_bytes = (size_t)sqlite3_column_bytes(statement, column);
}

vecmill_status sqlite_store_scan(store *base, store_scan_function *each, void *context,
                                 vecmill_error *err) {
  sqlite_store *s = of(base);
  str sql = {0}, key = {0};
  sqlite3_stmt *statement = NULL;
  if (!s->has_vector_column) return VECMILL_OK;
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, ", ");
  sql_append_column(&sql, s, s->vector_column);
  str_append_text(&sql, " FROM ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " WHERE ");
  sql_append_column(&sql, s, s->vector_column);
  str_append_text(&sql, " IS NOT NULL");
  if (s->where) str_append_format(&sql, " AND (%s\n)", s->where);
  vecmill_status status = sqlite_compile(s, &sql, "cannot read the vectors", &statement, err);
  str_fini(&sql);
  int code = SQLITE_DONE;
  while (status == VECMILL_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
    str_clear(&key);
    key_append_columns(&key, statement, 0, s->n_ids);
    store_scan_row row = {.key = key.data, .n_key_bytes = key.n};
    vector_of(statement, (int)s->n_ids, &row);
    status = key.failed ? err_set_memory(err, "key", key.n) : each(context, &row, err);
  }
  if (status == VECMILL_OK && code != SQLITE_DONE)
    status = sqlite_error(s, code, "cannot read the vectors", err);
  sqlite3_finalize(statement);
  str_fini(&key);
  return status;
}

vecmill_status sqlite_store_read_text(store *base, const void *key, size_t n_key_bytes,
                                      str *text_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  str sql = {0};
  sqlite3_stmt *statement = NULL;
  str_append_text(&sql, "SELECT ");
  sql_append_column(&sql, s, s->text_column);
  str_append_text(&sql, " FROM ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " WHERE ");
  sql_append_compare(&sql, s, "=", 'k');
  vecmill_status status = sqlite_compile(s, &sql, "cannot read a text", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  key_bind(statement, 'k', key, n_key_bytes);
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) {
    size_t n;
    const char *text = sqlite_text_of(statement, 0, &n);
    str_append(text_out, text, n);
    if (text_out->failed) status = err_set_memory(err, "text", n);
  } else if (code == SQLITE_DONE) {
    status = err_set(err, VECMILL_ERROR_NOT_FOUND, "table %s: the row has been deleted meanwhile",
                     s->table);
  } else {
    status = sqlite_error(s, code, "cannot read a text", err);
  }
  sqlite3_finalize(statement);
  return status;
}
