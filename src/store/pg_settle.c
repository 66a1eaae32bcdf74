/*
 * The end of a run: metrics that several rows share, or other tables, and equal texts.
 *
 * Both are one transaction, under a lock of the metrics' table: of two runs that end at the same
 * time, on `documents` and `contents` say, each finds what the other has left and puts its own
 * numbers there, all of them, so that no row has the counts of one text and the frequency of
 * another. What a run writes before its end is set right by that end, for it comes later. A row of
 * metrics is locked when its numbers are looked at, changed or not, and in the order in which
 * commits lock them.
 */
#include <limits.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/pg_parts.h"

#define KEYS_AT_ONCE 10000
#define TEXTS_AT_ONCE 1000
#define WAIT_TELL_NS 5000000000ull

/* What is there may be the numbers of another row, one that is gone too, or of another table's. */
static bool is_contended(const pg_store *s) {
  return s->metrics.is_shared || s->metrics.sharers[0];
}

/* --- those that come first --- */

/* The first of each of those that share a row, without its text, as a preview picks rows. A
 * subquery under the table's own name, so that all else reads as if it were the table. */
static void append_first(str *sql, const pg_store *s) {
  str_append_text(sql, "SELECT ");
  pg_append_key_texts(sql, s);
  str_append_text(sql, ", vecmill_l::text, '' FROM (SELECT ");
  pg_metrics_append_needed(sql, s, false);
  str_append_text(sql, ", octet_length(");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, "::text) AS vecmill_l, ");
  pg_metrics_append_place(sql, s);
  pg_metrics_append_candidates(sql, s);
  str_append_text(sql, ") AS ");
  pg_append_name(sql, s->table);
  str_append_text(sql, " WHERE vecmill_i = 1 ORDER BY ");
  pg_metrics_append_joins(sql, s);
}

/* "(ALIAS.hawaiian_word_ratio, ..)", those from `first` on */
static void append_numbers(str *sql, const char *alias, size_t first) {
  str_append_char(sql, '(');
  for (size_t i = first; i < METRICS_N_OF_TEXT; i++)
    str_append_format(sql, "%s%s.%s", i > first ? ", " : "", alias, metrics_columns[i]);
  str_append_char(sql, ')');
}

/*
 * " WHERE ..": which rows of metrics are overwritten. None that is not as this statement sees it,
 * by a subquery: it may be of a text that is later than the one that this statement sees, and
 * whoever wrote it has an end to come that sets it right.
 *
 * A run without a word list does not undo what one with it has found: the same counts say that it
 * is the same text.
 */
static void append_if_wanted(str *sql, const pg_store *s) {
  const pg_metrics *m = &s->metrics;
  size_t first = m->has_ratios ? 0 : 1;
  str_append_text(sql, " WHERE ");
  append_numbers(sql, "m", first);
  str_append_text(sql, " IS DISTINCT FROM ");
  append_numbers(sql, "excluded", first);
  str_append_format(sql, " AND EXISTS (SELECT 1 FROM %s AS x WHERE ", m->rows_sql);
  for (size_t i = 0; i < m->n_joins; i++) {
    str_append_text(sql, "x.");
    pg_append_name(sql, m->joins[i].name);
    str_append_text(sql, " = m.");
    pg_append_name(sql, m->joins[i].name);
    str_append_text(sql, " AND ");
  }
  append_numbers(sql, "x", 0);
  str_append_text(sql, " IS NOT DISTINCT FROM ");
  append_numbers(sql, "m", 0);
  str_append_char(sql, ')');
}

typedef struct settling {
  store_measure_function *measure;
  void *context;
  bool any_first; /* there are candidates */
  bool must_wait; /* another process settles */
  uint64_t n_changed;
  metrics_refusals before;
} settling;

