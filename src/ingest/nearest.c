/*
 * Exact search: every vector of the column passes once, the best k stay in a heap.
 *
 * The query's prefix: the model's own prompt "query" if it has one; else "query: " if the column was made with the
 * "passage: " of the E5 family, whose questions and passages are told apart that way; else what the column was made with.
 */
#include "ingest/nearest.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "ingest/maker.h"
#include "kernel/vec/vec.h"
#include "provider/local.h"
#include "store/sqlite.h"

typedef struct candidate {
  float score;
  char *key;
  size_t n_key_bytes;
} candidate;

/* A heap whose root is the worst of the best. */
typedef struct best {
  store *s;
  const vec_kernels *kernels;
  const float *query;
  float *aligned; /* a stored vector lies unaligned, and a float must not */
  double query_norm;
  size_t dimension, k, n, capacity;
  candidate *heap;
  uint64_t n_scanned, n_skipped;
} best;

/* Whether a ranks behind b: lower score, or the same and a later key. */
static bool is_worse(const best *b, const candidate *x, const candidate *y) {
  if (x->score != y->score) return x->score < y->score;
  return b->s->operations->key_compare(b->s, x->key, x->n_key_bytes, y->key, y->n_key_bytes) > 0;
}

static void swap(candidate *x, candidate *y) {
  candidate t = *x;
  *x = *y;
  *y = t;
}

static void sift_up(best *b, size_t i) {
  for (; i > 0 && is_worse(b, &b->heap[i], &b->heap[(i - 1) / 2]); i = (i - 1) / 2)
    swap(&b->heap[i], &b->heap[(i - 1) / 2]);
}

static void sift_down(best *b, size_t i, size_t n) {
  for (;;) {
    size_t worst = i;
    for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
      if (is_worse(b, &b->heap[child], &b->heap[worst])) worst = child;
    if (worst == i) return;
    swap(&b->heap[i], &b->heap[worst]);
    i = worst;
  }
}

/* Room for one more: the heap grows as it fills, so that a large k costs nothing on a small table. */
static bool grow(best *b) {
  if (b->n < b->capacity) return true;
  size_t capacity = b->capacity ? 2 * b->capacity : 64;
  candidate *heap = mem_realloc(b->heap, capacity, sizeof *heap);
  if (!heap) return false;
  b->heap = heap;
  b->capacity = capacity;
  return true;
}

static vecmill_status keep(best *b, float score, const store_scan_row *row, vecmill_error *err) {
  candidate now = {.score = score, .key = (char *)row->key, .n_key_bytes = row->n_key_bytes};
  if (b->n == b->k && !is_worse(b, &b->heap[0], &now)) return VECMILL_OK;
  now.key = mem_strndup(row->key, row->n_key_bytes);
  if (!now.key || (b->n < b->k && !grow(b))) {
    mem_free(now.key);
    return err_set_memory(err, "search", row->n_key_bytes);
  }
  if (b->n < b->k) {
    b->heap[b->n] = now;
    sift_up(b, b->n++);
  } else {
    mem_free(b->heap[0].key);
    b->heap[0] = now;
    sift_down(b, 0, b->n);
  }
  return VECMILL_OK;
}

static vecmill_status each_row(void *context, const store_scan_row *row, vecmill_error *err) {
  best *b = context;
  b->n_skipped++;
  if (!row->vector || row->n_vector_bytes != b->dimension * sizeof(float)) return VECMILL_OK;
  memcpy(b->aligned, row->vector, row->n_vector_bytes);
  double norm = sqrt((double)b->kernels->squared_norm_f32(b->dimension, b->aligned));
  double dot = (double)b->kernels->dot_f32(b->dimension, b->query, b->aligned);
  if (!(norm > 0) || !isfinite(norm) || !isfinite(dot)) return VECMILL_OK;
  b->n_skipped--;
  b->n_scanned++;
  double cosine = dot / (norm * b->query_norm);
  return keep(b, (float)(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine), row, err);
}

