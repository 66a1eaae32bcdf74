#include "config/pg_settings.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"

/* Names beside libpq's own, in the order in which they are looked for. */
static const struct {
  const char *keyword;
  const char *variables[4];
} settings[] = {
    {"host", {"PG_HOST", "PGHOST"}},
    {"port", {"PG_PORT", "PGPORT"}},
    {"dbname", {"PG_DATABASE", "PG_DB", "PGDATABASE"}},
    {"user", {"PG_USER", "PGUSER"}},
    {"password", {"PG_PASSWORD", "PGPASSWORD"}},
};
#define N_SETTINGS (sizeof settings / sizeof *settings)

static int setting_of(const char *variable) {
  for (size_t i = 0; i < N_SETTINGS; i++)
    for (size_t j = 0; settings[i].variables[j]; j++)
      if (strcmp(settings[i].variables[j], variable) == 0) return (int)i;
  return -1;
}

const char *config_pg_variable(size_t i) {
  size_t n = 0;
  for (size_t k = 0; k < N_SETTINGS; k++)
    for (size_t j = 0; settings[k].variables[j]; j++)
      if (n++ == i) return settings[k].variables[j];
  for (size_t k = 0; k < CONNINFO_N_KEYWORDS; k++) {
    const char *variable = conninfo_keyword_at(k)->variable;
    if (variable && setting_of(variable) < 0 && n++ == i) return variable;
  }
  return config_exported(i - n);
}

const char *config_pg_instead(const config *c, const char *variable) {
  config_value service, value;
  bool is_exported = false;
  for (size_t i = 0; config_exported(i); i++)
    if (strcmp(config_exported(i), variable) == 0) is_exported = true;
  if (is_exported || strcmp(variable, "PGSERVICE") == 0) return NULL;
  if (config_find(c, "PGSERVICE", &service) && config_find(c, variable, &value))
    return value.source == CONFIG_FILE || strncmp(variable, "PG_", 3) == 0 ? "PGSERVICE" : NULL;
  int i = setting_of(variable);
  if (i < 0 || !config_find_any(c, settings[i].variables, &value)) return NULL;
  return strcmp(value.name, variable) == 0 ? NULL : value.name;
}

void config_pg_fini(config_pg *pg) {
  for (size_t i = 0; i < pg->n; i++) {
    explicit_bzero((char *)pg->values[i], strlen(pg->values[i]));
    mem_free((char *)pg->values[i]);
  }
  mem_free(pg->shown);
  *pg = (config_pg){0};
}

const char *config_pg_value(const config_pg *pg, const char *keyword) {
  for (size_t i = 0; i < pg->n; i++)
    if (strcmp(pg->keywords[i], keyword) == 0) return pg->values[i];
  return NULL;
}

vecmill_status config_pg_add(config_pg *pg, const char *keyword, const char *value,
                             vecmill_error *err) {
  if (config_pg_value(pg, keyword)) return VECMILL_OK;
  if (pg->n == CONFIG_PG_ROOM) return err_set(err, VECMILL_ERROR_INTERNAL, "too many keywords");
  char *copy = mem_strdup(value);
  if (!copy) return err_set_memory(err, keyword, strlen(value));
  pg->keywords[pg->n] = keyword;
  pg->values[pg->n++] = copy;
  return VECMILL_OK;
}

config_database config_database_of(const char *db) {
  struct stat there;
  if (!db || conninfo_is(db)) return CONFIG_DATABASE_PG;
  if (stat(db, &there) == 0 || !conninfo_is_meant(db)) return CONFIG_DATABASE_FILE;
  return CONFIG_DATABASE_NEITHER;
}

bool config_is_pg(const char *db) {
  return config_database_of(db) == CONFIG_DATABASE_PG;
}

vecmill_status config_check_database(const char *db, vecmill_error *err) {
  if (db && !*db) return err_set(err, VECMILL_ERROR_ARGUMENT, "--db: empty (name a database)");
  if (config_database_of(db) != CONFIG_DATABASE_NEITHER) return VECMILL_OK;
  return err_set(err, VECMILL_ERROR_ARGUMENT,
                 "--db: not an SQLite file and not an address of PostgreSQL (give a file that "
                 "exists, postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or \"host=HOST "
                 "dbname=DATABASE user=USER\")");
}

