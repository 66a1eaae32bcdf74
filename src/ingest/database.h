/* Which store is behind a database's name. */
#ifndef INGEST_DATABASE_H
#define INGEST_DATABASE_H

#include "config/config.h"
#include "store/store.h"

/* All borrowed for the call; what is 0 or NULL has its default, and must be with an SQLite file. */
typedef struct ingest_database {
  const config *config; /* the connection's settings; NULL: the environment alone */
  const char *database; /* an SQLite file, or what config_is_pg takes for PostgreSQL, NULL too */
  const char *schema, *state_schema;
  unsigned lease_seconds, n_connections;
} ingest_database;

/* The condition is NULL, or says something. */
vecmill_status ingest_check_where(const char *where, vecmill_error *err);

/* `stop` as in store/sqlite.h. No error holds a password. */
vecmill_status ingest_open_database(const ingest_database *where, const int *stop,
                                    store **store_out, vecmill_error *err);

#endif
