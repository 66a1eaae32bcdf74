/*
 * Claiming pages: leases on ranges of keys, taken, taken over and given back.
 *
 * A lease counts how often it was handed out and not given back. One that was lost PAGE_LOSSES
 * times may be of a text that ends whoever embeds it: it is left until nothing else is to be
 * claimed, and handed out row by row, each to a process that has nothing else out, so that the next
 * death tells which row it is. A row that was lost alone as often, its page's losses not counted,
 * is recorded as failed. Row by row and not by halves: a death costs more than a thousand claims.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/pg_parts.h"

#define PAGE_LOSSES 3
#define ROW_LOSSES (2 * PAGE_LOSSES) /* attempts of a row go on from its page's */
#define SINGLE_POLL_MS 2 /* how often the end of a row that is out alone is looked for */

static const char lost_reason[] =
    "the process that was embedding it died, three times with nothing else in hand";

_Static_assert(2 * PG_MOST_AHEAD <= PG_MAX_PARAMS, "the keys of all pages are parameters");

typedef struct claim {
  size_t n_max, n_pages; /* rows of a page, and how many pages at once */
  bool must_wait;        /* nothing to claim, and others have leases that may yet be left to us */
  PGresult *rows;
  char leases[PG_MOST_AHEAD][24], fence[24]; /* of each n_max of the rows */
  bool is_single, is_given_up;               /* a row by itself; it has been lost often enough */
  str tried; /* "1,2,3": leases of tries before this one, whose answer was lost */
} claim;

static void copy_number(char to[24], const char *from) {
  snprintf(to, 24, "%s", from);
}

/* " AND NOT EXISTS ..": no row of those leases that lie before the cursor: of an earlier run, and
 * taken over by this one, or lost so often that they are left for later. */
static void append_not_leased(str *sql, const pg_store *s) {
  str_append_text(sql, " AND NOT EXISTS (SELECT 1 FROM ");
  pg_append_state(sql, s, "leases");
  str_append_format(sql,
                    " AS vecmill_l WHERE column_id = %s AND NOT done AND (attempts > 1 OR expires "
                    "= '-infinity') AND ",
                    s->column_id);
  pg_append_compare(sql, s, ">=", "vecmill_l.first_key");
  str_append_text(sql, " AND ");
  pg_append_compare(sql, s, "<=", "vecmill_l.last_key");
  str_append_char(sql, ')');
}

static size_t n_pages_of(const claim *c) {
  return ((size_t)PQntuples(c->rows) + c->n_max - 1) / c->n_max;
}

static size_t end_of(const claim *c, size_t page) {
  size_t n = (size_t)PQntuples(c->rows), end = (page + 1) * c->n_max;
  return end < n ? end : n;
}

/* "WITH l AS (INSERT ..), ": leases on the pages that c->rows are; parameters: first and last key
 * of each. */
static void append_leases(str *sql, const pg_store *s, const claim *c) {
  str_append_text(sql, "WITH l AS (INSERT INTO ");
  pg_append_state(sql, s, "leases");
  str_append_text(sql, "(column_id, owner, first_key, last_key, n_rows, expires) VALUES");
  for (size_t i = 0; i < n_pages_of(c); i++)
    str_append_format(sql,
                      "%s(%s, '%s'::uuid, $%zu::text[], $%zu::text[], %zu, clock_timestamp() + "
                      "interval '%u s')",
                      i ? ", " : "", s->column_id, s->owner, 2 * i + 1, 2 * i + 2,
                      end_of(c, i) - i * c->n_max, s->lease_seconds);
  str_append_text(sql, " RETURNING id), ");
}

/* Their parameters, which `arrays` holds. */
static vecmill_status add_ends(const pg_store *s, const claim *c, pg_params *p, str *arrays,
                               vecmill_error *err) {
  str key = {0};
  bool failed = false;
  for (size_t i = 0; i < 2 * n_pages_of(c); i++) {
    size_t row = i % 2 ? end_of(c, i / 2) - 1 : i / 2 * c->n_max;
    str_clear(&key);
    pg_key_append(&key, c->rows, (int)row, 0, s->n_keys);
    pg_key_array(&arrays[i], key.data, key.n);
    pg_add_binary(p, &arrays[i]);
    failed |= key.failed || arrays[i].failed;
  }
  vecmill_status status = failed ? err_set_memory(err, "page", key.n) : VECMILL_OK;
  str_fini(&key);
  return status;
}

