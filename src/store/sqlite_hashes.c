/*
 * Which text each vector was made from: a hash beside every vector that a run writes, in the
 * transaction that writes it. A vector without one (made before hashes were kept, or by others)
 * counts as unchanged.
 */
#include "store/sqlite_parts.h"

#define OF_COLUMN "table_name = :table AND vector_column = :column"

static void append_hash_key(str *sql, const sqlite_store *s) {
  str_append_text(sql, "vecmill_hash_key(");
  sql_append_ids(sql, s);
  str_append_text(sql, ")");
}

/* Looked up by its key, row by row, in the scan that goes through the rows anyway. */
void sqlite_append_same_hash(str *sql, const sqlite_store *s) {
  str_append_text(sql, "(SELECT vecmill_h.hash = vecmill_hash(");
  sql_append_column(sql, s, s->text_column);
  str_append_text(sql, ") FROM main.vecmill_hashes AS vecmill_h WHERE vecmill_h.table_name = "
                       ":table AND vecmill_h.vector_column = :column AND vecmill_h.key = ");
  append_hash_key(sql, s);
  str_append_text(sql, ")");
}

void sqlite_append_wants(str *sql, const sqlite_store *s) {
  if (!s->has_vector_column) { /* a look before it is added */
    str_append_text(sql, "1");
    return;
  }
  if (s->changed) str_append_text(sql, "(");
  sql_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NULL");
  if (!s->changed) return;
  str_append_text(sql, " OR ");
  sqlite_append_same_hash(sql, s);
  str_append_text(sql, " IS 0)");
}

vecmill_status sqlite_compile_hash(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql,
                  "INSERT OR REPLACE INTO main.vecmill_hashes(table_name, vector_column, key, "
                  "hash) VALUES(:table, :column, vecmill_hash_key(");
  for (size_t i = 0; i < s->n_ids; i++) str_append_format(&sql, "%s:k%zu", i > 0 ? ", " : "", i);
  str_append_text(&sql, "), vecmill_hash(:text))");
  vecmill_status status = sqlite_compile(s, &sql, "cannot write a hash", &s->keep_hash, err);
  str_fini(&sql);
  if (status == VECMILL_OK) sqlite_bind_common(s, s->keep_hash);
  return status;
}

/* Compiles, binds, steps once. *code_out: what the step gave. */
static vecmill_status step_once(sqlite_store *s, const str *sql, const char *what, int *code_out,
                                vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  vecmill_status status = sqlite_compile(s, sql, what, &statement, err);
  if (status != VECMILL_OK) return status;
  sqlite_bind_common(s, statement);
  *code_out = sqlite3_step(statement);
  if (*code_out != SQLITE_ROW && *code_out != SQLITE_DONE)
    status = sqlite_error(s, *code_out, what, err);
  sqlite3_finalize(statement);
  return status;
}

/* --- texts that have become blank --- */

/* " WHERE ...": considered, blank, with a vector. */
static void append_blank_with_vector(str *sql, const sqlite_store *s) {
  sqlite_append_considered(sql, s);
  str_append_text(sql, " AND ");
  sqlite_append_blank(sql, s);
  str_append_text(sql, " AND ");
  sqlite_append_has_vector(sql, s);
}

/* The same, or with the hash of a vector, which an application may have taken already. */
static void append_blanked(str *sql, const sqlite_store *s) {
  sqlite_append_considered(sql, s);
  str_append_text(sql, " AND ");
  sqlite_append_blank(sql, s);
  str_append_text(sql, " AND (");
  sqlite_append_has_vector(sql, s);
  str_append_text(sql, " OR ");
  sqlite_append_same_hash(sql, s);
  str_append_text(sql, " IS NOT NULL)");
}

static vecmill_status look_for_blanked(sqlite_store *s, bool *any_out, vecmill_error *err) {
  str sql = {0};
  int code = SQLITE_DONE;
  str_append_text(&sql, "SELECT 1 FROM ");
  sql_append_table(&sql, s);
  append_blanked(&sql, s);
  str_append_text(&sql, " LIMIT 1");
  vecmill_status status = step_once(s, &sql, "cannot look for blank texts", &code, err);
  *any_out = status == VECMILL_OK && code == SQLITE_ROW;
  str_fini(&sql);
  return status;
}

