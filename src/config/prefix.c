#include "config/prefix.h"

#include <string.h>

#include "base/str.h"

static bool is_word_byte(char c) {
  return str_is_alnum(c) || (unsigned char)c >= 0x80;
}

/* Whether `word` (lower case) stands in n bytes of text, on its own if `whole`. */
static bool has_word(const char *text, size_t n, const char *word, bool whole) {
  size_t n_word = strlen(word);
  for (size_t i = 0; i + n_word <= n; i++) {
    size_t same = 0;
    while (same < n_word && str_lower(text[i + same]) == word[same]) same++;
    if (same < n_word) continue;
    bool begins = i == 0 || !is_word_byte(text[i - 1]);
    bool ends = i + n_word == n || !is_word_byte(text[i + n_word]);
    if (!whole || (begins && ends)) return true;
  }
  return false;
}

static bool is_e5_part(const char *part, size_t n) {
  return has_word(part, n, "e5", true) && !has_word(part, n, "instruct", false);
}

bool prefix_is_e5(const char *name) {
  size_t n = strlen(name);
  while (n > 1 && name[n - 1] == '/') n--;
  size_t from = n;
  while (from > 0 && name[from - 1] != '/') from--;
  if (is_e5_part(name + from, n - from)) return true;
  /* .../models--ORG--NAME/snapshots/REVISION */
  static const char middle[] = "/snapshots/";
  size_t n_middle = sizeof middle - 1;
  if (from < n_middle || memcmp(name + from - n_middle, middle, n_middle) != 0) return false;
  n = from -= n_middle;
  while (from > 0 && name[from - 1] != '/') from--;
  return is_e5_part(name + from, n - from);
}

static bool is_colon_before_blanks(const char *text, size_t n) {
  while (n > 0 && text[n - 1] == ' ') n--;
  return n > 0 && text[n - 1] == ':';
}

char *prefix_completed(const char *text) {
  size_t n = strlen(text);
  str whole = {0};
  str_append(&whole, text, n);
  str_append_text(&whole, "");
  if (n > 0 && text[n - 1] == ':') str_append_text(&whole, " ");
  else if (n > 0 && !(text[n - 1] == ' ' && is_colon_before_blanks(text, n)))
    str_append_text(&whole, ": ");
  if (!whole.failed) return whole.data;
  str_fini(&whole);
  return NULL;
}
