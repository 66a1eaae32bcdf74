/* vecmill search TABLE QUERY [--db DB]: rows by meaning. */
#include <vecmill/search.h>

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vecmill/text.h>

#include "command.h"

#define SNIPPET_COLUMNS 100

static const char usage[] =
    "Usage: vecmill search TABLE QUERY [--db DB] [-k N] [--json] [options]\n"
    "Prints the rows whose vectors are nearest to QUERY by cosine, best first: exactly, but where "
    "pgvector has an index.\n"
    "\n"
    "  --db DB              as for vecmill ingest, and so the next two\n"
    "  --schema S\n"
    "  --state-schema S\n"
    "  -k N                 how many rows (default 10)\n"
    "  --json               one object a line with \"id\", \"score\" and \"text\"\n"
    "  --id-column C        as for vecmill ingest, and so the next three\n"
    "  --text-column C\n"
    "  --vector-column C\n"
    "  --where SQL\n"
    "  --exact              compare every vector, though PostgreSQL has an index of them\n"
    "  --help, -h           this\n";

enum {
  OPTION_DB = 1,
  OPTION_SCHEMA,
  OPTION_STATE,
  OPTION_JSON,
  OPTION_ID,
  OPTION_TEXT,
  OPTION_VECTOR,
  OPTION_WHERE,
  OPTION_EXACT,
  OPTION_HELP
};

