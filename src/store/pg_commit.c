/*
 * Commits: one statement that marks the lease done, if it is still ours, and only then writes.
 *
 * Where a rule of the database's own (a trigger, a CHECK) refuses a row, the statement fails as a
 * whole; the page is then written row by row under savepoints, and what is refused is recorded.
 */
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

/* Arrays, one element a row: hashes, vectors and a column of keys each; then the same of failures.
 */
typedef struct arrays {
  str hashes, vectors, keys[PG_MAX_KEYS];
  str failed_hashes, reasons, failed_keys[PG_MAX_KEYS];
  pg_metrics_arrays metrics; /* of rows, where there are metrics */
  size_t n_rows, n_failed;
} arrays;

#define TEXT_OID 25

static void arrays_fini(arrays *a) {
  str *all[] = {&a->hashes, &a->vectors, &a->failed_hashes, &a->reasons};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) str_fini(all[i]);
  for (size_t i = 0; i < PG_MAX_KEYS; i++) {
    str_fini(&a->keys[i]);
    str_fini(&a->failed_keys[i]);
  }
  pg_metrics_arrays_fini(&a->metrics);
}

static const char *hash_of(const store_row *row) {
  return (const char *)row->key + row->n_key_bytes;
}

/* What cannot be held by a halfvec is a failure. */
static bool fits(const pg_store *s, const store_row *row) {
  str probe = {0};
  bool good = pg_append_vector(&probe, s, row->vector, s->dimension);
  str_fini(&probe);
  return good;
}

static const char *const too_large = "a number of its vector is too large for halfvec";

/* The reason, where the row is one to record; NULL otherwise. */
static const char *failure_of(const pg_store *s, const store_row *row) {
  if (row->outcome == STORE_FAILED) return row->reason && *row->reason ? row->reason : "unknown";
  if (row->outcome == STORE_EMBEDDED && s->is_half && !fits(s, row)) return too_large;
  return NULL;
}

static void add_keys(const pg_store *s, str *arrays_of_keys, const store_row *row) {
  for (size_t i = 0; i < s->n_keys; i++) {
    size_t n = 0;
    const char *part = pg_key_part(row->key, row->n_key_bytes, i, &n);
    pg_array_add(&arrays_of_keys[i], part, n);
  }
}

/* Rows [from, to) of the page; those of *only_failed, if it is given, are all recorded with it. */
static vecmill_status fill_arrays(const pg_store *s, const store_page *page, size_t from, size_t to,
                                  const char *refusal, arrays *a, vecmill_error *err) {
  for (size_t i = from; i < to; i++) {
    const store_row *row = &page->rows[i];
    if (row->outcome == STORE_UNTOUCHED) continue;
    if (refusal || failure_of(s, row)) a->n_failed++;
    else a->n_rows++;
  }
  pg_array_begin(&a->hashes, TEXT_OID, a->n_rows);
  str_reserve(&a->vectors, 64 + a->n_rows * (4 + pg_vector_bytes(s, s->dimension)));
  pg_array_begin(&a->vectors, s->vector_oid, a->n_rows);
  if (s->metrics.is_on) pg_metrics_arrays_begin(&a->metrics, a->n_rows);
  pg_array_begin(&a->failed_hashes, TEXT_OID, a->n_failed);
  pg_array_begin(&a->reasons, TEXT_OID, a->n_failed);
  for (size_t i = 0; i < s->n_keys; i++) {
    pg_array_begin(&a->keys[i], TEXT_OID, a->n_rows);
    pg_array_begin(&a->failed_keys[i], TEXT_OID, a->n_failed);
  }
  for (size_t i = from; i < to; i++) {
    const store_row *row = &page->rows[i];
    if (row->outcome == STORE_UNTOUCHED) continue;
    const char *reason = refusal ? refusal : failure_of(s, row);
    if (reason) {
      pg_array_add(&a->failed_hashes, hash_of(row), PG_HASH_BYTES);
      pg_array_add(&a->reasons, reason, strlen(reason));
      add_keys(s, a->failed_keys, row);
      continue;
    }
    pg_array_add(&a->hashes, hash_of(row), PG_HASH_BYTES);
    pg_array_add_vector(&a->vectors, s, row->vector, s->dimension);
    add_keys(s, a->keys, row);
    if (s->metrics.is_on) pg_metrics_arrays_add(&a->metrics, &row->metrics);
  }
  bool failed = a->hashes.failed || a->vectors.failed || a->reasons.failed ||
                a->failed_hashes.failed || pg_metrics_arrays_failed(&a->metrics);
  for (size_t i = 0; i < s->n_keys; i++) failed |= a->keys[i].failed || a->failed_keys[i].failed;
  return failed ? err_set_memory(err, "commit", a->vectors.n) : VECMILL_OK;
}

