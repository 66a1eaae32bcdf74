#include "ingest/preview.h"

#include "base/clock.h"
#include "base/mem.h"
#include "embed/embed.h"

#define ENOUGH_NS 3000000000ull /* a sample that took as long has said enough */
#define ROWS_PER_WORKER 64      /* at once: enough for full batches */

static void nothing_more(embed_job *job) {
  (void)job;
}

/* Rows [from, to). *n_tokens_out: theirs; a row that cannot be embedded has none. */
static vecmill_status embed_some(embed *e, const store_page *page, size_t from, size_t to,
                                 embed_text *texts, float *vectors, size_t dimension,
                                 uint64_t *n_tokens_out, vecmill_error *err) {
  for (size_t i = from; i < to; i++)
    texts[i - from] = (embed_text){.text = page->rows[i].text,
                                   .n_bytes = page->rows[i].n_text_bytes,
                                   .vector = vectors + (i - from) * dimension};
  embed_job job = {.texts = texts, .n_texts = to - from, .done = nothing_more};
  vecmill_status status = embed_submit(e, &job, err);
  if (status != VECMILL_OK) return status;
  embed_drain(e);
  for (size_t i = 0; i < to - from; i++) {
    if (texts[i].status == VECMILL_OK) *n_tokens_out += texts[i].n_tokens;
    mem_free(texts[i].reason);
  }
  return VECMILL_OK;
}

static vecmill_status embed_sample(embed *e, size_t dimension, const store_page *page,
                                   const int *stop, size_t *n_rows_out, uint64_t *n_tokens_out,
                                   uint64_t *ns_out, vecmill_error *err) {
  size_t n_step = (size_t)embed_n_workers(e) * ROWS_PER_WORKER, n_floats;
  if (n_step > page->n_rows) n_step = page->n_rows;
  embed_text *texts = mem_calloc(n_step, sizeof *texts);
  float *vectors =
      mem_mul(n_step, dimension, &n_floats) ? mem_alloc_aligned(n_floats, sizeof(float)) : NULL;
  vecmill_status status =
      texts && vectors ? VECMILL_OK : err_set_memory(err, "sample", n_step * dimension);
  uint64_t warm = 0, start_ns = 0;
  /* what a model does only once is not measured */
  if (status == VECMILL_OK)
    status = embed_some(e, page, 0, 1, texts, vectors, dimension, &warm, err);
  start_ns = clock_now_ns();
  while (status == VECMILL_OK && *n_rows_out < page->n_rows &&
         clock_now_ns() - start_ns < ENOUGH_NS) {
    size_t from = *n_rows_out, to = from + n_step < page->n_rows ? from + n_step : page->n_rows;
    status = embed_some(e, page, from, to, texts, vectors, dimension, n_tokens_out, err);
    *n_rows_out = to;
    if (stop && __atomic_load_n(stop, __ATOMIC_RELAXED) != 0)
      status = err_set(err, VECMILL_ERROR_STOPPED, "stopped: nothing was written");
  }
  *ns_out = clock_now_ns() - start_ns;
  mem_free(texts);
  mem_free(vectors);
  return status;
}

vecmill_status preview_measure(provider *p, unsigned n_workers, const store_page *page,
                               uint64_t n_total, const int *stop, preview_estimate *estimate_out,
                               vecmill_error *err) {
  *estimate_out = (preview_estimate){0};
  if (page->n_rows == 0) return VECMILL_OK;
  embed *e = NULL;
  embed_options options = {.n_workers = n_workers};
  uint64_t n_tokens = 0, ns = 0;
  size_t n_rows = 0;
  vecmill_status status = embed_open(p, &options, &e, err);
  if (status == VECMILL_OK)
    status = embed_sample(e, p->dimension, page, stop, &n_rows, &n_tokens, &ns, err);
  embed_close(&e);
  if (status != VECMILL_OK) return status;
  double scale = (double)n_total / (double)n_rows;
  *estimate_out = (preview_estimate){.n_sampled = n_rows,
                                     .n_tokens = (double)n_tokens * scale,
                                     .seconds = (double)ns * 1e-9 * scale};
  return VECMILL_OK;
}

double preview_rests_s(uint64_t n_total, unsigned n_workers, size_t batch, double sleep_s) {
  uint64_t n_own = n_total / n_workers + (n_total % n_workers > 0); /* rows of a worker */
  return n_own > 0 ? (double)((n_own - 1) / batch) * sleep_s : 0;   /* none after the last row */
}
