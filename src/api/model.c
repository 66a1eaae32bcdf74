#include <stdio.h>
#include <string.h>

#include "api/model_api.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"
#include "model/model_config.h"

struct vecmill_tokenizer {
  tokenizer *inner;
  tok_scratch *scratch;
  size_t max_tokens;
};

/* The rule of vecmill_model_open: what is named, else what the environment names, else the default.
 */
static vecmill_status locate(const char *name, model_location *location_out, vecmill_error *err) {
  config_value said = {0};
  if (!name && config_find(NULL, "EMBED_MODEL", &said)) name = said.text;
  vecmill_status status = model_find(name, location_out, err);
  if (status != VECMILL_OK) return config_blame(&said, status, err);
  if (!name && strcmp(location_out->name, MODEL_DEFAULT_NAME) != 0)
    log_note("model %s: taken, since it is the only one on this machine", location_out->name);
  return VECMILL_OK;
}

vecmill_status vecmill_model_find(const char *name_or_directory, char *name_out, size_t n_name,
                                  char *directory_out, size_t n_directory, vecmill_error *err) {
  model_location location;
  vecmill_status status = locate(name_or_directory, &location, err);
  if (status != VECMILL_OK) return status;
  if (n_name > 0) snprintf(name_out, n_name, "%s", location.name);
  if (n_directory > 0) snprintf(directory_out, n_directory, "%s", location.directory);
  model_location_fini(&location);
  return VECMILL_OK;
}

vecmill_status vecmill_model_open(const char *name_or_directory, vecmill_model **model_out,
                                  vecmill_error *err) {
  *model_out = NULL;
  vecmill_model *m = mem_calloc(1, sizeof *m);
  if (!m) return err_set_memory(err, "model", sizeof *m);
  vecmill_status status = locate(name_or_directory, &m->location, err);
  if (status == VECMILL_OK) status = model_open(m->location.directory, &m->inner, err);
  if (status != VECMILL_OK) {
    vecmill_model_close(&m);
    return status;
  }
  const model_info *info = model_get_info(m->inner);
  m->info = (vecmill_model_info){.name = m->location.name,
                                 .directory = m->location.directory,
                                 .architecture = info->architecture,
                                 .pooling = info->pooling,
                                 .precision = info->precision,
                                 .tokenizer = tok_type(model_tokenizer(m->inner)),
                                 .dimension = info->dimension,
                                 .max_tokens = info->max_tokens,
                                 .n_layers = info->n_layers,
                                 .hidden = info->hidden,
                                 .intermediate = info->intermediate,
                                 .n_heads = info->n_heads,
                                 .n_vocab = info->n_vocab,
                                 .n_parameters = info->n_parameters};
  *model_out = m;
  return VECMILL_OK;
}

void vecmill_model_close(vecmill_model **model_in) {
  vecmill_model *m = *model_in;
  if (!m) return;
  model_close(&m->inner);
  model_location_fini(&m->location);
  mem_free(m);
  *model_in = NULL;
}

const vecmill_model_info *vecmill_model_get_info(const vecmill_model *m) {
  return &m->info;
}

double vecmill_model_n_operations(const vecmill_model *m, size_t n_tokens) {
  return model_n_operations(m->inner, n_tokens);
}

static vecmill_status open_parts(vecmill_tokenizer *t, const char *directory, vecmill_error *err) {
  model_config files;
  vecmill_status status = model_config_read(directory, &files, err);
  if (status != VECMILL_OK) return status;
  t->max_tokens = files.max_tokens;
  status = model_config_open_tokenizer(&files, &t->inner, err);
  model_config_fini(&files);
  return status == VECMILL_OK ? tok_scratch_open(t->inner, &t->scratch, err) : status;
}

vecmill_status vecmill_tokenizer_open(const char *name_or_directory,
                                      vecmill_tokenizer **tokenizer_out, vecmill_error *err) {
  *tokenizer_out = NULL;
  model_location location;
  vecmill_status status = locate(name_or_directory, &location, err);
  if (status != VECMILL_OK) return status;
  vecmill_tokenizer *t = mem_calloc(1, sizeof *t);
  status = t ? open_parts(t, location.directory, err) : err_set_memory(err, "tokenizer", sizeof *t);
  model_location_fini(&location);
  if (status == VECMILL_OK) *tokenizer_out = t;
  else vecmill_tokenizer_close(&t);
  return status;
}

void vecmill_tokenizer_close(vecmill_tokenizer **tokenizer_in) {
  vecmill_tokenizer *t = *tokenizer_in;
  if (!t) return;
  tok_scratch_close(&t->scratch);
  tok_close(&t->inner);
  mem_free(t);
  *tokenizer_in = NULL;
}

vecmill_status vecmill_tokenizer_encode(vecmill_tokenizer *t, const char *text, size_t n_bytes,
                                        const int32_t **ids_out, size_t *n_ids_out,
                                        size_t *n_ids_whole_out, vecmill_error *err) {
  tok_result result;
  vecmill_status status =
      tok_encode(t->inner, t->scratch, text, n_bytes, t->max_tokens, &result, err);
  if (status != VECMILL_OK) return status;
  *ids_out = result.ids;
  *n_ids_out = result.n_ids;
  if (n_ids_whole_out) *n_ids_whole_out = result.n_ids_whole;
  return VECMILL_OK;
}
