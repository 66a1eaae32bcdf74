/* The inside of a tokenizer, and the reading of it from a tokenizer.json. */
#ifndef TEXT_TOKENIZER_JSON_H
#define TEXT_TOKENIZER_JSON_H

#include "base/json.h"
#include "text/added.h"
#include "text/charmap.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

#define TOK_MAX_SPECIAL 16 /* special tokens that one post-processor may add on either side */

typedef struct tok_specials {
  int32_t ids[TOK_MAX_SPECIAL];
  size_t n;
} tok_specials;

struct tokenizer {
  normalizer norm, plain; /* plain: no steps */
  charmap_split split;
  charmap *words;            /* raw text to words */
  charmap *normalized;       /* raw to normalised text; only with added tokens that ask for it */
  charmap *normalized_words; /* normalised text to words */
  added_set raw_tokens, normalized_tokens;
  vocab vocabulary;
  tok_specials before, after; /* what the post-processor puts around a text */
  size_t n_ids;               /* highest id + 1 */
};

/* All but the charmaps. `tok` is zeroed before; the caller closes it, after a failure too. */
vecmill_status tok_parse(const json_t *root, const char *where, tokenizer *tok, vecmill_error *err);

#endif
