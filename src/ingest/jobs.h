/* Who works on what in a database. */
#ifndef INGEST_JOBS_H
#define INGEST_JOBS_H

#include <vecmill/jobs.h>

/* As vecmill_jobs_run. */
vecmill_status ingest_jobs(const vecmill_jobs_options *options, vecmill_jobs *jobs_out,
                           vecmill_error *err);

#endif
