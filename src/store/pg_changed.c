/*
 * Rows whose text is no longer the one that their vector was made from, by the hash that every
 * commit keeps. A vector without one (made before, or by others) counts as unchanged.
 *
 * The hash is a subquery of one row by the whole primary key, which no planner turns into a scan
 * or a join: the rows come by their own key's index, each with one look into the hashes' index.
 * Plain runs keep hashes a page at a time (pg_write.c); --changed sorts them by key first. A dry
 * run, which writes nothing, joins both as they lie.
 */
#include "base/mem.h"
#include "store/pg_parts.h"

/* "(SELECT hash FROM hashes of this row)"; what pg_append_from has joined, where it has. */
static void append_kept(str *sql, const pg_store *s) {
  if (s->has_other_key) { /* they would be other rows' */
    str_append_text(sql, "NULL::uuid");
    return;
  }
  if (s->looks_only) {
    str_append_text(sql, "vecmill_h.vecmill_hash");
    return;
  }
  str_append_text(sql, "(SELECT vecmill_h.hash FROM ");
  pg_append_state(sql, s, "hashes");
  str_append_format(
      sql, " AS vecmill_h WHERE vecmill_h.column_id = %s AND vecmill_h.key = ", s->column_id);
  pg_append_record_key(sql, s, NULL);
  str_append_text(sql, ")");
}

/* "id, (ARRAY[k0, ..]) AS key, h FROM source, unnest(..) AS d": a page's hashes, one a row. */
static void append_page_hashes(str *sql, const pg_store *s) {
  str_append_text(sql, "id, ");
  pg_append_record_key(sql, s, "");
  str_append_text(sql, " AS key, h FROM p, unnest(hashes");
  for (size_t i = 1; i <= s->n_keys; i++) str_append_format(sql, ", keys[%zu:%zu]", i, i);
  str_append_text(sql, ") AS d(h, ");
  pg_append_numbered(sql, "k", s->n_keys);
  str_append_char(sql, ')');
}

void pg_append_from(str *sql, const pg_store *s) {
  str_append_format(sql, " FROM %s", s->table_sql);
  if (!s->looks_only || !s->changed || s->has_other_key) return;
  str_append_text(sql, " LEFT JOIN (WITH p AS (SELECT id, keys, hashes FROM ");
  pg_append_state(sql, s, "hash_pages");
  str_append_format(sql,
                    " WHERE column_id = %s) SELECT DISTINCT ON (key) key AS vecmill_key, h AS "
                    "vecmill_hash FROM (SELECT 0 AS id, key, hash AS h FROM ",
                    s->column_id);
  pg_append_state(sql, s, "hashes");
  str_append_format(sql, " WHERE column_id = %s UNION ALL SELECT ", s->column_id);
  append_page_hashes(sql, s);
  str_append_text(sql, ") AS a ORDER BY key, id DESC) AS vecmill_h ON vecmill_h.vecmill_key = ");
  pg_append_record_key(sql, s, NULL);
}

void pg_append_outdated(str *sql, const pg_store *s) {
  pg_append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  append_kept(sql, s);
  str_append_text(sql, " <> ");
  pg_append_hash(sql, s);
}

void pg_append_unknown(str *sql, const pg_store *s) {
  pg_append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  append_kept(sql, s);
  str_append_text(sql, " IS NULL");
}

void pg_append_wants(str *sql, const pg_store *s) {
  if (!s->has_vector_column) { /* a look before it is added */
    str_append_text(sql, "true");
    return;
  }
  str_append_text(sql, "(");
  pg_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NULL");
  if (s->changed) {
    str_append_text(sql, " OR ");
    pg_append_outdated(sql, s);
  }
  str_append_text(sql, ")");
}

