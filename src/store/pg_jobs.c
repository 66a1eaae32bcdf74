/* Who works on what: the runs, their processes and leases, as the state schema has them. */
#include <string.h>
#include <vecmill/jobs.h>

#include "base/mem.h"
#include "store/pg_parts.h"

/* Microseconds, whole: a number with a point is read by the locale of the program. */
#define SINCE(moment) "(extract(epoch FROM clock_timestamp() - " moment ") * 1000000)::bigint"

/* "(..)": lease l is out, with a process that lives. One whose commit waits for a lock longer than
 * the lease cannot prolong it, and is none the less alive. */
static void append_is_out(str *sql, const pg_store *s) {
  str_append_text(sql, "(NOT done AND (expires > clock_timestamp() OR EXISTS (SELECT 1 FROM ");
  pg_append_state(sql, s, "workers");
  str_append_text(sql, " AS o WHERE o.owner = l.owner AND expires > '-infinity' AND o.seen > "
                       "clock_timestamp() - o.lease_seconds * interval '1 s')))");
}

/* id, names, counts: in the order that take_job has them. */
static void append_columns(str *sql, const pg_store *s) {
  str_append_text(sql,
                  "SELECT id::text, schema_name, table_name, vector_column, text_column, model, "
                  "selection, CASE WHEN run_began IS NULL THEN -1 ELSE n_total END::text, ");
  pg_append_run_done(sql, s, "c");
  str_append_text(sql, "::text, (SELECT count(*) FROM ");
  pg_append_state(sql, s, "failures");
  str_append_text(sql, " AS f WHERE f.column_id = c.id AND at >= run_began)::text, (SELECT "
                       "coalesce(sum(n_rows), 0) FROM ");
  pg_append_state(sql, s, "leases");
  str_append_text(sql, " AS l WHERE l.column_id = c.id AND ");
  append_is_out(sql, s);
  str_append_text(sql, ")::text, (SELECT count(*) FROM ");
  pg_append_state(sql, s, "leases");
  str_append_text(sql, " AS l WHERE l.column_id = c.id AND NOT done AND attempts > 0 AND NOT ");
  append_is_out(sql, s);
  str_append_text(sql, ")::text, (SELECT count(*) FROM ");
  pg_append_state(sql, s, "leases");
  /* claim counts what was given back as never taken */
  str_append_text(
      sql,
      " AS l WHERE l.column_id = c.id AND NOT done AND attempts <= 0)::text, "
      "coalesce(" SINCE(
          "run_began") ", 0)::text, ((SELECT count(*) FROM "
                       "pg_attribute AS a JOIN pg_class AS t ON t.oid = attrelid JOIN "
                       "pg_namespace AS n ON n.oid = relnamespace WHERE nspname = schema_name AND "
                       "relname = table_name AND attname IN (vector_column, text_column) AND NOT "
                       "attisdropped) < 2)::text FROM ");
  pg_append_state(sql, s, "columns");
  str_append_text(sql, " AS c ORDER BY schema_name, table_name, vector_column");
}

/* Those who were lost are no news any more once their run has come to its end without them. */
static void append_workers(str *sql, const pg_store *s) {
  str_append_text(sql,
                  "SELECT column_id::text, host, pid::text, " SINCE("started") "::text, " SINCE(
                      "seen") "::text, is_lost::text, (SELECT coalesce(sum(n_rows), 0) FROM ");
  pg_append_state(sql, s, "leases");
  str_append_text(sql, " AS l WHERE l.owner = w.owner AND ");
  append_is_out(sql, s);
  str_append_text(sql, ")::text FROM (SELECT *, seen < clock_timestamp() - lease_seconds * "
                       "interval '1 s' AS is_lost FROM ");
  pg_append_state(sql, s, "workers");
  str_append_text(sql, ") AS w JOIN ");
  pg_append_state(sql, s, "columns");
  str_append_text(sql, " AS c ON c.id = column_id WHERE NOT is_lost OR NOT (pass_over OR n_total = "
                       "0) OR pass_claimed > 0 OR EXISTS (SELECT 1 FROM ");
  pg_append_state(sql, s, "leases");
  str_append_text(sql, " AS l WHERE l.column_id = c.id AND NOT done) ORDER BY started, pid");
}

static double seconds_of(const PGresult *rows, int row, int column) {
  return (double)pg_integer(rows, row, column) / 1e6;
}

