/* vecmill: finds the subcommand and hands it the rest. */
#include <stdio.h>
#include <string.h>

#include <vecmill/log.h>
#include <vecmill/system.h>

#include "command.h"

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *what;
} commands[] = {
    {"ingest", command_ingest, "a vector beside every row of a table"},
    {"search", command_search, "rows of a table, found by meaning"},
    {"jobs", command_jobs, "who works on which table, and how far that is"},
    {"embed", command_embed, "a vector for every record of a file"},
    {"tokenize", command_tokenize, "the token ids that a model sees"},
    {"bench", command_bench, "how fast this machine embeds, beside what its registers can do"},
    {"doctor", command_doctor, "what this machine has, and whether the main job can run"},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static int print_usage(FILE *to, int exit_status) {
  fputs("Usage: vecmill COMMAND ..   (vecmill COMMAND --help tells its options)\n\n", to);
  for (size_t i = 0; i < N_COMMANDS; i++)
    fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
  return exit_status;
}

static void tell(void *context, vecmill_log_level level, const char *text) {
  (void)context;
  if (level <= VECMILL_LOG_NOTE)
    fprintf(stderr, "vecmill: %s%s\n", level == VECMILL_LOG_WARNING ? "warning: " : "", text);
}

static int run(int argc, char **argv) {
  const char *word = argc > 1 ? argv[1] : "";
  for (size_t i = 0; i < N_COMMANDS; i++)
    if (strcmp(word, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
  if (strcmp(word, "--version") == 0) {
    printf("vecmill %s\n", vecmill_version());
    return 0;
  }
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
    return print_usage(stdout, 0);
  if (*word) fprintf(stderr, "vecmill: %s: no such command (see vecmill --help)\n", word);
  return *word ? COMMAND_EXIT_USAGE : print_usage(stderr, COMMAND_EXIT_USAGE);
}

/* What was printed and could not be written is a failure, for every subcommand alike. */
int main(int argc, char **argv) {
  vecmill_error error = {0};
  vecmill_log_set_handler(tell, NULL);
  int exit_status = run(argc, argv);
  if (exit_status != 0 || command_flush(stdout, "standard output", &error) == VECMILL_OK)
    return exit_status;
  fprintf(stderr, "vecmill: %s\n", error.text);
  return command_exit_status(error.status);
}
