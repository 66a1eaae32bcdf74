/*
 * Added tokens: strings that are tokens wherever they stand in a text, found
 * before words are, leftmost first and of those the longest.
 */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct added_token {
  char *text; /* what is looked for: n bytes, owned by the set */
  size_t n;
  int32_t id;
  bool single_word;    /* counts only where no word character touches it */
  bool lstrip, rstrip; /* takes the white space before or after it along */
} added_token;

#define ADDED_MAX_BYTES 4096

typedef struct added_set {
  added_token *tokens; /* sorted by first byte, then longest first */
  size_t n;
  uint32_t begins[257]; /* tokens by first byte */
  bool starts[256];     /* some token begins with this byte */
  int only_start;       /* the one byte that begins a token, or -1 */
} added_set;

/*
 * Takes over the tokens (with their texts, also on failure). Two of the same
 * text, or an empty one, is VECMILL_ERROR_UNSUPPORTED: the library refuses them too.
 */
vecmill_status added_init(added_set *set, added_token *tokens, size_t n, const char *where,
                          vecmill_error *err);
void added_fini(added_set *set);

/*
 * Walks a text. Zeroed before the first call except text and n. Each call gives
 * the next token and what lies between it and the one before; false after the
 * last token, when [rest_start, n) is left.
 */
typedef struct added_walk {
  const char *text;
  size_t n;
  size_t position;   /* where the search goes on */
  size_t rest_start; /* the end of the last token, white space taken along included */
} added_walk;
bool added_next(const added_set *set, added_walk *walk, size_t *before_start_out,
                size_t *before_end_out, const added_token **token_out);

#endif
