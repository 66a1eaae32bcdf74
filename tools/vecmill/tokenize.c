/* vecmill tokenize: the ids that a model sees, one JSON array a record. */
#include <getopt.h>
#include <stdio.h>
#include <vecmill/model.h>

#include "command.h"
#include "records.h"

static const char usage[] =
    "Usage: vecmill tokenize [FILE|-] [--model NAME|DIR] [--input lines|jsonl]\n"
    "Prints one JSON array of token ids a record: special tokens included, truncated as the model "
    "would.\n"
    "\n"
    "  --model NAME|DIR     default: EMBED_MODEL, else the default model\n"
    "  --input FORM         lines (default): a text a line; jsonl: {\"text\": ...} a line\n"
    "  --help, -h           this\n";

enum { OPTION_MODEL = 1, OPTION_INPUT, OPTION_HELP };

static const struct option long_options[] = {
    {"model", required_argument, NULL, OPTION_MODEL},
    {"input", required_argument, NULL, OPTION_INPUT},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

static vecmill_status print_ids(vecmill_tokenizer *tokenizer, const record *one,
                                vecmill_error *error) {
  const int32_t *ids;
  size_t n;
  vecmill_status status =
      vecmill_tokenizer_encode(tokenizer, one->text, one->n_text_bytes, &ids, &n, NULL, error);
  if (status != VECMILL_OK) return status;
  putchar('[');
  for (size_t i = 0; i < n; i++) printf(i ? ", %d" : "%d", (int)ids[i]);
  puts("]");
  return VECMILL_OK;
}

static vecmill_status print_all(vecmill_tokenizer *tokenizer, records *input,
                                vecmill_error *error) {
  record one = {0};
  bool is_end = false;
  vecmill_status status = VECMILL_OK;
  while (status == VECMILL_OK && !ferror(stdout)) {
    status = records_next(input, &one, &is_end, error);
    if (status != VECMILL_OK || is_end) break;
    status = print_ids(tokenizer, &one, error);
  }
  record_fini(&one);
  return status == VECMILL_OK ? command_flush(stdout, "standard output", error) : status;
}

int command_tokenize(int argc, char **argv) {
  command_words words = {0};
  vecmill_config *config = NULL;
  const char *path = NULL;
  bool is_jsonl = false;
  for (int option; (option = command_next_option(argc, argv, "", long_options)) != -1;) {
    if (option == OPTION_HELP) return command_help(usage);
    if (option == OPTION_MODEL) words.model = optarg;
    else if (option != OPTION_INPUT) return COMMAND_EXIT_USAGE;
    else if (!records_form_named(optarg, &is_jsonl))
      return command_usage_error("--input %s: unknown (lines or jsonl)", optarg);
  }
  if (optind < argc) path = argv[optind++];
  if (optind < argc) return command_usage_error("%s: one argument too many", argv[optind]);
  int exit_status = command_config(&words, &config);
  if (exit_status != COMMAND_GO_ON) return exit_status;
  vecmill_error error = {0};
  records input = {0};
  vecmill_tokenizer *tokenizer = NULL;
  vecmill_status status = records_open(&input, path, is_jsonl, &error);
  if (status == VECMILL_OK) {
    status = vecmill_tokenizer_open(vecmill_config_get(config, "EMBED_MODEL"), &tokenizer, &error);
    if (status != VECMILL_OK) vecmill_config_blame(config, "EMBED_MODEL", status, &error);
  }
  if (status == VECMILL_OK) status = print_all(tokenizer, &input, &error);
  if (status == VECMILL_OK) records_tell_repaired(&input);
  vecmill_tokenizer_close(&tokenizer);
  records_close(&input);
  vecmill_config_close(&config);
  return command_told(status, &error);
}
