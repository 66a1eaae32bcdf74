/*
 * Pages claimed before they are asked for.
 *
 * A claim is a transaction of seven messages, and its commit waits for the disk, however few rows
 * it is of. So as many pages are claimed at once as were used up of late within AHEAD_NS: with a
 * model that is one, so that other processes find work too; where vectors cost nothing it is
 * several.
 */
#include "base/clock.h"
#include "store/pg_parts.h"

#define AHEAD_NS 100000000ull

/* Over AHEAD_NS at least, but for the beginning: pages that end together look fast for a moment. */
size_t pg_look_ahead(pg_ahead *a, uint64_t now_ns, uint64_t n_settled, size_t n_rows) {
  uint64_t took_ns = now_ns - a->at_ns;
  bool is_first = a->n_pages == 0;
  if (is_first) a->n_pages = 1;
  else if (took_ns >= AHEAD_NS || (a->is_first_look && took_ns > 0)) {
    double n_pages =
        (double)(n_settled - a->n_rows_then) / (double)took_ns * (double)AHEAD_NS / (double)n_rows;
    a->n_pages = n_pages < 1 ? 1 : n_pages > PG_MOST_AHEAD ? PG_MOST_AHEAD : (size_t)n_pages;
  }
  if (is_first || took_ns >= AHEAD_NS) {
    a->is_first_look = is_first;
    a->at_ns = now_ns;
    a->n_rows_then = n_settled;
  }
  return a->n_pages;
}

size_t pg_pages_ahead(pg_store *s, size_t n_rows) {
  pthread_mutex_lock(&s->commit_mutex);
  uint64_t n_settled = s->n_rows_settled;
  pthread_mutex_unlock(&s->commit_mutex);
  return pg_look_ahead(&s->ahead, clock_now_ns(), n_settled, n_rows);
}

bool pg_take_ahead(pg_store *s, store_page *page_out) {
  pg_ahead *a = &s->ahead;
  if (a->next == a->n) return false;
  *page_out = a->pages[a->next++];
  return true;
}

void pg_free_ahead(pg_store *s) {
  store_page page;
  while (pg_take_ahead(s, &page)) pg_store_page_free(&s->base, &page);
}
