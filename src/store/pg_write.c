/*
 * What a commit says: ONE statement that locks the lease, if it is still ours, and only then writes
 * vectors, metrics, hashes, failures and counters.
 *
 * A row is found by its place (ctid): that costs no look into an index and none at its text. The
 * same place, writer (xmin) and key are the same version of the same row, and so the same text and
 * the same lack of a vector. Where any row of the page is not as it was claimed, those that are get
 * written, the lease stays, and the statement follows that looks rows up by key and compares texts:
 * a row of which another column changed is still written.
 */
#include <string.h>

#include "store/pg_parts.h"

#define TEXT_OID 25 /* pg_type.h; part of the protocol's frozen numbers, as those below */
#define TID_OID 27
#define XID_OID 28
#define UUID_OID 2950

/* --- parameters --- */

void pg_arrays_fini(pg_arrays *a) {
  str *all[] = {&a->hashes, &a->vectors, &a->places, &a->writers, &a->failed_hashes, &a->reasons};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) str_fini(all[i]);
  for (size_t i = 0; i < PG_MAX_KEYS; i++) {
    str_fini(&a->keys[i]);
    str_fini(&a->failed_keys[i]);
  }
  pg_metrics_arrays_fini(&a->metrics);
}

/* What cannot be held by a halfvec is a failure. */
static bool fits(const pg_store *s, const store_row *row) {
  str probe = {0};
  bool good = pg_append_vector(&probe, s, row->vector, s->dimension);
  str_fini(&probe);
  return good;
}

const char *pg_failure_of(const pg_store *s, const store_row *row) {
  if (row->outcome == STORE_FAILED) return row->reason && *row->reason ? row->reason : "unknown";
  if (row->outcome == STORE_EMBEDDED && s->is_half && !fits(s, row))
    return "a number of its vector is too large for halfvec";
  return NULL;
}

static void add_keys(const pg_store *s, str *arrays_of_keys, const store_row *row) {
  for (size_t i = 0; i < s->n_keys; i++) {
    size_t n = 0;
    const char *part = pg_key_part(row->key, row->n_key_bytes, i, &n);
    pg_array_add(&arrays_of_keys[i], part, n);
  }
}

static void begin_arrays(pg_arrays *a, const pg_store *s) {
  pg_array_begin(&a->hashes, UUID_OID, a->n_rows);
  str_reserve(&a->vectors, 64 + a->n_rows * (4 + pg_vector_bytes(s, s->dimension)));
  pg_array_begin(&a->vectors, s->vector_oid, a->n_rows);
  pg_array_begin(&a->places, TID_OID, a->n_rows);
  pg_array_begin(&a->writers, XID_OID, a->n_rows);
  if (s->metrics.is_on) pg_metrics_arrays_begin(&a->metrics, a->n_rows);
  pg_array_begin(&a->failed_hashes, UUID_OID, a->n_failed);
  pg_array_begin(&a->reasons, TEXT_OID, a->n_failed);
  for (size_t i = 0; i < s->n_keys; i++) {
    pg_array_begin(&a->keys[i], TEXT_OID, a->n_rows);
    pg_array_begin(&a->failed_keys[i], TEXT_OID, a->n_failed);
  }
}

static bool arrays_failed(const pg_arrays *a, size_t n_keys) {
  bool failed = a->hashes.failed || a->vectors.failed || a->places.failed || a->writers.failed ||
                a->reasons.failed || a->failed_hashes.failed ||
                pg_metrics_arrays_failed(&a->metrics);
  for (size_t i = 0; i < n_keys; i++) failed |= a->keys[i].failed || a->failed_keys[i].failed;
  return failed;
}