/* What --db itself says. */
static vecmill_status add_said(const char *db, config_pg *pg, vecmill_error *err) {
  conninfo said;
  vecmill_status status = conninfo_parse(db, &said, err);
  for (size_t i = 0; status == VECMILL_OK && i < CONNINFO_N_KEYWORDS; i++)
    if (said.values[i])
      status = config_pg_add(pg, conninfo_keyword_at(i)->name, said.values[i], err);
  conninfo_fini(&said);
  return status;
}

/* The keyword that a variable stands for; NULL: none. */
static const conninfo_keyword *keyword_of(const char *variable) {
  int i = setting_of(variable);
  for (size_t k = 0; k < CONNINFO_N_KEYWORDS; k++) {
    const conninfo_keyword *one = conninfo_keyword_at(k);
    if (i >= 0 ? strcmp(one->name, settings[i].keyword) == 0
               : one->variable && strcmp(one->variable, variable) == 0)
      return one;
  }
  return NULL;
}

/* What --db does not say, of the environment too: libpq, and messages, would quote what stands
 * there. */
static vecmill_status refuse_addresses(const config *c, const config_pg *pg, vecmill_error *err) {
  const char *variable;
  for (size_t i = 0; (variable = config_pg_variable(i)) != NULL; i++) {
    const conninfo_keyword *keyword = keyword_of(variable);
    config_value value;
    char origin[CONFIG_ORIGIN_SIZE];
    if (!keyword || keyword->is_secret || config_pg_value(pg, keyword->name)) continue;
    if (!config_find(c, variable, &value) || !conninfo_is_doubtful(value.text)) continue;
    config_origin(&value, origin);
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "%s: an address, where only its %s is meant (give the address to --db)", origin,
                   keyword->name);
  }
  return VECMILL_OK;
}

static vecmill_status check_port(const config_value *value, vecmill_error *err) {
  char origin[CONFIG_ORIGIN_SIZE];
  if (conninfo_are_ports(value->text)) return VECMILL_OK;
  config_origin(value, origin);
  return err_set(err, VECMILL_ERROR_ARGUMENT, "%s: not a port (1 to 65535)", origin);
}

static vecmill_status add_variables(const config *c, config_pg *pg, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  config_value value;
  for (size_t i = 0; status == VECMILL_OK && i < N_SETTINGS; i++) {
    if (config_pg_value(pg, settings[i].keyword) ||
        !config_find_any(c, settings[i].variables, &value))
      continue;
    if (strcmp(settings[i].keyword, "port") == 0) status = check_port(&value, err);
    if (status == VECMILL_OK) status = config_pg_add(pg, settings[i].keyword, value.text, err);
  }
  return status;
}

/* libpq's other variables, where the file has them and the environment has not. */
static vecmill_status add_from_file(const config *c, bool has_host, config_pg *pg,
                                    vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  const conninfo_keyword *keyword;
  for (size_t i = 0; status == VECMILL_OK && (keyword = conninfo_keyword_at(i)) != NULL; i++) {
    config_value value;
    /* An address would lead elsewhere than the host that --db names. */
    if (!keyword->variable || (has_host && strcmp(keyword->name, "hostaddr") == 0)) continue;
    if (!config_find(c, keyword->variable, &value) || value.source != CONFIG_FILE) continue;
    if (strcmp(keyword->name, "requiressl") != 0)
      status = config_pg_add(pg, keyword->name, value.text, err);
    /* libpq knows it as a variable alone, and as the last that is asked for sslmode. */
    else if (value.text[0] == '1' && !config_get(c, "PGSSLMODE"))
      status = config_pg_add(pg, "sslmode", "require", err);
  }
  return status;
}

static vecmill_status add_service(const config *c, config_pg *pg, bool *has_service,
                                  vecmill_error *err) {
  config_value value;
  *has_service = config_pg_value(pg, "service") != NULL;
  if (*has_service || !config_find(c, "PGSERVICE", &value)) return VECMILL_OK;
  *has_service = true;
  return value.source == CONFIG_FILE ? config_pg_add(pg, "service", value.text, err) : VECMILL_OK;
}

