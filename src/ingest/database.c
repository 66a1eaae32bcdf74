#include "ingest/database.h"

#include "base/mem.h"
#include "config/pg_settings.h"
#include "store/sqlite.h"

static vecmill_status open_pg(const config *c, const char *database, vecmill_error *err) {
  config_pg pg;
  vecmill_status status = config_pg_conninfo(c, database, &pg, err);
  if (status != VECMILL_OK) return status;
  status =
      err_set(err, VECMILL_ERROR_UNSUPPORTED,
              "%s: PostgreSQL is not supported yet (give --db FILE, an SQLite database)", pg.shown);
  config_pg_fini(&pg);
  return status;
}

vecmill_status ingest_open_database(const config *c, const char *database, const int *stop,
                                    store **store_out, vecmill_error *err) {
  if (config_is_pg(database)) return open_pg(c, database, err);
  return store_open_sqlite(database, stop, store_out, err);
}
