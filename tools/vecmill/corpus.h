/* Texts held in memory for a benchmark, with room for their vectors. */
#ifndef TOOLS_CORPUS_H
#define TOOLS_CORPUS_H

#include <stddef.h>

#include <vecmill/embed.h>
#include <vecmill/status.h>

typedef struct corpus {
  vecmill_embed_text *texts;
  size_t n;
  size_t next; /* where the next turn begins */
  float *vectors;
} corpus;

/* The first 200,000 records of a file: {"text": ...} a line if it ends in .jsonl, else a text a
 * line. */
vecmill_status corpus_read(corpus *c, const char *path, size_t dimension, vecmill_error *error);

/* Made-up words in texts of 3 to 120 of them, most of them short: the same ones always. */
vecmill_status corpus_generate(corpus *c, size_t dimension, vecmill_error *error);

void corpus_fini(corpus *c); /* a zeroed or half-filled one too */

#endif