/* Heap sort: the worst goes to the end, again and again; the best come first. */
static void sort_best(best *b) {
  for (size_t n = b->n; n > 1; n--) {
    swap(&b->heap[0], &b->heap[n - 1]);
    sift_down(b, 0, n - 1);
  }
}

static vecmill_status fill_hit(best *b, const candidate *from, vecmill_search_hit *hit_out, vecmill_error *err) {
  str json = {0}, text = {0};
  b->s->operations->key_json(b->s, from->key, from->n_key_bytes, &json);
  vecmill_status status = b->s->operations->read_text(b->s, from->key, from->n_key_bytes, &text, err);
  hit_out->score = from->score;
  hit_out->id_json = json.data;
  if (status == VECMILL_ERROR_NOT_FOUND) status = VECMILL_OK; /* deleted since the scan: the score still stands */
  else if (!text.data) str_append_text(&text, "");
  hit_out->text = text.data;
  hit_out->n_text_bytes = text.n;
  return status == VECMILL_OK && (json.failed || text.failed) ? err_set_memory(err, "search", text.n) : status;
}

static vecmill_status fill_result(best *b, vecmill_search_result *result_out, vecmill_error *err) {
  result_out->n_scanned = b->n_scanned;
  result_out->n_skipped = b->n_skipped;
  result_out->hits = mem_calloc(b->n, sizeof *result_out->hits);
  if (!result_out->hits) return err_set_memory(err, "search", b->n * sizeof *result_out->hits);
  vecmill_status status = VECMILL_OK;
  for (size_t i = 0; status == VECMILL_OK && i < b->n; i++) {
    result_out->n_hits = i + 1;
    status = fill_hit(b, &b->heap[i], &result_out->hits[i], err);
  }
  return status;
}

vecmill_status nearest_scan(store *s, const float *query, size_t dimension, size_t k,
                            vecmill_search_result *result_out, vecmill_error *err) {
  best b = {.s = s, .kernels = vec_select(cpu_features()), .query = query, .dimension = dimension, .k = k};
  b.query_norm = sqrt((double)b.kernels->squared_norm_f32(dimension, query));
  if (!(b.query_norm > 0) || !isfinite(b.query_norm))
    return err_set(err, VECMILL_ERROR_ARGUMENT, "query: its vector is zero or not finite (ask something else)");
  b.aligned = mem_alloc_aligned(dimension, sizeof(float));
  if (!b.aligned) return err_set_memory(err, "search", dimension * sizeof(float));
  vecmill_status status = s->operations->scan(s, each_row, &b, err);
  sort_best(&b);
  if (status == VECMILL_OK) status = fill_result(&b, result_out, err);
  for (size_t i = 0; i < b.n; i++) mem_free(b.heap[i].key);
  mem_free(b.heap);
  mem_free(b.aligned);
  return status;
}

/* --- the query's vector --- */

static const char *query_prefix(const model *m, const store_maker *record) {
  const char *prompt = model_prompt(m, "query");
  if (prompt) return prompt;
  return strcmp(record->prefix, "passage: ") == 0 ? "query: " : record->prefix;
}

static vecmill_status embed_one(provider *p, const char *text, float *vector_out, vecmill_error *err) {
  provider_worker *worker = NULL;
  provider_item item = {0};
  vecmill_status status = p->operations->worker_open(p, &worker, err);
  if (status != VECMILL_OK) return status;
  status = p->operations->prepare(p, worker, text, strlen(text), &item, err);
  if (status == VECMILL_OK) status = p->operations->run(p, worker, &item, 1, &vector_out, err);
  mem_free(item.data);
  p->operations->worker_close(p, worker);
  return status;
}

/* The model that made the column, found by the name in the record, held to the identity there. */
static vecmill_status open_maker(const store_columns *columns, const store_maker *record, ingest_maker *m_out,
                                 vecmill_error *err) {
  vecmill_status status = ingest_maker_choose(record->model, NULL, m_out, err);
  if (status == VECMILL_OK) status = ingest_maker_open(m_out, record->prefix, record, err);
  return status == VECMILL_OK ? ingest_maker_match(m_out, record, columns, err) : status;
}