vecmill_status pg_arrays_fill(pg_arrays *a, const pg_store *s, const pg_range *range,
                              vecmill_error *err) {
  const store_row *rows = range->page->rows;
  for (size_t i = range->from; i < range->to; i++) {
    if (rows[i].outcome == STORE_UNTOUCHED) continue;
    if (range->refusal || pg_failure_of(s, &rows[i])) a->n_failed++;
    else a->n_rows++;
  }
  begin_arrays(a, s);
  for (size_t i = range->from; i < range->to; i++) {
    const store_row *row = &rows[i];
    if (row->outcome == STORE_UNTOUCHED) continue;
    pg_version version = pg_version_of(row);
    const char *reason = range->refusal ? range->refusal : pg_failure_of(s, row);
    if (reason) {
      pg_array_add(&a->failed_hashes, version.hash, sizeof version.hash);
      pg_array_add(&a->reasons, reason, strlen(reason));
      add_keys(s, a->failed_keys, row);
      continue;
    }
    pg_array_add(&a->hashes, version.hash, sizeof version.hash);
    pg_array_add_vector(&a->vectors, s, row->vector, s->dimension);
    pg_array_add(&a->places, version.place, sizeof version.place);
    pg_array_add(&a->writers, version.writer, sizeof version.writer);
    add_keys(s, a->keys, row);
    if (s->metrics.is_on) pg_metrics_arrays_add(&a->metrics, &row->metrics);
  }
  return arrays_failed(a, s->n_keys) ? err_set_memory(err, "commit", a->vectors.n) : VECMILL_OK;
}

void pg_add_write_params(const pg_store *s, pg_write_part part, const pg_page *head,
                         const pg_arrays *a, pg_params *p) {
  pg_add_text(p, head->lease);
  pg_add_text(p, head->fence);
  pg_add_binary(p, &a->hashes);
  pg_add_binary(p, &a->vectors);
  for (size_t i = 0; i < s->n_keys; i++) pg_add_binary(p, &a->keys[i]);
  if (s->metrics.is_on) pg_metrics_add_params(p, &a->metrics);
  if (part == PG_WRITE_PLACES) {
    pg_add_binary(p, &a->places);
    pg_add_binary(p, &a->writers);
    return;
  }
  pg_add_binary(p, &a->failed_hashes);
  pg_add_binary(p, &a->reasons);
  for (size_t i = 0; i < s->n_keys; i++) pg_add_binary(p, &a->failed_keys[i]);
}

/* --- the statement --- */

/* $1 and $2 are the lease; then hashes, vectors, keys, metrics, and more. */
#define FIRST_ROWS 3
#define FIRST_KEY (FIRST_ROWS + 2)

/* ", PREFIXk0, PREFIXk1" */
static void append_key_names(str *sql, const pg_store *s, const char *prefix) {
  for (size_t i = 0; i < s->n_keys; i++) str_append_format(sql, ", %sk%zu", prefix, i);
}

static void append_key_types(str *sql, const pg_store *s, int *n) {
  for (size_t i = 0; i < s->n_keys; i++) str_append_format(sql, ", $%d::text[]", (*n)++);
}

/* "unnest($3::uuid[], ..) AS vecmill_d(h, v, k0, .., m0, ..)": the rows, whose parameters begin at
 * *n. `placed`: place and writer as well. */
static void append_rows(str *sql, const pg_store *s, int *n, bool placed) {
  str_append_format(sql, "unnest($%d::uuid[], $%d::%s[]", *n, *n + 1, s->vector_type);
  *n += 2;
  append_key_types(sql, s, n);
  if (s->metrics.is_on) pg_metrics_append_unnest(sql, *n);
  if (s->metrics.is_on) *n += METRICS_N_OF_TEXT;
  if (placed) str_append_format(sql, ", $%d::tid[], $%d::xid[]", *n, *n + 1);
  *n += placed ? 2 : 0;
  str_append_text(sql, ") AS vecmill_d(h, v");
  append_key_names(sql, s, "");
  if (s->metrics.is_on) pg_metrics_append_names(sql);
  str_append_text(sql, placed ? ", place, writer)" : ")");
}

