/* SQL functions of the store's connection. They look at values where they lie, so that what is
 * passed over never leaves SQLite. */
#include <string.h>

#include "base/hash.h"
#include "store/blank.h"
#include "store/sqlite_parts.h"

const char *sqlite_text_of(sqlite3_stmt *statement, int column, size_t *n_out) {
  bool blob = sqlite3_column_type(statement, column) == SQLITE_BLOB;
  const char *text = blob ? sqlite3_column_blob(statement, column)
                          : (const char *)sqlite3_column_text(statement, column);
  *n_out = text ? (size_t)sqlite3_column_bytes(statement, column) : 0;
  return text ? text : "";
}

static const char *text_of_value(sqlite3_value *value, size_t *n_out) {
  bool blob = sqlite3_value_type(value) == SQLITE_BLOB;
  const char *text = blob ? sqlite3_value_blob(value) : (const char *)sqlite3_value_text(value);
  *n_out = text ? (size_t)sqlite3_value_bytes(value) : 0;
  return text ? text : "";
}

static void blank_function(sqlite3_context *context, int n, sqlite3_value **values) {
  size_t n_bytes;
  const char *text = text_of_value(values[0], &n_bytes);
  sqlite3_result_int(context, store_is_blank(text, n_bytes));
}

/*
 * Whether two texts are the same bytes: `=` would ask the column's collation, for which 'Word' may
 * equal 'word'. A NULL equals nothing.
 */
static void same_function(sqlite3_context *context, int n, sqlite3_value **values) {
  size_t n_a, n_b;
  const char *a = text_of_value(values[0], &n_a), *b = text_of_value(values[1], &n_b);
  bool null = sqlite3_value_type(values[0]) == SQLITE_NULL;
  sqlite3_result_int(context, !null && n_a == n_b && memcmp(a, b, n_a) == 0);
}

/* Tells whether a text is still the one that failed, or that a vector was made from. */
static void hash_function(sqlite3_context *context, int n, sqlite3_value **values) {
  size_t n_bytes;
  const char *text = text_of_value(values[0], &n_bytes);
  sqlite3_result_int64(context, (sqlite3_int64)hash_bytes(text, n_bytes));
}

static void size_function(sqlite3_context *context, int n, sqlite3_value **values) {
  size_t n_bytes;
  text_of_value(values[0], &n_bytes);
  sqlite3_result_int64(context, (sqlite3_int64)n_bytes);
}

static void key_function(sqlite3_context *context, int n, sqlite3_value **values) {
  str key = {0}, json = {0};
  for (int i = 0; i < n; i++) key_append_value(&key, values[i]);
  if (!key.failed) key_append_json(&json, key.data, key.n);
  if (key.failed || json.failed) sqlite3_result_error_nomem(context);
  else sqlite3_result_text(context, json.data, (int)json.n, SQLITE_TRANSIENT);
  str_fini(&key);
  str_fini(&json);
}

/* What hashes are kept by: the key itself if it is one column, so that they lie in its order, which
 * is the order they are written in; else its bytes. As a function's result it has no affinity:
 * it meets the value that is stored, and by the index. */
static void hash_key_function(sqlite3_context *context, int n, sqlite3_value **values) {
  str key = {0};
  if (n == 1) {
    sqlite3_result_value(context, values[0]);
    return;
  }
  for (int i = 0; i < n; i++) key_append_value(&key, values[i]);
  if (key.failed) sqlite3_result_error_nomem(context);
  else sqlite3_result_blob(context, key.data, (int)key.n, SQLITE_TRANSIENT);
  str_fini(&key);
}

int sqlite_add_functions(sqlite3 *db) {
  int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY;
  int code =
      sqlite3_create_function(db, "vecmill_blank", 1, flags, NULL, blank_function, NULL, NULL);
  if (code == SQLITE_OK)
    code = sqlite3_create_function(db, "vecmill_same", 2, flags, NULL, same_function, NULL, NULL);
  if (code == SQLITE_OK)
    code = sqlite3_create_function(db, "vecmill_key", -1, flags, NULL, key_function, NULL, NULL);
  if (code == SQLITE_OK)
    code = sqlite3_create_function(db, "vecmill_hash", 1, flags, NULL, hash_function, NULL, NULL);
  if (code == SQLITE_OK)
    code = sqlite3_create_function(db, "vecmill_size", 1, flags, NULL, size_function, NULL, NULL);
  if (code == SQLITE_OK)
    code = sqlite3_create_function(db, "vecmill_hash_key", -1, flags, NULL, hash_key_function, NULL,
                                   NULL);
  return code;
}
