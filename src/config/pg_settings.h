/*
 * Where the PostgreSQL server is and how to get in: from --db, the environment and `.env`, as the
 * keywords and values that PQconnectdbParams takes. Nothing here calls libpq.
 */
#ifndef CONFIG_PG_SETTINGS_H
#define CONFIG_PG_SETTINGS_H

#include <stdbool.h>

#include "config/config.h"
#include "config/conninfo.h"

/* Room for every keyword, and for some that the caller adds. */
#define CONFIG_PG_ROOM (CONNINFO_N_KEYWORDS + 8)

/* Initialise with {0}; config_pg_fini overwrites the values before it frees them. */
typedef struct config_pg {
  const char *keywords[CONFIG_PG_ROOM + 1]; /* n and a NULL */
  const char *values[CONFIG_PG_ROOM + 1];
  size_t n;
  char *shown; /* for messages: without passwords */
} config_pg;

/*
 * What --db (NULL: not given) says; what it does not say comes from the variables
 *
 *   host      PG_HOST PGHOST          dbname    PG_DATABASE PG_DB PGDATABASE
 *   port      PG_PORT PGPORT          user      PG_USER PGUSER
 *   password  PG_PASSWORD PGPASSWORD
 *
 * of the environment, then of the file; and, if the file has them, from libpq's other variables
 * (PGSSLMODE and so on), which libpq itself finds only in the environment. What is said nowhere is
 * not passed, so that libpq's own rules stand: service file, .pgpass, its defaults. Where a service
 * is named (by --db or PGSERVICE) it and libpq decide all that --db does not: no variable is
 * passed.
 *
 * For PQconnectdbParams(keywords, values, 0): --db is taken apart already.
 * Errors: ARGUMENT (no text of a password in it), MEMORY.
 */
vecmill_status config_pg_conninfo(const config *c, const char *db, config_pg *pg_out,
                                  vecmill_error *err);
void config_pg_fini(config_pg *pg);

/* The i-th variable that says something of a connection, NULL past the end: those above first, then
 * libpq's other ones. */
const char *config_pg_variable(size_t i);

/* Which variable is used in the place of one that is set, NULL: itself. PGSERVICE where a service
 * is named and libpq would not hear of this one. */
const char *config_pg_instead(const config *c, const char *variable);

/* One keyword more, such as fallback_application_name; `keyword` is borrowed. One that is there
 * stays as it is. */
vecmill_status config_pg_add(config_pg *pg, const char *keyword, const char *value,
                             vecmill_error *err);

/* The first keyword that the file said and this libpq does not know, with its origin; NULL: it
 * knows them all. (Of the environment's libpq would pass over it in silence.) */
typedef bool config_pg_knows(const char *keyword);
const char *config_pg_unknown(const config *c, const config_pg *pg, config_pg_knows *knows,
                              char origin_out[CONFIG_ORIGIN_SIZE]);

const char *config_pg_value(const config_pg *pg, const char *keyword); /* NULL: not passed */

typedef enum config_database {
  CONFIG_DATABASE_PG = 0, /* NULL, an address, or KEYWORD=VALUE */
  CONFIG_DATABASE_FILE,   /* a file's path, whether there is one or not */
  /* No file that there is, and by its look meant for a server: a password may stand in it, so that
   * no message holds any of it. */
  CONFIG_DATABASE_NEITHER
} config_database;

config_database config_database_of(const char *db);
bool config_is_pg(const char *db);

/* ARGUMENT: neither. */
vecmill_status config_check_database(const char *db, vecmill_error *err);

/* A database for messages, without passwords: an SQLite file's path, or as config_pg has it.
 * mem_free; NULL when memory is out. */
char *config_database_shown(const config *c, const char *db);

#endif
