/*
 * One vecmill at a time on one vector column: a lock of the operating system,
 * so that it dies with its process and kill -9 leaves nothing to clean up.
 *
 * The lock is a byte of an empty file beside the database (PATH-vecmill-lock),
 * its offset made from the names of the table and the column. The database file
 * itself is never opened for it: closing any descriptor of that file would drop
 * SQLite's own POSIX locks (sqlite.org/howtocorrupt.html, 2.2). Whoever is the
 * last to leave removes the file; after a kill it stays, empty and unlocked, until a later run
 * leaves.
 */
#ifndef STORE_TABLE_LOCK_H
#define STORE_TABLE_LOCK_H

#include <stdbool.h>

#include "base/err.h"

typedef struct table_lock {
  int fd; /* -1: not held */
  char *path;
} table_lock;

/* {-1, NULL} before. BUSY when another process or another lock of this process has it. Does not
 * block. */
vecmill_status table_lock_take(table_lock *lock, const char *database_path, const char *table,
                               const char *column, vecmill_error *err);
/* Whether somebody, this process included, has it; false where that cannot be seen. */
bool table_lock_is_held(const char *database_path, const char *table, const char *column);
void table_lock_drop(table_lock *lock); /* idempotent */

#endif
