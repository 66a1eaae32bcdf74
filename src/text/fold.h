/*
 * Folding: what makes two spellings of a word the same word to a word list.
 *
 * Case goes (every code point's own lower case, so that ß and ss stay apart), macrons go (U+0304
 * after canonical decomposition: ā is a), every okina form becomes U+02BB, and what is left is in
 * canonical decomposition (NFD), whichever form it came in. Other marks stay.
 */
#ifndef TEXT_FOLD_H
#define TEXT_FOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FOLD_MAX_BYTES 255
#define FOLD_OKINA 0x2BB
#define FOLD_OKINA_BYTES "\xCA\xBB"
#define FOLD_MACRON 0x304

/* U+2018, U+2019, U+0060 and ': what is typed for an okina, and for much else. */
static inline bool fold_is_okina_like(uint32_t code) {
  return code == '\'' || code == '`' || code == 0x2018 || code == 0x2019;
}

typedef struct fold_result {
  char bytes[FOLD_MAX_BYTES + 8]; /* n of them, nothing if it does not fit; room to read on */
  size_t n;
  bool fits;         /* in FOLD_MAX_BYTES */
  bool macron_vowel; /* a, e, i, o or u had a macron; told of words that do not fit too */
} fold_result;

/* `word` is n bytes of UTF-8 (an ill-formed sequence is U+FFFD). */
void fold_word(const char *word, size_t n, fold_result *result_out);

#endif