/* By the hash too, where an application has taken the vector: what else was of the text goes. */
vecmill_status pg_remove_blank(pg_store *s, vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_format(&sql, "WITH u AS (UPDATE %s SET ", s->table_sql);
  pg_append_name(&sql, s->vector_column);
  str_append_text(&sql, " = NULL WHERE ");
  pg_append_blank(&sql, s);
  str_append_text(&sql, " AND (");
  pg_append_has_vector(&sql, s);
  str_append_text(&sql, " OR ");
  append_kept(&sql, s);
  str_append_text(&sql, " IS NOT NULL)");
  pg_append_considered(&sql, s, "$1::text[]");
  str_append_text(&sql, " RETURNING ");
  pg_append_record_key(&sql, s, NULL);
  str_append_text(&sql, " AS key");
  if (s->metrics.is_on) pg_metrics_append_places(&sql, s);
  str_append_char(&sql, ')');
  if (s->metrics.is_on) pg_metrics_append_removal(&sql, s);
  str_append_text(&sql, ", h AS (DELETE FROM ");
  pg_append_state(&sql, s, "hashes");
  str_append_format(&sql,
                    " AS h USING u WHERE h.column_id = %s AND h.key = u.key) SELECT "
                    "count(*)::text FROM u",
                    s->column_id);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_run(s, PG_READER, &sql, &p, "cannot remove the vector of a text that is blank now",
                    &rows, err);
  if (status == VECMILL_OK) s->n_removed += (uint64_t)pg_integer(rows, 0, 0);
  PQclear(rows);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

uint64_t pg_store_n_removed(const store *s) {
  return ((const pg_store *)s)->n_removed;
}

/* --- hashes page by page --- */

#define PAGES_AT_ONCE 32

/* A few pages, the oldest first. Under the column's lock: each process waits for the others'. */
static vecmill_status sort_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  int64_t *n_pages_out = context;
  PGresult *column = NULL, *rows = NULL;
  str sql = {0};
  vecmill_status status = pg_lock_column(s, conn, "id::text", &column, err);
  str_append_text(&sql, "WITH p AS (DELETE FROM ");
  pg_append_state(&sql, s, "hash_pages");
  str_append_format(&sql, " WHERE column_id = %s AND id IN (SELECT id FROM ", s->column_id);
  pg_append_state(&sql, s, "hash_pages");
  str_append_format(&sql,
                    " WHERE column_id = %s ORDER BY id LIMIT %d) RETURNING id, keys, hashes), h AS "
                    "(INSERT INTO ",
                    s->column_id, PAGES_AT_ONCE);
  pg_append_state(&sql, s, "hashes");
  str_append_format(&sql,
                    "(column_id, key, hash) SELECT DISTINCT ON (key) %s, key, h FROM (SELECT ",
                    s->column_id);
  append_page_hashes(&sql, s);
  str_append_text(&sql, ") AS d ORDER BY key, id DESC ON CONFLICT (column_id, key) DO UPDATE SET "
                        "hash = excluded.hash) SELECT count(*)::text FROM p");
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, NULL, "cannot sort the hashes", &rows, err);
  if (status == VECMILL_OK) *n_pages_out = pg_integer(rows, 0, 0);
  PQclear(column);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_sort_hashes(pg_store *s, vecmill_error *err) {
  int64_t n_pages = 0;
  do {
    if (pg_stop_asked(s)) return err_set(err, VECMILL_ERROR_STOPPED, "stopped");
    vecmill_status status =
        pg_transact(s, PG_READER, sort_body, &n_pages, "cannot sort the hashes", err);
    if (status != VECMILL_OK) return status;
  } while (n_pages > 0);
  return VECMILL_OK;
}

/* --- rows that are gone --- */

#define KEYS_AT_ONCE 10000