/* "unnest($3::text[], ...) AS d(h, v, k0, ...)"; parameters from *n on. `metrics`: the first of
 * their parameters, 0 for none. */
static void append_unnest(str *sql, const pg_store *s, int *n, bool failures, int metrics) {
  str_append_format(sql, "unnest($%d::text[], $%d::", *n, *n + 1);
  if (failures) str_append_text(sql, "text");
  else str_append_text(sql, s->vector_type);
  str_append_text(sql, "[]");
  *n += 2;
  for (size_t i = 0; i < s->n_keys; i++) str_append_format(sql, ", $%d::text[]", (*n)++);
  if (metrics) pg_metrics_append_unnest(sql, metrics);
  str_append_text(sql, failures ? ") AS d(h, reason" : ") AS d(h, v");
  for (size_t i = 0; i < s->n_keys; i++) str_append_format(sql, ", k%zu", i);
  if (metrics) pg_metrics_append_names(sql);
  str_append_text(sql, ")");
}

/*
 * ", LATERAL (...) AS r": the row's place, if it is still there with the text that was claimed and
 * without a vector of that text. Looked up key by key: a table without fresh statistics, which is
 * what a table being filled is, tempts the planner to read all of it for each page. A row that
 * changes in between has another place then, is not written, and is found by the next pass.
 */
static void append_same_row(str *sql, const pg_store *s, bool joins) {
  str_append_format(sql, ", LATERAL (SELECT ctid FROM %s WHERE ", s->table_sql);
  for (size_t i = 0; i < s->n_keys; i++) {
    pg_append_column(sql, s, s->keys[i].name);
    str_append_format(sql, " = d.k%zu::%s AND ", i, s->keys[i].type);
  }
  pg_append_wants(sql, s);
  str_append_text(sql, " AND ");
  pg_append_hash(sql, s);
  str_append_text(sql, " = d.h::uuid OFFSET 0) AS r");
  if (!joins) return;
  str_append_text(sql, " WHERE ");
  pg_append_column(sql, s, "ctid");
  str_append_text(sql, " = r.ctid");
}

/* "lease AS (...)": one row if the lease is ours. `marks`: it is done with this. */
static void append_lease(str *sql, const pg_store *s, bool marks) {
  str_append_text(sql, "WITH lease AS (");
  str_append_text(sql, marks ? "UPDATE " : "SELECT column_id FROM ");
  pg_append_state(sql, s, "leases");
  if (marks) str_append_text(sql, " SET done = true");
  str_append_format(sql,
                    " WHERE id = $1::bigint AND fence = $2::bigint AND owner = '%s'::uuid AND "
                    "NOT done",
                    s->owner);
  str_append_text(sql, marks ? " RETURNING column_id)" : ")");
}

/*
 * ", CASE .. END": an error where rows that are as they were claimed were not written all the same:
 * a trigger passed over them. The statement is rolled back then, and the page written row by row,
 * which tells which they are. (A row that changes just while this runs looks the same from here.)
 */
