/*
 * What the subcommands share: reading their arguments, telling errors, exit statuses.
 *
 *   0    done
 *   1    failed; the reason is on stderr
 *   2    asked for something impossible: unknown option, missing argument, ambiguous column
 *   3    finished, but some rows or texts failed
 *   130  ended by Ctrl-C (SIGINT), 143 by SIGTERM: what was done is kept
 */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <vecmill/config.h>
#include <vecmill/model.h>
#include <vecmill/status.h>

#define COMMAND_GO_ON (-1)
#define COMMAND_EXIT_USAGE 2

/* argv[0] is the subcommand's name. The return value is the exit status. */
int command_ingest(int argc, char **argv);
int command_search(int argc, char **argv);
int command_jobs(int argc, char **argv);
int command_embed(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_bench(int argc, char **argv);

/* getopt_long, with unknown options told in the form of all errors, and -h for --help. '?' after an
 * error, -1 at the end. */
int command_next_option(int argc, char **argv, const char *short_options,
                        const struct option *long_options);

/* What options said about settings, as it was written; NULL: nothing. */
typedef struct command_words {
  const char *workers, *batch, *sleep, *device, *model;
} command_words;

/*
 * The settings: `words` above the environment above the `.env` of the working folder.
 * COMMAND_GO_ON, or an exit status, told. Closed by vecmill_config_close.
 */
int command_config(const command_words *words, vecmill_config **config_out);

/* The model that the settings name, else the default one; an error says where its name came from.
 */
vecmill_status command_open_model(const vecmill_config *config, vecmill_model **model_out,
                                  vecmill_error *error);

/* The word after --db: kept, while the password in it, if there is one, is overwritten in the
 * process's own list of arguments, which other users may read. NULL: memory is out. */
const char *command_database(char *word);

/*
 * Names and a server's words are others': characters that a terminal would act upon, and those that
 * turn the direction of what follows (C0, C1, U+202A to U+202E, U+2066 to U+2069), are shown as
 * \x1b. A newline at the end of the format is one; command_show_lines and command_show_error, which
 * tell what may be several lines of SQL, keep all of them.
 */
void command_show(FILE *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
void command_show_lines(FILE *to, const char *text);
void command_show_error(const char *text);
/* Bytes of such a character at `text`; 0: it is none. */
size_t command_control_bytes(const char *text, size_t n);

/* Tells an error on stderr; returns the exit status. */
int command_told(vecmill_status status, const vecmill_error *error);

/* A whole decimal number within the bounds. */
bool command_number(const char *word, uint64_t min, uint64_t max, uint64_t *number_out);

/* "vecmill: ..." on stderr, `word` for the format's only %s; NULL: already told. Returns
 * COMMAND_EXIT_USAGE. */
int command_usage_error(const char *format, const char *word);

int command_help(const char *usage); /* on stdout; returns 0 */

/* Flushes; IO when something written to `file` was lost (a full disk, a closed pipe). */
vecmill_status command_flush(FILE *file, const char *name, vecmill_error *error);

int command_exit_status(vecmill_status status);

#endif
