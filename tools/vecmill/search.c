/* vecmill search TABLE QUERY --db FILE: rows by meaning. */
#include <vecmill/search.h>

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

#define SNIPPET_COLUMNS 100

static const char usage[] =
    "Usage: vecmill search TABLE QUERY --db FILE [-k N] [--json] [options]\n"
    "Prints the rows whose vectors are nearest to QUERY by exact cosine, best first.\n"
    "\n"
    "  --db FILE            the SQLite database\n"
    "  -k N                 how many rows (default 10)\n"
    "  --json               one object a line with \"id\", \"score\" and \"text\"\n"
    "  --id-column C        as for vecmill ingest, and so the next three\n"
    "  --text-column C\n"
    "  --vector-column C\n"
    "  --where SQL\n"
    "  --help               this\n";

enum {
  OPTION_DB = 1,
  OPTION_JSON,
  OPTION_ID,
  OPTION_TEXT,
  OPTION_VECTOR,
  OPTION_WHERE,
  OPTION_HELP
};

static const struct option long_options[] = {
    {"db", required_argument, NULL, OPTION_DB},
    {"json", no_argument, NULL, OPTION_JSON},
    {"id-column", required_argument, NULL, OPTION_ID},
    {"text-column", required_argument, NULL, OPTION_TEXT},
    {"vector-column", required_argument, NULL, OPTION_VECTOR},
    {"where", required_argument, NULL, OPTION_WHERE},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

static int take_option(int option, vecmill_search_options *options, bool *json) {
  uint64_t k = 0;
  switch (option) {
    case OPTION_DB: options->database = optarg; break;
    case OPTION_JSON: *json = true; break;
    case OPTION_ID: options->id_column = optarg; break;
    case OPTION_TEXT: options->text_column = optarg; break;
    case OPTION_VECTOR: options->vector_column = optarg; break;
    case OPTION_WHERE: options->where = optarg; break;
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
        "search: no table or no query (vecmill search TABLE QUERY --db FILE)", NULL);
  if (!options->database)
    return command_usage_error("search: no database named (give --db FILE)", NULL);
  return COMMAND_GO_ON;
}

/* Text that is not UTF-8 is left out of the object: JSON could not hold it. */
static void print_json(const vecmill_search_hit *hit) {
  json_t *id = json_loads(hit->id_json, JSON_DECODE_ANY, NULL);
  json_t *object = json_pack("{s:o*, s:f}", "id", id, "score", (double)hit->score);
  json_t *text = hit->text ? json_stringn(hit->text, hit->n_text_bytes) : NULL;
  if (object && text) json_object_set_new(object, "text", text);
  char *line = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
  if (line) puts(line);
  free(line);
  json_decref(object);
}

/* The beginning of the text on one line: white space runs become a space, control characters
 * vanish. */
static void print_snippet(const vecmill_search_hit *hit) {
  size_t n_characters = 0;
  bool space = false;
  for (size_t i = 0; i < hit->n_text_bytes; i++) {
    unsigned char c = (unsigned char)hit->text[i];
    if (c <= ' ' || c == 0x7F) {
      space = n_characters > 0;
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
  printf("%3zu  %.4f  %s  ", rank, (double)hit->score, hit->id_json);
  if (hit->text) print_snippet(hit);
  putchar('\n');
}

int command_search(int argc, char **argv) {
  vecmill_search_options options = {0};
  bool json = false;
  int exit_status = take_arguments(argc, argv, &options, &json);
  if (exit_status != COMMAND_GO_ON) return exit_status;
  vecmill_search_result result;
  vecmill_error error = {0};
  vecmill_status status = vecmill_search_run(&options, &result, &error);
  for (size_t i = 0; status == VECMILL_OK && i < result.n_hits; i++) {
    if (json) print_json(&result.hits[i]);
    else print_hit(i + 1, &result.hits[i]);
  }
  if (status == VECMILL_OK && result.n_skipped > 0)
    fprintf(stderr,
            "vecmill: %llu rows hold no usable vector and were not compared (another size, all "
            "zeros, or not finite)\n",
            (unsigned long long)result.n_skipped);
  if (status == VECMILL_OK && result.n_scanned == 0)
    fprintf(stderr, "vecmill: table %s: no row has a vector yet (vecmill ingest %s --db %s)\n",
            options.table, options.table, options.database);
  vecmill_search_result_fini(&result);
  if (status != VECMILL_OK) fprintf(stderr, "vecmill: %s\n", error.text);
  return command_exit_status(status);
}
