/*
 * Properties of code points as the Hugging Face tokenizers library has them:
 * its Unicode versions, its idea of a control character, its CJK blocks. The
 * answers come from our own generated table, so they do not change with what is
 * installed.
 */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include <stdint.h>

enum unicode_flag {
  UNICODE_OTHER = 1 << 0,       /* dropped by clean_text: controls, formats, private use, U+FFFD */
  UNICODE_SPACE = 1 << 1,       /* White_Space */
  UNICODE_NONSPACING = 1 << 2,  /* Mn (told only of what does not decompose) */
  UNICODE_MARK = 1 << 3,        /* M* */
  UNICODE_PUNCTUATION = 1 << 4, /* ASCII punctuation and P* */
  UNICODE_WORD = 1 << 5,        /* \w of a regular expression */
  UNICODE_CJK = 1 << 6,         /* gets spaces around it */
  UNICODE_DECOMPOSES = 1 << 7,  /* has a canonical decomposition */
  UNICODE_COMBINING = 1 << 8,   /* canonical combining class above 0 */
  UNICODE_LOWERS = 1 << 9       /* has another lower case */
};

/* What a code point is to a reader of words: exactly one of these. */
typedef enum unicode_kind {
  UNICODE_KIND_OTHER,
  UNICODE_KIND_SPACE,  /* White_Space */
  UNICODE_KIND_MARK,   /* M* */
  UNICODE_KIND_DIGIT,  /* Nd */
  UNICODE_KIND_LETTER, /* L* but for those below */
  UNICODE_KIND_UPPER   /* Lu, Lt */
} unicode_kind;

#define UNICODE_MAX_DECOMPOSED 4
#define UNICODE_MAX_LOWERED    2

/* The flags of a scalar value; 0 past U+10FFFF. */
unsigned unicode_flags(uint32_t code);

unicode_kind unicode_kind_of(uint32_t code); /* OTHER past U+10FFFF */

/* A number that orders as the canonical combining class does; 0 for class 0. */
unsigned unicode_combining_rank(uint32_t code);

/* Full canonical decomposition, and full lower case (no context); return how many were written. */
unsigned unicode_decompose(uint32_t code, uint32_t out[UNICODE_MAX_DECOMPOSED]);
unsigned unicode_lower(uint32_t code, uint32_t out[UNICODE_MAX_LOWERED]);

#endif
