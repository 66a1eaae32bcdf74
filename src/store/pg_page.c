/* One page: how many rows, the SQL that reads them, and its memory. */
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

/* A quarter of what a message can hold: keys, hashes and metrics are in it too. */
#define MOST_VECTOR_BYTES (PG_MOST_BYTES / 4)

size_t pg_rows_at_once(const pg_store *s, size_t n_max) {
  size_t n = MOST_VECTOR_BYTES / (4 + pg_vector_bytes(s, s->dimension)); /* 4: their length */
  return n_max < n ? n_max : n;
}

void pg_append_hash(str *sql, const pg_store *s) {
  str_append_text(sql, "md5(");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, "::text)::uuid");
}

void pg_append_any_failed(str *sql, const pg_store *s) {
  str_append_text(sql, "(SELECT EXISTS (SELECT 1 FROM ");
  pg_append_state(sql, s, "failures");
  str_append_format(sql, " WHERE column_id = %s))", s->column_id);
}

void pg_append_failed(str *sql, const pg_store *s) {
  if (!s->column_id || (s->retry_failed && !s->owner[0])) { /* a look before anything is recorded */
    str_append_text(sql, "false");
    return;
  }
  str_append_char(sql, '(');
  pg_append_any_failed(sql, s);
  str_append_text(sql, " AND EXISTS (SELECT 1 FROM ");
  pg_append_state(sql, s, "failures");
  str_append_format(
      sql, " AS vecmill_f WHERE vecmill_f.column_id = %s AND vecmill_f.key = ", s->column_id);
  pg_append_record_key(sql, s, NULL);
  str_append_text(sql, " AND vecmill_f.hash = ");
  pg_append_hash(sql, s);
  if (s->retry_failed && !s->has_ended) { /* failed in this run, by whichever process of it */
    str_append_text(sql, " AND vecmill_f.at >= (SELECT run_began FROM ");
    pg_append_state(sql, s, "columns");
    str_append_format(sql, " WHERE id = %s)", s->column_id);
  }
  str_append_text(sql, "))");
}

void pg_append_page_columns(str *sql, const pg_store *s) {
  str_append_text(sql, "SELECT ");
  pg_append_key_texts(sql, s);
  str_append_text(sql, ", ");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, "::text, ");
  /* not as uuid: reading that back from md5's text costs the server more than md5 itself */
  str_append_text(sql, "md5(");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, "::text)");
}

void pg_append_left(str *sql, const pg_store *s, const char *cut) {
  pg_append_from(sql, s);
  str_append_text(sql, " WHERE ");
  pg_append_wants(sql, s);
  str_append_text(sql, " AND NOT ");
  pg_append_blank(sql, s);
  str_append_text(sql, " AND NOT ");
  pg_append_failed(sql, s);
  pg_append_considered(sql, s, cut);
}

void pg_append_page(str *sql, const pg_store *s, const char *cut) {
  pg_append_page_columns(sql, s);
  str_append_text(sql, ", ");
  pg_append_column(sql, s, "ctid");
  str_append_text(sql, ", ");
  pg_append_column(sql, s, "xmin");
  pg_append_left(sql, s, cut);
}

static unsigned hex_digit(char c) {
  return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

/* Fields from `hash` on: the text's md5, and, if there are more and no vector, place and writer. */
static pg_version read_version(const PGresult *result, int row, int hash, bool has_vector) {
  pg_version v = {0};
  if (PQgetlength(result, row, hash) == 2 * (int)sizeof v.hash) {
    const char *digits = PQgetvalue(result, row, hash);
    for (size_t i = 0; i < sizeof v.hash; i++)
      v.hash[i] = (unsigned char)(hex_digit(digits[2 * i]) << 4 | hex_digit(digits[2 * i + 1]));
  }
  if (has_vector || PQnfields(result) < hash + 3) return v;
  if (PQgetlength(result, row, hash + 1) == sizeof v.place)
    memcpy(v.place, PQgetvalue(result, row, hash + 1), sizeof v.place);
  if (PQgetlength(result, row, hash + 2) == sizeof v.writer)
    memcpy(v.writer, PQgetvalue(result, row, hash + 2), sizeof v.writer);
  return v;
}

pg_version pg_version_of(const store_row *row) {
  pg_version v;
  memcpy(&v, (const char *)row->key + row->n_key_bytes, sizeof v);
  return v;
}

pg_rows pg_all_rows(const PGresult *result) {
  return (pg_rows){.result = result, .to = (size_t)PQntuples(result)};
}

vecmill_status pg_take_page(pg_store *s, pg_rows rows, store_page *page_out, vecmill_error *err) {
  const PGresult *result = rows.result;
  size_t n = rows.to - rows.from, n_keys = s->n_keys, dimension = rows.dimension;
  bool has_vector = dimension > 0;
  str memory = {0};
  store_page page = {.rows = mem_calloc(n ? n : 1, sizeof *page.rows), .n_rows = n};
  float *vector = has_vector ? mem_alloc_aligned(dimension, sizeof *vector) : NULL;
  pg_page head = {0};
  str_append(&memory, &head, sizeof head);
  for (size_t i = 0; page.rows && i < n; i++) {
    store_row *row = &page.rows[i];
    int at = (int)(rows.from + i), text = (int)n_keys;
    row->key = (const void *)memory.n; /* offsets while the memory still moves */
    pg_key_append(&memory, result, at, 0, n_keys);
    row->n_key_bytes = memory.n - (size_t)row->key;
    pg_version version = read_version(result, at, text + 1, has_vector);
    str_append(&memory, &version, sizeof version);
    row->text = (const char *)memory.n;
    row->n_text_bytes = (size_t)PQgetlength(result, at, text);
    str_append(&memory, PQgetvalue(result, at, text), row->n_text_bytes);
    if (!has_vector || !vector) continue;
    while (!memory.failed && memory.n % sizeof(float)) str_append_char(&memory, 0);
    bool good = pg_read_vector(s, PQgetvalue(result, at, text + 2),
                               (size_t)PQgetlength(result, at, text + 2), vector, dimension);
    if (!good) memset(vector, 0, dimension * sizeof *vector); /* of another length: no likeness */
    row->vector = (const float *)memory.n;
    str_append(&memory, vector, dimension * sizeof *vector);
  }
  mem_free(vector);
  if (!page.rows || memory.failed || (has_vector && !vector)) {
    mem_free(page.rows);
    str_fini(&memory);
    return err_set_memory(err, "page", n * sizeof *page.rows);
  }
  for (size_t i = 0; i < n; i++) {
    store_row *row = &page.rows[i];
    row->key = memory.data + (uintptr_t)row->key;
    row->text = memory.data + (uintptr_t)row->text;
    if (row->vector)
      row->vector = (const float *)(const void *)(memory.data + (uintptr_t)row->vector);
  }
  page.memory = memory.data;
  *page_out = page;
  return VECMILL_OK;
}