static vecmill_status embed_query(const vecmill_search_options *options, const store_columns *columns,
                                  const store_maker *record, float **vector_out, vecmill_error *err) {
  ingest_maker maker = {0};
  provider *p = NULL;
  float *vector = mem_alloc_aligned(record->dimension, sizeof(float));
  vecmill_status status = vector ? open_maker(columns, record, &maker, err)
                                 : err_set_memory(err, "search", record->dimension * sizeof(float));
  if (status == VECMILL_OK) status = provider_open_local(maker.model, query_prefix(maker.model, record), &p, err);
  if (status == VECMILL_OK) status = embed_one(p, options->query, vector, err);
  if (p) p->operations->close(p);
  ingest_maker_fini(&maker);
  if (status == VECMILL_OK) *vector_out = vector;
  else mem_free(vector);
  return status;
}

/* --- all of it --- */

static vecmill_status check_options(const vecmill_search_options *options, vecmill_error *err) {
  if (!options->database || !*options->database)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "no database named (give --db FILE)");
  if (!options->table || !*options->table || !options->query)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "no table or no query (give both: vecmill search TABLE QUERY --db FILE)");
  if (options->k > VECMILL_SEARCH_MAX_K)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "k %zu: too many rows (1 to %d)", options->k, VECMILL_SEARCH_MAX_K);
  return VECMILL_OK;
}

static vecmill_status find_column(store *s, const vecmill_search_options *options, store_columns *columns_out,
                                  store_maker *record_out, vecmill_error *err) {
  store_target target = {.table = options->table,
                         .id_column = options->id_column,
                         .text_column = options->text_column,
                         .vector_column = options->vector_column,
                         .where = options->where};
  bool found = false;
  vecmill_status status = s->operations->find(s, &target, columns_out, err);
  if (status != VECMILL_OK) return status;
  if (!columns_out->has_vector_column)
    return err_set(err, VECMILL_ERROR_NOT_FOUND, "table %s: no column %s (vecmill ingest %s --db %s makes it)", columns_out->table,
                   columns_out->vector_column, columns_out->table, options->database);
  status = s->operations->record(s, record_out, &found, err);
  if (status == VECMILL_OK && !found)
    status = err_set(err, VECMILL_ERROR_NOT_FOUND, "table %s: nothing says which model made column %s (vecmill ingest with --model "
                     "checks that and records it)", columns_out->table, columns_out->vector_column);
  return status;
}

static vecmill_status search(store *s, const vecmill_search_options *options, vecmill_search_result *result_out,
                             vecmill_error *err) {
  store_columns columns;
  store_maker record;
  float *query = NULL;
  vecmill_status status = find_column(s, options, &columns, &record, err);
  if (status != VECMILL_OK) return status;
  result_out->model = mem_strdup(record.model);
  uint64_t start_ns = clock_now_ns();
  status = embed_query(options, &columns, &record, &query, err);
  if (status != VECMILL_OK) return status;
  uint64_t embedded_ns = clock_now_ns();
  status = nearest_scan(s, query, record.dimension, options->k ? options->k : VECMILL_SEARCH_DEFAULT_K, result_out, err);
  result_out->embed_seconds = (double)(embedded_ns - start_ns) * 1e-9;
  result_out->scan_seconds = (double)(clock_now_ns() - embedded_ns) * 1e-9;
  mem_free(query);
  return status;
}

vecmill_status nearest_run(const vecmill_search_options *options, vecmill_search_result *result_out, vecmill_error *err) {
  store *s = NULL;
  *result_out = (vecmill_search_result){0};
  vecmill_status status = check_options(options, err);
  if (status == VECMILL_OK) status = store_open_sqlite(options->database, NULL, &s, err);
  if (status != VECMILL_OK) return status;
  status = search(s, options, result_out, err);
  s->operations->close(s);
  return status;
}
