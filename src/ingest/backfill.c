#include "ingest/backfill.h"

#include "base/clock.h"

static vecmill_status one_batch(const backfill_plan *plan, progress *p, backfill_outcome *outcome,
                                bool *more_out, vecmill_error *err) {
  store *s = plan->store;
  store_page page;
  uint64_t n_written = 0;
  ingest_sums sums = {0};
  vecmill_status status = s->operations->metrics_page(s, plan->batch, &page, err);
  *more_out = status == VECMILL_OK && page.n_rows > 0;
  if (status != VECMILL_OK) return status;
  if (!*more_out) {
    s->operations->page_free(s, &page);
    return VECMILL_OK;
  }
  for (size_t i = 0; i < page.n_rows; i++) measure_row(&page.rows[i], plan->list);
  uint64_t n_rows = page.n_rows;
  status = s->operations->metrics_commit(s, &page, &n_written, err);
  for (size_t i = 0; status == VECMILL_OK && i < page.n_rows; i++)
    if (page.rows[i].is_written) measure_add(&sums, &page.rows[i].metrics);
  s->operations->page_free(s, &page);
  if (status != VECMILL_OK) return status;
  outcome->n_written += n_written;
  outcome->n_batches++;
  measure_merge(&outcome->sums, &sums);
  progress_add(p, n_rows, 0, clock_now_ns());
  if (plan->on_batch) plan->on_batch(plan->context, p, n_rows, &sums);
  return VECMILL_OK;
}

vecmill_status backfill_run(const backfill_plan *plan, backfill_outcome *outcome_out,
                            vecmill_error *err) {
  progress p;
  bool more = true;
  vecmill_status status = VECMILL_OK;
  uint64_t start_ns = clock_now_ns();
  *outcome_out = (backfill_outcome){0};
  progress_init(&p, plan->n_total, start_ns);
  while (more && status == VECMILL_OK) {
    if (plan->stop && __atomic_load_n(plan->stop, __ATOMIC_RELAXED) != 0)
      status = err_set(err, VECMILL_ERROR_STOPPED,
                       "stopped: what was done is kept (run again to go "
                       "on)");
    else status = one_batch(plan, &p, outcome_out, &more, err);
  }
  /* Rows that others measured or removed have progressed too. */
  if (status == VECMILL_OK && p.n_done < p.n_total) {
    ingest_sums none = {0};
    progress_add(&p, p.n_total - p.n_done, 0, clock_now_ns());
    if (plan->on_batch) plan->on_batch(plan->context, &p, 0, &none);
  }
  outcome_out->seconds = (double)(clock_now_ns() - start_ns) * 1e-9;
  return status;
}
