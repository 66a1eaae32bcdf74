#include "ingest/database.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/config.h"
#include "config/pg_settings.h"
#include "store/pg.h"
#include "store/sqlite.h"

/* VECMILL_SERVER_WAIT, seconds that a server which went away is waited for. 0: it is not said. */
static vecmill_status server_wait(const config *c, unsigned *seconds_out, vecmill_error *err) {
  config_value value;
  char *end, origin[CONFIG_ORIGIN_SIZE];
  *seconds_out = 0;
  if (!config_find(c, "VECMILL_SERVER_WAIT", &value)) return VECMILL_OK;
  unsigned long seconds = strtoul(value.text, &end, 10);
  config_origin(&value, origin);
  if (value.text[0] < '0' || value.text[0] > '9' || *end || seconds < 1 || seconds > 86400)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "%s: not a number of seconds (1 to 86400)", origin);
  *seconds_out = (unsigned)seconds;
  return VECMILL_OK;
}

static vecmill_status open_pg(const ingest_database *where, const int *stop, store **store_out,
                              vecmill_error *err) {
  config_pg pg;
  vecmill_status status = config_pg_conninfo(where->config, where->database, &pg, err);
  unsigned wait_seconds = 0;
  if (status != VECMILL_OK) return status;
  char origin[CONFIG_ORIGIN_SIZE];
  const char *unknown = config_pg_unknown(where->config, &pg, store_pg_knows, origin);
  if (unknown)
    status = err_set(err, VECMILL_ERROR_UNSUPPORTED,
                     "%s: libpq %d, which is used here, does not know %s (take it out of the file)",
                     origin, store_pg_library() / 10000, unknown);
  if (status == VECMILL_OK) status = server_wait(where->config, &wait_seconds, err);
  if (status != VECMILL_OK) {
    config_pg_fini(&pg);
    return status;
  }
  pg_settings settings = {.keywords = pg.keywords,
                          .values = pg.values,
                          .schema = where->schema,
                          .state_schema = where->state_schema,
                          .wait_seconds = wait_seconds,
                          .lease_seconds = where->lease_seconds,
                          .n_connections = where->n_connections};
  vecmill_error why = {0};
  status = store_open_pg(&settings, stop, store_out, &why);
  if (status != VECMILL_OK)
    err_set(err, status, "%s%s", why.text,
            where->database || pg.n > 0 ? ""
                                        : "; no --db was given (--db FILE is an SQLite database)");
  config_pg_fini(&pg);
  return status;
}

vecmill_status ingest_check_where(const char *where, vecmill_error *err) {
  if (!where || where[strspn(where, " \t\n\v\f\r")]) return VECMILL_OK;
  return err_set(err, VECMILL_ERROR_ARGUMENT, "--where is empty (give a condition, or leave it out)");
}

vecmill_status ingest_open_database(const ingest_database *where, const int *stop,
                                    store **store_out, vecmill_error *err) {
  const char *empty = where->schema && !*where->schema               ? "--schema"
                      : where->state_schema && !*where->state_schema ? "--state-schema"
                                                                     : NULL;
  if (empty)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "%s is empty (give a name, or leave it out)",
                   empty);
  vecmill_status status = config_check_database(where->database, err);
  if (status != VECMILL_OK) return status;
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