/* Leases on the pages that c->rows are, and the run's cursor goes behind them. */
static vecmill_status lease_pages(pg_store *s, PGconn *conn, claim *c, vecmill_error *err) {
  str sql = {0}, ends[2 * PG_MOST_AHEAD] = {{0}};
  pg_params p = {0};
  PGresult *made = NULL;
  size_t n_rows = (size_t)PQntuples(c->rows), n_pages = n_pages_of(c);
  vecmill_status status = add_ends(s, c, &p, ends, err);
  if (n_pages > 0) append_leases(&sql, s, c);
  else str_append_text(&sql, "WITH l AS (SELECT NULL::bigint AS id), ");
  str_append_text(&sql, "c AS (UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_text(&sql, " SET ");
  if (n_pages > 0) str_append_format(&sql, "cursor = $%zu::text[], ", 2 * n_pages);
  str_append_format(&sql,
                    "pass_over = %s, pass_claimed = pass_claimed + %zu WHERE id = %s) SELECT "
                    "id::text FROM l ORDER BY l.id",
                    n_rows < c->n_max * c->n_pages ? "true" : "false", n_rows, s->column_id);
  if (status == VECMILL_OK) status = pg_step(s, conn, &sql, &p, "cannot lease a page", &made, err);
  for (size_t i = 0; status == VECMILL_OK && i < n_pages; i++)
    copy_number(c->leases[i], pg_text(made, (int)i, 0));
  copy_number(c->fence, "1");
  PQclear(made);
  str_fini(&sql);
  for (size_t i = 0; i < 2 * PG_MOST_AHEAD; i++) str_fini(&ends[i]);
  return status;
}

/* The next pages after the cursor, an array's text or "", and leases on them; c->rows without rows:
 * there is none. */
static vecmill_status claim_next(pg_store *s, PGconn *conn, claim *c, const char *cursor,
                                 bool some_taken_over, vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  bool has_cursor = *cursor != '\0';
  pg_append_page(&sql, s, has_cursor ? "$2::text[]" : "$1::text[]");
  if (has_cursor) {
    str_append_text(&sql, " AND ");
    pg_append_compare(&sql, s, ">", "$1::text[]");
    pg_add_text(&p, cursor);
  }
  if (some_taken_over) append_not_leased(&sql, s);
  str_append_format(&sql, " ORDER BY %s LIMIT %zu", s->keys_sql, c->n_max * c->n_pages);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read a page", &c->rows, err);
  if (status == VECMILL_OK) status = lease_pages(s, conn, c, err);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

/* What is done was kept so that a lost answer could be asked for again. Also counts leases that
 * were taken over. */
static vecmill_status clear_done(pg_store *s, PGconn *conn, int64_t *n_taken_over_out,
                                 vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "WITH gone AS (DELETE FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND done AND (", s->column_id);
  pthread_mutex_lock(&s->commit_mutex);
  if (s->settled.n) str_append_format(&sql, "id IN (%s) OR ", s->settled.data);
  str_clear(&s->settled);
  pthread_mutex_unlock(&s->commit_mutex);
  str_append_text(&sql, "expires < clock_timestamp()) RETURNING n_written, n_failed), c AS (");
  pg_append_count(&sql, s, "gone", 0);
  str_append_text(&sql, ") SELECT count(*)::text FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND NOT done AND attempts > 1", s->column_id);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot clear leases", &rows, err);
  *n_taken_over_out = status == VECMILL_OK ? pg_integer(rows, 0, 0) : 0;
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* A lease that has expired, with its keys; no row: there is none. `doubtful`: one that was lost too
 * often, if nothing of ours is out. */
static vecmill_status find_expired(pg_store *s, PGconn *conn, bool doubtful, PGresult **lease_out,
                                   vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT id::text, (fence + 1)::text, first_key::text, last_key::text, "
                        "attempts::text FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql,
                    " WHERE column_id = %s AND NOT done AND expires < clock_timestamp() AND "
                    "attempts %s %d",
                    s->column_id, doubtful ? ">=" : "<", PAGE_LOSSES);
  if (doubtful) {
    str_append_text(&sql, " AND NOT EXISTS (SELECT 1 FROM ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql,
                      " AS o WHERE o.column_id = %s AND o.owner = '%s'::uuid AND NOT o.done AND "
                      "o.expires > clock_timestamp())",
                      s->column_id, s->owner);
  }
  str_append_text(&sql, " ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED");
  vecmill_status status =
      pg_step(s, conn, &sql, NULL, "cannot look for expired leases", lease_out, err);
  str_fini(&sql);
  return status;
}

/* The first row that is left of a doubtful page gets a lease of its own; the page's goes on behind
 * it. Parameters: the row's key, the page's last. */
static vecmill_status single_out(pg_store *s, PGconn *conn, const PGresult *lease, claim *c,
                                 vecmill_error *err) {
  str sql = {0}, key = {0}, array = {0};
  pg_params p = {0};
  PGresult *made = NULL;
  pg_key_append(&key, c->rows, 0, 0, s->n_keys);
  pg_key_array(&array, key.data, key.n);
  pg_add_binary(&p, &array);
  pg_add_text(&p, pg_text(lease, 0, 3));
  str_append_text(&sql, "WITH n AS (SELECT ");
  pg_append_key_array(&sql, s);
  str_append_format(&sql, " AS key FROM %s WHERE ", s->table_sql);
  pg_append_compare(&sql, s, ">", "$1::text[]");
  str_append_text(&sql, " AND ");
  pg_append_compare(&sql, s, "<=", "$2::text[]");
  str_append_format(&sql, " ORDER BY %s LIMIT 1), d AS (DELETE FROM ", s->keys_sql);
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql,
                    " WHERE id = %s AND NOT EXISTS (SELECT 1 FROM n) RETURNING n_written, "
                    "n_failed), u AS (UPDATE ",
                    pg_text(lease, 0, 0));
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " SET first_key = n.key FROM n WHERE id = %s), c AS (",
                    pg_text(lease, 0, 0));
  pg_append_count(&sql, s, "d", 1);
  str_append_text(&sql, ") INSERT INTO ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql,
                    "(column_id, owner, first_key, last_key, n_rows, attempts, expires) VALUES(%s, "
                    "'%s'::uuid, $1::text[], $1::text[], 1, %d, clock_timestamp() + interval '%u "
                    "s') RETURNING id::text",
                    s->column_id, s->owner, PAGE_LOSSES + 1, s->lease_seconds);
  vecmill_status status = key.failed || array.failed
                              ? err_set_memory(err, "page", key.n)
                              : pg_step(s, conn, &sql, &p, "cannot lease a row", &made, err);
  if (status == VECMILL_OK) {
    copy_number(c->leases[0], pg_text(made, 0, 0));
    copy_number(c->fence, "1");
  }
  PQclear(made);
  str_fini(&sql);
  str_fini(&key);
  str_fini(&array);
  return status;
}

