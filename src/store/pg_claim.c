/* Claiming pages: leases on ranges of keys, taken, taken over and given back. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/pg_parts.h"

typedef struct claim {
  size_t n_max;
  bool must_wait; /* nothing to claim, and others have leases that may yet be left to us */
  PGresult *rows;
  char lease[24], fence[24];
} claim;

static void copy_number(char to[24], const char *from) {
  snprintf(to, 24, "%s", from);
}

/* The next page after the cursor, an array's text or "", and a lease on it; c->rows without rows:
 * there is none. */
static vecmill_status claim_next(pg_store *s, PGconn *conn, claim *c, const char *cursor,
                                 vecmill_error *err) {
  str sql = {0}, cut = {0}, first = {0}, last = {0}, key = {0};
  pg_params p = {0};
  PGresult *made = NULL;
  bool has_cursor = *cursor != '\0';
  pg_append_page(&sql, s, has_cursor ? "$2::text[]" : "$1::text[]");
  if (has_cursor) {
    str_append_text(&sql, " AND ");
    pg_append_compare(&sql, s, ">", "$1::text[]");
    pg_add_text(&p, cursor);
  }
  str_append_format(&sql, " ORDER BY %s LIMIT %zu", s->keys_sql, c->n_max);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read a page", &c->rows, err);
  int n = status == VECMILL_OK ? PQntuples(c->rows) : 0;
  p = (pg_params){0};
  str_clear(&sql);
  if (n > 0) {
    pg_key_append(&key, c->rows, 0, 0, s->n_keys);
    pg_key_array(&first, key.data, key.n);
    str_clear(&key);
    pg_key_append(&key, c->rows, n - 1, 0, s->n_keys);
    pg_key_array(&last, key.data, key.n);
    pg_add_binary(&p, &first);
    pg_add_binary(&p, &last);
    str_append_text(&sql, "WITH l AS (INSERT INTO ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql,
                      "(column_id, owner, first_key, last_key, n_rows, expires) VALUES(%s, "
                      "'%s'::uuid, $1::text[], $2::text[], %d, clock_timestamp() + interval "
                      "'%u s') RETURNING id), ",
                      s->column_id, s->owner, n, s->lease_seconds);
  } else {
    str_append_text(&sql, "WITH l AS (SELECT NULL::bigint AS id), ");
  }
  str_append_text(&sql, "c AS (UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql,
                    " SET %spass_over = %s, pass_claimed = pass_claimed + %d WHERE id = %s) "
                    "SELECT id::text FROM l",
                    n > 0 ? "cursor = $2::text[], " : "", (size_t)n < c->n_max ? "true" : "false",
                    n, s->column_id);
  if (status == VECMILL_OK && (key.failed || first.failed || last.failed))
    status = err_set_memory(err, "page", key.n);
  if (status == VECMILL_OK) status = pg_step(s, conn, &sql, &p, "cannot lease a page", &made, err);
  if (status == VECMILL_OK && n > 0) {
    copy_number(c->lease, pg_text(made, 0, 0));
    copy_number(c->fence, "1");
  }
  PQclear(made);
  str *all[] = {&sql, &cut, &first, &last, &key};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) str_fini(all[i]);
  return status;
}

/* A lease that has expired, with its keys; no row: there is none. */
static vecmill_status find_expired(pg_store *s, PGconn *conn, PGresult **lease_out,
                                   vecmill_error *err) {
  str sql = {0};
  PGresult *gone = NULL;
  /* what is done was kept so that a lost answer could be asked for again */
  str_append_text(&sql, "DELETE FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND done AND (", s->column_id);
  pthread_mutex_lock(&s->settled_mutex);
  if (s->settled.n) str_append_format(&sql, "id IN (%s) OR ", s->settled.data);
  str_clear(&s->settled);
  pthread_mutex_unlock(&s->settled_mutex);
  str_append_text(&sql, "expires < clock_timestamp())");
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot clear leases", &gone, err);
  PQclear(gone);
  str_clear(&sql);
  str_append_text(&sql,
                  "SELECT id::text, (fence + 1)::text, first_key::text, last_key::text FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql,
                    " WHERE column_id = %s AND NOT done AND expires < clock_timestamp() ORDER "
                    "BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
                    s->column_id);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, NULL, "cannot look for expired leases", lease_out, err);
  str_fini(&sql);
  return status;
}

