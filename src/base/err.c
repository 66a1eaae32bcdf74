#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const status_names[] = {
    "ok",   "argument", "not-found", "format",  "unsupported", "io",       "memory",
    "busy", "conflict", "stopped",   "partial", "database",    "internal",
};

const char *vecmill_status_name(vecmill_status status) {
  size_t index = (size_t)status;
  return index < sizeof status_names / sizeof *status_names ? status_names[index] : "unknown";
}

/* Cuts an incomplete UTF-8 sequence off the end of `text`, which was truncated. */
static void trim_to_character(char *text) {
  size_t n = strlen(text), back = 0;
  while (back < 4 && back < n && ((unsigned char)text[n - 1 - back] & 0xC0) == 0x80) back++;
  if (back == n) return;
  unsigned char lead = (unsigned char)text[n - 1 - back];
  size_t wanted = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
  if (back < wanted) text[n - 1 - back] = '\0';
}

void err_mark_cut(char *text, size_t size) {
  static const char mark[] = "... (cut)";
  text[size - sizeof mark] = '\0';
  trim_to_character(text);
  strcat(text, mark);
}

vecmill_status err_set(vecmill_error *err, vecmill_status status, const char *format, ...) {
  if (!err) return status;
  err->status = status;
  va_list args;
  va_start(args, format);
  int n = vsnprintf(err->text, sizeof err->text, format, args);
  va_end(args);
  if (n < 0) err->text[0] = '\0';
  if (n >= (int)sizeof err->text) err_mark_cut(err->text, sizeof err->text);
  for (char *c = err->text; *c; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = ' ';
  return status;
}

vecmill_status err_set_errno(vecmill_error *err, int errno_value, const char *what,
                             const char *path) {
  char reason[128];
  vecmill_status status = errno_value == ENOENT ? VECMILL_ERROR_NOT_FOUND : VECMILL_ERROR_IO;
  return err_set(err, status, "%s %s: %s", what, path,
                 strerror_r(errno_value, reason, sizeof reason));
}

vecmill_status err_set_memory(vecmill_error *err, const char *what, unsigned long long n_bytes) {
  return err_set(err, VECMILL_ERROR_MEMORY, "%s: out of memory (needs %llu bytes)", what, n_bytes);
}
