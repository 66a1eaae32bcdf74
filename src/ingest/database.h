/* Which store is behind a database's name. */
#ifndef INGEST_DATABASE_H
#define INGEST_DATABASE_H

#include "config/config.h"
#include "store/store.h"

/*
 * An SQLite file, or what config_is_pg takes for PostgreSQL; `c` holds the connection's settings
 * (NULL: the environment alone). `stop` as in store/sqlite.h. No error holds a password.
 */
vecmill_status ingest_open_database(const config *c, const char *database, const int *stop,
                                    store **store_out, vecmill_error *err);

#endif
