#include "corpus.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "records.h"

#define MAX_TEXTS 200000
#define N_GENERATED 8192
#define MIN_WORDS 3
#define MAX_WORDS 120
#define MAX_SYLLABLES 4
#define MAX_TEXT_BYTES (MAX_WORDS * (MAX_SYLLABLES * 3 + 1) + 1)

static vecmill_status no_memory(vecmill_error *error) {
  error->status = VECMILL_ERROR_MEMORY;
  snprintf(error->text, sizeof error->text, "bench: out of memory");
  return VECMILL_ERROR_MEMORY;
}

void corpus_fini(corpus *c) {
  for (size_t i = 0; i < c->n; i++) free((char *)c->texts[i].text);
  free(c->texts);
  free(c->vectors);
  *c = (corpus){0};
}

static vecmill_status add(corpus *c, const char *text, size_t n_bytes, vecmill_error *error) {
  char *copy = malloc(n_bytes + 1);
  if (!copy) return no_memory(error);
  memcpy(copy, text, n_bytes);
  c->texts[c->n++] = (vecmill_embed_text){.text = copy, .n_bytes = n_bytes};
  return VECMILL_OK;
}

static vecmill_status make_room(corpus *c, size_t n, vecmill_error *error) {
  c->texts = calloc(n, sizeof *c->texts);
  return c->texts ? VECMILL_OK : no_memory(error);
}

static vecmill_status add_vectors(corpus *c, size_t dimension, vecmill_error *error) {
  c->vectors = malloc((c->n ? c->n : 1) * dimension * sizeof(float));
  if (!c->vectors) return no_memory(error);
  for (size_t i = 0; i < c->n; i++) c->texts[i].vector = c->vectors + i * dimension;
  return VECMILL_OK;
}

vecmill_status corpus_read(corpus *c, const char *path, size_t dimension, vecmill_error *error) {
  records input;
  record one = {0};
  bool is_end = false;
  const char *ending = strrchr(path, '.');
  vecmill_status status =
      records_open(&input, path, ending && strcmp(ending, ".jsonl") == 0, error);
  if (status == VECMILL_OK) status = make_room(c, MAX_TEXTS, error);
  while (status == VECMILL_OK && c->n < MAX_TEXTS) {
    status = records_next(&input, &one, &is_end, error);
    if (status != VECMILL_OK || is_end) break;
    status = add(c, one.text, one.n_text_bytes, error);
  }
  record_fini(&one);
  records_close(&input);
  if (status == VECMILL_OK) status = add_vectors(c, dimension, error);
  if (status == VECMILL_OK && c->n == 0) {
    snprintf(error->text, sizeof error->text, "%s: no texts", path);
    status = VECMILL_ERROR_ARGUMENT;
  }
  return status;
}

/* Marsaglia's xorshift64 (Journal of Statistical Software 8(14), 2003), shifts 13, 7, 17. */
static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static size_t write_word(char *out, uint64_t *state) {
  static const char consonants[] = "bcdfghjklmnprstvwz", vowels[] = "aeiou";
  size_t n = 0, n_syllables = 1 + next_random(state) % MAX_SYLLABLES;
  for (size_t i = 0; i < n_syllables; i++) {
    out[n++] = consonants[next_random(state) % (sizeof consonants - 1)];
    out[n++] = vowels[next_random(state) % (sizeof vowels - 1)];
    if (next_random(state) % 3 == 0)
      out[n++] = consonants[next_random(state) % (sizeof consonants - 1)];
  }
  return n;
}

/* Lengths are even on a logarithmic scale. */
static size_t write_text(char *out, uint64_t *state) {
  double share = (double)(next_random(state) >> 11) * 0x1p-53;
  size_t n = 0, n_words = (size_t)(MIN_WORDS * pow((double)MAX_WORDS / MIN_WORDS, share));
  for (size_t i = 0; i < n_words; i++) {
    if (i > 0) out[n++] = ' ';
    n += write_word(out + n, state);
  }
  return n;
}

vecmill_status corpus_generate(corpus *c, size_t dimension, vecmill_error *error) {
  char text[MAX_TEXT_BYTES];
  uint64_t state = 88172645463325252u;
  vecmill_status status = make_room(c, N_GENERATED, error);
  for (size_t i = 0; status == VECMILL_OK && i < N_GENERATED; i++)
    status = add(c, text, write_text(text, &state), error);
  return status == VECMILL_OK ? add_vectors(c, dimension, error) : status;
}
