#include <vecmill/ingest.h>

#include <stdio.h>

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
  static const char *const names[] = {"nothing", "reader", "embed", "writer", "waiting"};
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

static vecmill_status check_pg(store *s, vecmill_database_info *info, vecmill_error *err) {
  pg_about about;
  vecmill_status status = store_about_pg(s, &about, err);
  snprintf(info->place, sizeof info->place, "%s", about.place);
  if (*about.version) snprintf(info->server, sizeof info->server, "PostgreSQL %s", about.version);
  snprintf(info->vector, sizeof info->vector, "%s", about.vector);
  snprintf(info->tls, sizeof info->tls, "%s", about.tls);
  return status;
}

vecmill_status vecmill_database_check(const vecmill_config *c, const char *database,
                                      vecmill_database_info *info_out, vecmill_error *err) {
  store *s = NULL;
  vecmill_database_info unasked, *info = info_out ? info_out : &unasked;
  ingest_database where = {.config = c, .database = database};
  *info = (vecmill_database_info){0};
  vecmill_status status = ingest_open_database(&where, NULL, &s, err);
  if (status != VECMILL_OK) return status;
  if (config_is_pg(database)) {
    status = check_pg(s, info, err);
  } else {
    snprintf(info->place, sizeof info->place, "%s", database);
    status = store_check_sqlite_writable(s, err);
  }
  s->operations->close(s);
  return status;
}
