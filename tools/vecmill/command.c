#include "command.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether the long option just taken was written out: getopt_long takes any beginning that is
 * unique, which the next option to be added would break. */
static bool is_whole(char **argv, const char *name) {
  const char *word = argv[optind - 1 - (optarg == argv[optind - 1])];
  size_t n = strcspn(word + 2, "=");
  return strlen(name) == n && strncmp(word + 2, name, n) == 0;
}

/* Every table has one. */
static int help_option(const struct option *options) {
  while (strcmp(options->name, "help") != 0) options++;
  return options->val;
}

int command_next_option(int argc, char **argv, const char *short_options,
                        const struct option *long_options) {
  opterr = 0;
  char options[16];
  snprintf(options, sizeof options, ":h%s", short_options); /* ':' tells a missing value apart */
  optopt = 0;
  int at = -1, option = getopt_long(argc, argv, options, long_options, &at);
  if (option == 'h') return help_option(long_options);
  if (at >= 0 && option != ':' && option != '?' && !is_whole(argv, long_options[at].name)) {
    option = '?';
    optopt = 0;
  }
  if (option != ':' && option != '?') return option;
  /* optopt is the letter of a short option (a byte below 0 where it is not ASCII), the number of a
   * long one that is known, else 0. */
  bool is_long = optopt >= 0 && optopt < ' ';
  char letter[] = {'-', optopt > ' ' ? (char)optopt : '?', '\0'};
  const char *why = option == ':'            ? "needs a value"
                    : is_long && optopt != 0 ? "takes no value"
                                             : "unknown option";
  const char *word = is_long ? argv[optind - 1 - (optarg == argv[optind - 1])] : letter;
  /* What follows an unknown one may be a misspelt --db's. */
  size_t n = optopt == 0 ? strcspn(word, "=") : strlen(word);
  command_show(stderr, "vecmill: %.*s: %s (see vecmill %s --help)\n", (int)n, word, why, argv[0]);
  return '?';
}

size_t command_control_bytes(const char *text, size_t n) {
  const unsigned char *c = (const unsigned char *)text;
  if (n == 0) return 0;
  if (c[0] < ' ' || c[0] == 0x7F) return 1;
  if (n >= 2 && c[0] == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0) return 2;
  bool turns = n >= 3 && c[0] == 0xE2 &&
               ((c[1] == 0x80 && c[2] >= 0xAA && c[2] <= 0xAE) ||
                (c[1] == 0x81 && c[2] >= 0xA6 && c[2] <= 0xA9));
  return turns ? 3 : 0;
}

/* Lines stay where they are meant: in the SQL that an error tells. */
static void show(FILE *to, const char *text, size_t n, bool keeps_lines) {
  for (size_t i = 0, n_control; i < n; i += n_control ? n_control : 1) {
    n_control = command_control_bytes(text + i, n - i);
    bool stays = n_control == 0 || (keeps_lines && (text[i] == '\n' || text[i] == '\t'));
    if (stays) putc(text[i], to);
    for (size_t k = 0; !stays && k < n_control; k++)
      fprintf(to, "\\x%02x", (unsigned char)text[i + k]);
  }
}

/* --- secrets --- */

/* Words of ours that stand for one: "postgresql://USER:PASSWORD@HOST", "PG_PASSWORD=..." */
static void cover(char *from, const char *to) {
  if (to - from == 8 && memcmp(from, "PASSWORD", 8) == 0) return;
  if (to - from == 3 && memcmp(from, "...", 3) == 0) return;
  while (from < to) *from++ = 'x';
}

/* "name://user:secret@": what stands there may hold an @ too. An address of the web may have both
 * signs in its path. */
static void cover_address(const char *line, char *after_slashes) {
  size_t n_before = (size_t)(after_slashes - line) - 3;
  if ((n_before >= 4 && memcmp(after_slashes - 7, "http", 4) == 0) ||
      (n_before >= 5 && memcmp(after_slashes - 8, "https", 5) == 0))
    return;
  char *end = after_slashes + strcspn(after_slashes, " \t\n\"");
  char *colon = memchr(after_slashes, ':', (size_t)(end - after_slashes)), *at = end;
  while (at > after_slashes && *at != '@') at--;
  if (colon && colon < at) cover(colon + 1, at);
}

/* "password = secret", as in connections and variables: quoted, or to the next blank; what follows
 * a backslash ends neither. */
static void cover_value(char *after_name) {
  char *c = after_name + strspn(after_name, " \t");
  if (*c++ != '=') return;
  c += strspn(c, " \t");
  bool is_quoted = *c == '\'' || *c == '"';
  char ends[] = {is_quoted ? *c : ' ', is_quoted ? '\0' : '\n', '\0'};
  c += is_quoted;
  char *end = c + strcspn(c, ends);
  while (end > c && end[-1] == '\\' && *end) end += 1 + strcspn(end + 1, ends);
  cover(c, end);
}