/* Where services are described is no parameter of libpq's before 18: it asks the environment. Of a
 * program that did not call config_export it would look elsewhere. */
static vecmill_status refuse_service_file(const config *c, vecmill_error *err) {
  static const char *const variables[] = {"PGSERVICEFILE", "PGSYSCONFDIR"};
  for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
    config_value value;
    char origin[CONFIG_ORIGIN_SIZE];
    const char *there = getenv(variables[i]);
    if ((there && *there) || !config_find(c, variables[i], &value)) continue;
    config_origin(&value, origin);
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "%s: libpq reads this from the environment alone (export it)", origin);
  }
  return VECMILL_OK;
}

const char *config_pg_unknown(const config *c, const config_pg *pg, config_pg_knows *knows,
                              char origin_out[CONFIG_ORIGIN_SIZE]) {
  for (size_t i = 0; i < pg->n; i++) {
    int at = conninfo_find_keyword(pg->keywords[i], strlen(pg->keywords[i]));
    const char *variable = at >= 0 ? conninfo_keyword_at((size_t)at)->variable : NULL;
    config_value value;
    if (!variable || knows(pg->keywords[i]) || !config_find(c, variable, &value)) continue;
    if (value.source != CONFIG_FILE || strcmp(value.text, pg->values[i]) != 0) continue;
    config_origin(&value, origin_out);
    return pg->keywords[i];
  }
  return NULL;
}

/* "host=.. port=.. dbname=.. user=.." of what is passed, as libpq would read it. */
static char *shown_pairs(const config_pg *pg) {
  static const char *const wanted[] = {"service", "host", "hostaddr", "port", "dbname", "user"};
  str shown = {0};
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    const char *value = config_pg_value(pg, wanted[i]);
    if (!value) continue;
    bool plain = *value && !strpbrk(value, " '\\\t\n\r");
    str_append_format(&shown, "%s%s=", shown.n ? " " : "", wanted[i]);
    if (!plain) str_append_char(&shown, '\'');
    for (const char *p = value; *p; p++) {
      if (*p == '\'' || *p == '\\') str_append_char(&shown, '\\');
      str_append_char(&shown, *p);
    }
    if (!plain) str_append_char(&shown, '\'');
  }
  if (shown.n == 0) str_append_text(&shown, "PostgreSQL as libpq finds it");
  if (!shown.failed) return shown.data;
  str_fini(&shown);
  return NULL;
}

vecmill_status config_pg_conninfo(const config *c, const char *db, config_pg *pg_out,
                                  vecmill_error *err) {
  config_pg pg = {0};
  *pg_out = pg;
  bool has_service = false;
  vecmill_status status = db ? add_said(db, &pg, err) : VECMILL_OK;
  bool has_host = config_pg_value(&pg, "host") != NULL;
  if (status == VECMILL_OK) status = refuse_addresses(c, &pg, err);
  if (status == VECMILL_OK) status = add_service(c, &pg, &has_service, err);
  if (status == VECMILL_OK && has_service) status = refuse_service_file(c, err);
  if (status == VECMILL_OK && !has_service) status = add_variables(c, &pg, err);
  if (status == VECMILL_OK && !has_service) status = add_from_file(c, has_host, &pg, err);
  if (status == VECMILL_OK) {
    pg.shown = db ? conninfo_shown(db) : shown_pairs(&pg);
    if (!pg.shown) status = err_set_memory(err, "connection", 1);
  }
  if (status == VECMILL_OK) *pg_out = pg;
  else config_pg_fini(&pg);
  return status;
}

char *config_database_shown(const config *c, const char *db) {
  config_pg pg;
  config_database kind = config_database_of(db);
  if (kind == CONFIG_DATABASE_NEITHER) return mem_strdup("--db");
  if (db) return kind == CONFIG_DATABASE_PG ? conninfo_shown(db) : mem_strdup(db);
  if (config_pg_conninfo(c, NULL, &pg, NULL) != VECMILL_OK) return mem_strdup("PostgreSQL");
  char *shown = pg.shown;
  pg.shown = NULL;
  config_pg_fini(&pg);
  return shown;
}
