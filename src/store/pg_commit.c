/*
 * Commits: a page in one statement, or in two where its rows are no longer as they were claimed.
 *
 * Where a rule of the database's own (a trigger, a CHECK) refuses a row, the statement fails as a
 * whole; the page is then written row by row under savepoints, and what is refused is recorded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

/* What stands under the lease by now, and in the run. */
static void take_totals(const PGresult *rows, store_commit_counts *counts) {
  counts->n_run_done = (uint64_t)pg_integer(rows, 0, PG_WROTE_RUN);
  counts->n_written = (uint64_t)pg_integer(rows, 0, PG_WROTE_LEASE_ROWS);
  counts->n_failed = (uint64_t)pg_integer(rows, 0, PG_WROTE_LEASE_FAILED);
}

/* --- which rows were written, for their metrics --- */

static void mark_all(const pg_store *s, const store_page *page) {
  for (size_t i = 0; i < page->n_rows; i++) {
    store_row *row = &page->rows[i];
    row->is_written = row->outcome == STORE_EMBEDDED && !pg_failure_of(s, row);
  }
}

static int compare_hashes(const void *a, const void *b) {
  pg_version va = pg_version_of(*(store_row *const *)a), vb = pg_version_of(*(store_row *const *)b);
  return memcmp(va.hash, vb.hash, sizeof va.hash);
}

/* <0, 0, >0: the row's hash and one in hexadecimal. */
static int compare_digits(const store_row *row, const char *digits) {
  pg_version version = pg_version_of(row);
  char text[2 * sizeof version.hash + 1];
  for (size_t i = 0; i < sizeof version.hash; i++)
    snprintf(text + 2 * i, 3, "%02x", version.hash[i]);
  return memcmp(text, digits, sizeof text - 1);
}

/* The rows of a statement that wrote some of them. Which of two with one text does not matter:
 * their metrics are the same. */
static vecmill_status mark_some(const pg_store *s, const store_page *page, const char *digits,
                                vecmill_error *err) {
  size_t n = 0, n_digits = 2 * sizeof((pg_version *)NULL)->hash;
  if (!*digits) return VECMILL_OK;
  store_row **rows = mem_calloc(page->n_rows, sizeof(store_row *));
  if (!rows) return err_set_memory(err, "commit", page->n_rows * sizeof(store_row *));
  for (size_t i = 0; i < page->n_rows; i++) {
    store_row *row = &page->rows[i];
    if (!row->is_written && row->outcome == STORE_EMBEDDED && !pg_failure_of(s, row))
      rows[n++] = row;
  }
  qsort(rows, n, sizeof *rows, compare_hashes);
  for (size_t i = 0; *digits && i < n; i++) {
    if (compare_digits(rows[i], digits) != 0) continue;
    rows[i]->is_written = true;
    digits += n_digits;
  }
  mem_free(rows);
  return VECMILL_OK;
}

/* --- row by row --- */

typedef struct slow_commit {
  const store_page *page;
  const pg_page *head;
  store_commit_counts counts;
  bool is_ours;
  bool *written; /* row by row */
} slow_commit;

static vecmill_status write_range(pg_store *s, PGconn *conn, slow_commit *c, pg_write_part part,
                                  const pg_range *range, uint64_t *n_written_out,
                                  vecmill_error *err) {
  pg_arrays a = {0};
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  vecmill_status status = pg_arrays_fill(&a, s, range, err);
  pg_append_write(&sql, s, part, &a, &c->counts);
  pg_add_write_params(s, part, c->head, &a, &p);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot write a vector", &rows, err);
  if (status == VECMILL_OK) {
    uint64_t n_written = (uint64_t)pg_integer(rows, 0, PG_WROTE_ROWS);
    c->is_ours = pg_integer(rows, 0, PG_WROTE_LEASE) > 0;
    c->counts.n_written += n_written;
    c->counts.n_failed += (uint64_t)pg_integer(rows, 0, PG_WROTE_FAILED);
    if (n_written_out) *n_written_out = n_written;
  }
  if (status == VECMILL_OK && part == PG_WRITE_END && c->is_ours) take_totals(rows, &c->counts);
  PQclear(rows);
  str_fini(&sql);
  pg_arrays_fini(&a);
  return status;
}

