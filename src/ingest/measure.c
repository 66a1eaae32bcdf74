#include "ingest/measure.h"

#define SHARED_PAGE 2000 /* each page looks at the whole table again */

void measure_row(store_row *row, const wordlist *list) {
  text_metrics m;
  metrics_of(row->text, row->n_text_bytes, list, &m);
  row->metrics = (store_metrics){.has_ratio = m.has_ratio,
                                 .word_count = m.word_count,
                                 .length = m.length,
                                 .entity_count = m.entity_count,
                                 .ratio = m.hawaiian_word_ratio};
}

void measure_add(ingest_sums *sums, const store_metrics *metrics) {
  sums->n++;
  sums->word_count += metrics->word_count;
  sums->length += metrics->length;
  sums->entity_count += metrics->entity_count;
  if (!metrics->has_ratio) return;
  sums->n_ratio++;
  sums->ratio += metrics->ratio;
}

void measure_merge(ingest_sums *sums, const ingest_sums *more) {
  sums->n += more->n;
  sums->n_ratio += more->n_ratio;
  sums->ratio += more->ratio;
  sums->word_count += more->word_count;
  sums->length += more->length;
  sums->entity_count += more->entity_count;
}

double measure_average(double sum, uint64_t n) {
  return n ? sum / (double)n : -1;
}

vecmill_status measure_settle(store *s, const wordlist *list, const int *stop,
                              uint64_t *n_changed_out, vecmill_error *err) {
  *n_changed_out = 0;
  for (;;) {
    store_page page;
    uint64_t n_written = 0;
    if (stop && __atomic_load_n(stop, __ATOMIC_RELAXED))
      return err_set(err, VECMILL_ERROR_STOPPED,
                     "stopped before equal texts were counted (run again to go on)");
    vecmill_status status =
        s->operations->metrics_page(s, STORE_METRICS_SHARED, SHARED_PAGE, &page, err);
    if (status != VECMILL_OK) return status;
    size_t n_rows = page.n_rows;
    for (size_t i = 0; i < n_rows; i++) measure_row(&page.rows[i], list);
    if (n_rows > 0)
      status = s->operations->metrics_commit(s, STORE_METRICS_SHARED, &page, &n_written, err);
    s->operations->page_free(s, &page);
    if (status != VECMILL_OK) return status;
    if (n_rows == 0) break;
  }
  return s->operations->metrics_count_twins(s, n_changed_out, err);
}
