/*
 * The store over a table of an SQLite database file. See store.h for what it
 * does, docs/ingest.md for what it puts into the user's database.
 */
#ifndef STORE_SQLITE_H
#define STORE_SQLITE_H

#include "store/store.h"

/*
 * Opens a database file that exists. `stop` (may be NULL) is read with atomic
 * loads: once it is not 0, waiting for other people's locks ends. It must outlive the store.
 */
vecmill_status store_open_sqlite(const char *path, const int *stop, store **store_out,
                                 vecmill_error *err);

/* UNSUPPORTED for a library older than 3.37, of which UPDATE .. FROM (3.33), sqlite_schema (3.33)
 * and sqlite3_changes64 are used. `number` and `name` as sqlite3_libversion_number and
 * sqlite3_libversion say them of the library that is loaded. */
vecmill_status store_check_sqlite_version(int number, const char *name, vecmill_error *err);

/* DATABASE, and what to do, where the file or its folder may not be written. Writes nothing. */
vecmill_status store_check_sqlite_writable(store *s, vecmill_error *err);

#endif
