/*
 * A `.env` file: lines of KEY=VALUE, read and never put into the process's environment.
 *
 * The rules are python-dotenv's (github.com/theskumar/python-dotenv, its parser and the tests of
 * it), but that nothing is expanded: `${X}` stays as it is.
 *   - Blank lines and lines that begin with # are passed over; so is a KEY alone. Lines end in LF,
 * CRLF or CR. A byte order mark at the start goes.
 *   - `export` before the key is allowed, and so is 'a key in quotes'. White space around the =
 * goes.
 *   - A value without quotes ends at the line's end or at white space and #; white space at its
 * ends goes.
 *   - 'single quotes' know \\ and \', "double quotes" also \" \a \b \f \n \r \t \v; other
 * backslashes stay. A value in quotes may span lines; after it only a comment may follow.
 *   - Of a key that stands twice the last value holds.
 * A line that is none of that is left out, with a warning that names the file and the line. Neither
 * a key nor a value of it is told: it may be a password.
 */
#ifndef CONFIG_ENV_H
#define CONFIG_ENV_H

#include <stddef.h>

#include "base/err.h"

#define ENV_MAX_BYTES (1u << 20)

typedef struct env_entry {
  const char *key, *value; /* in the file's bytes */
  unsigned line;           /* where the entry begins, from 1 */
} env_entry;

/* Initialise with {0}; env_fini overwrites the values before it frees them. */
typedef struct env_file {
  env_entry *entries;
  size_t n;
  char *bytes;
  size_t n_bytes;
} env_file;

void env_fini(env_file *file);

/*
 * A file that is not there, and a folder of that name, hold nothing. One that cannot be read, or is
 * longer than ENV_MAX_BYTES, holds nothing either, and a warning says so. Errors: MEMORY.
 */
vecmill_status env_read(const char *path, env_file *file_out, vecmill_error *err);

/* The same of n_bytes at `bytes` (mem_free), which it takes over and writes into, and after which a
 * NUL stands; `name` is for warnings. */
vecmill_status env_parse(char *bytes, size_t n_bytes, const char *name, env_file *file_out,
                         vecmill_error *err);

/* The last entry of that key, NULL if there is none. */
const env_entry *env_find(const env_file *file, const char *key);

#endif
