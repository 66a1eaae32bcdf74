#include <vecmill/ingest.h>

#include "base/mem.h"
#include "config/pg_settings.h"
#include "ingest/database.h"
#include "ingest/run.h"
#include "store/pg.h"
#include "store/sqlite.h"

void vecmill_ingest_stop(vecmill_ingest_control *control) {
  __atomic_store_n(&control->stop, 1, __ATOMIC_RELAXED);
}

const char *vecmill_ingest_stage_name(vecmill_ingest_stage stage) {
  static const char *const names[] = {"nothing", "reader", "embed", "writer"};
  return (size_t)stage < sizeof names / sizeof *names ? names[stage] : "nothing";
}

vecmill_status vecmill_ingest_run(const vecmill_ingest_options *options,
                                  vecmill_ingest_report *report_out, vecmill_error *err) {
  return ingest_run(options, report_out, err);
}

void vecmill_ingest_report_fini(vecmill_ingest_report *report) {
  mem_free(report->model);
  mem_free(report->table);
  mem_free(report->vector_column);
  mem_free(report->worker_busy);
  mem_free(report->metrics_table);
  mem_free(report->first_failure);
  *report = (vecmill_ingest_report){0};
}

vecmill_status vecmill_database_check(const vecmill_config *c, const char *database,
                                      vecmill_error *err) {
  store *s = NULL;
  ingest_database where = {.config = c, .database = database};
  vecmill_status status = ingest_open_database(&where, NULL, &s, err);
  if (status != VECMILL_OK) return status;
  status =
      config_is_pg(database) ? store_check_pg_vector(s, err) : store_check_sqlite_writable(s, err);
  s->operations->close(s);
  return status;
}