/* Takes over what is left of an expired lease, or a row of it; c->rows NULL: nothing was, and it is
 * gone. */
static vecmill_status take_over(pg_store *s, PGconn *conn, const PGresult *lease, claim *c,
                                vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *changed = NULL;
  int64_t attempts = pg_integer(lease, 0, 4);
  c->is_single = attempts >= PAGE_LOSSES;
  c->is_given_up = attempts >= ROW_LOSSES;
  pg_add_text(&p, pg_text(lease, 0, 2));
  pg_add_text(&p, pg_text(lease, 0, 3));
  pg_append_page(&sql, s, "$3::text[]");
  str_append_text(&sql, " AND ");
  pg_append_compare(&sql, s, ">=", "$1::text[]");
  str_append_text(&sql, " AND ");
  pg_append_compare(&sql, s, "<=", "$2::text[]");
  str_append_format(&sql, " ORDER BY %s LIMIT %zu", s->keys_sql, c->is_single ? 1 : c->n_max);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read a page", &c->rows, err);
  int n = status == VECMILL_OK ? PQntuples(c->rows) : 0;
  str_clear(&sql);
  p = (pg_params){0};
  if (n > 0 && attempts == PAGE_LOSSES) {
    str_fini(&sql);
    str_fini(&cut);
    return single_out(s, conn, lease, c, err);
  }
  if (n == 0) {
    str_append_text(&sql, "WITH d AS (DELETE FROM ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql, " WHERE id = %s RETURNING n_written, n_failed) ", pg_text(lease, 0, 0));
    pg_append_count(&sql, s, "d", 0);
    PQclear(c->rows);
    c->rows = NULL;
  } else {
    /* rows that were added within its keys beyond the batch are for the next pass */
    str_append_text(&sql, "WITH d AS (SELECT n_written, n_failed FROM ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql, " WHERE id = %s), c AS (", pg_text(lease, 0, 0));
    pg_append_count(&sql, s, "d", (size_t)n);
    str_append_text(&sql, ") UPDATE ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql,
                      " SET owner = '%s'::uuid, fence = %s, attempts = attempts + 1, n_written = "
                      "NULL, n_failed = NULL, n_rows = "
                      "%d, expires = clock_timestamp() + interval '%u s' WHERE id = %s",
                      s->owner, pg_text(lease, 0, 1), n, s->lease_seconds, pg_text(lease, 0, 0));
    copy_number(c->leases[0], pg_text(lease, 0, 0));
    copy_number(c->fence, pg_text(lease, 0, 1));
  }
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, NULL, "cannot take over a lease", &changed, err);
  PQclear(changed);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

/* Whether others hold leases, which may expire and be left to us. */
static vecmill_status look_for_others(pg_store *s, PGconn *conn, bool *found_out,
                                      vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT EXISTS (SELECT 1 FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND owner <> '%s'::uuid AND NOT done)::text",
                    s->column_id, s->owner);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read the leases", &rows, err);
  *found_out = status == VECMILL_OK && pg_text(rows, 0, 0)[0] == 't';
  PQclear(rows);
  str_fini(&sql);
  return *found_out ? pg_bury_the_dead(s, conn, err) : status;
}

