/*
 * The weights of an encoder and of the modules after it, packed for one variant
 * of the kernels. Word embeddings stay in the mapped file; the rest is copied
 * once and the file's pages are given back, so that a model costs its size once.
 */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "model/model_config.h"
#include "model/safetensors.h"

typedef struct model_linear {
  size_t n, k;
  float *packed; /* of kernels->pack_f32 */
  float *bias;   /* n floats, NULL without one */
} model_linear;

typedef struct model_norm {
  float *gamma, *beta; /* hidden floats each */
} model_norm;

typedef struct model_layer {
  model_linear qkv; /* query, key and value side by side: 3 hidden outputs */
  model_linear attention_out, up, down;
  model_norm attention_norm, output_norm;
} model_layer;

typedef struct model_weights {
  st_set *tensors;
  const st_tensor *words; /* (n_vocab, hidden), read row by row */
  float *positions;       /* (max_positions, hidden) */
  float *token_type;      /* row 0 of the token-type table: every text is segment 0 */
  model_norm embedding_norm;
  model_layer *layers;
  size_t n_layers;
  model_linear dense[MODEL_MAX_MODULES]; /* by module index */
  double n_parameters;
} model_weights;

/* Errors: NOT_FOUND, FORMAT (a tensor missing or of another shape, by name), MEMORY, IO. On failure
 * nothing is left. */
vecmill_status model_weights_load(const model_config *config, const nn_kernels *kernels,
                                  model_weights *weights_out, vecmill_error *err);
void model_weights_fini(model_weights *weights);

#endif