typedef enum row_look {
  LOOK_AND_LOCK, /* from then on only a trigger keeps it from being written */
  LOOK_IF_BARRED /* whether it is there to be read; never, where row-level security is off */
} row_look;

/* Whether the row is still what was claimed. */
static vecmill_status look_at_row(pg_store *s, PGconn *conn, const store_row *row, row_look look,
                                  bool *is_same_out, vecmill_error *err) {
  str sql = {0}, key = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  pg_version version = pg_version_of(row);
  str hash = {0};
  str_append(&hash, version.hash, sizeof version.hash);
  pg_key_array(&key, row->key, row->n_key_bytes);
  str_append_format(&sql, "SELECT 1 FROM %s WHERE ", s->table_sql);
  pg_append_compare(&sql, s, "=", "$1::text[]");
  str_append_text(&sql, " AND ");
  pg_append_wants(&sql, s);
  str_append_text(&sql, " AND ");
  pg_append_hash(&sql, s);
  str_append_text(&sql, " = $2::uuid");
  str_append_text(&sql,
                  look == LOOK_AND_LOCK ? " FOR UPDATE" : " AND row_security_active($3::regclass)");
  pg_add_binary(&p, &key);
  pg_add_binary(&p, &hash);
  if (look == LOOK_IF_BARRED) pg_add_text(&p, s->table_name);
  vecmill_status status = key.failed || hash.failed
                              ? err_set_memory(err, "key", row->n_key_bytes)
                              : pg_step(s, conn, &sql, &p, "cannot look at a row", &rows, err);
  *is_same_out = status == VECMILL_OK && PQntuples(rows) > 0;
  PQclear(rows);
  str_fini(&sql);
  str_fini(&key);
  str_fini(&hash);
  return status;
}

/* Row `i`, within a savepoint. *refused_out: a rule of the database's own keeps it from being
 * written, and c->counts.refusal says which. */
static vecmill_status try_row(pg_store *s, PGconn *conn, slow_commit *c, size_t i,
                              bool *refused_out, vecmill_error *err) {
  static const char words_before[] = ": cannot write a vector: ";
  store_commit_counts before = c->counts;
  const store_row *row = &c->page->rows[i];
  bool is_same = false, is_barred = false;
  uint64_t n_written = 0;
  vecmill_error words = {0};
  vecmill_status status = look_at_row(s, conn, row, LOOK_AND_LOCK, &is_same, &words);
  if (status == VECMILL_OK)
    status = write_range(s, conn, c, PG_WRITE_ROW, &(pg_range){c->page, i, i + 1, NULL}, &n_written,
                         &words);
  bool is_open = status == VECMILL_OK && n_written == 0 && c->is_ours && !pg_failure_of(s, row);
  if (is_open && !is_same) status = look_at_row(s, conn, row, LOOK_IF_BARRED, &is_barred, &words);
  *refused_out = false;
  if (status == VECMILL_OK && (!is_open || (!is_same && !is_barred))) return VECMILL_OK;
  if (status != VECMILL_OK && !pg_is_refusal()) {
    if (err) *err = words;
    return status;
  }
  const char *why = strstr(words.text, words_before);
  c->counts = before;
  *refused_out = true;
  if (status != VECMILL_OK)
    snprintf(c->counts.refusal, sizeof c->counts.refusal, "the database refused the %s: %.200s",
             pg_what_was_refused(s), why ? why + strlen(words_before) : words.text);
  else
    snprintf(c->counts.refusal, sizeof c->counts.refusal, "the database passed over the vector: %s",
             is_barred ? "row-level security lets this user read the row and not write it"
                       : "a trigger on the table ignores the update, or changes the text with it");
  return VECMILL_OK;
}

