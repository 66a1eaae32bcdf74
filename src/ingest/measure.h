/* Metrics of a run's texts: made, averaged, and brought to rest at its end. */
#ifndef INGEST_MEASURE_H
#define INGEST_MEASURE_H

#include <stdint.h>

#include "store/store.h"
#include "text/metrics.h"

/* Sums over rows, for averages. */
typedef struct ingest_sums {
  uint64_t n, n_ratio;
  double ratio, word_count, length, entity_count;
} ingest_sums;

/* Fills row->metrics from the row's text. Any thread. */
void measure_row(store_row *row, const wordlist *list);

void measure_add(ingest_sums *sums, const store_metrics *metrics);
void measure_merge(ingest_sums *sums, const ingest_sums *more);

/* Below 0 where there is nothing to average. */
double measure_average(double sum, uint64_t n);

/*
 * The end of a run, once all vectors are in: metrics that several rows share become those of the
 * first, and equal texts are counted. *n_changed_out: rows whose frequency was written. `stop` (may
 * be NULL) is read with atomic loads. STOPPED: the next run does it; DATABASE: it refused rows.
 */
vecmill_status measure_settle(store *s, const wordlist *list, const int *stop,
                              uint64_t *n_changed_out, vecmill_error *err);

#endif
