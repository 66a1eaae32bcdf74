#include "records.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <vecmill/text.h>

static vecmill_status fail_line(vecmill_error *error, vecmill_status status, const records *r,
                                const char *why) {
  error->status = status;
  snprintf(error->text, sizeof error->text, "%s line %zu: %s", r->name, r->n_lines, why);
  return status;
}

bool records_form_named(const char *word, bool *is_jsonl_out) {
  *is_jsonl_out = strcmp(word, "jsonl") == 0;
  return *is_jsonl_out || strcmp(word, "lines") == 0;
}

vecmill_status records_open(records *r, const char *path, bool is_jsonl, vecmill_error *error) {
  bool is_input = !path || strcmp(path, "-") == 0;
  *r = (records){.file = is_input ? stdin : fopen(path, "re"),
                 .name = is_input ? "standard input" : path,
                 .is_jsonl = is_jsonl};
  if (r->file) return VECMILL_OK;
  error->status = VECMILL_ERROR_IO;
  snprintf(error->text, sizeof error->text, "cannot open %s: %s", path, strerror(errno));
  return VECMILL_ERROR_IO;
}

void records_close(records *r) {
  if (r->file && r->file != stdin) fclose(r->file);
  r->file = NULL;
}

void record_fini(record *one) {
  free(one->line);
  free(one->decoded);
  *one = (record){0};
}

void records_tell_repaired(const records *r) {
  if (r->n_repaired > 0)
    fprintf(stderr,
            "vecmill: %zu records of %s held ill-formed UTF-8: each bad sequence became U+FFFD\n",
            r->n_repaired, r->name);
}

/* One line without its end; false at the end of the file. */
static bool read_line(records *r, record *one) {
  ssize_t n = getline(&one->line, &one->n_line_room, r->file);
  if (n < 0) return false;
  r->n_lines++;
  if (n > 0 && one->line[n - 1] == '\n') n--;
  if (n > 0 && one->line[n - 1] == '\r') n--;
  one->n_line_bytes = (size_t)n;
  return true;
}

/* The line with ill-formed sequences replaced, and counted. */
static vecmill_status repair(records *r, record *one, vecmill_error *error) {
  if (vecmill_text_valid_prefix(one->line, one->n_line_bytes) == one->n_line_bytes)
    return VECMILL_OK;
  size_t n_room = 3 * one->n_line_bytes + 1;
  char *repaired = malloc(n_room);
  if (!repaired) return fail_line(error, VECMILL_ERROR_MEMORY, r, "out of memory");
  one->n_line_bytes = vecmill_text_repair(one->line, one->n_line_bytes, repaired, NULL);
  free(one->line);
  one->line = repaired;
  one->n_line_room = n_room;
  r->n_repaired++;
  return VECMILL_OK;
}

static vecmill_status decode(const records *r, record *one, vecmill_error *error) {
  json_error_t why;
  /* Other fields are handed on as they were written, so their numbers need no more than to parse.
   */
  json_t *root =
      json_loadb(one->line, one->n_line_bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
  if (!root) return fail_line(error, VECMILL_ERROR_FORMAT, r, why.text);
  const json_t *text = json_object_get(root, "text");
  vecmill_status status = VECMILL_OK;
  if (!json_is_string(text)) {
    status = fail_line(error, VECMILL_ERROR_FORMAT, r, "not an object with a string \"text\"");
  } else {
    one->n_text_bytes = json_string_length(text);
    one->decoded = malloc(one->n_text_bytes + 1);
    if (one->decoded) memcpy(one->decoded, json_string_value(text), one->n_text_bytes + 1);
    else status = fail_line(error, VECMILL_ERROR_MEMORY, r, "out of memory");
    one->text = one->decoded;
  }
  json_decref(root);
  return status;
}

static bool is_blank(const record *one) {
  for (size_t i = 0; i < one->n_line_bytes; i++)
    if (!strchr(" \t\r\n", one->line[i]) || one->line[i] == '\0') return false;
  return true;
}

vecmill_status records_next(records *r, record *one, bool *is_end_out, vecmill_error *error) {
  free(one->decoded);
  one->decoded = NULL;
  do {
    if (!read_line(r, one)) {
      *is_end_out = true;
      if (!ferror(r->file)) return VECMILL_OK;
      error->status = VECMILL_ERROR_IO;
      snprintf(error->text, sizeof error->text, "cannot read %s: %s", r->name, strerror(errno));
      return VECMILL_ERROR_IO;
    }
  } while (r->is_jsonl && is_blank(one));
  *is_end_out = false;
  vecmill_status status = repair(r, one, error);
  if (status != VECMILL_OK) return status;
  one->text = one->line;
  one->n_text_bytes = one->n_line_bytes;
  return r->is_jsonl ? decode(r, one, error) : VECMILL_OK;
}
