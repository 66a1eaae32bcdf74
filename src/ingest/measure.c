#include "ingest/measure.h"

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

typedef struct settling {
  const wordlist *list;
  const int *stop;
} settling;

static vecmill_status check_stop(const int *stop, vecmill_error *err) {
  return stop && __atomic_load_n(stop, __ATOMIC_RELAXED)
             ? err_set(err, VECMILL_ERROR_STOPPED,
                       "stopped before equal texts were counted (run again to go on)")
             : VECMILL_OK;
}

static vecmill_status measure_page(void *context, store_page *page, vecmill_error *err) {
  const settling *all = context;
  for (size_t i = 0; i < page->n_rows; i++) measure_row(&page->rows[i], all->list);
  return check_stop(all->stop, err);
}

vecmill_status measure_settle(store *s, const wordlist *list, const int *stop,
                              uint64_t *n_changed_out, vecmill_error *err) {
  settling all = {.list = list, .stop = stop};
  *n_changed_out = 0;
  vecmill_status status = check_stop(stop, err);
  return status == VECMILL_OK
             ? s->operations->metrics_settle(s, measure_page, &all, n_changed_out, err)
             : status;
}
