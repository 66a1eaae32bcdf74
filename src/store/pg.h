/*
 * The store over a table of a PostgreSQL database with pgvector, shared by any number of processes.
 * See store.h for what it does, docs/ingest.md for what it puts into the user's database.
 */
#ifndef STORE_PG_H
#define STORE_PG_H

#include "store/store.h"

typedef struct pg_settings {
  const char *const *keywords; /* for PQconnectdbParams, ended by NULL; borrowed */
  const char *const *values;
  const char *shown;        /* the connection in words, without a password; NULL: libpq's */
  const char *schema;       /* of the table; NULL: the search path */
  const char *state_schema; /* NULL: "vecmill" */
  unsigned lease_seconds;   /* 0: 60 */
  unsigned n_connections;   /* at most, to 16; 0: 4: a reader, a beat, two writers */
  unsigned wait_seconds;    /* that a server which went away is waited for; 0: 120 */
} pg_settings;

/*
 * Connects. `stop` (may be NULL) is read with atomic loads: once it is not 0, waiting for the
 * server ends. It must outlive the store. Errors: DATABASE (its words, and what to do), MEMORY,
 * STOPPED.
 */
vecmill_status store_open_pg(const pg_settings *settings, const int *stop, store **store_out,
                             vecmill_error *err);

bool store_pg_knows(const char *keyword); /* whether this libpq has that keyword */
int store_pg_library(void);               /* libpq's version, as 150013 */

/* UNSUPPORTED, and what to do, where the database has no pgvector. */
vecmill_status store_check_pg_vector(store *s, vecmill_error *err);

#endif