/* The same of failures: d(h, reason, k0, ..). */
static void append_failures(str *sql, const pg_store *s, int *n) {
  str_append_format(sql, "unnest($%d::uuid[], $%d::text[]", *n, *n + 1);
  *n += 2;
  append_key_types(sql, s, n);
  str_append_text(sql, ") AS vecmill_d(h, reason");
  append_key_names(sql, s, "");
  str_append_char(sql, ')');
}

/* One condition for all rows, so that it is asked once; whoever asks first locks the lease. */
#define IS_OURS "(SELECT count(*) FROM vecmill_lease) = 1"

/* "t"."a" = d.k0::bigint AND .. AND */
static void append_same_key(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->n_keys; i++) {
    pg_append_column(sql, s, s->keys[i].name);
    str_append_format(sql, " = vecmill_d.k%zu::", i);
    pg_append_type(sql, &s->keys[i]);
    str_append_text(sql, " AND ");
  }
}

/* " WHERE ..": the very version that was claimed. */
static void append_same_version(str *sql, const pg_store *s) {
  str_append_text(sql, " WHERE " IS_OURS " AND ");
  append_same_key(sql, s);
  pg_append_column(sql, s, "ctid");
  str_append_text(sql, " = vecmill_d.place AND ");
  pg_append_column(sql, s, "xmin");
  str_append_text(sql, " = vecmill_d.writer");
}

/*
 * ", LATERAL (...) AS vecmill_r": the row's place, if it is still there with the text that was
 * claimed and without a vector of that text. Looked up key by key: a table without fresh
 * statistics, which is what a table being filled is, tempts the planner to read all of it for each
 * page. A row that changes in between has another place then, is not written, and is found by the
 * next pass. The places of partitions are not each other's.
 */
static void append_same_text(str *sql, const pg_store *s, bool joins) {
  str_append_format(sql, ", LATERAL (SELECT tableoid, ctid, xmin FROM %s WHERE ", s->table_sql);
  append_same_key(sql, s);
  pg_append_wants(sql, s);
  str_append_text(sql, " AND ");
  pg_append_hash(sql, s);
  str_append_text(sql, " = vecmill_d.h OFFSET 0) AS vecmill_r");
  if (!joins) return;
  str_append_text(sql, " WHERE " IS_OURS " AND ");
  pg_append_column(sql, s, "ctid");
  str_append_text(sql, " = vecmill_r.ctid AND ");
  pg_append_column(sql, s, "tableoid");
  str_append_text(sql, " = vecmill_r.tableoid AND ");
  pg_append_column(sql, s, "xmin");
  str_append_text(sql, " = vecmill_r.xmin");
}

/* "WITH vecmill_lease AS (...)": one row if the lease is ours, and nobody takes it over meanwhile.
 */
static void append_lease(str *sql, const pg_store *s) {
  str_append_text(sql, "WITH vecmill_lease AS (SELECT FROM ");
  pg_append_state(sql, s, "leases");
  str_append_format(sql,
                    " WHERE id = $1::bigint AND fence = $2::bigint AND owner = '%s'::uuid AND "
                    "NOT done FOR UPDATE)",
                    s->owner);
}

/* ", u AS (UPDATE ...), n AS (...)": the rows that are written, and how many. A trigger may write a
 * row and take its vector away again, or change the text with it: such a row is not kept. */
static void append_update(str *sql, const pg_store *s, bool placed) {
  int n = FIRST_ROWS;
  str_append_format(sql, ", u AS (UPDATE %s SET ", s->table_sql);
  pg_append_name(sql, s->vector_column);
  str_append_text(sql, " = vecmill_d.v FROM ");
  append_rows(sql, s, &n, placed);
  if (placed) append_same_version(sql, s);
  else append_same_text(sql, s, true);
  str_append_text(sql, " RETURNING vecmill_d.h");
  append_key_names(sql, s, "vecmill_d.");
  str_append_text(sql, ", ");
  pg_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL");
  if (s->has_triggers) {
    str_append_text(sql, " AND ");
    pg_append_hash(sql, s);
    str_append_text(sql, " = vecmill_d.h");
  }
  str_append_text(sql, " AS kept");
  if (s->metrics.is_on) pg_metrics_append_returning(sql, s);
  str_append_text(sql, "), n AS (SELECT count(*) AS n FROM u WHERE kept)");
  if (s->metrics.is_on) pg_metrics_append_cte(sql, s);
}

