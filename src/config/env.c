/*
 * See env.h. Values are decoded where they lie: a decoded value is never longer than what stands in
 * the file, so that every string of the result points into the file's own bytes.
 */
#include "config/env.h"

#include <stdbool.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#define MAX_WARNINGS 10 /* a file of another kind would be told line by line */

typedef struct reader {
  char *at, *end;
  unsigned line;
  const char *name;
  unsigned n_warnings;
} reader;

/* What a line says. value NULL: nothing. */
typedef struct binding {
  char *key, *key_end, *value, *value_end;
  unsigned line;
} binding;

static bool is_line_end(const reader *r) {
  return r->at == r->end || *r->at == '\n' || *r->at == '\r';
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\v' || c == '\f';
}

static void skip_blanks(reader *r) {
  while (r->at < r->end && is_blank(*r->at)) r->at++;
}

static void skip_line_end(reader *r) {
  if (r->at == r->end) return;
  bool is_pair = *r->at == '\r' && r->end - r->at > 1 && r->at[1] == '\n';
  r->at += is_pair ? 2 : 1;
  r->line++;
}

static void skip_rest_of_line(reader *r) {
  while (!is_line_end(r)) r->at++;
}

static void skip_blank_lines(reader *r) {
  for (;;) {
    skip_blanks(r);
    if (r->at == r->end || !is_line_end(r)) return;
    skip_line_end(r);
  }
}

static void warn(reader *r, unsigned line, const char *why) {
  if (r->n_warnings++ < MAX_WARNINGS) log_warning("%s line %u: %s (left out)", r->name, line, why);
}

/* --- a line's parts; each gives NULL or what is wrong --- */

static void skip_export(reader *r) {
  static const char word[] = "export";
  size_t n = sizeof word - 1;
  if ((size_t)(r->end - r->at) > n && memcmp(r->at, word, n) == 0 && is_blank(r->at[n])) {
    r->at += n;
    skip_blanks(r);
  }
}

static const char *read_key(reader *r, binding *b) {
  char quote = *r->at == '\'' ? '\'' : '\0';
  if (quote) r->at++;
  b->key = r->at;
  while (!is_line_end(r) &&
         (quote ? *r->at != quote : *r->at != '=' && *r->at != '#' && !is_blank(*r->at)))
    r->at++;
  b->key_end = r->at;
  if (b->key == b->key_end) return "not KEY=VALUE";
  if (!quote) return NULL;
  if (is_line_end(r)) return "a quote is not closed";
  r->at++;
  return NULL;
}

static char unescaped(char quote, char c) {
  static const char from[] = "\"abfnrtv", to[] = "\"\a\b\f\n\r\t\v";
  if (c == '\\' || c == '\'') return c;
  const char *at = quote == '"' && c ? strchr(from, c) : NULL;
  return at ? to[at - from] : '\0';
}

/* From the opening quote to after the closing one. */
static const char *read_quoted(reader *r, binding *b) {
  char quote = *r->at, *close = r->at + 1;
  while (close < r->end && *close != quote) close += *close == '\\' && r->end - close > 1 ? 2 : 1;
  if (close >= r->end) return "a quote is not closed";
  char *to = b->value = ++r->at;
  while (r->at < close) {
    char c = *r->at, plain = c == '\\' ? unescaped(quote, r->at[1]) : '\0';
    if (c == '\n' || (c == '\r' && r->at[1] != '\n')) r->line++;
    *to++ = plain ? plain : c;
    r->at += plain ? 2 : 1;
  }
  b->value_end = to;
  r->at = close + 1;
  return NULL;
}

static void read_unquoted(reader *r, binding *b, bool after_blank) {
  b->value = b->value_end = r->at;
  for (; !is_line_end(r); r->at++) {
    if (*r->at == '#' && (r->at > b->value ? is_blank(r->at[-1]) : after_blank)) break;
    if (!is_blank(*r->at)) b->value_end = r->at + 1;
  }
}

static const char *read_value(reader *r, binding *b) {
  const char *equals = r->at++;
  skip_blanks(r);
  if (r->at < r->end && (*r->at == '\'' || *r->at == '"')) return read_quoted(r, b);
  read_unquoted(r, b, r->at > equals + 1);
  return NULL;
}

