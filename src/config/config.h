/*
 * Look-ups through the layers: what the command line said, the environment, the `.env` file.
 *
 * The environment is read at each look-up and never changed. NULL for a config is the environment
 * alone. See vecmill/config.h, whose calls are these under other names.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <vecmill/config.h>

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct vecmill_config config;

typedef enum config_source {
  CONFIG_UNSET = 0,
  CONFIG_OPTION,
  CONFIG_ENVIRONMENT,
  CONFIG_FILE
} config_source;

/* Strings are borrowed from the config, the environment or the caller of config_find. */
typedef struct config_value {
  config_source source;
  const char *name, *text;
  const char *option; /* CONFIG_OPTION: "--workers" */
  const char *file;   /* CONFIG_FILE: ".env" */
  unsigned line;
} config_value;

/* Room for where a value came from: "NAME=VALUE (FILE line N)", a long value cut. */
#define CONFIG_ORIGIN_SIZE 256

vecmill_status config_open(const char *path, config **config_out, vecmill_error *err);
void config_close(config **c);
vecmill_status config_set(config *c, const char *name, const char *value, const char *option,
                          vecmill_error *err);

/* The text found, NULL if there is none: environment first, then the file. Empty counts as unset.
 */
const char *config_get(const config *c, const char *name);

/* The same with where it came from. EMBED_PREFIX alone may be found empty. False: unset. */
bool config_find(const config *c, const char *name, config_value *value_out);

/*
 * Puts into the process's environment what the file has, the environment has not, and libpq looks
 * for nowhere else (config_exported). No other thread may run.
 */
vecmill_status config_export(config *c, vecmill_error *err);
const char *config_exported(size_t i); /* the i-th name, NULL past the end */

/* The first of several names, source by source: any name in the environment is before any in the
 * file. `names` ends in NULL. */
bool config_find_any(const config *c, const char *const *names, config_value *value_out);

/* "--workers x", "EMBED_WORKERS=x (environment)", "EMBED_WORKERS=x (.env line 3)"; for a password,
 * and what may hold one, "..." stands. */
void config_origin(const config_value *value, char text_out[CONFIG_ORIGIN_SIZE]);

/* Puts the origin before the text of `err`, if it is the environment or a file. Gives `status`. */
vecmill_status config_blame(const config_value *value, vecmill_status status, vecmill_error *err);

/* Checked values; see vecmill/config.h for bounds. ARGUMENT names the origin. */
vecmill_status config_workers(const config *c, unsigned *n_workers_out, vecmill_error *err);
vecmill_status config_batch(const config *c, size_t *batch_out, vecmill_error *err);
vecmill_status config_sleep(const config *c, uint64_t *sleep_ns_out, vecmill_error *err);
vecmill_status config_device(const config *c, const char **device_out, vecmill_error *err);

#define CONFIG_MAX_WORKERS 4096
#define CONFIG_MAX_BATCH 1000000
#define CONFIG_MAX_SLEEP_S 86400

/* The names of all settings but the connection's; NULL past the end. */
const char *config_name(size_t i);

#endif
