#include <vecmill/config.h>

#include <stdio.h>

#include "config/config.h"
#include "config/conninfo.h"
#include "config/pg_settings.h"

vecmill_status vecmill_config_open(const char *path, vecmill_config **config_out,
                                   vecmill_error *err) {
  return config_open(path, config_out, err);
}

void vecmill_config_close(vecmill_config **c) {
  config_close(c);
}

vecmill_status vecmill_config_set(vecmill_config *c, const char *name, const char *value,
                                  const char *option, vecmill_error *err) {
  return config_set(c, name, value, option, err);
}

vecmill_status vecmill_config_export(vecmill_config *c, vecmill_error *err) {
  return config_export(c, err);
}

const char *vecmill_config_get(const vecmill_config *c, const char *name) {
  return config_get(c, name);
}

vecmill_status vecmill_config_workers(const vecmill_config *c, unsigned *n_workers_out,
                                      vecmill_error *err) {
  return config_workers(c, n_workers_out, err);
}

vecmill_status vecmill_config_batch(const vecmill_config *c, size_t *batch_out,
                                    vecmill_error *err) {
  return config_batch(c, batch_out, err);
}

vecmill_status vecmill_config_sleep(const vecmill_config *c, double *seconds_out,
                                    vecmill_error *err) {
  uint64_t ns = 0;
  vecmill_status status = config_sleep(c, &ns, err);
  *seconds_out = (double)ns * 1e-9;
  return status;
}

vecmill_status vecmill_config_device(const vecmill_config *c, const char **device_out,
                                     vecmill_error *err) {
  return config_device(c, device_out, err);
}

const char *vecmill_config_name(size_t i) {
  return config_name(i);
}

const char *vecmill_config_connection_name(const vecmill_config *c, size_t i,
                                           const char **instead_out) {
  const char *name = config_pg_variable(i);
  *instead_out = name ? config_pg_instead(c, name) : NULL;
  return name;
}

void vecmill_config_origin(const vecmill_config *c, const char *name, char *text_out,
                           size_t n_text) {
  config_value value;
  char origin[CONFIG_ORIGIN_SIZE];
  config_find(c, name, &value);
  config_origin(&value, origin);
  if (n_text > 0) snprintf(text_out, n_text, "%s", origin);
}

vecmill_status vecmill_config_blame(const vecmill_config *c, const char *name,
                                    vecmill_status status, vecmill_error *err) {
  config_value value;
  config_find(c, name, &value);
  return config_blame(&value, status, err);
}

int vecmill_database_is_postgresql(const char *database) {
  return config_is_pg(database);
}

void vecmill_database_hide(char *database) {
  if (database && config_database_of(database) != CONFIG_DATABASE_FILE) conninfo_hide(database);
}
