/* What vecmill has made in an SQLite database, and which columns are being worked on. */
#include <string.h>
#include <vecmill/jobs.h>

#include "base/mem.h"
#include "store/sqlite_parts.h"

static char *text_at(sqlite3_stmt *statement, int column) {
  const char *text = (const char *)sqlite3_column_text(statement, column);
  return mem_strdup(text ? text : "");
}

/* Whether the table and both columns are there still. */
static vecmill_status look_for_columns(sqlite_store *s, const vecmill_job *job, bool *there_out,
                                       vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT count(*) FROM pragma_table_xinfo(");
  sql_append_string(&sql, job->table);
  str_append_text(&sql, ", 'main') WHERE lower(name) IN (lower(");
  sql_append_string(&sql, job->vector_column);
  str_append_text(&sql, "), lower(");
  sql_append_string(&sql, job->text_column);
  str_append_text(&sql, "))");
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the schema", 0, &n, err);
  str_fini(&sql);
  *there_out = n == 2;
  return status;
}

/* Rows with a vector; `wanted`: or with a text. */
static vecmill_status count_rows(sqlite_store *s, const vecmill_job *job, bool wanted,
                                 int64_t *n_out, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = -1;
  str_append_text(&sql, "SELECT count(*) FROM main.");
  sql_append_name(&sql, job->table);
  str_append_text(&sql, " WHERE ");
  sql_append_name(&sql, job->vector_column);
  str_append_text(&sql, " IS NOT NULL");
  if (wanted) {
    str_append_text(&sql, " OR NOT vecmill_blank(");
    sql_append_name(&sql, job->text_column);
    str_append_text(&sql, ")");
  }
  vecmill_status status = sqlite_integer(s, &sql, "cannot count the rows", -1, &n, err);
  str_fini(&sql);
  *n_out = n;
  return status;
}

static vecmill_status count_failures(sqlite_store *s, vecmill_job *job, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT count(*) FROM main.vecmill_failures WHERE table_name = ");
  sql_append_string(&sql, job->table);
  str_append_text(&sql, " AND vector_column = ");
  sql_append_string(&sql, job->vector_column);
  vecmill_status status = sqlite_integer(s, &sql, "cannot count the failures", 0, &n, err);
  str_fini(&sql);
  job->n_failed = n;
  return status;
}

static vecmill_status count_job(sqlite_store *s, vecmill_job *job, vecmill_error *err) {
  bool there = false;
  job->n_total = job->n_done = -1;
  vecmill_status status = count_failures(s, job, err);
  if (status == VECMILL_OK) status = look_for_columns(s, job, &there, err);
  job->is_gone = !there;
  if (status == VECMILL_OK && there) status = count_rows(s, job, false, &job->n_done, err);
  if (status == VECMILL_OK && there) status = count_rows(s, job, true, &job->n_total, err);
  return status;
}

static vecmill_status take_job(sqlite_store *s, sqlite3_stmt *statement, vecmill_jobs *jobs,
                               vecmill_error *err) {
  vecmill_job *more = mem_realloc(jobs->jobs, jobs->n_jobs + 1, sizeof *more);
  if (!more) return err_set_memory(err, "jobs", jobs->n_jobs * sizeof *more);
  jobs->jobs = more;
  vecmill_job *job = &jobs->jobs[jobs->n_jobs++];
  *job = (vecmill_job){.table = text_at(statement, 0),
                       .vector_column = text_at(statement, 1),
                       .text_column = text_at(statement, 2),
                       .model = text_at(statement, 3),
                       .n_in_flight = -1,
                       .n_expired = -1,
                       .n_given_back = -1,
                       .rows_per_s = -1,
                       .eta_s = -1};
  if (!job->table || !job->vector_column || !job->text_column || !job->model)
    return err_set_memory(err, "jobs", 64);
  job->is_running = table_lock_is_held(s->path, job->table, job->vector_column);
  return count_job(s, job, err);
}

vecmill_status sqlite_store_jobs(store *base, vecmill_jobs *jobs_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  str sql = {0};
  sqlite3_int64 n = 0;
  sqlite3_stmt *statement = NULL;
  str_append_text(&sql, "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name IN "
                        "('vecmill_columns', 'vecmill_failures')");
  vecmill_status status = sqlite_integer(s, &sql, "cannot read the schema", 0, &n, err);
  str_clear(&sql);
  str_append_text(&sql, "SELECT table_name, vector_column, text_column, model FROM "
                        "main.vecmill_columns ORDER BY table_name, vector_column");
  if (status == VECMILL_OK && n == 2)
    status = sqlite_compile(s, &sql, "cannot read vecmill_columns", &statement, err);
  str_fini(&sql);
  int code = SQLITE_DONE;
  while (status == VECMILL_OK && statement && (code = sqlite3_step(statement)) == SQLITE_ROW)
    status = take_job(s, statement, jobs_out, err);
  if (status == VECMILL_OK && code != SQLITE_DONE)
    status = sqlite_error(s, code, "cannot read vecmill_columns", err);
  sqlite3_finalize(statement);
  return status;
}