static vecmill_status take_over_one(pg_store *s, PGconn *conn, claim *c, bool doubtful,
                                    vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  while (status == VECMILL_OK && !c->rows) {
    PGresult *lease = NULL;
    status = find_expired(s, conn, doubtful, &lease, err);
    bool none = status == VECMILL_OK && PQntuples(lease) == 0;
    if (status == VECMILL_OK && !none) status = take_over(s, conn, lease, c, err);
    PQclear(lease);
    if (none) break;
  }
  return status;
}

void pg_append_give_back(str *sql, const pg_store *s) {
  str_append_text(sql, "UPDATE ");
  pg_append_state(sql, s, "leases");
  str_append_text(sql, " SET expires = '-infinity', attempts = attempts - 1 WHERE ");
}

/* What an earlier try of this claim was given, if it was committed: nobody has these pages. */
static vecmill_status give_back_tried(pg_store *s, PGconn *conn, const claim *c,
                                      vecmill_error *err) {
  if (!c->tried.n) return VECMILL_OK;
  str sql = {0};
  PGresult *rows = NULL;
  pg_append_give_back(&sql, s);
  str_append_format(
      &sql, "id IN (%s) AND owner = '%s'::uuid AND NOT done AND expires > clock_timestamp()",
      c->tried.data, s->owner);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot give pages back", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Forgets the try before, but for the leases that it may have got. */
static void begin_try(claim *c) {
  for (size_t i = 0; i < PG_MOST_AHEAD && c->leases[i][0]; i++)
    str_append_format(&c->tried, "%s%s", c->tried.n ? "," : "", c->leases[i]);
  PQclear(c->rows);
  *c = (claim){.n_max = c->n_max, .n_pages = c->n_pages, .tried = c->tried};
}

/* Pages follow the key's index, in this transaction: a table without fresh statistics tempts the
 * planner to sort all of it for each page. */
static vecmill_status claim_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  claim *c = context;
  PGresult *column = NULL;
  int64_t n_taken_over = 0;
  begin_try(c);
  vecmill_status status =
      pg_lock_run(s, conn,
                  "pass::text, pass_over::text, cursor::text, set_config('enable_seqscan', 'off', "
                  "true), set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', "
                  "'off', true)",
                  &column, err);
  if (status == VECMILL_OK) status = give_back_tried(s, conn, c, err);
  if (status == VECMILL_OK) status = clear_done(s, conn, &n_taken_over, err);
  if (status == VECMILL_OK) status = take_over_one(s, conn, c, false, err);
  if (status == VECMILL_OK) s->pass = pg_integer(column, 0, 0); /* others may have gone on */
  bool over = status == VECMILL_OK && pg_text(column, 0, 1)[0] == 't';
  if (status == VECMILL_OK && !c->rows && !over)
    status = claim_next(s, conn, c, pg_text(column, 0, 2), n_taken_over > 0, err);
  if (status == VECMILL_OK && c->rows && PQntuples(c->rows) == 0) {
    PQclear(c->rows);
    c->rows = NULL;
  }
  if (status == VECMILL_OK && !c->rows) status = take_over_one(s, conn, c, true, err);
  if (status == VECMILL_OK && !c->rows) status = look_for_others(s, conn, &c->must_wait, err);
  PQclear(column);
  return status;
}

