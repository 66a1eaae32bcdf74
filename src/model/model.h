/*
 * A model: a sentence-transformers directory, opened.
 *
 * model_open reads the configuration files, maps the weights, packs them for
 * this processor's kernels and opens the tokenizer. The model is immutable from
 * then on and shared by any number of threads, each with a model_scratch.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/tokenizer.h"

typedef struct model model;
typedef struct model_scratch model_scratch;

typedef struct model_info {
  const char *path;         /* the directory */
  const char *architecture; /* "BertModel" */
  const char *pooling;      /* "mean" and so on; several are joined by "+" */
  const char *precision;    /* "f32" */
  size_t dimension;         /* of a vector, after Dense and truncate_dim */
  size_t max_tokens;        /* special tokens included */
  size_t n_layers, hidden, intermediate, n_heads, n_vocab;
  double n_parameters;
} model_info;

vecmill_status model_open(const char *directory, model **model_out, vecmill_error *err);
/* The same on the kernels that these cpu_feature bits select: tests compare variants in one
 * process. */
vecmill_status model_open_with(const char *directory, unsigned features, model **model_out,
                               vecmill_error *err);
void model_close(model **m);
const model_info *model_get_info(const model *m);
const tokenizer *model_tokenizer(const model *m);

/* The text that config_sentence_transformers.json puts before every text (default_prompt_name); ""
 * if none. */
const char *model_default_prompt(const model *m);
/* A prompt by its name, NULL when the model has none of that name. */
const char *model_prompt(const model *m, const char *name);

/* Room for a batch of up to max_tokens packed tokens (at least one longest text). Allocated once a
 * worker. */
vecmill_status model_scratch_open(const model *m, size_t max_tokens, model_scratch **scratch_out,
                                  vecmill_error *err);
void model_scratch_close(model_scratch **scratch);

/*
 * n_texts sequences packed end to end: text i has ids[offsets[i] .. offsets[i+1]), offsets[0] = 0,
 * every text has at least one token, offsets[n_texts] <= the scratch's max_tokens. Ids outside the
 * vocabulary are VECMILL_ERROR_ARGUMENT. vectors_out: n_texts pointers to `dimension` floats each.
 * A vector's bytes depend on its own ids alone.
 */
vecmill_status model_encode(const model *m, model_scratch *scratch, const int32_t *ids,
                            const size_t *offsets, size_t n_texts, float *const *vectors_out,
                            vecmill_error *err);

/* Multiply-adds count two: n_layers x L (8H^2 + 4HF + 4LH) for one text of L tokens. */
double model_n_operations(const model *m, size_t n_tokens);

#endif
