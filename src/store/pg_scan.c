/* Reading vectors back: the stream that a search looks through, and the text of what it found. */
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

static void append_scan(str *sql, const pg_store *s) {
  str_append_text(sql, "SELECT ");
  for (size_t i = 0; i < s->n_keys; i++) {
    pg_append_column(sql, s, s->keys[i].name);
    str_append_text(sql, "::text, ");
  }
  pg_append_column(sql, s, s->vector_column);
  str_append_format(sql, " FROM %s WHERE ", s->table_sql);
  pg_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL");
  if (s->where) str_append_format(sql, " AND (%s\n)", s->where);
}

vecmill_status pg_store_scan(store *base, store_scan_function *each, void *context,
                             vecmill_error *err) {
  static const pg_params none = {0};
  const char *what = "cannot read the vectors";
  pg_store *s = pg_of(base);
  str sql = {0}, key = {0};
  float *vector = NULL;
  PGresult *row = NULL;
  if (!s->has_vector_column) return VECMILL_OK;
  append_scan(&sql, s);
  vecmill_status status = pg_stream_begin(s, &sql, &none, what, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  size_t room = 0;
  while ((status = pg_next_row(s, what, &row, err)) == VECMILL_OK && row) {
    int field = (int)s->n_keys;
    const unsigned char *wire = (const unsigned char *)PQgetvalue(row, 0, field);
    size_t n_wire = (size_t)PQgetlength(row, 0, field),
           n = n_wire >= 4 ? (size_t)(wire[0] << 8 | wire[1]) : 0;
    if (n > room) {
      mem_free(vector);
      vector = mem_alloc_aligned(n, sizeof *vector);
      room = vector ? n : 0;
    }
    str_clear(&key);
    pg_key_append(&key, row, 0, 0, s->n_keys);
    bool good = n <= room && n > 0 && pg_read_vector(s, wire, n_wire, vector, n);
    store_scan_row one = {.key = key.data, .n_key_bytes = key.n};
    if (good) {
      one.vector = vector;
      one.n_vector_bytes = n * sizeof *vector;
    }
    PQclear(row);
    row = NULL;
    status = key.failed || (n > 0 && !vector) ? err_set_memory(err, "search", key.n)
                                              : each(context, &one, err);
    if (status != VECMILL_OK) break;
  }
  PQclear(row);
  pg_stream_end(s);
  mem_free(vector);
  str_fini(&key);
  return status;
}

vecmill_status pg_store_read_text(store *base, const void *key, size_t n_key_bytes, str *text_out,
                                  vecmill_error *err) {
  pg_store *s = pg_of(base);
  str sql = {0}, array = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT ");
  pg_append_column(&sql, s, s->text_column);
  str_append_format(&sql, "::text FROM %s WHERE ", s->table_sql);
  pg_append_compare(&sql, s, "=", "$1::text[]");
  pg_key_array(&array, key, n_key_bytes);
  pg_add_binary(&p, &array);
  vecmill_status status = array.failed
                              ? err_set_memory(err, "key", n_key_bytes)
                              : pg_run(s, PG_WRITER, &sql, &p, "cannot read a text", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) == 0)
    status = err_set(err, VECMILL_ERROR_NOT_FOUND, "table %s: the row has been deleted meanwhile",
                     s->table);
  else if (status == VECMILL_OK)
    str_append(text_out, PQgetvalue(rows, 0, 0), (size_t)PQgetlength(rows, 0, 0));
  if (text_out->failed) status = err_set_memory(err, "text", text_out->n);
  PQclear(rows);
  str_fini(&sql);
  str_fini(&array);
  return status;
}