/* `word` in small letters of ASCII: whatever case the line has it in. */
static bool begins_with(const char *line, const char *word) {
  while (*word && (*line | 0x20) == *word) line++, word++;
  return !*word;
}

/* A word of the command line may be an address that stands in a wrong place: whatever is told of it
 * is told without its password. */
static void cover_secrets(char *line) {
  for (char *c = line; *c; c++) {
    if (strncmp(c, "://", 3) == 0) cover_address(line, c + 3);
    if (begins_with(c, "password")) cover_value(c + 8);
    if (begins_with(c, "passwd")) cover_value(c + 6);
  }
}

/* --- what is shown --- */

void command_show(FILE *to, const char *format, ...) {
  char *line = NULL;
  va_list args;
  va_start(args, format);
  int n = vasprintf(&line, format, args);
  va_end(args);
  if (n <= 0) return; /* memory is out: the line is lost */
  cover_secrets(line);
  bool ends = line[n - 1] == '\n';
  show(to, line, (size_t)n - ends, false);
  if (ends) putc('\n', to);
  free(line);
}

void command_show_lines(FILE *to, const char *text) {
  char *lines = strdup(text);
  if (!lines) return; /* memory is out: they are lost */
  cover_secrets(lines);
  show(to, lines, strlen(lines), true);
  putc('\n', to);
  free(lines);
}

void command_show_error(const char *text) {
  fputs("vecmill: ", stderr);
  command_show_lines(stderr, text);
}

int command_told(vecmill_status status, const vecmill_error *error) {
  if (status != VECMILL_OK) command_show_error(error->text);
  return command_exit_status(status);
}

int command_config(const command_words *words, vecmill_config **config_out) {
  const struct {
    const char *name, *option, *word;
  } said[] = {{"EMBED_WORKERS", "--workers", words->workers},
              {"EMBED_BATCH_SIZE", "BATCH", words->batch},
              {"EMBED_SLEEP", "--sleep", words->sleep},
              {"EMBED_DEVICE", "--device", words->device},
              {"EMBED_MODEL", "--model", words->model}};
  vecmill_error error = {0};
  vecmill_status status = vecmill_config_open(".env", config_out, &error);
  for (size_t i = 0; status == VECMILL_OK && i < sizeof said / sizeof *said; i++)
    if (said[i].word)
      status = vecmill_config_set(*config_out, said[i].name, said[i].word, said[i].option, &error);
  if (status == VECMILL_OK) status = vecmill_config_export(*config_out, &error);
  if (status == VECMILL_OK) return COMMAND_GO_ON;
  vecmill_config_close(config_out);
  return command_told(status, &error);
}

vecmill_status command_open_model(const vecmill_config *config, vecmill_model **model_out,
                                  vecmill_error *error) {
  const char *name = vecmill_config_get(config, "EMBED_MODEL");
  vecmill_status status = vecmill_model_open(name, model_out, error);
  return status == VECMILL_OK ? status : vecmill_config_blame(config, "EMBED_MODEL", status, error);
}

const char *command_database(char *word) {
  static char *kept; /* until the process ends, as arguments are */
  free(kept);
  kept = strdup(word);
  vecmill_database_hide(word);
  return kept;
}

bool command_number(const char *word, uint64_t min, uint64_t max, uint64_t *number_out) {
  char *end;
  if (!isdigit((unsigned char)word[0])) return false;
  errno = 0;
  unsigned long long number = strtoull(word, &end, 10);
  if (*end || errno || number < min || number > max) return false;
  *number_out = number;
  return true;
}

int command_usage_error(const char *format, const char *word) {
  if (!format) return COMMAND_EXIT_USAGE;
  /* without --db before it, of whatever form */
  if (word && (vecmill_database_is_postgresql(word) || (strchr(word, ':') && strchr(word, '@'))))
    word = "...";
  /* The format is a literal of the caller's with one %s or none: split there. */
  const char *hole = strstr(format, "%s");
  if (hole)
    command_show(stderr, "vecmill: %.*s%s%s\n", (int)(hole - format), format, word, hole + 2);
  else fprintf(stderr, "vecmill: %s\n", format);
  return COMMAND_EXIT_USAGE;
}

int command_help(const char *usage) {
  fputs(usage, stdout);
  return 0;
}

vecmill_status command_flush(FILE *file, const char *name, vecmill_error *error) {
  int failed = fflush(file) != 0 ? errno : 0;
  if (!failed && !ferror(file)) return VECMILL_OK;
  error->status = VECMILL_ERROR_IO;
  snprintf(error->text, sizeof error->text, "cannot write %s: %s", name,
           failed ? strerror(failed) : "an earlier part was lost");
  return VECMILL_ERROR_IO;
}

int command_exit_status(vecmill_status status) {
  switch (status) {
    case VECMILL_OK: return 0;
    case VECMILL_ERROR_ARGUMENT: return COMMAND_EXIT_USAGE;
    case VECMILL_ERROR_PARTIAL: return 3;
    default: return 1;
  }
}
