/* Exact search: every vector of the column passes once, the best k stay in a heap. */
#include "ingest/nearest.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/cpu.h"
#include "kernel/vec/vec.h"

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

/* Room for one more: the heap grows as it fills, so that a large k costs nothing on a small table.
 */
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

static vecmill_status fill_hit(best *b, const candidate *from, vecmill_search_hit *hit_out,
                               vecmill_error *err) {
  str json = {0}, text = {0};
  b->s->operations->key_json(b->s, from->key, from->n_key_bytes, &json);
  vecmill_status status =
      b->s->operations->read_text(b->s, from->key, from->n_key_bytes, &text, err);
  hit_out->score = from->score;
  hit_out->id_json = json.data;
  if (status == VECMILL_ERROR_NOT_FOUND)
    status = VECMILL_OK; /* deleted since the scan: the score still stands */
  else if (!text.data) str_append_text(&text, "");
  hit_out->text = text.data;
  hit_out->n_text_bytes = text.n;
  return status == VECMILL_OK && (json.failed || text.failed)
             ? err_set_memory(err, "search", text.n)
             : status;
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

/* Every vector, or those that the store finds near; either way it is here that they are compared.
 */
static vecmill_status scan(best *b, bool exact, vecmill_search_result *result_out,
                           vecmill_error *err) {
  const store_operations *operations = b->s->operations;
  const char *index = NULL;
  if (!operations->scan_near) return operations->scan(b->s, each_row, b, err);
  vecmill_status status =
      operations->scan_near(b->s, b->query, b->dimension, b->k, exact, each_row, b, &index, err);
  if (status != VECMILL_OK || !index) return status;
  result_out->index = mem_strdup(index);
  return result_out->index ? VECMILL_OK : err_set_memory(err, "search", 64);
}

vecmill_status nearest_scan(store *s, const float *query, size_t dimension, size_t k, bool exact,
                            vecmill_search_result *result_out, vecmill_error *err) {
  best b = {.s = s,
            .kernels = vec_select(cpu_features()),
            .query = query,
            .dimension = dimension,
            .k = k};
  b.query_norm = sqrt((double)b.kernels->squared_norm_f32(dimension, query));
  if (!(b.query_norm > 0) || !isfinite(b.query_norm))
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "query: its vector is zero or not finite (ask something else)");
  b.aligned = mem_alloc_aligned(dimension, sizeof(float));
  if (!b.aligned) return err_set_memory(err, "search", dimension * sizeof(float));
  vecmill_status status = scan(&b, exact, result_out, err);
  sort_best(&b);
  if (status == VECMILL_OK) status = fill_result(&b, result_out, err);
  for (size_t i = 0; i < b.n; i++) mem_free(b.heap[i].key);
  mem_free(b.heap);
  mem_free(b.aligned);
  return status;
}
