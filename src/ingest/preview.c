#include "ingest/preview.h"

#include "base/clock.h"
#include "base/mem.h"
#include "embed/embed.h"

#define ENOUGH_NS 3000000000ull /* a sample that took as long has said enough */
#define ROWS_PER_WORKER 64      /* at once: enough for full batches */

static void nothing_more(embed_job *job) {
  (void)job;
}

/* The page's first n rows. *n_tokens_out: theirs are added; a row that cannot be embedded has none.
 */
static vecmill_status embed_some(embed *e, const store_page *page, size_t n, embed_text *texts,
                                 float *vectors, size_t dimension, uint64_t *n_tokens_out,
                                 vecmill_error *err) {
  for (size_t i = 0; i < n; i++)
    texts[i] = (embed_text){.text = page->rows[i].text,
                            .n_bytes = page->rows[i].n_text_bytes,
                            .vector = vectors + i * dimension};
  embed_job job = {.texts = texts, .n_texts = n, .done = nothing_more};
  vecmill_status status = embed_submit(e, &job, err);
  if (status != VECMILL_OK) return status;
  embed_drain(e);
  for (size_t i = 0; i < n; i++) {
    if (texts[i].status == VECMILL_OK) *n_tokens_out += texts[i].n_tokens;
    mem_free(texts[i].reason);
  }
  return VECMILL_OK;
}

/* What is embedded, and what that took. */
typedef struct sample {
  embed *e;
  embed_text *texts;
  float *vectors;
  size_t dimension, n_rows;
  uint64_t n_tokens, ns;
  bool is_warm;
} sample;

/* What a model does only once is not measured, nor is the reading. */
static vecmill_status embed_piece(sample *a, const store_page *page, vecmill_error *err) {
  uint64_t warm = 0;
  vecmill_status status = VECMILL_OK;
  if (page->n_rows == 0) return status;
  if (!a->is_warm)
    status = embed_some(a->e, page, 1, a->texts, a->vectors, a->dimension, &warm, err);
  a->is_warm = true;
  uint64_t from_ns = clock_now_ns();
  if (status == VECMILL_OK)
    status =
        embed_some(a->e, page, page->n_rows, a->texts, a->vectors, a->dimension, &a->n_tokens, err);
  a->ns += clock_now_ns() - from_ns;
  a->n_rows += page->n_rows;
  return status;
}

static vecmill_status embed_sample(sample *a, store *s, const store_page *picked, const int *stop,
                                   vecmill_error *err) {
  size_t n_step = (size_t)embed_n_workers(a->e) * ROWS_PER_WORKER, n_floats, next = 0;
  if (n_step > picked->n_rows) n_step = picked->n_rows;
  a->texts = mem_calloc(n_step, sizeof *a->texts);
  a->vectors =
      mem_mul(n_step, a->dimension, &n_floats) ? mem_alloc_aligned(n_floats, sizeof(float)) : NULL;
  if (!a->texts || !a->vectors) return err_set_memory(err, "sample", n_step * a->dimension);
  vecmill_status status = VECMILL_OK;
  while (status == VECMILL_OK && next < picked->n_rows && a->ns < ENOUGH_NS) {
    store_page page;
    status = s->operations->preview_texts(s, picked, n_step, &next, &page, err);
    if (status != VECMILL_OK) return status;
    status = embed_piece(a, &page, err);
    s->operations->page_free(s, &page);
    if (stop && __atomic_load_n(stop, __ATOMIC_RELAXED) != 0)
      status = err_set(err, VECMILL_ERROR_STOPPED, "stopped: nothing was written");
  }
  return status;
}

vecmill_status preview_measure(provider *p, unsigned n_workers, store *s, const store_page *picked,
                               uint64_t n_total, const int *stop, preview_estimate *estimate_out,
                               vecmill_error *err) {
  *estimate_out = (preview_estimate){0};
  if (picked->n_rows == 0) return VECMILL_OK;
  embed_options options = {.n_workers = n_workers};
  sample a = {.dimension = p->dimension};
  vecmill_status status = embed_open(p, &options, &a.e, err);
  if (status == VECMILL_OK) status = embed_sample(&a, s, picked, stop, err);
  embed_close(&a.e);
  mem_free(a.texts);
  mem_free(a.vectors);
  if (status != VECMILL_OK || a.n_rows == 0) return status; /* none: all of them are gone */
  double scale = (double)n_total / (double)a.n_rows;
  *estimate_out = (preview_estimate){.n_sampled = a.n_rows,
                                     .n_tokens = (double)a.n_tokens * scale,
                                     .seconds = (double)a.ns * 1e-9 * scale};
  return VECMILL_OK;
}

double preview_rests_s(uint64_t n_total, unsigned n_workers, size_t batch, double sleep_s) {
  uint64_t n_own = n_total / n_workers + (n_total % n_workers > 0); /* rows of a worker */
  return n_own > 0 ? (double)((n_own - 1) / batch) * sleep_s : 0;   /* none after the last row */
}
