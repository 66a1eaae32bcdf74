/* vecmill jobs [--db DB]: who works on what. */
#include <vecmill/jobs.h>

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"

static const char usage[] = "Usage: vecmill jobs [--db DB] [--state-schema S] [--json]\n"
                            "Tells each vector column that vecmill has made in a database: whether "
                            "somebody works on it, how "
                            "far that is,\n"
                            "and in PostgreSQL which processes on which machines.\n"
                            "\n"
                            "  --db DB              as for vecmill ingest, and so the next one\n"
                            "  --state-schema S\n"
                            "  --json               one object a line for each column\n"
                            "  --help, -h           this\n";

enum { OPTION_DB = 1, OPTION_STATE, OPTION_JSON, OPTION_HELP };

static const struct option long_options[] = {
    {"db", required_argument, NULL, OPTION_DB},
    {"state-schema", required_argument, NULL, OPTION_STATE},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

static int take_arguments(int argc, char **argv, vecmill_jobs_options *options, bool *json) {
  int option;
  while ((option = command_next_option(argc, argv, "", long_options)) != -1) {
    switch (option) {
      case OPTION_DB: options->database = command_database(optarg); break;
      case OPTION_STATE: options->state_schema = optarg; break;
      case OPTION_JSON: *json = true; break;
      case OPTION_HELP: return command_help(usage);
      default: return command_usage_error(NULL, NULL);
    }
  }
  if (optind < argc)
    return command_usage_error("%s: one argument too many (vecmill jobs [--db DB])", argv[optind]);
  return COMMAND_GO_ON;
}

/* --- for people --- */

static const char *fate_of(const vecmill_job *job, const vecmill_worker *worker) {
  if (!worker->is_lost) return "";
  if (job->is_running) return " (lost: its rows are taken over)";
  return job->n_expired > 0 ? " (lost: its rows will be taken over by the next run)" : " (lost)";
}

static void print_worker(const vecmill_job *job, const vecmill_worker *worker) {
  command_show(
      stdout,
      "  %s process %ld: since %.0f s, last sign of life %.0f s ago%s, %llu rows in flight\n",
      worker->host, worker->pid, worker->seconds, worker->silent_seconds, fate_of(job, worker),
      (unsigned long long)worker->n_in_flight);
}

static void print_counts(const vecmill_job *job) {
  bool is_of_a_run = job->n_in_flight >= 0; /* and not of the table */
  if (job->is_gone) printf(", its table or a column of it is gone");
  else if (job->n_total < 0) printf(", its rows are not counted yet");
  else if (job->n_total == 0 && is_of_a_run)
    printf(job->is_running ? ", nothing left to embed"
                           : ", nothing was left to embed at the last run");
  else printf(", %lld of %lld rows done", (long long)job->n_done, (long long)job->n_total);
}

static void print_job(const vecmill_job *job) {
  if (job->schema) command_show(stdout, "%s.", job->schema);
  command_show(stdout, "%s.%s from %s with %s: %s", job->table, job->vector_column,
               job->text_column, job->model,
               job->is_running ? "being worked on" : "nobody works on it");
  print_counts(job);
  if (job->n_failed > 0) printf(", %lld failed", (long long)job->n_failed);
  if (job->n_in_flight > 0) printf(", %lld in flight", (long long)job->n_in_flight);
  if (job->n_expired > 0)
    printf(", %lld batches of lost processes to be taken over%s", (long long)job->n_expired,
           job->is_running ? "" : " by the next run");
  if (job->n_given_back > 0)
    printf(", %lld batches given back, for whoever comes next", (long long)job->n_given_back);
  if (job->rows_per_s >= 0) printf(", %.0f rows/s", job->rows_per_s);
  if (job->eta_s >= 0) printf(", %.0f s left", job->eta_s);
  putchar('\n');
  for (size_t i = 0; i < job->n_workers; i++) print_worker(job, &job->workers[i]);
}

/* --- for programs --- */

static json_t *json_of_worker(const vecmill_worker *worker) {
  return json_pack("{s:s, s:I, s:f, s:f, s:b, s:I}", "host", worker->host, "pid",
                   (json_int_t)worker->pid, "seconds", worker->seconds, "silent_seconds",
                   worker->silent_seconds, "lost", worker->is_lost, "in_flight",
                   (json_int_t)worker->n_in_flight);
}

static json_t *number_or_null(double number) {
  return number >= 0 ? json_real(number) : json_null();
}

static json_t *count_or_null(int64_t number) {
  return number >= 0 ? json_integer((json_int_t)number) : json_null();
}

static json_t *json_of_job(const vecmill_job *job) {
  json_t *workers = json_array();
  for (size_t i = 0; i < job->n_workers; i++)
    json_array_append_new(workers, json_of_worker(&job->workers[i]));
  return json_pack(
      "{s:s?, s:s, s:s, s:s, s:s, s:s?, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
      "schema", job->schema, "table", job->table, "vector_column", job->vector_column,
      "text_column", job->text_column, "model", job->model, "selection", job->selection, "running",
      job->is_running, "gone", job->is_gone, "total", count_or_null(job->n_total), "done",
      count_or_null(job->n_done), "failed", count_or_null(job->n_failed), "in_flight",
      count_or_null(job->n_in_flight), "expired_leases", count_or_null(job->n_expired),
      "given_back", count_or_null(job->n_given_back), "rows_per_s", number_or_null(job->rows_per_s),
      "eta_s", number_or_null(job->eta_s), "workers", workers);
}

/* A name that is not UTF-8 cannot be said in JSON. */
static void print_json(const vecmill_job *job) {
  json_t *object = json_of_job(job);
  char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
  puts(text ? text : "{}");
  free(text);
  json_decref(object);
}

int command_jobs(int argc, char **argv) {
  bool json = false;
  vecmill_config *config = NULL;
  vecmill_jobs jobs;
  vecmill_error error = {0};
  command_words words = {0};
  vecmill_jobs_options options = {0};
  int exit_status = take_arguments(argc, argv, &options, &json);
  if (exit_status == COMMAND_GO_ON) exit_status = command_config(&words, &config);
  if (exit_status != COMMAND_GO_ON) return exit_status;
  options.config = config;
  vecmill_status status = vecmill_jobs_run(&options, &jobs, &error);
  for (size_t i = 0; status == VECMILL_OK && i < jobs.n_jobs; i++) {
    if (json) print_json(&jobs.jobs[i]);
    else print_job(&jobs.jobs[i]);
  }
  if (status == VECMILL_OK && jobs.n_jobs == 0 && !json)
    puts("No vector column of vecmill's in this database");
  vecmill_jobs_fini(&jobs);
  vecmill_config_close(&config);
  return command_told(status, &error);
}