static void append_check(str *sql, const pg_store *s) {
  int n = 3;
  str_append_text(sql, ", CASE WHEN (SELECT count(*) FROM lease) = 0 OR (SELECT count(*) FROM u)"
                       " = cardinality($3::text[]) THEN 0 WHEN (SELECT count(*) FROM ");
  append_unnest(sql, s, &n, false, 0);
  append_same_row(sql, s, false);
  str_append_text(sql, ") = (SELECT count(*) FROM u) THEN 0 ELSE ('vecmill: the update "
                       "of a row was ignored: ' || (SELECT count(*) FROM u))::integer END");
}

typedef enum write_part {
  WRITE_PAGE, /* all of it */
  WRITE_ROW,  /* one of its rows: the column's row, which all claims lock, is left alone */
  WRITE_END   /* none of them: the lease is done, `n_before` rows are counted */
} write_part;

/* ", w AS (UPDATE ...), u AS (...), m AS (...), h AS (...), g AS (...), f AS (...) SELECT ...". A
 * trigger may write a row and take its vector away again: such a row is not kept. */
static void append_writes(str *sql, const pg_store *s, write_part part, uint64_t n_before) {
  int n = 3, metrics = s->metrics.is_on ? n + 2 * (2 + (int)s->n_keys) : 0;
  str_append_format(sql, ", w AS (UPDATE %s SET ", s->table_sql);
  pg_append_name(sql, s->vector_column);
  str_append_text(sql, " = d.v FROM lease, ");
  append_unnest(sql, s, &n, false, metrics);
  append_same_row(sql, s, true);
  str_append_text(sql, " RETURNING lease.column_id, ");
  pg_append_key_array(sql, s);
  str_append_text(sql, " AS key, d.h::uuid AS hash, ");
  pg_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL AS kept");
  if (metrics) pg_metrics_append_returning(sql, s);
  str_append_text(sql, "), u AS (SELECT * FROM w WHERE kept)");
  if (metrics) pg_metrics_append_cte(sql, s);
  str_append_text(sql, ", h AS (INSERT INTO ");
  pg_append_state(sql, s, "hashes");
  str_append_text(sql, "(column_id, key, hash) SELECT column_id, key, hash FROM u ON CONFLICT "
                       "(column_id, key) DO UPDATE SET hash = excluded.hash), g AS (DELETE FROM ");
  pg_append_state(sql, s, "failures");
  str_append_text(sql, " AS x USING u WHERE x.column_id = u.column_id AND x.key = u.key), f AS "
                       "(INSERT INTO ");
  pg_append_state(sql, s, "failures");
  str_append_text(sql, "(column_id, key, reason, owner, hash) SELECT lease.column_id, ");
  pg_append_key_array(sql, s);
  str_append_format(sql, ", d.reason, '%s'::uuid, d.h::uuid FROM %s, lease, ", s->owner,
                    s->table_sql);
  append_unnest(sql, s, &n, true, 0);
  append_same_row(sql, s, true);
  str_append_text(sql,
                  " ON CONFLICT (column_id, key) DO UPDATE SET reason = excluded.reason, owner = "
                  "excluded.owner, hash = excluded.hash, at = now() RETURNING 1)");
  if (part != WRITE_ROW) {
    str_append_text(sql, ", c AS (UPDATE ");
    pg_append_state(sql, s, "columns");
    str_append_format(sql,
                      " AS c SET n_done = n_done + %llu + (SELECT count(*) FROM u) + "
                      "(SELECT count(*) FROM f) FROM lease WHERE c.id = lease.column_id RETURNING "
                      "n_done)",
                      (unsigned long long)n_before);
  }
  str_append_text(sql, " SELECT (SELECT count(*) FROM lease)::text, (SELECT count(*) FROM u)"
                       "::text, (SELECT count(*) FROM f)::text, ");
  str_append_text(sql, part == WRITE_ROW ? "NULL" : "(SELECT n_done FROM c)::text");
  if (part == WRITE_PAGE) append_check(sql, s);
}