/* Of a vector by others: by the hash all that is to go is found once that has gone. */
static vecmill_status keep_hashes(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  int code;
  str_append_text(&sql, "INSERT OR IGNORE INTO main.vecmill_hashes(table_name, vector_column, key, "
                        "hash) SELECT :table, :column, ");
  append_hash_key(&sql, s);
  str_append_text(&sql, ", 0 FROM ");
  sql_append_table(&sql, s);
  append_blank_with_vector(&sql, s);
  vecmill_status status = step_once(s, &sql, "cannot write a hash", &code, err);
  str_fini(&sql);
  return status;
}

/* Of the rows whose vector has gone, by the hash that is still there. */
static vecmill_status remove_metrics(sqlite_store *s, vecmill_error *err) {
  str sql = {0}, removed = {0};
  int code;
  append_blanked(&removed, s);
  str_append_text(&removed, " AND ");
  sql_append_column(&removed, s, s->vector_column);
  str_append_text(&removed, " IS NULL");
  sqlite_metrics_append_removal(&sql, s, &removed);
  sql.failed |= removed.failed;
  vecmill_status status =
      step_once(s, &sql, "cannot remove the metrics of a text that is blank now", &code, err);
  str_fini(&sql);
  str_fini(&removed);
  return status;
}

static vecmill_status remove_vectors(sqlite_store *s, uint64_t *n_out, vecmill_error *err) {
  static const char what[] = "cannot remove the vector of a text that is blank now";
  str sql = {0};
  int code;
  str_append_text(&sql, "UPDATE ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " SET ");
  sql_append_name(&sql, s->vector_column);
  str_append_text(&sql, " = NULL");
  append_blanked(&sql, s);
  vecmill_status status = step_once(s, &sql, what, &code, err);
  *n_out = status == VECMILL_OK ? (uint64_t)sqlite3_changes64(s->db) : 0;
  if (status == VECMILL_OK && s->metrics.is_on) status = remove_metrics(s, err);
  str_clear(&sql);
  str_append_text(&sql, "DELETE FROM main.vecmill_hashes WHERE " OF_COLUMN " AND key IN (SELECT ");
  append_hash_key(&sql, s);
  str_append_text(&sql, " FROM ");
  sql_append_table(&sql, s);
  sqlite_append_considered(&sql, s);
  str_append_text(&sql, " AND ");
  sql_append_column(&sql, s, s->vector_column);
  str_append_text(&sql, " IS NULL AND ");
  sqlite_append_blank(&sql, s);
  str_append_text(&sql, ")");
  if (status == VECMILL_OK) status = step_once(s, &sql, what, &code, err);
  str_fini(&sql);
  return status;
}

/* The look before it keeps others' writers out for no longer than there is something to write. */
vecmill_status sqlite_remove_blank(sqlite_store *s, vecmill_error *err) {
  bool any = false;
  uint64_t n = 0;
  vecmill_status status = look_for_blanked(s, &any, err);
  if (status != VECMILL_OK || !any) return status;
  status = sqlite_begin(s, err);
  if (status != VECMILL_OK) return status;
  status = keep_hashes(s, err);
  if (status == VECMILL_OK) status = remove_vectors(s, &n, err);
  status = sqlite_end(s, status, err);
  if (status == VECMILL_OK) s->n_removed += n;
  return status;
}

/* --- rows that are gone --- */

/* With --where or --limit only a part of the rows was counted: that says nothing. */
vecmill_status sqlite_prune_hashes(sqlite_store *s, uint64_t n_known, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  int code;
  if (s->where || s->limit) return VECMILL_OK;
  str_append_text(&sql, "SELECT count(*) FROM main.vecmill_hashes WHERE table_name = ");
  sql_append_string(&sql, s->table);
  str_append_text(&sql, " AND vector_column = ");
  sql_append_string(&sql, s->vector_column);
  vecmill_status status = sqlite_integer(s, &sql, "cannot count the hashes", 0, &n, err);
  str_clear(&sql);
  str_append_text(&sql,
                  "DELETE FROM main.vecmill_hashes WHERE " OF_COLUMN " AND key NOT IN (SELECT ");
  append_hash_key(&sql, s);
  str_append_text(&sql, " FROM ");
  sql_append_table(&sql, s);
  sqlite_append_considered(&sql, s); /* leaves out NULL keys, of which NOT IN would say nothing */
  str_append_text(&sql, ")");
  if (status == VECMILL_OK && (uint64_t)n > n_known)
    status = step_once(s, &sql, "cannot forget the hashes of rows that are gone", &code, err);
  str_fini(&sql);
  return status;
}
