/* vecmill doctor: what is here, and what is missing for the main job. */
#include <getopt.h>
#include <stdio.h>

#include <vecmill/ingest.h>
#include <vecmill/model.h>
#include <vecmill/system.h>

#include "command.h"

static const char usage[] =
    "Usage: vecmill doctor [--db DB] [--model NAME|DIR]\n"
    "Tells the processor's features in use, the kernels, the libraries, "
    "the settings, the model and the database.\n"
    "Exit status 0: the main job can run.\n"
    "\n"
    "  --db DB              an SQLite file, postgresql://.. or \"host=.. dbname=..\"; without it "
    "the\n"
    "                       PostgreSQL that PG_HOST, PGHOST and so on name, if any is set\n"
    "  --model NAME|DIR     default: EMBED_MODEL, else the default model\n"
    "  --help, -h           this\n";

enum { OPTION_DB = 1, OPTION_MODEL, OPTION_HELP };

static const struct option long_options[] = {
    {"db", required_argument, NULL, OPTION_DB},
    {"model", required_argument, NULL, OPTION_MODEL},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

static const char *or_none(const char *text) {
  return text && *text ? text : "none";
}

static void tell_system(void) {
  vecmill_system system;
  vecmill_system_get(&system);
  printf("vecmill    %s\n", vecmill_version());
  printf("processor  %s, %u usable\n", system.processor, system.n_cpus);
  printf("features   %s (the processor has: %s)\n", or_none(system.features),
         or_none(system.features_native));
  if (system.unknown_mask)
    command_show(stdout, "           VECMILL_CPU names no feature: %s\n", system.unknown_mask);
  printf("kernels    %s; compiled:", system.kernels);
  int runs;
  for (size_t i = 0; vecmill_system_variant(i, &runs); i++)
    printf(" %s%s", vecmill_system_variant(i, &runs), runs ? "" : " (cannot run here)");
  putchar('\n');
  printf("libraries ");
  const char *version, *library;
  for (size_t i = 0; (library = vecmill_system_library(i, &version)) != NULL; i++)
    printf("%s %s %s", i ? "," : "", library, version);
  putchar('\n');
}

/* Whether a PostgreSQL server is named without --db: a password alone, or how to talk to it, is
 * none.
 */
static bool is_place_set(const vecmill_config *config) {
  static const char *const places[] = {"PG_HOST", "PGHOST",      "PGHOSTADDR", "PG_PORT",
                                       "PGPORT",  "PG_DATABASE", "PG_DB",      "PGDATABASE",
                                       "PG_USER", "PGUSER",      "PGSERVICE"};
  const char *value;
  for (size_t i = 0; i < sizeof places / sizeof *places; i++)
    if ((value = vecmill_config_get(config, places[i])) != NULL && *value) return true;
  return false;
}

static void tell_setting(const vecmill_config *config, const char *name, const char *instead,
                         size_t *n_told) {
  char origin[256];
  vecmill_config_origin(config, name, origin, sizeof origin);
  if (!*origin) return;
  command_show(stdout, "%s %s%s%s%s\n", (*n_told)++ ? "          " : "settings  ", origin,
               instead ? ", not used: " : "", instead ? instead : "",
               instead ? " stands over it" : "");
}

/* What the environment and .env say, and whether it can be meant. */
static vecmill_status tell_settings(const vecmill_config *config, vecmill_error *error) {
  const char *device, *name, *instead;
  unsigned n_workers;
  size_t batch, n_told = 0;
  double sleep_s;
  for (size_t i = 0; (name = vecmill_config_name(i)) != NULL; i++)
    tell_setting(config, name, NULL, &n_told);
  for (size_t i = 0; (name = vecmill_config_connection_name(config, i, &instead)) != NULL; i++)
    tell_setting(config, name, instead, &n_told);
  if (n_told == 0) puts("settings   none");
  vecmill_status status = vecmill_config_workers(config, &n_workers, error);
  if (status == VECMILL_OK) status = vecmill_config_batch(config, &batch, error);
  if (status == VECMILL_OK) status = vecmill_config_sleep(config, &sleep_s, error);
  if (status == VECMILL_OK) status = vecmill_config_device(config, &device, error);
  if (status != VECMILL_OK) command_show(stdout, "           %s\n", error->text);
  return status;
}

/* Opened whole, since that is what the main job needs. */
static vecmill_status tell_model(const vecmill_config *config, vecmill_error *error) {
  vecmill_model *model;
  vecmill_status status = command_open_model(config, &model, error);
  if (status != VECMILL_OK) {
    command_show(stdout, "model      %s\n", error->text);
    return status;
  }
  const vecmill_model_info *info = vecmill_model_get_info(model);
  command_show(stdout,
               "model      %s: %s, %zu layers, %zu dimensions, %zu tokens, pooling %s, %s, %.1f M "
               "parameters\n",
               info->name, info->architecture, info->n_layers, info->dimension, info->max_tokens,
               info->pooling, info->precision, info->n_parameters / 1e6);
  command_show(stdout, "           %s\n", info->directory);
  vecmill_model_close(&model);
  return VECMILL_OK;
}

static vecmill_status tell_database(const vecmill_config *config, const char *database,
                                    vecmill_error *error) {
  if (!database && !is_place_set(config))
    return printf("database   none named (--db DB, or PG_HOST, PG_DATABASE ..)\n"), VECMILL_OK;
  vecmill_database_info info;
  vecmill_status status = vecmill_database_check(config, database, &info, error);
  fputs("database   ", stdout);
  command_show_lines(stdout, status == VECMILL_OK ? info.place : error->text);
  if (*info.server)
    printf("           %s, %s%s, %s\n", info.server, *info.vector ? "pgvector " : "no pgvector",
           info.vector, *info.tls ? info.tls : "no TLS");
  return status;
}

int command_doctor(int argc, char **argv) {
  const char *database = NULL;
  command_words words = {0};
  vecmill_config *config = NULL;
  for (int option; (option = command_next_option(argc, argv, "", long_options)) != -1;) {
    if (option == OPTION_HELP) return command_help(usage);
    if (option == OPTION_DB) database = command_database(optarg);
    else if (option == OPTION_MODEL) words.model = optarg;
    else return COMMAND_EXIT_USAGE;
  }
  if (optind < argc) return command_usage_error("%s: one argument too many", argv[optind]);
  int exit_status = command_config(&words, &config);
  if (exit_status != COMMAND_GO_ON) return exit_status;
  vecmill_error error = {0};
  tell_system();
  bool has_settings = tell_settings(config, &error) == VECMILL_OK;
  bool has_model = tell_model(config, &error) == VECMILL_OK;
  bool has_database = tell_database(config, database, &error) == VECMILL_OK;
  bool can_run = has_settings && has_model && has_database;
  printf("main job   %s\n", can_run         ? "can run"
                            : !has_settings ? "cannot run: a setting is wrong"
                            : !has_model    ? "cannot run: no model"
                                            : "cannot run: no database");
  vecmill_config_close(&config);
  return can_run ? 0 : 1;
}
