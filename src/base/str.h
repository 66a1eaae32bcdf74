/* A growing string of bytes. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/*
 * Initialise with {0}; free with str_fini. `data` is NUL-terminated once
 * anything was appended (NULL before). A failed append sets `failed`, which
 * sticks: append a whole text, then check once.
 */
typedef struct str {
  char *data;
  size_t n, capacity;
  bool failed;
} str;

/* Room for n more bytes, grown at once where the end is known. False: it failed. */
bool str_reserve(str *s, size_t n);
void str_append(str *s, const void *bytes, size_t n);
void str_append_text(str *s, const char *text);
void str_append_char(str *s, char c);
/* Between quotes, each quote inside doubled: names and strings of SQL. */
void str_append_quoted(str *s, const char *text, char quote);
/* As one word of a POSIX shell: in quotes only where it needs them. */
void str_append_shell(str *s, const char *word);
/* n bytes of UTF-8 as a JSON string. */
void str_append_json(str *s, const char *text, size_t n);
void str_append_format(str *s, const char *format, ...) BASE_PRINTF(2, 3);
/* Names and words, ASCII's letters in either case: whatever locale the program has set. */
char str_lower(char c);
bool str_is_alnum(char c);
bool str_same(const char *a, const char *b);
bool str_begins(const char *text, const char *beginning);
bool str_holds(const char *text, const char *part);
void str_clear(str *s); /* keeps the memory; clears `failed` */
void str_fini(str *s);

#endif
