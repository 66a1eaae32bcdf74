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

/* What is known of a server, each "" where it is not. */
typedef struct pg_about {
  char place[256];  /* user@host:port/database, as the connection came out */
  char version[32]; /* "16.9" */
  char vector[32];  /* pgvector's */
  char tls[32];     /* "TLSv1.3" */
} pg_about;

/* Filled as far as it could be asked for. Errors, with what to do: UNSUPPORTED (the database has no
 * pgvector), DATABASE (it takes no writes; the state's schema may not be made or used). */
vecmill_status store_about_pg(store *s, pg_about *about_out, vecmill_error *err);

#endif