static vecmill_status count_hashes(pg_store *s, uint64_t *n_out, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT count(*)::text FROM ");
  pg_append_state(&sql, s, "hashes");
  str_append_format(&sql, " WHERE column_id = %s", s->column_id);
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot count the hashes", &rows, err);
  *n_out = status == VECMILL_OK ? (uint64_t)pg_integer(rows, 0, 0) : 0;
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* "WITH p AS (some keys after $1), g AS (DELETE ..)": without a row. A key that comes back just
 * then keeps its hash: written anew it has another place. Of keys that are not kept whole no row
 * can be looked up: they stay. */
static void append_prune(str *sql, const pg_store *s, bool has_cursor) {
  char whole[64];
  snprintf(whole, sizeof whole, "CASE WHEN cardinality(p.key) = %zu THEN p.key END", s->n_keys);
  str_append_text(sql, "WITH p AS MATERIALIZED (SELECT ctid AS place, key FROM ");
  pg_append_state(sql, s, "hashes");
  str_append_format(sql, " WHERE column_id = %s%s ORDER BY key LIMIT %d), g AS (DELETE FROM ",
                    s->column_id, has_cursor ? " AND key > $1::text[]" : "", KEYS_AT_ONCE);
  pg_append_state(sql, s, "hashes");
  str_append_format(sql,
                    " AS vecmill_h USING p WHERE vecmill_h.column_id = %s AND vecmill_h.key = "
                    "p.key AND vecmill_h.ctid = p.place AND NOT EXISTS (SELECT 1 FROM %s WHERE ",
                    s->column_id, s->table_sql);
  pg_append_compare(sql, s, "=", s->long_keys ? whole : "p.key");
  str_append_char(sql, ')');
  if (s->long_keys) str_append_format(sql, " AND %s IS NOT NULL", whole);
  str_append_text(sql, " RETURNING 1) SELECT count(*)::text, max(key)::text, (SELECT count(*) "
                       "FROM g)::text FROM p");
}

typedef struct prune {
  str cursor; /* an array's text; empty: at the beginning */
  uint64_t n_kept;
  bool is_over;
} prune;

/* As in claim_body, the planner is kept from reading all of the table for each of these. */
static vecmill_status prune_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  prune *c = context;
  str sql = {0};
  pg_params p = {0};
  PGresult *set = NULL, *rows = NULL;
  bool has_cursor = c->cursor.n > 0;
  if (has_cursor) pg_add_text(&p, c->cursor.data);
  str_append_text(&sql, "SELECT set_config('enable_seqscan', 'off', true), "
                        "set_config('enable_hashjoin', 'off', true), "
                        "set_config('enable_mergejoin', 'off', true)");
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read the hashes", &set, err);
  str_clear(&sql);
  append_prune(&sql, s, has_cursor);
  if (status == VECMILL_OK)
    status =
        pg_step(s, conn, &sql, &p, "cannot forget the hashes of rows that are gone", &rows, err);
  if (status == VECMILL_OK) {
    c->is_over = pg_integer(rows, 0, 0) < KEYS_AT_ONCE;
    c->n_kept -= (uint64_t)pg_integer(rows, 0, 2);
    str_clear(&c->cursor);
    str_append_text(&c->cursor, pg_text(rows, 0, 1));
    if (c->cursor.failed) status = err_set_memory(err, "hashes", c->cursor.n);
  }
  PQclear(set);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Who sees or counted only a part of the rows does not know which are gone, nor who looks them up
 * by another key than that of the hashes. */
vecmill_status pg_prune_hashes(pg_store *s, uint64_t n_known, vecmill_error *err) {
  if (s->where || s->limit || s->sees_part || s->has_other_key) return VECMILL_OK;
  prune c = {0};
  vecmill_status status = count_hashes(s, &c.n_kept, err);
  while (status == VECMILL_OK && !c.is_over && c.n_kept > n_known) {
    if (pg_stop_asked(s)) status = err_set(err, VECMILL_ERROR_STOPPED, "stopped");
    else status = pg_transact(s, PG_READER, prune_body, &c, "cannot forget hashes", err);
  }
  str_fini(&c.cursor);
  /* keys from before their columns had the types that they have: none of them is ever asked for */
  return status != VECMILL_OK && pg_state_is("22") ? VECMILL_OK : status;
}
