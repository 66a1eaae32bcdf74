#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

bool str_reserve(str *s, size_t n_more) {
  size_t needed;
  if (s->failed || !mem_add(s->n, n_more, &needed) || !mem_add(needed, 1, &needed)) {
    s->failed = true;
    return false;
  }
  if (needed <= s->capacity) return true;
  size_t capacity = s->capacity ? s->capacity : 64;
  while (capacity < needed && !__builtin_mul_overflow(capacity, 2, &capacity)) continue;
  char *data = mem_realloc(s->data, capacity, 1);
  if (!data) {
    s->failed = true;
    return false;
  }
  s->data = data;
  s->capacity = capacity;
  return true;
}

void str_append(str *s, const void *bytes, size_t n) {
  if (!str_reserve(s, n)) return;
  if (n) memcpy(s->data + s->n, bytes, n);
  s->n += n;
  s->data[s->n] = '\0';
}

void str_append_text(str *s, const char *text) {
  str_append(s, text, strlen(text));
}

void str_append_char(str *s, char c) {
  str_append(s, &c, 1);
}

void str_append_quoted(str *s, const char *text, char quote) {
  str_append_char(s, quote);
  for (; *text; text++) {
    if (*text == quote) str_append_char(s, quote);
    str_append_char(s, *text);
  }
  str_append_char(s, quote);
}

/* In double quotes " $ ` and \ mean something, and to shells that people type into ! does too. */
void str_append_shell(str *s, const char *word) {
  static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                              "_./:@=%+,-";
  if (*word && !word[strspn(word, plain)]) {
    str_append_text(s, word);
  } else if (!strpbrk(word, "\"$`\\!")) {
    str_append_quoted(s, word, '"');
  } else {
    str_append_char(s, '\'');
    for (; *word; word++) {
      if (*word == '\'') str_append_text(s, "'\\''");
      else str_append_char(s, *word);
    }
    str_append_char(s, '\'');
  }
}

void str_append_json(str *s, const char *text, size_t n) {
  str_append_char(s, '"');
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c == '"' || c == '\\') str_append_char(s, '\\');
    if (c < 0x20) str_append_format(s, "\\u%04x", c);
    else str_append_char(s, (char)c);
  }
  str_append_char(s, '"');
}

void str_append_format(str *s, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (n < 0) s->failed = true;
  if (n >= 0 && str_reserve(s, (size_t)n)) {
    vsnprintf(s->data + s->n, (size_t)n + 1, format, again);
    s->n += (size_t)n;
  }
  va_end(again);
}

char str_lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool str_is_alnum(char c) {
  char low = str_lower(c);
  return (low >= 'a' && low <= 'z') || (c >= '0' && c <= '9');
}

bool str_same(const char *a, const char *b) {
  while (*a && str_lower(*a) == str_lower(*b)) a++, b++;
  return str_lower(*a) == str_lower(*b);
}

bool str_begins(const char *text, const char *beginning) {
  while (*beginning && str_lower(*text) == str_lower(*beginning)) text++, beginning++;
  return !*beginning;
}

bool str_holds(const char *text, const char *part) {
  while (*text && !str_begins(text, part)) text++;
  return str_begins(text, part);
}

void str_clear(str *s) {
  s->n = 0;
  s->failed = false;
  if (s->data) s->data[0] = '\0';
}

void str_fini(str *s) {
  mem_free(s->data);
  *s = (str){0};
}
