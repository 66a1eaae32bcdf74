/*
 * A WordPiece vocabulary: words to ids by greedy longest match.
 *
 * Most words of a text are in the vocabulary whole: a hash table with the word
 * in the slot (words of up to 16 bytes) answers those with one probe. The rest
 * walk a double-array trie (XOR form: the child of a node by byte c lies at
 * base ^ c, and says who its parent is).
 */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct vocab_word {
  const char *text; /* n bytes, borrowed while the vocabulary is built */
  size_t n;
  int32_t id;
} vocab_word;

typedef struct vocab_unit {
  uint32_t base, parent;
  int32_t id; /* -1: no word ends here */
} vocab_unit;

typedef struct vocab_slot {
  uint64_t key[2];
  int32_t id;
  uint32_t n; /* 0: free */
} vocab_slot;

typedef struct vocab {
  vocab_unit *units;
  size_t n_units;
  vocab_slot *slots;
  unsigned slot_shift; /* a hash's top bits are the slot: hash >> slot_shift */
  size_t slot_mask;
  uint32_t continuing; /* the node where a later piece of a word begins; VOCAB_NO_NODE: nowhere */
  int32_t unknown_id;
  size_t max_chars; /* a longer word is unknown */
} vocab;

#define VOCAB_NO_NODE UINT32_MAX

/* Of words that come twice the last counts; n_words may be 0. vocab_fini after a failure too. */
vecmill_status vocab_init(vocab *v, const vocab_word *words, size_t n_words, const char *prefix,
                          size_t n_prefix, vecmill_error *err);
void vocab_fini(vocab *v);

/* The id of exactly these bytes, or -1. */
int32_t vocab_find(const vocab *v, const char *text, size_t n);

/* Where ids go: beyond `capacity` they are counted, not written. */
typedef struct vocab_ids {
  int32_t *ids;
  size_t capacity, n;
} vocab_ids;

static inline void vocab_push(vocab_ids *ids, int32_t id) {
  if (ids->n < ids->capacity) ids->ids[ids->n] = id;
  ids->n++;
}

/* One word of n > 0 bytes of UTF-8; 16 bytes from `word` on can be read whatever n is. */
void vocab_split(const vocab *v, const char *word, size_t n, vocab_ids *ids);

#endif