static void add_params(const pg_store *s, const pg_page *head, const arrays *a, pg_params *p) {
  pg_add_text(p, head->lease);
  pg_add_text(p, head->fence);
  pg_add_binary(p, &a->hashes);
  pg_add_binary(p, &a->vectors);
  for (size_t i = 0; i < s->n_keys; i++) pg_add_binary(p, &a->keys[i]);
  pg_add_binary(p, &a->failed_hashes);
  pg_add_binary(p, &a->reasons);
  for (size_t i = 0; i < s->n_keys; i++) pg_add_binary(p, &a->failed_keys[i]);
}

/* How many of the rows whose arrays are parameters from `first` on stand in `table` with their
 * text. */
static void append_count_like(str *sql, const pg_store *s, const char *table, int first) {
  int n = first;
  bool failures = first > 3;
  str_append_text(sql, "(SELECT count(*) FROM ");
  pg_append_state(sql, s, table);
  str_append_text(sql, " AS h, ");
  append_unnest(sql, s, &n, failures, 0);
  str_append_format(sql, " WHERE column_id = %s AND h.hash = d.h::uuid AND h.key = ARRAY[",
                    s->column_id);
  for (size_t i = 0; i < s->n_keys; i++) str_append_format(sql, "%sd.k%zu", i ? ", " : "", i);
  str_append_text(sql, "])::text");
}

static void add_metrics(const pg_store *s, const arrays *a, pg_params *p) {
  if (s->metrics.is_on) pg_metrics_add_params(p, &a->metrics);
}

/* How many rows of the page carry what this page wrote, and how many are recorded as failed: for a
 * commit that was done although its answer was lost. */
static vecmill_status ask_what_was_done(pg_store *s, const pg_page *head, const arrays *a,
                                        bool *done_out, store_commit_counts *counts,
                                        vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT done::text FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE id = %s AND fence = %s AND owner = '%s'::uuid AND done",
                    head->lease, head->fence, s->owner);
  vecmill_status status = pg_run(s, PG_WRITER, &sql, NULL, "cannot ask for a commit", &rows, err);
  *done_out = status == VECMILL_OK && PQntuples(rows) > 0;
  PQclear(rows);
  rows = NULL;
  if (*done_out) {
    str_clear(&sql);
    /* all parameters have types in it: the statement's own, though nothing is written */
    append_lease(&sql, s, false);
    str_append_text(&sql, " SELECT ");
    append_count_like(&sql, s, "hashes", 3);
    str_append_text(&sql, ", ");
    append_count_like(&sql, s, "failures", 3);
    str_append_text(&sql, ", ");
    append_count_like(&sql, s, "failures", 5 + (int)s->n_keys);
    str_append_text(&sql, ", (SELECT count(*) FROM lease)::text");
    add_params(s, head, a, &p);
    status = pg_run(s, PG_WRITER, &sql, &p, "cannot ask for a commit", &rows, err);
    if (status == VECMILL_OK) {
      counts->n_written = (uint64_t)pg_integer(rows, 0, 0);
      counts->n_failed = (uint64_t)pg_integer(rows, 0, 1) + (uint64_t)pg_integer(rows, 0, 2);
    }
    PQclear(rows);
  }
  str_fini(&sql);
  return status;
}

/* --- row by row --- */

typedef struct slow_commit {
  const store_page *page;
  const pg_page *head;
  store_commit_counts counts;
  bool is_ours;
} slow_commit;

