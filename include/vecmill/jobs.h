/*
 * Who works on what: the vector columns that vecmill has made in a database, the run that goes on
 * or went last over each, and the processes in it.
 *
 * Reads only. PostgreSQL tells the processes of all machines; SQLite's lock tells just whether
 * there is one.
 */
#ifndef VECMILL_JOBS_H
#define VECMILL_JOBS_H

#include <stddef.h>
#include <stdint.h>

#include <vecmill/config.h>
#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Initialise with {0}; strings are borrowed for the call. */
typedef struct vecmill_jobs_options {
  const char *database; /* as for an ingest, and so the next two */
  const char *state_schema;
  const vecmill_config *config;
} vecmill_jobs_options;

/* A process that works on a column. */
typedef struct vecmill_worker {
  char *host;
  long pid;
  double seconds, silent_seconds; /* since it began; since its last sign of life */
  int is_lost;                    /* not 0: silent for longer than its lease */
  uint64_t n_in_flight;           /* rows that it has claimed and not committed */
} vecmill_worker;

/* A vector column. Where something cannot be told, a number is below 0 and a string NULL. */
typedef struct vecmill_job {
  char *schema, *table, *vector_column, *text_column, *model;
  char *selection; /* which rows the run has in view, as "id id (bigint); text body; --limit 10" */
  int is_running;  /* not 0: somebody works on it now */
  int is_gone;     /* not 0: its table, or a column of it, was dropped or renamed */
  /* Of the run that goes on or went last; below 0 if it has not counted them. In SQLite of the
   * table: rows with a vector or a text. */
  int64_t n_total;
  int64_t n_done;   /* of them, written or failed; in SQLite with a vector */
  int64_t n_failed; /* of n_done; in SQLite all that is recorded as failed */
  int64_t n_in_flight;
  int64_t n_expired;    /* leases of processes that are gone, not taken over yet */
  int64_t n_given_back; /* the same of processes that were asked to stop */
  double rows_per_s;    /* since the run began */
  double eta_s;
  vecmill_worker *workers;
  size_t n_workers;
} vecmill_job;

typedef struct vecmill_jobs {
  vecmill_job *jobs; /* by schema, table and column */
  size_t n_jobs;
} vecmill_jobs;

/* *jobs_out is always initialised; release it with vecmill_jobs_fini. None where vecmill has not
 * worked in that database. */
VECMILL_API vecmill_status vecmill_jobs_run(const vecmill_jobs_options *options,
                                            vecmill_jobs *jobs_out, vecmill_error *err);
VECMILL_API void vecmill_jobs_fini(vecmill_jobs *jobs);

#ifdef __cplusplus
}
#endif
#endif
