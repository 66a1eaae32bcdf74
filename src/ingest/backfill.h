/* Metrics for rows that have their vector already: no model, no lease. Several processes may do the
 * same at once; they write the same. */
#ifndef INGEST_BACKFILL_H
#define INGEST_BACKFILL_H

#include "ingest/measure.h"
#include "observe/progress.h"

typedef struct backfill_plan {
  store *store; /* metrics begun and counted; borrowed */
  const wordlist *list;
  size_t batch;
  uint64_t n_total;
  const int *stop; /* read with atomic loads; NULL: never */
  /* after each batch; may be NULL */
  void (*on_batch)(void *context, const progress *p, uint64_t n_batch, const ingest_sums *sums);
  void *context;
} backfill_plan;

typedef struct backfill_outcome {
  uint64_t n_written, n_batches;
  ingest_sums sums;
  double seconds;
} backfill_outcome;

/* STOPPED when `stop` ended it; what was written stays. */
vecmill_status backfill_run(const backfill_plan *plan, backfill_outcome *outcome_out,
                            vecmill_error *err);

#endif
