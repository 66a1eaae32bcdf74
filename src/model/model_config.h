/*
 * The configuration files of a model directory, read into one struct: what the
 * encoder computes, what the modules after it do, how long a text may be.
 * What cannot be honoured is refused by name. docs/model.md lists it all.
 */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "kernel/nn/nn.h"
#include "text/tokenizer.h"

enum model_pooling {
  POOL_CLS,
  POOL_MAX,
  POOL_MEAN,
  POOL_MEAN_SQRT_LEN,
  POOL_WEIGHTED_MEAN,
  POOL_LAST_TOKEN,
  POOL_N
};
enum model_module_kind { MODULE_POOLING, MODULE_DENSE, MODULE_NORMALIZE };

#define MODEL_MAX_MODULES 8

typedef struct model_module {
  enum model_module_kind kind;
  char *folder; /* of Dense and Pooling, whole path */
  /* Pooling: in output order. */
  enum model_pooling pooling[POOL_N];
  size_t n_pooling;
  /* Dense */
  size_t n_in, n_out;
  bool has_bias;
  enum nn_activation activation;
} model_module;

typedef struct model_config {
  char *transformer_folder; /* config.json, tokenizer.json and the weights */
  size_t n_layers, hidden, intermediate, n_heads, n_vocab, max_positions, n_token_types;
  float layer_norm_eps;
  enum nn_activation activation;
  size_t max_tokens;
  bool is_bert_tokenizer;           /* transformers would make a BertTokenizer, from these: */
  tok_bert_settings bert_tokenizer; /* tokenizer_config.json */
  model_module modules[MODEL_MAX_MODULES]; /* in order, Pooling first */
  size_t n_modules;
  bool is_plain;        /* no modules.json: the chain above is assumed */
  size_t dimension;     /* of the finished vector */
  json_t *prompts;      /* object or NULL */
  char *default_prompt; /* the text; "" when there is none */
} model_config;

/* Errors: NOT_FOUND, FORMAT, UNSUPPORTED (by name), MEMORY, IO. On failure nothing is left to free.
 */
vecmill_status model_config_read(const char *directory, model_config *config_out,
                                 vecmill_error *err);
void model_config_fini(model_config *config);

/* The tokenizer of such a model. Errors: tok_open's, and FORMAT when max_tokens has no room for the
 * special ones. */
vecmill_status model_config_open_tokenizer(const model_config *config, tokenizer **tok_out,
                                           vecmill_error *err);

const char *model_pooling_name(enum model_pooling pooling);

#endif
