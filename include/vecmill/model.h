/*
 * Models: which are on this machine, what they are, and their tokenizers.
 *
 * A model is a sentence-transformers directory (docs/model.md says what is
 * honoured). It is immutable once open and may be shared by threads; embed.h
 * runs it.
 */
#ifndef VECMILL_MODEL_H
#define VECMILL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vecmill_model vecmill_model;

/* Strings live as long as the model. */
typedef struct vecmill_model_info {
  const char *name; /* "sentence-transformers/all-MiniLM-L6-v2", or the directory */
  const char *directory;
  const char *architecture; /* "BertModel" */
  const char *pooling;      /* "mean"; several are joined by "+" */
  const char *precision;    /* "f32" */
  const char *tokenizer;    /* "WordPiece" */
  size_t dimension;         /* floats in a vector */
  size_t max_tokens;        /* a longer text is truncated; special tokens count */
  size_t n_layers, hidden, intermediate, n_heads, n_vocab;
  double n_parameters;
} vecmill_model_info;

/*
 * name_or_directory: looked up in $VECMILL_HOME/models, then in the Hugging Face cache; a directory
 * is taken as it is. NULL: EMBED_MODEL, else intfloat/multilingual-e5-small, else the only model
 * here. Errors: NOT_FOUND (the text lists what is here), FORMAT, UNSUPPORTED, ARGUMENT, IO, MEMORY.
 */
VECMILL_API vecmill_status vecmill_model_open(const char *name_or_directory,
                                              vecmill_model **model_out, vecmill_error *err);
VECMILL_API void vecmill_model_close(vecmill_model **model); /* NULL inside is allowed; clears it */
VECMILL_API const vecmill_model_info *vecmill_model_get_info(const vecmill_model *model);

/* Floating-point operations for one text of n_tokens: layers x L (8 H^2 + 4 H F + 4 L H). */
VECMILL_API double vecmill_model_n_operations(const vecmill_model *model, size_t n_tokens);

/* Where a name leads, without opening it. Texts that do not fit are cut. */
VECMILL_API vecmill_status vecmill_model_find(const char *name_or_directory, char *name_out,
                                              size_t n_name, char *directory_out,
                                              size_t n_directory, vecmill_error *err);

typedef struct vecmill_tokenizer vecmill_tokenizer; /* used by one thread at a time */

/* The tokenizer of a model alone: its weights are not read. */
VECMILL_API vecmill_status vecmill_tokenizer_open(const char *name_or_directory,
                                                  vecmill_tokenizer **tokenizer_out,
                                                  vecmill_error *err);
VECMILL_API void vecmill_tokenizer_close(vecmill_tokenizer **tokenizer);

/*
 * The ids of a text, special tokens included, truncated as the model would. *ids_out belongs to the
 * tokenizer and holds until its next use. *n_ids_whole_out (may be NULL): ids without truncation.
 */
VECMILL_API vecmill_status vecmill_tokenizer_encode(vecmill_tokenizer *tokenizer, const char *text,
                                                    size_t n_bytes, const int32_t **ids_out,
                                                    size_t *n_ids_out, size_t *n_ids_whole_out,
                                                    vecmill_error *err);

#ifdef __cplusplus
}
#endif
#endif