/* ", h AS (INSERT ...)": the hashes of u. A row of its own for each, with its index, costs a third
 * of the statement; only runs that look them up (--changed) keep them so. Of the others most pages
 * are written whole, if they are `placed`: their hashes and keys are the parameters, as they came.
 */
static void append_hashes(str *sql, const pg_store *s, bool placed, size_t n_rows) {
  str_append_text(sql, ", h AS (INSERT INTO ");
  if (s->changed) {
    pg_append_state(sql, s, "hashes");
    str_append_format(sql, "(column_id, key, hash) SELECT %s, ", s->column_id);
    pg_append_record_key(sql, s, "u.");
    str_append_text(sql, ", h FROM u WHERE kept ON CONFLICT (column_id, key) DO UPDATE SET hash = "
                         "excluded.hash)");
    return;
  }
  pg_append_state(sql, s, "hash_pages");
  str_append_text(sql, "(column_id, keys, hashes) SELECT ");
  if (placed) {
    str_append_format(sql, "%s, ARRAY[", s->column_id);
    for (size_t i = 0; i < s->n_keys; i++)
      str_append_format(sql, "%s$%zu::text[]", i ? ", " : "", FIRST_KEY + i);
    str_append_format(sql, "], $%d::uuid[] WHERE (SELECT n FROM n) = %zu UNION ALL SELECT ",
                      FIRST_ROWS, n_rows);
  }
  str_append_format(sql, "%s, ARRAY[", s->column_id);
  for (size_t i = 0; i < s->n_keys; i++)
    str_append_format(sql, "%sarray_agg(k%zu)", i ? ", " : "", i);
  str_append_text(sql, "], array_agg(h) FROM u WHERE kept");
  if (placed) str_append_format(sql, " AND (SELECT n FROM n) < %zu", n_rows);
  str_append_text(sql, " HAVING count(*) > 0)");
}

/* ", g AS (DELETE ...)": failures of rows that are written now; not even looked for where none is
 * recorded. */
static void append_forgive(str *sql, const pg_store *s) {
  str_append_text(sql, ", g AS (DELETE FROM ");
  pg_append_state(sql, s, "failures");
  str_append_text(sql, " AS x USING u WHERE ");
  pg_append_any_failed(sql, s);
  str_append_format(sql, " AND u.kept AND x.column_id = %s AND x.key = ", s->column_id);
  pg_append_record_key(sql, s, "u.");
  str_append_char(sql, ')');
}

/* ", f AS (INSERT ...)": failures whose parameters begin at `n`. */
static void append_failed(str *sql, const pg_store *s, int n) {
  str_append_text(sql, ", f AS (INSERT INTO ");
  pg_append_state(sql, s, "failures");
  str_append_format(sql, "(column_id, key, reason, owner, hash) SELECT %s, ", s->column_id);
  pg_append_record_key(sql, s, "vecmill_d.");
  str_append_format(sql, ", vecmill_d.reason, '%s'::uuid, vecmill_d.h FROM vecmill_lease, ",
                    s->owner);
  append_failures(sql, s, &n);
  append_same_text(sql, s, false);
  str_append_text(sql,
                  " ON CONFLICT (column_id, key) DO UPDATE SET reason = excluded.reason, owner = "
                  "excluded.owner, hash = excluded.hash, at = now() RETURNING 1)");
}

/* ", l AS (UPDATE ...)": the lease, which the run's counters take its numbers from when it goes:
 * their row is one that everybody's claims lock. `is_done` as SQL. */