/* Of these rows, of which only the keys are there. */
static vecmill_status settle_rows(pg_store *s, PGconn *conn, const settling *all,
                                  const store_page *first, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (size_t next = 0; status == VECMILL_OK && next < first->n_rows;) {
    store_page page;
    uint64_t n_written = 0;
    status = pg_read_texts(s, conn, first, TEXTS_AT_ONCE, &next, &page, err);
    if (status == VECMILL_OK) status = all->measure(all->context, &page, err);
    if (status == VECMILL_OK)
      status = pg_metrics_write_page(s, conn, &page, append_if_wanted, &n_written, err);
    pg_store_page_free(&s->base, &page);
  }
  return status;
}

static vecmill_status fetch_first(pg_store *s, PGconn *conn, store_page *page_out,
                                  vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  *page_out = (store_page){0};
  str_append_format(&sql, "FETCH %d FROM vecmill_first", KEYS_AT_ONCE);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read a page", &rows, err);
  if (status == VECMILL_OK) status = pg_take_page(s, pg_all_rows(rows), page_out, err);
  for (size_t i = 0; i < page_out->n_rows; i++) pg_take_length(s, rows, i, &page_out->rows[i]);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status settle_first(pg_store *s, PGconn *conn, const settling *all,
                                   vecmill_error *err) {
  str sql = {0};
  PGresult *done = NULL;
  bool any = true;
  str_append_text(&sql, "DECLARE vecmill_first NO SCROLL CURSOR FOR ");
  append_first(&sql, s);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read a page", &done, err);
  while (status == VECMILL_OK && any) {
    store_page first;
    status = fetch_first(s, conn, &first, err);
    any = first.n_rows > 0;
    if (status == VECMILL_OK) status = settle_rows(s, conn, all, &first, err);
    pg_store_page_free(&s->base, &first);
  }
  PQclear(done);
  str_fini(&sql);
  return status;
}

/* --- frequency --- */

/* Blank texts have none; but where rows share one, it is of the first, whatever that is, until
 * --changed takes its vector. */
static void append_has_metrics(str *sql, const pg_store *s) {
  if (is_contended(s)) {
    pg_append_column(sql, s, s->text_column);
    str_append_text(sql, " IS NOT NULL");
  } else {
    str_append_text(sql, "NOT ");
    pg_append_blank(sql, s);
  }
}

/* "t AS (texts and how many rows have each), r AS (which text a row of metrics is of)" */
static void append_twins(str *sql, const pg_store *s) {
  str_append_text(sql, "WITH t AS (SELECT ");
  pg_append_hash(sql, s);
  str_append_format(sql, " AS h, least(count(*), %d)::integer AS n FROM %s WHERE ", INT_MAX,
                    s->table_sql);
  append_has_metrics(sql, s);
  str_append_text(sql, " GROUP BY 1), r AS (SELECT ");
  if (is_contended(s)) {
    str_append_text(sql, "DISTINCT ON (");
    pg_metrics_append_joins(sql, s);
    str_append_text(sql, ") ");
  }
  pg_append_hash(sql, s);
  str_append_text(sql, " AS h");
  pg_metrics_append_places(sql, s);
  if (is_contended(s)) {
    pg_metrics_append_candidates(sql, s);
    str_append_text(sql, " ORDER BY ");
    pg_metrics_append_joins(sql, s);
    str_append_format(sql, ", %s", s->keys_sql);
  } else {
    str_append_format(sql, " FROM %s", s->table_sql);
  }
  str_append_text(sql, ")");
}

static vecmill_status count_twins(pg_store *s, PGconn *conn, uint64_t *n_changed_out,
                                  vecmill_error *err) {
  str sql = {0};
  PGresult *done = NULL;
  append_twins(&sql, s);
  str_append_format(&sql,
                    " UPDATE %s AS m SET frequency = t.n, updated_at = now() FROM t JOIN r ON "
                    "r.h = t.h WHERE ",
                    s->metrics.rows_sql);
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(&sql, "m.");
    pg_append_name(&sql, s->metrics.joins[i].name);
    str_append_format(&sql, " = r.j%zu", i);
    pg_metrics_append_collation(&sql, &s->metrics.joins[i]);
    str_append_text(&sql, " AND ");
  }
  str_append_text(&sql, "m.frequency IS DISTINCT FROM t.n");
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot count equal texts", &done, err);
  if (status == VECMILL_OK) *n_changed_out = strtoull(PQcmdTuples(done), NULL, 10);
  PQclear(done);
  str_fini(&sql);
  return status;
}