static const char *read_binding(reader *r, binding *b) {
  if (*r->at == '#') return skip_rest_of_line(r), NULL;
  skip_export(r);
  if (is_line_end(r)) return "not KEY=VALUE";
  const char *why = read_key(r, b);
  if (why) return why;
  skip_blanks(r);
  if (r->at < r->end && *r->at == '=') why = read_value(r, b);
  if (why) return why;
  skip_blanks(r);
  if (r->at < r->end && *r->at == '#') skip_rest_of_line(r);
  if (!is_line_end(r))
    return b->value ? "something stands after the closing quote" : "not KEY=VALUE";
  if (!b->value) return NULL;
  if (memchr(b->key, '\0', (size_t)(b->key_end - b->key)) ||
      memchr(b->value, '\0', (size_t)(b->value_end - b->value)))
    return "it holds a NUL";
  return NULL;
}

/* --- the file --- */

static vecmill_status add(env_file *file, const binding *b, vecmill_error *err) {
  if ((file->n & (file->n - 1)) == 0) { /* full at every power of two */
    env_entry *entries =
        mem_realloc(file->entries, file->n ? 2 * file->n : 1, sizeof *file->entries);
    if (!entries) return err_set_memory(err, "settings", file->n * sizeof *entries);
    file->entries = entries;
  }
  file->entries[file->n++] = (env_entry){.key = b->key, .value = b->value, .line = b->line};
  return VECMILL_OK;
}

static vecmill_status read_line(reader *r, env_file *file, vecmill_error *err) {
  binding b = {.line = r->line};
  const char *why = read_binding(r, &b);
  if (why) {
    /* A quote that spans lines may have been decoded; what is left of its last line goes too. */
    warn(r, b.line, why);
    skip_rest_of_line(r);
  }
  skip_line_end(r); /* before the strings' ends overwrite it */
  if (why || !b.value) return VECMILL_OK;
  *b.key_end = *b.value_end = '\0';
  return add(file, &b, err);
}

vecmill_status env_parse(char *bytes, size_t n_bytes, const char *name, env_file *file_out,
                         vecmill_error *err) {
  *file_out = (env_file){.bytes = bytes, .n_bytes = n_bytes};
  reader r = {.at = bytes, .end = bytes + n_bytes, .line = 1, .name = name};
  if (n_bytes >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0) r.at += 3;
  vecmill_status status = VECMILL_OK;
  for (skip_blank_lines(&r); status == VECMILL_OK && r.at < r.end; skip_blank_lines(&r))
    status = read_line(&r, file_out, err);
  if (r.n_warnings > MAX_WARNINGS)
    log_warning("%s: %u more lines are not KEY=VALUE (left out)", name,
                r.n_warnings - MAX_WARNINGS);
  if (status != VECMILL_OK) env_fini(file_out);
  return status;
}

vecmill_status env_read(const char *path, env_file *file_out, vecmill_error *err) {
  char *bytes = NULL;
  size_t n = 0;
  vecmill_error why = {0};
  *file_out = (env_file){0};
  if (file_is_folder(path)) return VECMILL_OK; /* a virtual environment is sometimes named .env */
  vecmill_status status = file_read(path, ENV_MAX_BYTES, &bytes, &n, &why);
  if (status == VECMILL_OK) return env_parse(bytes, n, path, file_out, err);
  if (status == VECMILL_ERROR_MEMORY) return err_set_memory(err, path, ENV_MAX_BYTES);
  if (status != VECMILL_ERROR_NOT_FOUND) log_warning("%s (left out)", why.text);
  return VECMILL_OK;
}

const env_entry *env_find(const env_file *file, const char *key) {
  for (size_t i = file->n; i-- > 0;)
    if (strcmp(file->entries[i].key, key) == 0) return &file->entries[i];
  return NULL;
}

void env_fini(env_file *file) {
  if (file->bytes) explicit_bzero(file->bytes, file->n_bytes);
  mem_free(file->bytes);
  mem_free(file->entries);
  *file = (env_file){0};
}
