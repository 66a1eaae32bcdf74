#include <vecmill/jobs.h>

#include "base/mem.h"
#include "ingest/jobs.h"

vecmill_status vecmill_jobs_run(const vecmill_jobs_options *options, vecmill_jobs *jobs_out,
                                vecmill_error *err) {
  return ingest_jobs(options, jobs_out, err);
}

static void job_fini(vecmill_job *job) {
  char *texts[] = {job->schema,      job->table, job->vector_column,
                   job->text_column, job->model, job->selection};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) mem_free(texts[i]);
  for (size_t i = 0; i < job->n_workers; i++) mem_free(job->workers[i].host);
  mem_free(job->workers);
}

void vecmill_jobs_fini(vecmill_jobs *jobs) {
  for (size_t i = 0; i < jobs->n_jobs; i++) job_fini(&jobs->jobs[i]);
  mem_free(jobs->jobs);
  *jobs = (vecmill_jobs){0};
}