/* --- both --- */

/* Who finds the lock taken waits outside of a transaction: time limits of the user's are for
 * statements. */
static vecmill_status settle_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  settling *all = context;
  str sql = {0};
  pg_params p = {0};
  PGresult *lock = NULL;
  all->n_changed = 0;
  s->metrics.refusals = all->before;
  str_append_text(&sql, "SELECT pg_try_advisory_xact_lock(1447382861, "
                        "$1::regclass::oid::integer)::text, set_config('cursor_tuple_fraction', "
                        "'1', true)");
  pg_add_text(&p, s->metrics.sql);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot count equal texts", &lock, err);
  all->must_wait = status == VECMILL_OK && pg_text(lock, 0, 0)[0] != 't';
  PQclear(lock);
  str_fini(&sql);
  if (status != VECMILL_OK || all->must_wait) return status;
  /* a refusal must show while it can be told of which row it is */
  status = pg_command(s, conn, "SET CONSTRAINTS ALL IMMEDIATE", "cannot count equal texts", err);
  if (status == VECMILL_OK && all->any_first) status = settle_first(s, conn, all, err);
  return status == VECMILL_OK ? count_twins(s, conn, &all->n_changed, err) : status;
}

static vecmill_status look_for_candidates(pg_store *s, bool *any_out, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  *any_out = false;
  if (!is_contended(s)) return VECMILL_OK;
  str_append_text(&sql, "SELECT EXISTS (SELECT 1");
  pg_metrics_append_candidates(&sql, s);
  str_append_text(&sql, ")::text");
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot look for rows", &rows, err);
  *any_out = status == VECMILL_OK && pg_text(rows, 0, 0)[0] == 't';
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* False: a stop was asked for. */
static bool wait_for_others(pg_store *s, uint64_t from_ns, bool *told) {
  if (!*told && clock_now_ns() - from_ns > WAIT_TELL_NS) {
    *told = true;
    log_warning("%s: another vecmill brings table %s to rest; waiting for it (Ctrl-C gives up)",
                s->shown, s->metrics.name);
  }
  clock_sleep_ms(PG_POLL_MS);
  return !pg_stop_asked(s);
}

static vecmill_status settle(pg_store *s, settling *all, vecmill_error *err) {
  uint64_t from_ns = clock_now_ns();
  bool told = false;
  vecmill_status status = look_for_candidates(s, &all->any_first, err);
  if (status == VECMILL_OK && all->any_first) status = pg_metrics_claim(s, err);
  /* those that lacked metrics are looked at again with all others, or never */
  if (!all->any_first) all->before = s->metrics.refusals;
  while (status == VECMILL_OK) {
    status = pg_transact(s, PG_WRITER, settle_body, all, "cannot count equal texts", err);
    if (status != VECMILL_OK || !all->must_wait) break;
    if (!wait_for_others(s, from_ns, &told))
      status = err_set(err, VECMILL_ERROR_STOPPED,
                       "stopped before equal texts were counted (run again to go on)");
  }
  return status == VECMILL_OK ? metrics_refused(&s->metrics.refusals, s->metrics.name, err)
                              : status;
}

vecmill_status pg_store_metrics_settle(store *base, store_measure_function *measure, void *context,
                                       uint64_t *n_changed_out, vecmill_error *err) {
  settling all = {.measure = measure, .context = context};
  pg_stop_at_once(true);
  vecmill_status status = settle(pg_of(base), &all, err);
  pg_stop_at_once(false);
  *n_changed_out = all.n_changed;
  return status;
}