static vecmill_status take_job(const PGresult *rows, int i, vecmill_job *job, vecmill_error *err) {
  bool is_gone = pg_text(rows, i, 14)[0] == 't';
  *job = (vecmill_job){.schema = mem_strdup(pg_text(rows, i, 1)),
                       .table = mem_strdup(pg_text(rows, i, 2)),
                       .vector_column = mem_strdup(pg_text(rows, i, 3)),
                       .text_column = mem_strdup(pg_text(rows, i, 4)),
                       .model = mem_strdup(pg_text(rows, i, 5)),
                       .selection = mem_strdup(pg_text(rows, i, 6)),
                       .n_total = is_gone ? -1 : pg_integer(rows, i, 7),
                       .n_done = is_gone ? -1 : pg_integer(rows, i, 8),
                       .is_gone = is_gone,
                       .n_failed = pg_integer(rows, i, 9),
                       .n_in_flight = pg_integer(rows, i, 10),
                       .n_expired = pg_integer(rows, i, 11),
                       .n_given_back = pg_integer(rows, i, 12),
                       .rows_per_s = -1,
                       .eta_s = -1};
  return job->schema && job->table && job->vector_column && job->text_column && job->model &&
                 job->selection
             ? VECMILL_OK
             : err_set_memory(err, "jobs", 64);
}

/* The first run of all has made the record, and waits to add the column. */
static bool is_beginning(const PGresult *rows, int i) {
  return pg_text(rows, i, 14)[0] == 't' && strcmp(pg_text(rows, i, 13), "0") == 0; /* no run yet */
}

/* The workers of the column whose id is `id`, which are among `rows`. */
static vecmill_status take_workers(const PGresult *rows, const char *id, vecmill_job *job,
                                   vecmill_error *err) {
  job->workers = mem_calloc((size_t)PQntuples(rows) + 1, sizeof *job->workers);
  if (!job->workers) return err_set_memory(err, "jobs", sizeof *job->workers);
  for (int i = 0; i < PQntuples(rows); i++) {
    if (strcmp(pg_text(rows, i, 0), id) != 0) continue;
    vecmill_worker *worker = &job->workers[job->n_workers++];
    *worker = (vecmill_worker){.host = mem_strdup(pg_text(rows, i, 1)),
                               .pid = (long)pg_integer(rows, i, 2),
                               .seconds = seconds_of(rows, i, 3),
                               .silent_seconds = seconds_of(rows, i, 4),
                               .is_lost = pg_text(rows, i, 5)[0] == 't',
                               .n_in_flight = (uint64_t)pg_integer(rows, i, 6)};
    if (!worker->host) return err_set_memory(err, "jobs", 64);
    worker->host[strcspn(worker->host, "/")] = '\0'; /* the rest tells containers apart */
    if (!worker->is_lost) job->is_running = 1;
  }
  return VECMILL_OK;
}

vecmill_status pg_store_jobs(store *base, vecmill_jobs *jobs_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  PGresult *columns = NULL, *workers = NULL;
  str sql = {0};
  bool there = false;
  const pg_given_name name = {"--state-schema", s->state, NULL};
  s->only_reads = true;
  vecmill_status status = pg_check_names(s, &name, 1, err);
  if (status == VECMILL_OK) status = pg_state_exists(s, &there, err);
  if (status == VECMILL_OK) status = pg_check_state(s, err);
  if (status != VECMILL_OK || !there) return status;
  append_columns(&sql, s);
  status = pg_run(s, PG_READER, &sql, NULL, "cannot read the runs", &columns, err);
  str_clear(&sql);
  append_workers(&sql, s);
  if (status == VECMILL_OK)
    status = pg_run(s, PG_READER, &sql, NULL, "cannot read the workers", &workers, err);
  if (status != VECMILL_OK && pg_state_is("42501")) status = pg_ask_for_grants(s, err);
  int n = status == VECMILL_OK ? PQntuples(columns) : 0;
  jobs_out->jobs = mem_calloc((size_t)n + 1, sizeof *jobs_out->jobs);
  if (status == VECMILL_OK && !jobs_out->jobs) status = err_set_memory(err, "jobs", 64);
  for (int i = 0; status == VECMILL_OK && i < n; i++) {
    if (is_beginning(columns, i)) continue;
    vecmill_job *job = &jobs_out->jobs[jobs_out->n_jobs++];
    status = take_job(columns, i, job, err);
    if (status == VECMILL_OK) status = take_workers(workers, pg_text(columns, i, 0), job, err);
    double seconds = seconds_of(columns, i, 13);
    if (job->n_total < 0) continue;
    if (job->n_total < job->n_done + job->n_in_flight) /* rows came while it ran */
      job->n_total = job->n_done + job->n_in_flight;
    if (!job->is_running || seconds <= 0) continue;
    job->rows_per_s = (double)job->n_done / seconds;
    int64_t n_left = job->n_total - job->n_done;
    if (job->n_done > 0) job->eta_s = (double)n_left / job->rows_per_s;
  }
  PQclear(columns);
  PQclear(workers);
  str_fini(&sql);
  return status;
}