static const struct option long_options[] = {
    {"db", required_argument, NULL, OPTION_DB},
    {"schema", required_argument, NULL, OPTION_SCHEMA},
    {"state-schema", required_argument, NULL, OPTION_STATE},
    {"json", no_argument, NULL, OPTION_JSON},
    {"id-column", required_argument, NULL, OPTION_ID},
    {"text-column", required_argument, NULL, OPTION_TEXT},
    {"vector-column", required_argument, NULL, OPTION_VECTOR},
    {"where", required_argument, NULL, OPTION_WHERE},
    {"exact", no_argument, NULL, OPTION_EXACT},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

static int take_option(int option, vecmill_search_options *options, bool *json) {
  uint64_t k = 0;
  switch (option) {
    case OPTION_DB: options->database = command_database(optarg); break;
    case OPTION_JSON: *json = true; break;
    case OPTION_ID: options->id_column = optarg; break;
    case OPTION_TEXT: options->text_column = optarg; break;
    case OPTION_VECTOR: options->vector_column = optarg; break;
    case OPTION_SCHEMA: options->schema = optarg; break;
    case OPTION_STATE: options->state_schema = optarg; break;
    case OPTION_WHERE: options->where = optarg; break;
    case OPTION_EXACT: options->exact = 1; break;
    case 'k':
      if (!command_number(optarg, 1, VECMILL_SEARCH_MAX_K, &k))
        return command_usage_error("-k %s: not a number of rows (1 to 1000000)", optarg);
      options->k = k;
      break;
    case OPTION_HELP: return command_help(usage);
    default: return command_usage_error(NULL, NULL);
  }
  return COMMAND_GO_ON;
}

static int take_arguments(int argc, char **argv, vecmill_search_options *options, bool *json) {
  int option;
  while ((option = command_next_option(argc, argv, "k:", long_options)) != -1) {
    int status = take_option(option, options, json);
    if (status != COMMAND_GO_ON) return status;
  }
  if (optind < argc) options->table = argv[optind++];
  if (optind < argc) options->query = argv[optind++];
  if (optind < argc)
    return command_usage_error("%s: one argument too many (put the query in quotes)", argv[optind]);
  if (!options->table || !options->query)
    return command_usage_error(
        "search: no table or no query (vecmill search TABLE QUERY [--db DB])", NULL);
  return COMMAND_GO_ON;
}

/* The text as JSON, ill-formed UTF-8 as U+FFFD; false when memory is out. */
static bool print_text(const vecmill_search_hit *hit) {
  char *repaired = malloc(3 * hit->n_text_bytes + 1);
  size_t n = repaired ? vecmill_text_repair(hit->text, hit->n_text_bytes, repaired, NULL) : 0;
  json_t *text = repaired ? json_stringn(repaired, n) : NULL;
  char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
  if (quoted) printf(",\"text\":%s", quoted);
  free(quoted);
  json_decref(text);
  free(repaired);
  return quoted != NULL;
}

/* The id is JSON already and stays as it is: a parser might round it. */
static vecmill_status print_json(const vecmill_search_hit *hit, vecmill_error *error) {
  printf("{\"id\":%s,\"score\":%.9g", hit->id_json, (double)hit->score);
  bool complete = !hit->text || print_text(hit);
  puts("}");
  if (complete) return VECMILL_OK;
  error->status = VECMILL_ERROR_MEMORY;
  snprintf(error->text, sizeof error->text, "row %s: out of memory for its text", hit->id_json);
  return VECMILL_ERROR_MEMORY;
}

/* The beginning of the text on one line: runs of white space and of controls become a space. */
static void print_snippet(const vecmill_search_hit *hit) {
  size_t n_characters = 0;
  bool space = false;
  for (size_t i = 0, n_control; i < hit->n_text_bytes; i++) {
    unsigned char c = (unsigned char)hit->text[i];
    n_control =
        hit->text[i] == ' ' ? 1 : command_control_bytes(hit->text + i, hit->n_text_bytes - i);
    if (n_control > 0) {
      space = n_characters > 0;
      i += n_control - 1;
      continue;
    }
    bool begins = (c & 0xC0) != 0x80;
    if (begins && n_characters >= SNIPPET_COLUMNS) {
      fputs("...", stdout);
      return;
    }
    if (space) putchar(' '), n_characters++;
    space = false;
    putchar(c);
    n_characters += begins;
  }
}

static void print_hit(size_t rank, const vecmill_search_hit *hit) {
  command_show(stdout, "%3zu  %.4f  %s  ", rank, (double)hit->score, hit->id_json);
  if (hit->text) print_snippet(hit);
  putchar('\n');
}

static void tell_nothing(const vecmill_search_options *options,
                         const vecmill_search_result *result) {
  if (result->advice)
    command_show(stderr, "vecmill: table %s: no row has a vector yet (%s)\n", options->table,
                 result->advice);
  else
    command_show(stderr, "vecmill: table %s: no row that --where leaves has a vector\n",
                 options->table);
}

int command_search(int argc, char **argv) {
  vecmill_search_options options = {0};
  bool json = false;
  int exit_status = take_arguments(argc, argv, &options, &json);
  vecmill_config *config = NULL;
  vecmill_error error = {0};
  const char *device;
  if (exit_status == COMMAND_GO_ON) exit_status = command_config(&(command_words){0}, &config);
  if (exit_status != COMMAND_GO_ON) return exit_status;
  options.config = config;
  if (vecmill_config_device(config, &device, &error) != VECMILL_OK) {
    vecmill_config_close(&config);
    return command_told(VECMILL_ERROR_ARGUMENT, &error);
  }
  vecmill_search_result result;
  vecmill_status status = vecmill_search_run(&options, &result, &error);
  for (size_t i = 0; status == VECMILL_OK && i < result.n_hits; i++) {
    if (json) status = print_json(&result.hits[i], &error);
    else print_hit(i + 1, &result.hits[i]);
  }
  if (status == VECMILL_OK && result.n_skipped > 0)
    fprintf(stderr,
            "vecmill: %llu rows hold no usable vector and were not compared (another size, all "
            "zeros, or not finite)\n",
            (unsigned long long)result.n_skipped);
  if (status == VECMILL_OK && result.n_scanned == 0) tell_nothing(&options, &result);
  if (status == VECMILL_OK && result.index)
    command_show(stderr, "vecmill: by index %s, which guesses (--exact compares every vector)\n",
                 result.index);
  vecmill_search_result_fini(&result);
  vecmill_config_close(&config);
  return command_told(status, &error);
}
