/*
 * What each character becomes under one normaliser and one way of splitting
 * words, as a table: pages of 256 code points, made when a text first needs them.
 *
 * Every step of a normaliser looks at one code point alone, except that NFD
 * reorders combining characters. Where such a character survives the steps
 * (under BERT's, few do), its entry says CHARMAP_SLOW and the text takes the
 * plain path of normalizer.h. So a page is made by that plain path, one code
 * point at a time, and cannot disagree with it.
 */
#ifndef TEXT_CHARMAP_H
#define TEXT_CHARMAP_H

#include <stdatomic.h>
#include <stdint.h>

#include "text/normalizer.h"

typedef enum charmap_split {
  CHARMAP_SPLIT_BERT,   /* words end at white space; punctuation is a word of its own */
  CHARMAP_SPLIT_SPACES, /* words end at white space */
  CHARMAP_SPLIT_NONE    /* the whole text is one word */
} charmap_split;

typedef enum charmap_kind {
  CHARMAP_WORD,  /* `bytes` belong to the word that is being read */
  CHARMAP_DROP,  /* nothing, and no boundary either */
  CHARMAP_SPACE, /* the word ends */
  CHARMAP_ALONE, /* the word ends, `bytes` are a word, and the next one begins */
  CHARMAP_SLOW,  /* not to be told from one character */
  CHARMAP_LONG   /* in `kinds` only: a byte that begins a longer sequence */
} charmap_kind;

#define CHARMAP_MAX_BYTES 14

typedef struct charmap_entry {
  uint8_t kind, n;
  char bytes[CHARMAP_MAX_BYTES];
} charmap_entry;

typedef struct charmap {
  const normalizer *norm;
  charmap_split split;
  uint8_t kinds[256]; /* charmap_kind by first byte */
  char ascii[128];    /* the byte that a CHARMAP_WORD or CHARMAP_ALONE one becomes */
  _Atomic(charmap_entry *) pages[0x110000 / 256];
} charmap;

/* `norm` is borrowed. Any number of threads may look up at once. */
vecmill_status charmap_open(const normalizer *norm, charmap_split split, charmap **map_out,
                            vecmill_error *err);
void charmap_close(charmap **map);

/* Makes a page; NULL when memory is out. */
const charmap_entry *charmap_make_page(charmap *map, uint32_t code);

/* The entry of a scalar value; NULL when memory is out. */
static inline const charmap_entry *charmap_find(charmap *map, uint32_t code) {
  const charmap_entry *page = atomic_load_explicit(&map->pages[code >> 8], memory_order_acquire);
  if (__builtin_expect(!page, 0)) page = charmap_make_page(map, code);
  return page ? page + (code & 255) : NULL;
}

#endif
