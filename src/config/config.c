#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "config/conninfo.h"
#include "config/env.h"

/* Every setting and the bounds that are told with it. */
enum {
  SETTING_WORKERS,
  SETTING_BATCH,
  SETTING_SLEEP,
  SETTING_DEVICE,
  SETTING_MODEL,
  SETTING_PREFIX,
  N_SETTINGS
};

static const char *const names[] = {
    [SETTING_WORKERS] = "EMBED_WORKERS", [SETTING_BATCH] = "EMBED_BATCH_SIZE",
    [SETTING_SLEEP] = "EMBED_SLEEP",     [SETTING_DEVICE] = "EMBED_DEVICE",
    [SETTING_MODEL] = "EMBED_MODEL",     [SETTING_PREFIX] = "EMBED_PREFIX",
};

/* Where libpq's services are described, and what a session begins with: no keyword of a connection
 * stands for these ("Environment Variables" in PostgreSQL's manual, 34.15). */
static const char *const exported[] = {"PGSERVICEFILE", "PGSYSCONFDIR", "PGLOCALEDIR",
                                       "PGDATESTYLE",   "PGTZ",         "PGGEQO"};
#define N_EXPORTED (sizeof exported / sizeof *exported)

struct vecmill_config {
  char *path; /* NULL: no file */
  env_file file;
  struct {
    char *text;
    const char *option;
  } said[N_SETTINGS];           /* by the command line */
  bool is_exported[N_EXPORTED]; /* from the file */
};

const char *config_name(size_t i) {
  return i < N_SETTINGS ? names[i] : NULL;
}

static int setting_named(const char *name) {
  for (int i = 0; i < N_SETTINGS; i++)
    if (strcmp(names[i], name) == 0) return i;
  return -1;
}

vecmill_status config_open(const char *path, config **config_out, vecmill_error *err) {
  *config_out = NULL;
  config *c = mem_calloc(1, sizeof *c);
  if (!c) return err_set_memory(err, "settings", sizeof *c);
  vecmill_status status = VECMILL_OK;
  if (path) {
    c->path = mem_strdup(path);
    status = c->path ? env_read(path, &c->file, err) : err_set_memory(err, path, strlen(path));
  }
  if (status == VECMILL_OK) *config_out = c;
  else config_close(&c);
  return status;
}

void config_close(config **config_in) {
  config *c = *config_in;
  *config_in = NULL;
  if (!c) return;
  for (size_t i = 0; i < N_SETTINGS; i++) mem_free(c->said[i].text);
  env_fini(&c->file);
  mem_free(c->path);
  mem_free(c);
}

vecmill_status config_set(config *c, const char *name, const char *value, const char *option,
                          vecmill_error *err) {
  int i = setting_named(name);
  if (i < 0) return err_set(err, VECMILL_ERROR_ARGUMENT, "%s: no such setting", name);
  char *copy = mem_strdup(value);
  if (!copy) return err_set_memory(err, name, strlen(value));
  mem_free(c->said[i].text);
  c->said[i].text = copy;
  c->said[i].option = option;
  return VECMILL_OK;
}

/* --- looking up --- */

static bool counts(const char *name, const char *text) {
  return text && (*text || strcmp(name, names[SETTING_PREFIX]) == 0);
}

static bool find_in_environment(const char *name, config_value *value_out) {
  const char *text = getenv(name);
  if (!counts(name, text)) return false;
  *value_out = (config_value){.source = CONFIG_ENVIRONMENT, .name = name, .text = text};
  return true;
}

static bool find_in_file(const config *c, const char *name, config_value *value_out) {
  const env_entry *entry = c ? env_find(&c->file, name) : NULL;
  if (!entry || !counts(name, entry->value)) return false;
  *value_out = (config_value){.source = CONFIG_FILE,
                              .name = name,
                              .text = entry->value,
                              .file = c->path,
                              .line = entry->line};
  return true;
}

