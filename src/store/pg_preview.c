/* A look that writes nothing: the totals, rows picked at random, and their texts piece by piece. */
#include "base/mem.h"
#include "store/pg_parts.h"

#define TEXT_OID 25 /* pg_type.h; part of the protocol's frozen numbers */

/* Of a row that is only picked the text's place holds how long it is, in the server's encoding. */
static void append_picked(str *sql, const pg_store *s) {
  str_append_text(sql, "SELECT ");
  pg_append_key_texts(sql, s); /* who only reads may have rights on columns alone */
  str_append_text(sql, ", octet_length(");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, "::text)::text, ''");
}

void pg_take_length(const pg_store *s, const PGresult *rows, size_t i, store_row *row) {
  row->text = NULL;
  row->n_text_bytes = (size_t)pg_integer(rows, (int)i, (int)s->n_keys);
}

vecmill_status pg_store_preview(store *base, size_t n_max, store_counts *counts_out,
                                store_page *page_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  *page_out = (store_page){0};
  s->looks_only = true;
  if (s->is_doubtful && !s->has_vectors) { /* begin would forget what failed under the record */
    mem_free(s->column_id);
    s->column_id = NULL;
  }
  /* else there are no hashes yet, or no vectors that they are of */
  s->changed &= s->column_id != NULL && s->has_vector_column;
  *counts_out = (store_counts){0};
  vecmill_status status = pg_find_cut(s, err);
  if (status == VECMILL_OK && s->changed) status = pg_check_state(s, err);
  if (status == VECMILL_OK) status = pg_count_considered(s, counts_out, err);
  if (status == VECMILL_OK) status = pg_add_cut(s, &p, &cut, err);
  append_picked(&sql, s);
  pg_append_left(&sql, s, "$1::text[]");
  str_append_format(&sql, " ORDER BY random() LIMIT %zu", n_max);
  if (status == VECMILL_OK) status = pg_run(s, PG_READER, &sql, &p, "cannot read rows", &rows, err);
  if (status == VECMILL_OK) status = pg_take_page(s, pg_all_rows(rows), page_out, err);
  for (size_t i = 0; i < page_out->n_rows; i++) pg_take_length(s, rows, i, &page_out->rows[i]);
  PQclear(rows);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

/* Looked up key by key, as a commit does it. */
static void append_texts(str *sql, const pg_store *s) {
  str_append_text(sql, "SELECT vecmill_r.* FROM unnest(");
  for (size_t i = 0; i < s->n_keys; i++)
    str_append_format(sql, "%s$%zu::text[]", i ? ", " : "", i + 1);
  str_append_text(sql, ") AS vecmill_d(");
  pg_append_numbered(sql, "k", s->n_keys);
  str_append_text(sql, "), LATERAL (");
  pg_append_page_columns(sql, s);
  str_append_format(sql, " FROM %s WHERE ", s->table_sql);
  for (size_t i = 0; i < s->n_keys; i++) {
    if (i > 0) str_append_text(sql, " AND ");
    pg_append_column(sql, s, s->keys[i].name);
    str_append_format(sql, " = vecmill_d.k%zu::", i);
    pg_append_type(sql, &s->keys[i]);
  }
  str_append_text(sql, " OFFSET 0) AS vecmill_r");
}

/* How many rows from `from` on make a piece. */
static size_t n_in_piece(const store_page *picked, size_t from, size_t n_max) {
  size_t n = 0, n_bytes = 0;
  while (n < n_max && from + n < picked->n_rows && n_bytes < STORE_PREVIEW_BYTES)
    n_bytes += picked->rows[from + n++].n_text_bytes;
  return n;
}

vecmill_status pg_read_texts(pg_store *s, PGconn *conn, const store_page *picked, size_t n_max,
                             size_t *next, store_page *page_out, vecmill_error *err) {
  static const char what[] = "cannot read rows";
  str sql = {0}, keys[PG_MAX_KEYS] = {{0}};
  pg_params p = {0};
  PGresult *rows = NULL;
  size_t n = n_in_piece(picked, *next, n_max);
  bool failed = false;
  *page_out = (store_page){0};
  for (size_t i = 0; i < s->n_keys; i++) {
    pg_array_begin(&keys[i], TEXT_OID, n);
    for (size_t row = *next; row < *next + n; row++) {
      size_t n_part = 0;
      const char *part =
          pg_key_part(picked->rows[row].key, picked->rows[row].n_key_bytes, i, &n_part);
      pg_array_add(&keys[i], part, n_part);
    }
    failed |= keys[i].failed;
    pg_add_binary(&p, &keys[i]);
  }
  append_texts(&sql, s);
  vecmill_status status = failed ? err_set_memory(err, "sample", n)
                          : conn ? pg_step(s, conn, &sql, &p, what, &rows, err)
                                 : pg_run(s, PG_READER, &sql, &p, what, &rows, err);
  if (status == VECMILL_OK) status = pg_take_page(s, pg_all_rows(rows), page_out, err);
  *next += n;
  PQclear(rows);
  str_fini(&sql);
  for (size_t i = 0; i < s->n_keys; i++) str_fini(&keys[i]);
  return status;
}

vecmill_status pg_store_preview_texts(store *base, const store_page *picked, size_t n_max,
                                      size_t *next, store_page *page_out, vecmill_error *err) {
  return pg_read_texts(pg_of(base), NULL, picked, n_max, next, page_out, err);
}
