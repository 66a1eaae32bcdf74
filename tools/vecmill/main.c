/* vecmill: finds the subcommand and hands it the rest. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <vecmill/config.h>
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
    command_show(stderr, "vecmill: %s%s\n", level == VECMILL_LOG_WARNING ? "warning: " : "", text);
}

/* An address that does not follow a command's --db would be taken for a table or a text, and stays
 * in lists of processes with its password. */
static bool has_stray_address(int argc, char **argv) {
  bool found = false;
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
    bool is_db = argv[1][0] != '-' &&
                 (strcmp(argv[i - 1], "--db") == 0 || strncmp(argv[i], "--db=", 5) == 0);
    char *equals = strchr(argv[i], '='), *slashes = strstr(argv[i], "://");
    char *word = equals && equals < slashes ? equals + 1 : argv[i];
    if (is_db || !slashes || !vecmill_database_is_postgresql(word)) continue;
    vecmill_database_hide(word);
    found = true;
  }
  return found;
}

static int run(int argc, char **argv) {
  if (has_stray_address(argc, argv))
    return command_usage_error(argv[1][0] == '-'
                                   ? "an option stands before the command (vecmill COMMAND --db DB)"
                                   : "an address of PostgreSQL is given without --db before it",
                               NULL);
  const char *word = argc > 1 ? argv[1] : "";
  for (size_t i = 0; i < N_COMMANDS; i++)
    if (strcmp(word, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
  if (strcmp(word, "--version") == 0) {
    printf("vecmill %s\n", vecmill_version());
    return 0;
  }
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
    return print_usage(stdout, 0);
  if (*word) command_show(stderr, "vecmill: %s: no such command (see vecmill --help)\n", word);
  return *word ? COMMAND_EXIT_USAGE : print_usage(stderr, COMMAND_EXIT_USAGE);
}

/* Who closes one of the three has the first file or connection that is opened in its place, and
 * what is printed goes there. What stands there instead can be neither read nor written, so that it
 * fails as if it were closed. */
static void hold_standard_streams(void) {
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY); /* the lowest that is free: this one */
}

/* What was printed and could not be written is a failure, for every subcommand alike. */
int main(int argc, char **argv) {
  vecmill_error error = {0};
  hold_standard_streams();
  vecmill_log_set_handler(tell, NULL);
  int exit_status = run(argc, argv);
  if (exit_status != 0 || command_flush(stdout, "standard output", &error) == VECMILL_OK)
    return exit_status;
  fprintf(stderr, "vecmill: %s\n", error.text);
  return command_exit_status(error.status);
}
