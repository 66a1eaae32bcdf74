/*
 * Settings: from the command line, the environment and a `.env` file, in this order.
 *
 * A vecmill_config holds what a program's own options said (vecmill_config_set) and what a file
 * says; the environment is looked at when something is asked for. The process's environment is
 * changed by vecmill_config_export alone. An empty variable counts as unset, except that
 * EMBED_PREFIX= means no prefix. docs/command.md tells the variables and the rules of the file.
 *
 * Set everything first; after that any thread may read. Every error about a value says where it
 * came from: "--workers x", "EMBED_WORKERS=x (environment)", "EMBED_WORKERS=x (.env line 3)".
 */
#ifndef VECMILL_CONFIG_H
#define VECMILL_CONFIG_H

#include <stddef.h>

#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vecmill_config vecmill_config;

/*
 * `path` is usually ".env"; NULL: no file. A file that is not there holds nothing; one that cannot
 * be read, and a line that cannot be understood, are warnings (vecmill/log.h) that never tell a
 * value. Errors: MEMORY.
 */
VECMILL_API vecmill_status vecmill_config_open(const char *path, vecmill_config **config_out,
                                               vecmill_error *err);
VECMILL_API void vecmill_config_close(vecmill_config **config); /* NULL inside is allowed */

/* What an option said, above everything else: (config, "EMBED_WORKERS", "4", "--workers"). Copies
 * `value`; `option` is borrowed. Errors: MEMORY, ARGUMENT (no such setting). */
VECMILL_API vecmill_status vecmill_config_set(vecmill_config *config, const char *name,
                                              const char *value, const char *option,
                                              vecmill_error *err);

/*
 * Puts into the process's environment those variables of the file that libpq looks for nowhere
 * else, where they are not set: PGSERVICEFILE, PGSYSCONFDIR, PGLOCALEDIR, PGDATESTYLE, PGTZ,
 * PGGEQO. Before the program has started a thread. Without this call a service is refused where the
 * file has one of the first two, and the others are not read. Errors: MEMORY.
 */
VECMILL_API vecmill_status vecmill_config_export(vecmill_config *config, vecmill_error *err);

/* In all calls below `config` may be NULL: the environment alone. */

/* The value of any variable, NULL if it is unset; valid until the environment or config changes. */
VECMILL_API const char *vecmill_config_get(const vecmill_config *config, const char *name);

/* EMBED_WORKERS, 1 to 4096; 0: "auto" or not set. Errors of this and the next three: ARGUMENT. */
VECMILL_API vecmill_status vecmill_config_workers(const vecmill_config *config,
                                                  unsigned *n_workers_out, vecmill_error *err);
/* EMBED_BATCH_SIZE, 1 to 1,000,000 rows; 0: not set. */
VECMILL_API vecmill_status vecmill_config_batch(const vecmill_config *config, size_t *batch_out,
                                                vecmill_error *err);
/* EMBED_SLEEP, 0 to 86,400 seconds with a fraction; 0: not set. */
VECMILL_API vecmill_status vecmill_config_sleep(const vecmill_config *config, double *seconds_out,
                                                vecmill_error *err);
/* EMBED_DEVICE: "auto" or "cpu", or not set. *device_out is static, and "cpu". */
VECMILL_API vecmill_status vecmill_config_device(const vecmill_config *config,
                                                 const char **device_out, vecmill_error *err);

/* The i-th setting that this library knows, without the connection's; NULL past the end. */
VECMILL_API const char *vecmill_config_name(size_t i);

/* The i-th variable that says something of a connection to PostgreSQL, PG_HOST and PGHOST first;
 * NULL past the end. *instead_out: where it is set, which other one is used in its place, NULL:
 * none. */
VECMILL_API const char *vecmill_config_connection_name(const vecmill_config *config, size_t i,
                                                       const char **instead_out);

/* "EMBED_MODEL=x (environment)", cut to n_text bytes; "" where it is not set. For a password, and
 * for a value that may hold one, "..." stands. */
VECMILL_API void vecmill_config_origin(const vecmill_config *config, const char *name,
                                       char *text_out, size_t n_text);

/* Puts where the value of `name` came from before an error's text, unless an option of the command
 * line or nothing said it. Returns `status`. */
VECMILL_API vecmill_status vecmill_config_blame(const vecmill_config *config, const char *name,
                                                vecmill_status status, vecmill_error *err);

/*
 * Not 0: `database` is a PostgreSQL connection: a postgresql:// or postgres:// address, a string of
 * KEYWORD=VALUE, or NULL. 0: an SQLite file.
 */
VECMILL_API int vecmill_database_is_postgresql(const char *database);

/* Overwrites the password in place, for a word of the command line, which other users may see; all
 * of a word that was meant for a connection and is none. Copy the word first. */
VECMILL_API void vecmill_database_hide(char *database);

#ifdef __cplusplus
}
#endif
#endif