/* For as long as a row is out that may end this process, nothing else is. */
static void wait_for_single(pg_store *s) {
  while (__atomic_load_n(&s->has_single, __ATOMIC_ACQUIRE) && !pg_stop_asked(s))
    clock_sleep_ms(SINGLE_POLL_MS);
}

/* What the pipeline and pg_store_page_free are to know of the page. */
static void mark_page(pg_store *s, const claim *c, size_t i, store_page *page) {
  pg_page *head = page->memory;
  memcpy(head->lease, c->leases[i], sizeof head->lease);
  memcpy(head->fence, c->fence, sizeof head->fence);
  head->is_single = c->is_single;
  if (!c->is_single) return;
  __atomic_store_n(&s->has_single, true, __ATOMIC_RELEASE);
  for (size_t k = 0; c->is_given_up && k < page->n_rows; k++) {
    page->rows[k].outcome = STORE_FAILED;
    page->rows[k].reason = lost_reason;
  }
  if (!s->told_lost && !c->is_given_up)
    log_warning("table %s: rows whose process died %d times in a row are now embedded one by one",
                s->table, PAGE_LOSSES);
  s->told_lost |= !c->is_given_up;
}

/* Of as many rows as were wanted, if they had not been too many. */
static void tell_rows(pg_store *s, size_t n_wanted, size_t n_rows, size_t n_max) {
  if (n_max == n_wanted || n_rows < n_max || s->has_told_rows) return;
  s->has_told_rows = true;
  log_note("table %s: batches of %zu rows, not of %zu: vectors of %zu numbers go to the server 256 "
           "MiB at a time",
           s->table, n_max, n_wanted, s->dimension);
}

/* What was claimed, as pages that wait to be asked for. */
static vecmill_status keep_pages(pg_store *s, const claim *c, vecmill_error *err) {
  pg_ahead *a = &s->ahead;
  a->next = a->n = 0;
  for (size_t i = 0; i < n_pages_of(c); i++) {
    pg_rows rows = {.result = c->rows, .from = i * c->n_max, .to = end_of(c, i)};
    vecmill_status status = pg_take_page(s, rows, &a->pages[i], err);
    if (status != VECMILL_OK) return status; /* the leases of those that are not kept expire */
    mark_page(s, c, i, &a->pages[i]);
    a->n++;
  }
  return VECMILL_OK;
}

vecmill_status pg_store_claim(store *base, size_t n_max, store_page *page_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  *page_out = (store_page){0};
  if (pg_take_ahead(s, page_out)) return VECMILL_OK;
  claim c = {.n_max = pg_rows_at_once(s, n_max)};
  vecmill_status status;
  for (;;) {
    wait_for_single(s);
    c.n_pages = pg_pages_ahead(s, c.n_max);
    status = pg_transact(s, PG_READER, claim_body, &c, "cannot claim a page", err);
    if (status != VECMILL_OK || !c.must_wait) break;
    if (pg_stop_asked(s)) {
      status = err_set(err, VECMILL_ERROR_STOPPED, "stopped");
      break;
    }
    clock_sleep_ms(PG_POLL_MS);
  }
  if (status == VECMILL_OK && c.rows) {
    tell_rows(s, n_max, (size_t)PQntuples(c.rows), c.n_max);
    status = keep_pages(s, &c, err);
  }
  PQclear(c.rows);
  str_fini(&c.tried);
  if (status == VECMILL_OK) pg_take_ahead(s, page_out);
  return status;
}

/* A page that was not committed goes back at once: whoever comes next takes it over. */
void pg_store_page_free(store *base, store_page *page) {
  pg_store *s = pg_of(base);
  pg_page *head = page->memory;
  bool is_lost = __atomic_load_n(&s->is_lost, __ATOMIC_RELAXED); /* waited for long enough */
  if (head && head->lease[0] && !head->is_settled && !is_lost) {
    str sql = {0};
    pg_params p = {0};
    PGresult *rows = NULL;
    pg_append_give_back(&sql, s);
    str_append_format(&sql, "id = %s AND fence = %s AND NOT done AND expires > '-infinity'",
                      head->lease, head->fence);
    /* if this fails the lease expires by itself */
    pg_run(s, PG_WRITER, &sql, &p, "cannot give a page back", &rows, NULL);
    PQclear(rows);
    str_fini(&sql);
  }
  if (head && head->is_single) __atomic_store_n(&s->has_single, false, __ATOMIC_RELEASE);
  mem_free(page->rows);
  mem_free(page->memory);
  *page = (store_page){0};
}