static bool was_exported(const config *c, const char *name) {
  for (size_t i = 0; i < N_EXPORTED; i++)
    if (c->is_exported[i] && strcmp(exported[i], name) == 0) return true;
  return false;
}

bool config_find(const config *c, const char *name, config_value *value_out) {
  int i = c ? setting_named(name) : -1;
  *value_out = (config_value){.source = CONFIG_UNSET, .name = name};
  if (i >= 0 && c->said[i].text) {
    *value_out = (config_value){.source = CONFIG_OPTION,
                                .name = name,
                                .text = c->said[i].text,
                                .option = c->said[i].option};
    return true;
  }
  if (c && was_exported(c, name)) return find_in_file(c, name, value_out);
  return find_in_environment(name, value_out) || find_in_file(c, name, value_out);
}

bool config_find_any(const config *c, const char *const *all, config_value *value_out) {
  *value_out = (config_value){.source = CONFIG_UNSET, .name = all[0]};
  for (size_t i = 0; all[i]; i++)
    if (find_in_environment(all[i], value_out)) return true;
  for (size_t i = 0; all[i]; i++)
    if (find_in_file(c, all[i], value_out)) return true;
  return false;
}

const char *config_exported(size_t i) {
  return i < N_EXPORTED ? exported[i] : NULL;
}

vecmill_status config_export(config *c, vecmill_error *err) {
  for (size_t i = 0; i < N_EXPORTED; i++) {
    config_value value;
    if (!config_find(c, exported[i], &value) || value.source != CONFIG_FILE) continue;
    if (setenv(exported[i], value.text, 1) != 0)
      return err_set_memory(err, exported[i], strlen(value.text));
    c->is_exported[i] = true;
  }
  return VECMILL_OK;
}

const char *config_get(const config *c, const char *name) {
  config_value value;
  return config_find(c, name, &value) ? value.text : NULL;
}

/* --- telling where a value came from --- */

static bool is_secret(const char *name) {
  return name && (strcmp(name, "PG_PASSWORD") == 0 || strcmp(name, "PGPASSWORD") == 0);
}

void config_origin(const config_value *value, char text_out[CONFIG_ORIGIN_SIZE]) {
  /* A value of any length leaves room for the rest; of a cut one the last bytes may be half a
   * character, which only a message shows. */
  const char *text = value->text ? value->text : "";
  /* A password may stand in what is no value of a setting at all. */
  if (is_secret(value->name) || conninfo_is(text) || conninfo_is_doubtful(text)) text = "...";
  int n_shown = 100;
  while (n_shown > 0 && (size_t)n_shown < strlen(text) &&
         ((unsigned char)text[n_shown] & 0xC0) == 0x80)
    n_shown--;
  text_out[0] = '\0';
  if (value->source == CONFIG_OPTION)
    snprintf(text_out, CONFIG_ORIGIN_SIZE, "%.32s %.*s", value->option, n_shown, text);
  else if (value->source == CONFIG_ENVIRONMENT)
    snprintf(text_out, CONFIG_ORIGIN_SIZE, "%.32s=%.*s (environment)", value->name, n_shown, text);
  else if (value->source == CONFIG_FILE)
    snprintf(text_out, CONFIG_ORIGIN_SIZE, "%.32s=%.*s (%.80s line %u)", value->name, n_shown, text,
             value->file, value->line);
}

vecmill_status config_blame(const config_value *value, vecmill_status status, vecmill_error *err) {
  char origin[CONFIG_ORIGIN_SIZE];
  if (!err || (value->source != CONFIG_ENVIRONMENT && value->source != CONFIG_FILE)) return status;
  vecmill_error why = *err;
  config_origin(value, origin);
  return err_set(err, status, "%s: %s", origin, why.text);
}

static vecmill_status refuse(const config_value *value, const char *why, vecmill_error *err) {
  char origin[CONFIG_ORIGIN_SIZE];
  config_origin(value, origin);
  return err_set(err, VECMILL_ERROR_ARGUMENT, "%s: %s", origin, why);
}

