/* Reading vectors back: the stream that a search looks through, and the text of what it found. */
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

static void append_scan(str *sql, const pg_store *s) {
  str_append_text(sql, "SELECT ");
  pg_append_key_texts(sql, s);
  str_append_text(sql, ", ");
  pg_append_column(sql, s, s->vector_column);
  str_append_format(sql, " FROM %s WHERE ", s->table_sql);
  pg_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL");
  if (s->where) str_append_format(sql, " AND (%s\n)", s->where);
}

/* Room for a vector that grows with what comes. */
typedef struct row_reader {
  str key;
  float *vector;
  size_t room;
} row_reader;

static void row_reader_fini(row_reader *r) {
  str_fini(&r->key);
  mem_free(r->vector);
}

/* One row of keys and a vector, handed on. */
static vecmill_status hand_on(pg_store *s, row_reader *r, const PGresult *rows, int i,
                              store_scan_function *each, void *context, vecmill_error *err) {
  int field = (int)s->n_keys;
  const unsigned char *wire = (const unsigned char *)PQgetvalue(rows, i, field);
  size_t n_wire = (size_t)PQgetlength(rows, i, field);
  size_t n = n_wire >= 4 ? (size_t)(wire[0] << 8 | wire[1]) : 0;
  if (n > r->room) {
    mem_free(r->vector);
    r->vector = mem_alloc_aligned(n, sizeof *r->vector);
    r->room = r->vector ? n : 0;
    if (!r->vector) return err_set_memory(err, "search", n * sizeof *r->vector);
  }
  str_clear(&r->key);
  pg_key_append(&r->key, rows, i, 0, s->n_keys);
  if (r->key.failed) return err_set_memory(err, "search", r->key.n);
  store_scan_row one = {.key = r->key.data, .n_key_bytes = r->key.n};
  if (n > 0 && pg_read_vector(s, wire, n_wire, r->vector, n)) {
    one.vector = r->vector;
    one.n_vector_bytes = n * sizeof *r->vector;
  }
  return each(context, &one, err);
}

vecmill_status pg_store_scan(store *base, store_scan_function *each, void *context,
                             vecmill_error *err) {
  static const pg_params none = {0};
  const char *what = "cannot read the vectors";
  pg_store *s = pg_of(base);
  str sql = {0};
  row_reader reader = {0};
  PGresult *row = NULL;
  if (!s->has_vector_column) return VECMILL_OK;
  append_scan(&sql, s);
  vecmill_status status = pg_stream_begin(s, &sql, &none, what, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  while ((status = pg_next_row(s, what, &row, err)) == VECMILL_OK && row) {
    status = hand_on(s, &reader, row, 0, each, context, err);
    PQclear(row);
    if (status != VECMILL_OK) break;
  }
  pg_stream_end(s);
  row_reader_fini(&reader);
  return status;
}

/* --- the nearest, looked for by the server --- */

/* More than are asked for: the server's cosine and ours may differ in the last bits, and ours
 * decides. */
#define MORE_ROWS 16
/* Beyond this the answer is no smaller than the table, as a rule, and is better streamed. */
#define MAX_NEAR 10000

typedef struct near_query {
  str vector;
  size_t n;
  bool exact;
  PGresult *rows;
} near_query;

/* The name of an index that orders by cosine; NULL in s->index: there is none. */
static vecmill_status find_index(pg_store *s, PGconn *conn, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(
      &sql,
      "SELECT c.relname::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
      "JOIN pg_am AS m ON m.oid = c.relam JOIN pg_opclass AS o ON o.oid = i.indclass[0] JOIN "
      "pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE indrelid "
      "= $1::regclass AND attname = $2::text AND indisvalid AND indpred IS NULL AND amname IN "
      "('hnsw', 'ivfflat') AND opcname LIKE '%cosine%' ORDER BY amname, c.relname LIMIT 1");
  pg_add_text(&p, s->table_name);
  pg_add_text(&p, s->vector_column);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot read the indexes", &rows, err);
  str_fini(&sql);
  mem_free(s->index);
  s->index = NULL;
  if (status == VECMILL_OK && PQntuples(rows) > 0) {
    s->index = mem_strdup(pg_text(rows, 0, 0));
    if (!s->index) status = err_set_memory(err, "index", 64);
  }
  PQclear(rows);
  return status;
}

/* With an index: as many candidates as are wanted (hnsw.ef_search goes to 1000). Without: every
 * vector is compared. */
static vecmill_status ask_nearest(pg_store *s, PGconn *conn, near_query *q, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *set = NULL;
  PQclear(q->rows);
  q->rows = NULL;
  if (s->index)
    str_append_format(&sql,
                      "SELECT set_config('hnsw.ef_search', '%zu', true), "
                      "set_config('ivfflat.probes', '10', true)",
                      q->n > 1000  ? (size_t)1000
                      : q->n > 100 ? q->n
                                   : (size_t)100);
  vecmill_status status =
      s->index ? pg_step(s, conn, &sql, NULL, "cannot search", &set, err) : VECMILL_OK;
  PQclear(set);
  str_clear(&sql);
  append_scan(&sql, s);
  str_append_text(&sql, " ORDER BY (");
  pg_append_column(&sql, s, s->vector_column);
  str_append_format(&sql, " OPERATOR(%s.<=>) $1::%s)%s LIMIT %zu", s->vector_schema, s->vector_type,
                    s->index ? "" : " + 0", q->n); /* no index has a sum */
  pg_add_binary(&p, &q->vector);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read the vectors", &q->rows, err);
  str_fini(&sql);
  return status;
}

/* An index that brings too few (a condition left out most of what it guessed, or more are wanted
 * than it gives) has not answered: then every vector is compared. */
static vecmill_status near_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  near_query *q = context;
  vecmill_status status = q->exact ? VECMILL_OK : find_index(s, conn, err);
  if (status == VECMILL_OK) status = ask_nearest(s, conn, q, err);
  if (status != VECMILL_OK || !s->index || (size_t)PQntuples(q->rows) >= q->n) return status;
  mem_free(s->index);
  s->index = NULL;
  return ask_nearest(s, conn, q, err);
}

vecmill_status pg_store_scan_near(store *base, const float *query, size_t dimension, size_t n,
                                  bool exact, store_scan_function *each, void *context,
                                  const char **index_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  near_query q = {.n = n + MORE_ROWS, .exact = exact};
  row_reader reader = {0};
  *index_out = NULL;
  /* a column of vectors of any size can be streamed, not ordered */
  if (n > MAX_NEAR || s->vector_dimension < 0 || !s->has_vector_column ||
      !pg_append_vector(&q.vector, s, query, dimension)) {
    str_fini(&q.vector);
    return pg_store_scan(base, each, context, err);
  }
  vecmill_status status = q.vector.failed
                              ? err_set_memory(err, "search", dimension)
                              : pg_transact(s, PG_READER, near_body, &q, "cannot search", err);
  for (int i = 0; status == VECMILL_OK && i < PQntuples(q.rows); i++)
    status = hand_on(s, &reader, q.rows, i, each, context, err);
  *index_out = s->index;
  PQclear(q.rows);
  str_fini(&q.vector);
  row_reader_fini(&reader);
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
