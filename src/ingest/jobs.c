#include "ingest/jobs.h"

#include "base/err.h"
#include "ingest/database.h"

vecmill_status ingest_jobs(const vecmill_jobs_options *options, vecmill_jobs *jobs_out,
                           vecmill_error *err) {
  ingest_database where = {.config = options->config,
                           .database = options->database,
                           .state_schema = options->state_schema,
                           .n_connections = 0};
  store *s = NULL;
  *jobs_out = (vecmill_jobs){0};
  if (options->database && !*options->database)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "--db is empty (give a file, or leave it out)");
  vecmill_status status = ingest_open_database(&where, NULL, &s, err);
  if (status != VECMILL_OK) return status;
  status = s->operations->jobs(s, jobs_out, err);
  s->operations->close(s);
  return status;
}
