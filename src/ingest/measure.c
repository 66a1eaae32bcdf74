#include "ingest/measure.h"

#define FIRST_PAGE 100000 /* keys alone: each page looks at the whole table again */
#define TEXT_PAGE 1000

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

static vecmill_status check_stop(const int *stop, vecmill_error *err) {
  return stop && __atomic_load_n(stop, __ATOMIC_RELAXED)
             ? err_set(err, VECMILL_ERROR_STOPPED,
                       "stopped before equal texts were counted (run again to go on)")
             : VECMILL_OK;
}

static vecmill_status settle_page(store *s, const wordlist *list, const int *stop,
                                  const store_page *first, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (size_t next = 0; status == VECMILL_OK && next < first->n_rows;) {
    store_page page;
    uint64_t n_written = 0;
    status = check_stop(stop, err);
    if (status == VECMILL_OK)
      status = s->operations->preview_texts(s, first, TEXT_PAGE, &next, &page, err);
    if (status != VECMILL_OK) break;
    for (size_t i = 0; i < page.n_rows; i++) measure_row(&page.rows[i], list);
    if (page.n_rows > 0)
      status = s->operations->metrics_commit(s, STORE_METRICS_FIRST, &page, &n_written, err);
    s->operations->page_free(s, &page);
  }
  return status;
}

vecmill_status measure_settle(store *s, const wordlist *list, const int *stop,
                              uint64_t *n_changed_out, vecmill_error *err) {
  bool any = true;
  *n_changed_out = 0;
  while (any) {
    store_page first;
    vecmill_status status = check_stop(stop, err);
    if (status == VECMILL_OK)
      status = s->operations->metrics_page(s, STORE_METRICS_FIRST, FIRST_PAGE, &first, err);
    if (status != VECMILL_OK) return status;
    any = first.n_rows > 0;
    status = settle_page(s, list, stop, &first, err);
    s->operations->page_free(s, &first);
    if (status != VECMILL_OK) return status;
  }
  return s->operations->metrics_count_twins(s, n_changed_out, err);
}