/* Takes over what is left of an expired lease; c->rows NULL: nothing was, and it is gone. */
static vecmill_status take_over(pg_store *s, PGconn *conn, const PGresult *lease, claim *c,
                                vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *changed = NULL;
  pg_add_text(&p, pg_text(lease, 0, 2));
  pg_add_text(&p, pg_text(lease, 0, 3));
  pg_append_page(&sql, s, "$3::text[]");
  str_append_text(&sql, " AND ");
  pg_append_compare(&sql, s, ">=", "$1::text[]");
  str_append_text(&sql, " AND ");
  pg_append_compare(&sql, s, "<=", "$2::text[]");
  str_append_format(&sql, " ORDER BY %s LIMIT %zu", s->keys_sql, c->n_max);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read a page", &c->rows, err);
  int n = status == VECMILL_OK ? PQntuples(c->rows) : 0;
  str_clear(&sql);
  p = (pg_params){0};
  if (n == 0) {
    str_append_text(&sql, "DELETE FROM ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql, " WHERE id = %s", pg_text(lease, 0, 0));
    PQclear(c->rows);
    c->rows = NULL;
  } else {
    /* rows that were added within its keys beyond the batch are for the next pass */
    str_append_text(&sql, "WITH c AS (UPDATE ");
    pg_append_state(&sql, s, "columns");
    str_append_format(&sql, " SET pass_claimed = pass_claimed + %d WHERE id = %s) UPDATE ", n,
                      s->column_id);
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql,
                      " SET owner = '%s'::uuid, fence = %s, attempts = attempts + 1, n_written = NULL, n_failed = NULL, n_rows = "
                      "%d, expires = clock_timestamp() + interval '%u s' WHERE id = %s",
                      s->owner, pg_text(lease, 0, 1), n, s->lease_seconds, pg_text(lease, 0, 0));
    copy_number(c->lease, pg_text(lease, 0, 0));
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

/* Pages follow the key's index, in this transaction: a table without fresh statistics tempts the
 * planner to sort all of it for each page. */
static vecmill_status claim_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  claim *c = context;
  PGresult *column = NULL, *lease = NULL;
  PQclear(c->rows);
  c->rows = NULL;
  c->lease[0] = '\0';
  c->must_wait = false;
  vecmill_status status =
      pg_lock_run(s, conn,
                  "pass::text, pass_over::text, cursor::text, set_config('enable_seqscan', 'off', "
                  "true), set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', "
                  "'off', true)",
                  &column, err);
  while (status == VECMILL_OK && !c->rows) {
    status = find_expired(s, conn, &lease, err);
    if (status != VECMILL_OK || PQntuples(lease) == 0) break;
    status = take_over(s, conn, lease, c, err);
    PQclear(lease);
    lease = NULL;
  }
  if (status == VECMILL_OK) s->pass = pg_integer(column, 0, 0); /* others may have gone on */
  bool over = status == VECMILL_OK && pg_text(column, 0, 1)[0] == 't';
  if (status == VECMILL_OK && !c->rows && !over)
    status = claim_next(s, conn, c, pg_text(column, 0, 2), err);
  if (status == VECMILL_OK && (!c->rows || PQntuples(c->rows) == 0))
    status = look_for_others(s, conn, &c->must_wait, err);
  PQclear(column);
  PQclear(lease);
  return status;
}

vecmill_status pg_store_claim(store *base, size_t n_max, store_page *page_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  claim c = {.n_max = n_max};
  *page_out = (store_page){0};
  vecmill_status status;
  for (;;) {
    status = pg_transact(s, PG_READER, claim_body, &c, "cannot claim a page", err);
    if (status != VECMILL_OK || !c.must_wait) break;
    if (pg_stop_asked(s)) {
      status = err_set(err, VECMILL_ERROR_STOPPED, "stopped");
      break;
    }
    clock_sleep_ms(PG_POLL_MS);
  }
  if (status == VECMILL_OK && c.rows && PQntuples(c.rows) > 0) {
    status = pg_take_page(s, c.rows, false, 0, page_out, err);
    if (status == VECMILL_OK) {
      pg_page *page = page_out->memory;
      memcpy(page->lease, c.lease, sizeof page->lease);
      memcpy(page->fence, c.fence, sizeof page->fence);
    }
  }
  PQclear(c.rows);
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
    str_append_text(&sql, "UPDATE ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql, " SET expires = '-infinity' WHERE id = %s AND fence = %s AND NOT done",
                      head->lease, head->fence);
    /* if this fails the lease expires by itself */
    pg_run(s, PG_WRITER, &sql, &p, "cannot give a page back", &rows, NULL);
    PQclear(rows);
    str_fini(&sql);
  }
  mem_free(page->rows);
  mem_free(page->memory);
  *page = (store_page){0};
}