static vecmill_status slow_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  slow_commit *c = context;
  c->counts = (store_commit_counts){0};
  c->is_ours = true;
  /* what a deferred constraint trigger refuses must show while it can be told which row that is */
  vecmill_status status =
      pg_command(s, conn, "SET CONSTRAINTS ALL IMMEDIATE", "cannot commit", err);
  for (size_t i = 0; status == VECMILL_OK && c->is_ours && i < c->page->n_rows; i++) {
    bool refused = false;
    uint64_t n_before = c->counts.n_written;
    c->written[i] = false; /* by a try that was rolled back */
    if (c->page->rows[i].outcome == STORE_UNTOUCHED) continue;
    status = pg_command(s, conn, "SAVEPOINT vecmill", "cannot commit", err);
    if (status == VECMILL_OK) status = try_row(s, conn, c, i, &refused, err);
    if (status != VECMILL_OK) break;
    status = pg_command(s, conn, refused ? "ROLLBACK TO vecmill" : "RELEASE vecmill",
                        "cannot commit", err);
    c->written[i] = !refused && c->counts.n_written > n_before;
    if (status == VECMILL_OK && refused)
      status = write_range(s, conn, c, PG_WRITE_ROW,
                           &(pg_range){c->page, i, i + 1, c->counts.refusal}, NULL, err);
  }
  if (status != VECMILL_OK || !c->is_ours) return status;
  size_t n = c->page->n_rows;
  return write_range(s, conn, c, PG_WRITE_END, &(pg_range){c->page, n, n, NULL}, NULL, err);
}

static vecmill_status commit_slowly(pg_store *s, pg_role role, const store_page *page,
                                    const pg_page *head, bool *is_ours_out,
                                    store_commit_counts *counts, vecmill_error *err) {
  slow_commit c = {.page = page, .head = head};
  c.written = mem_calloc(page->n_rows, sizeof *c.written);
  vecmill_status status = c.written
                              ? pg_transact(s, role, slow_body, &c, "cannot commit", err)
                              : err_set_memory(err, "commit", page->n_rows * sizeof *c.written);
  *is_ours_out = c.is_ours;
  bool is_done = status == VECMILL_OK && c.is_ours;
  if (is_done) *counts = c.counts;
  for (size_t i = 0; is_done && i < page->n_rows; i++) page->rows[i].is_written |= c.written[i];
  mem_free(c.written);
  return status;
}

/* --- at once --- */

/* The page, or what is still to be written of it. *is_over_out: its lease is done by this, or lost.
 */