static vecmill_status step(pg_store *s, PGconn *conn, const char *text, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, text);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot commit", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status write_range(pg_store *s, PGconn *conn, slow_commit *c, size_t from, size_t to,
                                  const char *refusal, bool marks, uint64_t *n_written_out,
                                  vecmill_error *err) {
  arrays a = {0};
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  vecmill_status status = fill_arrays(s, c->page, from, to, refusal, &a, err);
  append_lease(&sql, s, marks);
  append_writes(&sql, s, marks ? WRITE_END : WRITE_ROW, c->counts.n_written + c->counts.n_failed);
  add_params(s, c->head, &a, &p);
  add_metrics(s, &a, &p);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot write a vector", &rows, err);
  if (status == VECMILL_OK) {
    uint64_t n_written = (uint64_t)pg_integer(rows, 0, 1),
             n_failed = (uint64_t)pg_integer(rows, 0, 2);
    c->is_ours = pg_integer(rows, 0, 0) > 0;
    c->counts.n_run_done = (uint64_t)pg_integer(rows, 0, 3);
    c->counts.n_written += n_written;
    if (n_written_out) *n_written_out = n_written;
    c->counts.n_failed += n_failed;
    c->counts.n_changed += a.n_rows + a.n_failed - n_written - n_failed;
  }
  PQclear(rows);
  str_fini(&sql);
  arrays_fini(&a);
  return status;
}

/* Whether the database itself refused a row, and not the statement or the server. */
static bool is_refusal(void) {
  return pg_state_is("23") || pg_state_is("P0") || pg_state_is("22") || pg_state_is("44");
}

/* Locks the row, if it is still what was claimed: from then on only a trigger keeps it from being
 * written. */
static vecmill_status lock_row(pg_store *s, PGconn *conn, const store_row *row, bool *is_same_out,
                               vecmill_error *err) {
  str sql = {0}, key = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  char hash[PG_HASH_BYTES + 1] = {0};
  memcpy(hash, hash_of(row), PG_HASH_BYTES);
  pg_key_array(&key, row->key, row->n_key_bytes);
  str_append_format(&sql, "SELECT 1 FROM %s WHERE ", s->table_sql);
  pg_append_compare(&sql, s, "=", "$1::text[]");
  str_append_text(&sql, " AND ");
  pg_append_wants(&sql, s);
  str_append_text(&sql, " AND ");
  pg_append_hash(&sql, s);
  str_append_text(&sql, " = $2::uuid FOR UPDATE");
  pg_add_binary(&p, &key);
  pg_add_text(&p, hash);
  vecmill_status status = key.failed ? err_set_memory(err, "key", row->n_key_bytes)
                                     : pg_step(s, conn, &sql, &p, "cannot lock a row", &rows, err);
  *is_same_out = status == VECMILL_OK && PQntuples(rows) > 0;
  PQclear(rows);
  str_fini(&sql);
  str_fini(&key);
  return status;
}

/* Row `i`, within a savepoint. *refused_out: a rule of the database's own keeps it from being
 * written, and c->counts.refusal says which. */
static vecmill_status try_row(pg_store *s, PGconn *conn, slow_commit *c, size_t i,
                              bool *refused_out, vecmill_error *err) {
  static const char words_before[] = ": cannot write a vector: ";
  store_commit_counts before = c->counts;
  const store_row *row = &c->page->rows[i];
  bool is_same = false;
  uint64_t n_written = 0;
  vecmill_error words = {0};
  vecmill_status status = lock_row(s, conn, row, &is_same, &words);
  if (status == VECMILL_OK)
    status = write_range(s, conn, c, i, i + 1, NULL, false, &n_written, &words);
  *refused_out = false;
  if (status == VECMILL_OK && (n_written > 0 || !is_same || !c->is_ours || failure_of(s, row)))
    return VECMILL_OK;
  if (status != VECMILL_OK && !is_refusal()) {
    if (err) *err = words;
    return status;
  }
  const char *why = strstr(words.text, words_before);
  c->counts = before;
  *refused_out = true;
  if (status != VECMILL_OK)
    snprintf(c->counts.refusal, sizeof c->counts.refusal, "the database refused the vector: %.200s",
             why ? why + strlen(words_before) : words.text);
  else
    snprintf(c->counts.refusal, sizeof c->counts.refusal,
             "the database passed over the vector: a trigger on the table ignores the update");
  return VECMILL_OK;
}