/* --- checked values --- */

/* A whole decimal number from 1 to max. */
static bool number_of(const char *text, uint64_t max, uint64_t *number_out) {
  uint64_t number = 0;
  if (!*text) return false;
  for (; *text; text++) {
    if (*text < '0' || *text > '9') return false;
    number = 10 * number + (uint64_t)(*text - '0');
    if (number > max) return false;
  }
  *number_out = number;
  return number > 0;
}

/* Seconds with a fraction, in nanoseconds: "2", "0.5", ".25". Not strtod, which follows the locale.
 */
static bool nanoseconds_of(const char *text, uint64_t max_s, uint64_t *ns_out) {
  uint64_t whole = 0, part = 0, unit = 1000000000u;
  bool has_digit = false;
  for (; *text >= '0' && *text <= '9'; text++, has_digit = true)
    if ((whole = 10 * whole + (uint64_t)(*text - '0')) > max_s) return false;
  if (*text == '.') text++;
  else if (*text) return false;
  for (; *text >= '0' && *text <= '9'; text++, has_digit = true)
    part += (uint64_t)(*text - '0') * (unit /= 10); /* digits beyond the ninth count nothing */
  if (*text || !has_digit || (whole == max_s && part > 0)) return false;
  *ns_out = whole * 1000000000u + part;
  return true;
}

vecmill_status config_workers(const config *c, unsigned *n_workers_out, vecmill_error *err) {
  config_value value;
  uint64_t number = 0;
  *n_workers_out = 0;
  if (!config_find(c, names[SETTING_WORKERS], &value) || strcmp(value.text, "auto") == 0)
    return VECMILL_OK;
  if (!number_of(value.text, CONFIG_MAX_WORKERS, &number))
    return refuse(&value, "not a number of workers (1 to 4096, or auto)", err);
  *n_workers_out = (unsigned)number;
  return VECMILL_OK;
}

vecmill_status config_batch(const config *c, size_t *batch_out, vecmill_error *err) {
  config_value value;
  uint64_t number = 0;
  *batch_out = 0;
  if (!config_find(c, names[SETTING_BATCH], &value)) return VECMILL_OK;
  if (!number_of(value.text, CONFIG_MAX_BATCH, &number))
    return refuse(&value, "not a number of rows (1 to 1000000)", err);
  *batch_out = (size_t)number;
  return VECMILL_OK;
}

vecmill_status config_sleep(const config *c, uint64_t *sleep_ns_out, vecmill_error *err) {
  config_value value;
  *sleep_ns_out = 0;
  if (!config_find(c, names[SETTING_SLEEP], &value)) return VECMILL_OK;
  if (!nanoseconds_of(value.text, CONFIG_MAX_SLEEP_S, sleep_ns_out))
    return refuse(&value, "not a number of seconds (0 to 86400, as 0.5)", err);
  return VECMILL_OK;
}

vecmill_status config_device(const config *c, const char **device_out, vecmill_error *err) {
  config_value value;
  char why[64];
  *device_out = "cpu";
  if (!config_find(c, names[SETTING_DEVICE], &value)) return VECMILL_OK;
  if (str_same(value.text, "auto") || str_same(value.text, "cpu")) return VECMILL_OK;
  /* "cuda:0" is PyTorch's name for the first one. */
  bool is_cuda = str_begins(value.text, "cuda") && (!value.text[4] || value.text[4] == ':');
  if (!is_cuda) return refuse(&value, "unknown device (auto or cpu)", err);
  /* After "--device cuda" the name is told already. */
  snprintf(why, sizeof why, "%.20s%snot supported; use cpu",
           value.source == CONFIG_OPTION ? "" : value.text,
           value.source == CONFIG_OPTION ? "" : ": ");
  return refuse(&value, why, err);
}