static vecmill_status write_page(pg_store *s, pg_role role, pg_write_part part,
                                 const store_page *page, const pg_arrays *a, bool *is_over_out,
                                 bool *is_ours_out, store_commit_counts *counts,
                                 vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  pg_append_write(&sql, s, part, a, &(store_commit_counts){0});
  pg_add_write_params(s, part, page->memory, a, &p);
  vecmill_status status = pg_run(s, role, &sql, &p, "cannot write vectors", &rows, err);
  if (status == VECMILL_OK) {
    *is_ours_out = pg_integer(rows, 0, PG_WROTE_LEASE) > 0;
    *is_over_out = !*is_ours_out || pg_text(rows, 0, PG_WROTE_DONE)[0] == 't';
    if (*is_ours_out) take_totals(rows, counts);
    if (*is_ours_out && s->metrics.is_on)
      status = mark_some(s, page, pg_text(rows, 0, PG_WROTE_HASHES), err);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status commit_at_once(pg_store *s, pg_role role, const store_page *page,
                                     const pg_arrays *a, bool *is_ours_out,
                                     store_commit_counts *counts, vecmill_error *err) {
  bool is_over = false;
  vecmill_status status = VECMILL_OK;
  /* with triggers, what was written and is not to be kept must be rolled back */
  if (a->n_rows > 0 && a->n_failed == 0 && !s->has_triggers)
    status = write_page(s, role, PG_WRITE_PLACES, page, a, &is_over, is_ours_out, counts, err);
  if (status == VECMILL_OK && !is_over)
    status = write_page(s, role, PG_WRITE_PAGE, page, a, &is_over, is_ours_out, counts, err);
  return status;
}

/* For a commit that was done although its answer was lost. */
static vecmill_status ask_what_was_done(pg_store *s, pg_role role, const pg_page *head,
                                        bool *done_out, store_commit_counts *counts,
                                        vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT n_written::text, n_failed::text FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE id = %s AND fence = %s AND owner = '%s'::uuid AND done",
                    head->lease, head->fence, s->owner);
  vecmill_status status = pg_run(s, role, &sql, NULL, "cannot ask for a commit", &rows, err);
  *done_out = status == VECMILL_OK && PQntuples(rows) > 0;
  if (*done_out) {
    counts->n_written = (uint64_t)pg_integer(rows, 0, 0);
    counts->n_failed = (uint64_t)pg_integer(rows, 0, 1);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Its lease may be removed: nobody will ask what became of it. */
static void settle(pg_store *s, pg_page *head, size_t n_rows) {
  head->is_settled = true;
  pthread_mutex_lock(&s->commit_mutex);
  str_append_format(&s->settled, "%s%s", s->settled.n ? "," : "", head->lease);
  if (s->settled.failed) str_fini(&s->settled); /* they go when they expire */
  s->n_rows_settled += n_rows;
  pthread_mutex_unlock(&s->commit_mutex);
}

/* A connection to write by that no other commit has; waits for one. */
static pg_role take_writer(pg_store *s) {
  unsigned i = 0;
  pthread_mutex_lock(&s->commit_mutex);
  while (true) {
    for (i = 0; i < s->n_write_connections && s->busy_writers & 1u << i;) i++;
    if (i < s->n_write_connections) break;
    pthread_cond_wait(&s->writer_is_free, &s->commit_mutex);
  }
  s->busy_writers |= 1u << i;
  pthread_mutex_unlock(&s->commit_mutex);
  return i ? PG_MORE_WRITERS + i - 1 : PG_WRITER;
}

static void give_writer_back(pg_store *s, pg_role role) {
  unsigned i = role == PG_WRITER ? 0 : role - PG_MORE_WRITERS + 1;
  pthread_mutex_lock(&s->commit_mutex);
  s->busy_writers &= ~(1u << i);
  pthread_cond_signal(&s->writer_is_free);
  pthread_mutex_unlock(&s->commit_mutex);
}

vecmill_status pg_store_commit(store *base, const store_page *page, store_commit_counts *counts_out,
                               vecmill_error *err) {
  pg_store *s = pg_of(base);
  pg_page *head = page->memory;
  pg_arrays a = {0};
  bool is_ours = false;
  *counts_out = (store_commit_counts){0};
  vecmill_status status = pg_arrays_fill(&a, s, &(pg_range){page, 0, page->n_rows, NULL}, err);
  pg_role role = take_writer(s);
  if (status == VECMILL_OK) status = commit_at_once(s, role, page, &a, &is_ours, counts_out, err);
  if (status != VECMILL_OK && pg_is_refusal())
    status = commit_slowly(s, role, page, head, &is_ours, counts_out, err);
  /* lost to another, or done before a connection was lost with the answer */
  if (status == VECMILL_OK && !is_ours)
    status = ask_what_was_done(s, role, head, &is_ours, counts_out, err);
  give_writer_back(s, role);
  if (status == VECMILL_OK) {
    settle(s, head, page->n_rows);
    if (s->metrics.is_on && counts_out->n_written == a.n_rows) mark_all(s, page);
    uint64_t n_rest = a.n_rows + a.n_failed - counts_out->n_written - counts_out->n_failed;
    *(is_ours ? &counts_out->n_changed : &counts_out->n_taken_over) = n_rest;
  }
  pg_arrays_fini(&a);
  return status;
}