static vecmill_status slow_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  slow_commit *c = context;
  c->counts = (store_commit_counts){0};
  c->is_ours = true;
  vecmill_status status = VECMILL_OK;
  for (size_t i = 0; status == VECMILL_OK && c->is_ours && i < c->page->n_rows; i++) {
    bool refused = false;
    if (c->page->rows[i].outcome == STORE_UNTOUCHED) continue;
    status = step(s, conn, "SAVEPOINT vecmill", err);
    if (status == VECMILL_OK) status = try_row(s, conn, c, i, &refused, err);
    if (status != VECMILL_OK) break;
    status = step(s, conn, refused ? "ROLLBACK TO vecmill" : "RELEASE vecmill", err);
    if (status == VECMILL_OK && refused)
      status = write_range(s, conn, c, i, i + 1, c->counts.refusal, false, NULL, err);
  }
  size_t n = c->page->n_rows;
  return status == VECMILL_OK && c->is_ours ? write_range(s, conn, c, n, n, NULL, true, NULL, err)
                                            : status;
}

static vecmill_status commit_slowly(pg_store *s, const store_page *page, const pg_page *head,
                                    bool *is_ours_out, store_commit_counts *counts,
                                    vecmill_error *err) {
  slow_commit c = {.page = page, .head = head};
  vecmill_status status = pg_transact(s, PG_WRITER, slow_body, &c, "cannot commit", err);
  *is_ours_out = c.is_ours;
  if (status == VECMILL_OK && c.is_ours) *counts = c.counts;
  return status;
}

/* --- both --- */

static vecmill_status commit_at_once(pg_store *s, const pg_page *head, const arrays *a,
                                     bool *is_ours_out, store_commit_counts *counts,
                                     vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  append_lease(&sql, s, true);
  append_writes(&sql, s, WRITE_PAGE, 0);
  add_params(s, head, a, &p);
  add_metrics(s, a, &p);
  vecmill_status status = pg_run(s, PG_WRITER, &sql, &p, "cannot write vectors", &rows, err);
  if (status == VECMILL_OK) {
    *is_ours_out = pg_integer(rows, 0, 0) > 0;
    counts->n_written = (uint64_t)pg_integer(rows, 0, 1);
    counts->n_failed = (uint64_t)pg_integer(rows, 0, 2);
    counts->n_run_done = (uint64_t)pg_integer(rows, 0, 3);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Its lease may be removed: nobody will ask what became of it. */
static void settle(pg_store *s, pg_page *head) {
  head->is_settled = true;
  pthread_mutex_lock(&s->settled_mutex);
  str_append_format(&s->settled, "%s%s", s->settled.n ? "," : "", head->lease);
  if (s->settled.failed) str_fini(&s->settled); /* they go when they expire */
  pthread_mutex_unlock(&s->settled_mutex);
}

vecmill_status pg_store_commit(store *base, const store_page *page, store_commit_counts *counts_out,
                               vecmill_error *err) {
  pg_store *s = pg_of(base);
  pg_page *head = page->memory;
  arrays a = {0};
  bool is_ours = false;
  *counts_out = (store_commit_counts){0};
  vecmill_status status = fill_arrays(s, page, 0, page->n_rows, NULL, &a, err);
  if (status == VECMILL_OK) status = commit_at_once(s, head, &a, &is_ours, counts_out, err);
  if (status != VECMILL_OK && is_refusal())
    status = commit_slowly(s, page, head, &is_ours, counts_out, err);
  /* lost to another, or done before a connection was lost with the answer */
  if (status == VECMILL_OK && !is_ours)
    status = ask_what_was_done(s, head, &a, &is_ours, counts_out, err);
  if (status == VECMILL_OK) {
    settle(s, head);
    size_t n_taken = a.n_rows + a.n_failed;
    if (!is_ours) *counts_out = (store_commit_counts){0};
    counts_out->n_changed = n_taken - counts_out->n_written - counts_out->n_failed;
  }
  arrays_fini(&a);
  return status;
}
