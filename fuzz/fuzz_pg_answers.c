/*
 * store/pg.h: any answers of a server, to everything that a run, a search and `jobs` ask of it.
 * Whatever they are, calls end, an error has words, and pages and vectors lie in memory of their
 * own; a vector that was read and is written again is the same bytes.
 *
 * The first byte says what is done, the second how, the rest is fake_libpq.h's.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fake_libpq.h"
#include "store/pg_parts.h"
#include "vecmill/jobs.h"

#define DIMENSION 3
#define MAX_PAGES 40
#define MAX_SLEEPS 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
void __wrap_clock_sleep_ms(unsigned ms);

/* Nobody sleeps here: what is waited for comes soon or never. */
static int stop;
static int n_sleeps;
void __wrap_clock_sleep_ms(unsigned ms) {
  (void)ms;
  if (++n_sleeps >= MAX_SLEEPS) __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

static vecmill_error err;

static bool good(vecmill_status status) {
  if (status != VECMILL_OK && !err.text[0]) abort();
  return status == VECMILL_OK;
}

static void read_bytes(const void *bytes, size_t n) {
  unsigned sum = 0;
  for (size_t i = 0; i < n; i++) sum += ((const unsigned char *)bytes)[i];
  __asm__ volatile("" : : "r"(sum));
}

/* --- pages --- */

static void check_keys(store *s, const store_row *a, const store_row *b) {
  str json = {0};
  int order = s->operations->key_compare(s, a->key, a->n_key_bytes, b->key, b->n_key_bytes);
  int back = s->operations->key_compare(s, b->key, b->n_key_bytes, a->key, a->n_key_bytes);
  if ((order < 0) != (back > 0) || (order == 0) != (back == 0)) abort();
  s->operations->key_json(s, a->key, a->n_key_bytes, &json);
  str_fini(&json);
}

static void check_page(store *s, const store_page *page) {
  for (size_t i = 0; i < page->n_rows; i++) {
    const store_row *row = &page->rows[i];
    read_bytes(row->text, row->n_text_bytes);
    read_bytes(row->key, row->n_key_bytes);
    if (row->vector) read_bytes(row->vector, DIMENSION * sizeof(float));
    check_keys(s, row, &page->rows[0]);
  }
}

/* Outcomes of all kinds, by turns. */
static void work_on(store_page *page, unsigned turn) {
  static const float vectors[][DIMENSION] = {{0, 1, -2}, {NAN, 0, INFINITY}, {1e6f, 0, 0}};
  for (size_t i = 0; i < page->n_rows; i++) {
    store_row *row = &page->rows[i];
    unsigned kind = (turn + (unsigned)i) % 8;
    row->vector = vectors[kind == 5 ? 1 : kind == 6 ? 2 : 0];
    row->outcome = kind == 3 ? STORE_UNTOUCHED : kind == 4 ? STORE_FAILED : STORE_EMBEDDED;
    row->reason = "a reason";
    row->metrics = (store_metrics){.has_ratio = kind % 2, .ratio = 0.5, .length = 7};
  }
}

/* --- what is done --- */

typedef struct how {
  uint8_t bits;
  bool has_vectors, has_metrics;
} how;

static bool find(store *s, how h, store_columns *columns) {
  static const char *const names[] = {"t", "S.T"};
  store_target target = {.table = names[h.bits & 1],
                         .id_column = h.bits & 2 ? "id, b" : NULL,
                         .text_column = h.bits & 4 ? "Text" : NULL,
                         .where = h.bits & 8 ? "a > 1" : NULL,
                         .limit = h.bits & 16 ? 2 : 0,
                         .retry_failed = h.bits & 32,
                         .changed = h.bits & 64};
  return good(s->operations->find(s, &target, columns, &err));
}

static bool look(store *s, how *h) {
  store_columns columns;
  store_maker record;
  store_metrics_target target = {.is_asked = h->bits & 128, .creates = h->bits & 128};
  const char *table = NULL;
  bool found;
  if (!find(s, *h, &columns) || !good(s->operations->record(s, &record, &found, &err)))
    return false;
  if (found) read_bytes(record.model, strlen(record.model));
  if (!good(s->operations->metrics_find(s, &target, &table, &err))) return false;
  h->has_metrics = table != NULL;
  return good(s->operations->inspect(s, DIMENSION, &h->has_vectors, &err));
}

static void passes(store *s) {
  bool may_find = true;
  int n_pages = 0;
  while (n_pages < MAX_PAGES && good(s->operations->pass_begin(s, &may_find, &err)) && may_find) {
    store_page page = {0};
    store_commit_counts counts;
    n_pages++;
    while (n_pages++ < MAX_PAGES && good(s->operations->claim(s, 5, &page, &err)) && page.n_rows) {
      check_page(s, &page);
      work_on(&page, (unsigned)n_pages);
      if (n_pages % 7 != 6) good(s->operations->commit(s, &page, &counts, &err));
      s->operations->page_free(s, &page);
      page = (store_page){0};
    }
    s->operations->page_free(s, &page);
  }
  s->operations->n_removed(s);
}

typedef struct measured {
  store *s;
  int n_pages;
} measured;

/* A server may answer with pages for ever. */
static vecmill_status measure(void *context, store_page *page, vecmill_error *words) {
  measured *m = context;
  check_page(m->s, page);
  work_on(page, 0);
  return m->n_pages++ < MAX_PAGES ? VECMILL_OK : err_set(words, VECMILL_ERROR_STOPPED, "enough");
}

static void metrics(store *s) {
  uint64_t n;
  measured m = {.s = s};
  for (int i = 0; i < 4; i++) {
    store_page page = {0};
    if (!good(s->operations->metrics_page(s, 5, &page, &err))) return;
    check_page(s, &page);
    work_on(&page, 0);
    bool goes_on = page.n_rows == 0 || good(s->operations->metrics_commit(s, &page, &n, &err));
    s->operations->page_free(s, &page);
    if (!goes_on) return;
  }
  good(s->operations->metrics_settle(s, measure, &m, &n, &err));
}

static void ingest(store *s, how h) {
  static const store_maker maker = {"model", "revision", "mean", "", "float32", "", DIMENSION};
  store_counts counts;
  store_page page = {0};
  if (!look(s, &h)) return;
  if (h.has_vectors && good(s->operations->sample(s, DIMENSION, 4, &page, &err))) {
    check_page(s, &page);
    s->operations->page_free(s, &page);
  }
  if (!good(s->operations->begin(s, &maker, &err))) return;
  if (h.has_metrics && !good(s->operations->metrics_begin(s, &err))) return;
  if (!good(s->operations->count(s, &counts, &err))) return;
  passes(s);
  if (h.has_metrics) metrics(s);
}

static void metrics_only(store *s, how h) {
  uint64_t n;
  h.bits |= 128;
  if (look(s, &h) && h.has_metrics && good(s->operations->metrics_begin(s, &err)) &&
      good(s->operations->metrics_count(s, &n, &err)))
    metrics(s);
}

static void dry_run(store *s, how h) {
  store_counts counts;
  store_page picked = {0}, page = {0};
  if (!look(s, &h) || !good(s->operations->preview(s, 4, &counts, &picked, &err))) return;
  for (size_t next = 0; next < picked.n_rows;) {
    if (!good(s->operations->preview_texts(s, &picked, 3, &next, &page, &err))) break;
    check_page(s, &page);
    s->operations->page_free(s, &page);
  }
  s->operations->page_free(s, &picked);
}

static vecmill_status each_row(void *context, const store_scan_row *row, vecmill_error *e) {
  (void)e;
  if (row->vector) read_bytes(row->vector, row->n_vector_bytes);
  read_bytes(row->key, row->n_key_bytes);
  str *key = context;
  str_clear(key);
  str_append(key, row->key, row->n_key_bytes);
  return VECMILL_OK;
}

static void search(store *s, how h) {
  static const float query[DIMENSION] = {1, 2, -3};
  store_columns columns;
  store_maker record;
  const char *index;
  bool found, is_exact = h.bits & 32;
  str key = {0}, text = {0};
  if (find(s, h, &columns) && good(s->operations->record(s, &record, &found, &err)) &&
      good(h.bits & 128 ? s->operations->scan(s, each_row, &key, &err)
                        : s->operations->scan_near(s, query, DIMENSION, 2, is_exact, each_row, &key,
                                                   &index, &err)) &&
      key.n > 0)
    good(s->operations->read_text(s, key.data, key.n, &text, &err));
  str_fini(&key);
  str_fini(&text);
}

static void jobs(store *s) {
  vecmill_jobs all = {0};
  good(s->operations->jobs(s, &all, &err));
  for (size_t i = 0; i < all.n_jobs; i++)
    for (size_t j = 0; j < all.jobs[i].n_workers; j++)
      if (strchr(all.jobs[i].workers[j].host, '/')) abort();
  vecmill_jobs_fini(&all);
}

/* --- vectors by themselves --- */

static void check_vector(const uint8_t *data, size_t n_bytes) {
  pg_store s = {.is_half = n_bytes % 2};
  size_t n = n_bytes < 4 ? 0 : (n_bytes - 4) / (s.is_half ? 2 : 4);
  float *numbers = mem_calloc(n + 1, sizeof *numbers);
  str again = {0};
  bool all_finite = true;
  uint8_t *wire = malloc(n_bytes ? n_bytes : 1); /* its end is seen */
  if (!numbers || !wire) abort();
  memcpy(wire, data, n_bytes);
  size_t size = 4 + n * (s.is_half ? 2 : 4);
  if (n_bytes >= 4) wire[0] = (uint8_t)(n >> 8), wire[1] = (uint8_t)n, wire[2] = wire[3] = 0;
  bool is_one = n_bytes >= 4 && n < 65536 && size <= n_bytes;
  if (pg_read_vector(&s, wire, is_one ? size : n_bytes, numbers, n) != is_one &&
      !(n_bytes >= 4 && size == n_bytes))
    abort();
  for (size_t i = 0; i < n; i++) all_finite &= isfinite(numbers[i]) != 0;
  bool fits = is_one && pg_append_vector(&again, &s, numbers, n);
  if (fits && (again.n != size || memcmp(again.data, wire, size) != 0)) abort();
  if (is_one && !fits && !s.is_half && all_finite) abort();
  free(wire);
  mem_free(numbers);
  str_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  static const char *const keywords[] = {"host", NULL}, *const values[] = {"h", NULL};
  store *s = NULL;
  stop = n_sleeps = 0;
  err = (vecmill_error){0};
  if (n_bytes < 2) return 0;
  unsigned what = data[0] % 8;
  how h = {.bits = data[1]};
  if (what == 5) {
    check_vector(data + 2, n_bytes - 2);
    return 0;
  }
  fake_libpq_answers(data + 2, n_bytes - 2, &stop);
  /* a lease so long that no beat falls into this */
  pg_settings settings = {keywords, values, .lease_seconds = 100000, .n_connections = 1 + what / 6};
  if (h.bits & 32) settings.schema = "Own";
  if (!good(store_open_pg(&settings, &stop, &s, &err))) return 0;
  if (what == 1) metrics_only(s, h);
  else if (what == 2) dry_run(s, h);
  else if (what == 3) search(s, h);
  else if (what == 4) jobs(s);
  else ingest(s, h);
  s->operations->close(s);
  return 0;
}
