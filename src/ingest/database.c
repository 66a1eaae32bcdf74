#include "ingest/database.h"

#include "base/mem.h"
#include "config/pg_settings.h"
#include "store/pg.h"
#include "store/sqlite.h"

static vecmill_status open_pg(const ingest_database *where, const int *stop, store **store_out,
                              vecmill_error *err) {
  config_pg pg;
  vecmill_status status = config_pg_conninfo(where->config, where->database, &pg, err);
  if (status != VECMILL_OK) return status;
  pg_settings settings = {.keywords = pg.keywords,
                          .values = pg.values,
                          .schema = where->schema,
                          .state_schema = where->state_schema,
                          .lease_seconds = where->lease_seconds,
                          .n_connections = where->n_connections};
  vecmill_error why = {0};
  status = store_open_pg(&settings, stop, store_out, &why);
  if (status != VECMILL_OK)
    err_set(err, status, "%s%s", why.text,
            where->database ? "" : "; no --db was given (--db FILE is an SQLite database)");
  config_pg_fini(&pg);
  return status;
}

vecmill_status ingest_open_database(const ingest_database *where, const int *stop,
                                    store **store_out, vecmill_error *err) {
  if (config_is_pg(where->database)) return open_pg(where, stop, store_out, err);
  const char *option = where->schema          ? "--schema"
                       : where->state_schema  ? "--state-schema"
                       : where->lease_seconds ? "--lease"
                       : where->n_connections ? "--connections"
                                              : NULL;
  if (option)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "%s: only for PostgreSQL, and %s is a file (leave it out)", option,
                   where->database);
  return store_open_sqlite(where->database, stop, store_out, err);
}
