#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/unicode.h"
#include "text/utf8.h"

static int by_byte_then_longest(const void *a, const void *b) {
  const added_token *x = a, *y = b;
  uint8_t first_x = (uint8_t)x->text[0], first_y = (uint8_t)y->text[0];
  if (first_x != first_y) return first_x < first_y ? -1 : 1;
  if (x->n != y->n) return x->n > y->n ? -1 : 1;
  return memcmp(x->text, y->text, x->n);
}

vecmill_status added_init(added_set *set, added_token *tokens, size_t n, const char *where,
                          vecmill_error *err) {
  *set = (added_set){.tokens = tokens, .n = n, .only_start = -1};
  for (size_t i = 0; i < n; i++) {
    if (tokens[i].n == 0 || tokens[i].n > ADDED_MAX_BYTES)
      return err_set(
          err, VECMILL_ERROR_UNSUPPORTED,
          "%s: added token %d: its text is empty once normalized, or longer than %d bytes", where,
          (int)tokens[i].id, ADDED_MAX_BYTES);
  }
  if (n) qsort(tokens, n, sizeof *tokens, by_byte_then_longest);
  unsigned n_starts = 0;
  for (size_t i = 0; i < n; i++) {
    uint8_t first = (uint8_t)tokens[i].text[0];
    if (i && !by_byte_then_longest(&tokens[i - 1], &tokens[i]))
      return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                     "%s: added tokens %d and %d are one text once normalized", where,
                     (int)tokens[i - 1].id, (int)tokens[i].id);
    if (!set->starts[first]) {
      n_starts++;
      set->only_start = first;
    }
    set->starts[first] = true;
    set->begins[first + 1]++;
  }
  if (n_starts != 1) set->only_start = -1;
  for (unsigned b = 0; b < 256; b++) set->begins[b + 1] += set->begins[b];
  return VECMILL_OK;
}

void added_fini(added_set *set) {
  for (size_t i = 0; i < set->n; i++) mem_free(set->tokens[i].text);
  mem_free(set->tokens);
  *set = (added_set){0};
}

/* The longest token at `at`, or NULL. */
static const added_token *match(const added_set *set, const char *text, size_t n, size_t at) {
  uint8_t first = (uint8_t)text[at];
  for (uint32_t i = set->begins[first]; i < set->begins[first + 1]; i++) {
    const added_token *token = &set->tokens[i];
    if (token->n <= n - at && !memcmp(token->text, text + at, token->n)) return token;
  }
  return NULL;
}

/* The next place where a token might begin; n when there is none. */
static size_t next_start(const added_set *set, const char *text, size_t n, size_t at) {
  if (at >= n || !set->n) return n;
  if (set->only_start >= 0) {
    const char *found = memchr(text + at, set->only_start, n - at);
    return found ? (size_t)(found - text) : n;
  }
  while (at < n && !set->starts[(uint8_t)text[at]]) at++;
  return at;
}

/* The flags of the character before `at`, or of the one at `at`; 0 at the text's ends. */
static unsigned flags_before(const char *text, size_t at, size_t *start_out) {
  uint32_t code;
  size_t start = at;
  if (!at) return 0;
  do start--;
  while (start && ((uint8_t)text[start] & 0xC0) == 0x80);
  utf8_decode(text + start, at - start, &code);
  *start_out = start;
  return unicode_flags(code);
}

static unsigned flags_at(const char *text, size_t n, size_t at, size_t *end_out) {
  uint32_t code;
  if (at >= n) return 0;
  *end_out = at + utf8_decode(text + at, n - at, &code);
  return unicode_flags(code);
}

bool added_next(const added_set *set, added_walk *walk, size_t *before_start_out,
                size_t *before_end_out, const added_token **token_out) {
  const char *text = walk->text;
  size_t n = walk->n, next = 0;
  for (size_t at = walk->position; (at = next_start(set, text, n, at)) < n;) {
    const added_token *token = match(set, text, n, at);
    if (!token) {
      at++;
      continue;
    }
    size_t start = at, end = at + token->n;
    at = end; /* a token that does not count still uses up its text */
    if (token->single_word && ((flags_before(text, start, &next) & UNICODE_WORD) ||
                               (flags_at(text, n, end, &next) & UNICODE_WORD)))
      continue;
    walk->position = end;
    while (token->lstrip && start > walk->rest_start &&
           flags_before(text, start, &next) & UNICODE_SPACE)
      start = next;
    while (token->rstrip && flags_at(text, n, end, &next) & UNICODE_SPACE) end = next;
    *before_start_out = walk->rest_start;
    *before_end_out = start > walk->rest_start ? start : walk->rest_start;
    *token_out = token;
    walk->rest_start = end;
    return true;
  }
  return false;
}
