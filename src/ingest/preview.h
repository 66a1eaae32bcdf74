/* How long a run would take, from a sample of its rows that is embedded and thrown away. */
#ifndef INGEST_PREVIEW_H
#define INGEST_PREVIEW_H

#include "provider/provider.h"
#include "store/store.h"

#define PREVIEW_MAX_ROWS 1024

typedef struct preview_estimate {
  size_t n_sampled;
  double n_tokens, seconds; /* of all rows */
} preview_estimate;

/* Reads texts of the picked rows of `s` piece by piece and embeds them, until it has seen enough.
 * Picked were n_total rows or a random sample of them. STOPPED when `stop` (may be NULL) ended it.
 */
vecmill_status preview_measure(provider *p, unsigned n_workers, store *s, const store_page *picked,
                               uint64_t n_total, const int *stop, preview_estimate *estimate_out,
                               vecmill_error *err);

/* What n_total rows add to that by rests of sleep_s after every `batch` rows that a worker embeds,
 * all workers alike. */
double preview_rests_s(uint64_t n_total, unsigned n_workers, size_t batch, double sleep_s);

#endif