static void append_counters(str *sql, const pg_store *s, bool may_fail, const char *is_done,
                            const store_commit_counts *before) {
  str_append_text(sql, ", l AS (UPDATE ");
  pg_append_state(sql, s, "leases");
  str_append_format(sql,
                    " AS l SET done = %s, n_written = coalesce(n_written, 0) + %llu + (SELECT n "
                    "FROM n), n_failed = coalesce(n_failed, 0) + %llu + %s FROM vecmill_lease "
                    "WHERE l.id = $1::bigint RETURNING n_written, n_failed, done)",
                    is_done, (unsigned long long)before->n_written,
                    (unsigned long long)before->n_failed,
                    may_fail ? "(SELECT count(*) FROM f)" : "0");
}

/* What the statement answers of these. Its snapshot is of before: the lease is added as it is now.
 */
static void append_totals(str *sql, const pg_store *s) {
  str_append_text(sql, ", (SELECT (n_done + (SELECT coalesce(sum(n_written + n_failed), 0) FROM ");
  pg_append_state(sql, s, "leases");
  str_append_format(
      sql,
      " WHERE column_id = %s AND id <> $1::bigint) + (SELECT n_written + n_failed FROM "
      "l))::text FROM ",
      s->column_id);
  pg_append_state(sql, s, "columns");
  str_append_format(sql,
                    " WHERE id = %s), (SELECT n_written FROM l)::text, (SELECT n_failed FROM "
                    "l)::text, (SELECT done FROM l)::text",
                    s->column_id);
  if (s->metrics.is_on)
    str_append_format(sql,
                      ", CASE WHEN (SELECT n FROM n) < cardinality($%d::uuid[]) THEN (SELECT "
                      "string_agg(encode(uuid_send(h), 'hex'), '' ORDER BY h) FROM u WHERE kept) "
                      "END",
                      FIRST_ROWS);
}

/*
 * ", CASE .. END": an error where rows that are as they were claimed were not written all the same:
 * a trigger passed over them. The statement is rolled back then, and the page written row by row,
 * which tells which they are. (A row that changes just while this runs looks the same from here.)
 */
static void append_check(str *sql, const pg_store *s) {
  int n = FIRST_ROWS;
  str_append_text(sql, ", CASE WHEN (SELECT count(*) FROM vecmill_lease) = 0 OR (SELECT n FROM n)"
                       " = cardinality($3::uuid[]) THEN 0 WHEN (SELECT count(*) FROM ");
  append_rows(sql, s, &n, false);
  append_same_text(sql, s, false);
  str_append_text(sql, ") = (SELECT n FROM n) THEN 0 ELSE ('vecmill: the update "
                       "of a row was ignored: ' || (SELECT n FROM n))::integer END");
}

void pg_append_write(str *sql, const pg_store *s, pg_write_part part, const pg_arrays *a,
                     const store_commit_counts *before) {
  bool placed = part == PG_WRITE_PLACES;
  int n_first_failed = FIRST_KEY + (int)s->n_keys + (s->metrics.is_on ? METRICS_N_OF_TEXT : 0);
  char all_written[64] = "true";
  if (placed) snprintf(all_written, sizeof all_written, "(SELECT n FROM n) = %zu", a->n_rows);
  append_lease(sql, s);
  append_update(sql, s, placed);
  if (!s->has_other_key) append_hashes(sql, s, placed, a->n_rows); /* else in place of others' */
  append_forgive(sql, s);
  if (!placed) append_failed(sql, s, n_first_failed);
  if (part != PG_WRITE_ROW) append_counters(sql, s, !placed, all_written, before);
  str_append_text(sql, " SELECT (SELECT count(*) FROM vecmill_lease)::text, (SELECT n FROM n)"
                       "::text, ");
  str_append_text(sql, placed ? "'0'" : "(SELECT count(*) FROM f)::text");
  if (part != PG_WRITE_ROW) append_totals(sql, s);
  if (part == PG_WRITE_PAGE) append_check(sql, s);
}
