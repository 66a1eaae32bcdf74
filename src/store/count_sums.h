/* What the numbers of a count's query say; the same for every database. */
#ifndef STORE_COUNT_SUMS_H
#define STORE_COUNT_SUMS_H

#include "store/store.h"

/* In the order of the query's columns. */
enum {
  SUM_ROWS,            /* considered */
  SUM_VECTORS,         /* have one */
  SUM_BLANK,           /* without a vector: nothing to embed */
  SUM_FAILED,          /* without a vector: recorded as failed */
  SUM_OUTDATED,        /* with a vector of an older text than the one to embed */
  SUM_OUTDATED_FAILED, /* of those of an older text: recorded as failed */
  SUM_UNKNOWN,         /* with a vector of unknown text */
  N_SUMS
};

static inline store_counts store_counts_of(const uint64_t n[N_SUMS]) {
  store_counts counts = {.n_rows = n[SUM_ROWS],
                         .n_done = n[SUM_VECTORS] - n[SUM_OUTDATED],
                         .n_blank = n[SUM_BLANK],
                         .n_failed = n[SUM_FAILED] + n[SUM_OUTDATED_FAILED],
                         .n_outdated = n[SUM_OUTDATED] - n[SUM_OUTDATED_FAILED],
                         .n_unknown = n[SUM_UNKNOWN]};
  counts.n_left = counts.n_rows - counts.n_done - counts.n_blank - counts.n_failed;
  return counts;
}

#endif
