/*
 * The pipeline: a reader claims pages, embed's workers make their vectors, writers commit each
 * page once, and the calling thread keeps the books.
 *
 *   reader --claim--> page --embed_submit--> workers --done()--> writers --commit--> the caller
 *
 * What bounds memory: `max_pages` pages are out at once, from claim to commit,
 * however long the table. Pages are committed as they become complete, as many at once as the store
 * can.
 *
 * Passes: the reader goes through the table from the first key to the last, waits
 * until all of that is committed, and asks the store whether another pass could find
 * anything. Rows whose text changed while it was embedded are found again that way.
 *
 * So are rows whose vector somebody took away after it was committed, or whose text changed
 * then and is looked for: a trigger may do that each time, for ever. From the second pass on it is
 * counted how often each row came to this process. A pass is in vain if it got nothing done but
 * rows that came TRIES_UNTIL_WORN times before; after three in a row, of which the last leaves
 * such rows alone, the run is over, and what that one found is left. While there is anything else
 * to do they are embedded again, as those of an application that edits them should be. Each of
 * several processes counts what came to itself, which is enough for each to end.
 */
#ifndef INGEST_PIPELINE_H
#define INGEST_PIPELINE_H

#include <stdint.h>

#include "embed/embed.h"
#include "ingest/measure.h"
#include "ingest/tries.h"
#include "observe/progress.h"
#include "store/store.h"

/* What a pipeline is told while it runs; by the thread that called ingest_pipeline_run. */
typedef struct ingest_progress {
  const progress *progress;
  uint64_t now_ns;
  bool is_tick;     /* nothing was committed; time has passed */
  uint64_t n_batch; /* rows of the page; 0 at the end, where rows are gone or done by others */
  uint64_t n_failed, n_in_flight;
  const ingest_sums *sums; /* metrics of the batch's rows that were written */
} ingest_progress;

typedef struct ingest_plan {
  store *store;       /* begun and counted; borrowed */
  provider *provider; /* borrowed */
  size_t batch;
  unsigned n_workers;               /* 0: one a processor */
  uint64_t sleep_ns;                /* a worker's rest after each `batch` rows that it embedded */
  uint64_t n_total;                 /* as counted */
  uint64_t n_run_total, n_run_done; /* as counted: of the processes that share the run */
  bool measures;                    /* fill each embedded row's metrics */
  const wordlist *list;             /* for them; may be NULL */
  const int *stop;                  /* read with atomic loads; NULL: never */
  void (*on_progress)(void *context, const ingest_progress *now); /* may be NULL */
  void (*on_start)(void *context, unsigned n_workers);            /* may be NULL */
  void *context;
} ingest_plan;

typedef struct ingest_outcome {
  uint64_t n_written, n_failed, n_changed, n_taken_over, n_left, n_truncated, n_repaired, n_tokens,
      n_batches;
  uint64_t n_worn; /* of n_left, left because they came TRIES_UNTIL_WORN times */
  unsigned n_passes, n_workers;
  double seconds;
  double *worker_busy; /* n_workers; mem_free */
  double reader_busy, writer_busy, embed_busy;
  /* share of the time that the store waited for what others hold: rows of other processes, a lock,
   * a server that does not answer */
  double reader_waiting;
  double embed_rest;   /* share of the time that workers rested */
  ingest_sums sums;    /* metrics of the rows that were written */
  char *first_failure; /* mem_free */
} ingest_outcome;

/* STOPPED when `stop` ended it. *outcome_out is filled as far as the run came, on failure too. */
vecmill_status ingest_pipeline_run(const ingest_plan *plan, ingest_outcome *outcome_out,
                                   vecmill_error *err);

#endif
