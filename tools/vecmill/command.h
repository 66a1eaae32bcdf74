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

#include <vecmill/status.h>

#define COMMAND_GO_ON (-1)
#define COMMAND_EXIT_USAGE 2

/* argv[0] is the subcommand's name. The return value is the exit status. */
int command_ingest(int argc, char **argv);
int command_search(int argc, char **argv);
int command_embed(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_bench(int argc, char **argv);

/* getopt_long, with unknown options told in the form of all errors. '?' after an error, -1 at the
 * end. */
int command_next_option(int argc, char **argv, const char *short_options,
                        const struct option *long_options);

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
