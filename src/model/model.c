#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cpu/cpu.h"
#include "model/model_parts.h"

static vecmill_status open_tokenizer(model *m, vecmill_error *err) {
  vecmill_status status = model_config_open_tokenizer(&m->config, &m->tokens, err);
  if (status == VECMILL_OK && tok_n_vocab(m->tokens) > m->config.n_vocab)
    return err_set(err, VECMILL_ERROR_FORMAT, "%s: its tokenizer knows %zu tokens, its weights %zu",
                   m->path, tok_n_vocab(m->tokens), m->config.n_vocab);
  return status;
}

static vecmill_status fill_info(model *m, vecmill_error *err) {
  const model_config *c = &m->config;
  str pooling = {0};
  for (size_t i = 0; i < c->modules[0].n_pooling; i++)
    str_append_format(&pooling, "%s%s", i ? "+" : "", model_pooling_name(c->modules[0].pooling[i]));
  if (pooling.failed) {
    str_fini(&pooling);
    return err_set_memory(err, m->path, 0);
  }
  m->pooling = pooling.data;
  m->info = (model_info){.path = m->path,
                         .architecture = "BertModel",
                         .pooling = m->pooling,
                         .precision = "f32",
                         .dimension = c->dimension,
                         .max_tokens = c->max_tokens,
                         .n_layers = c->n_layers,
                         .hidden = c->hidden,
                         .intermediate = c->intermediate,
                         .n_heads = c->n_heads,
                         .n_vocab = c->n_vocab,
                         .n_parameters = m->weights.n_parameters};
  return VECMILL_OK;
}

vecmill_status model_open_with(const char *directory, unsigned features, model **model_out,
                               vecmill_error *err) {
  *model_out = NULL;
  if (!file_is_folder(directory))
    return err_set(err, VECMILL_ERROR_NOT_FOUND, "model %s: no such directory", directory);
  model *m = mem_calloc(1, sizeof *m);
  if (!m) return err_set_memory(err, directory, sizeof *m);
  m->kernels = nn_select(features);
  m->vec = vec_select(features);
  m->path = mem_strdup(directory);
  vecmill_status status =
      m->path ? model_config_read(directory, &m->config, err) : err_set_memory(err, directory, 0);
  if (status == VECMILL_OK && m->config.is_plain)
    log_warning("%s: no modules.json: mean pooling and no normalisation are assumed", directory);
  if (status == VECMILL_OK) status = open_tokenizer(m, err);
  if (status == VECMILL_OK) status = model_weights_load(&m->config, m->kernels, &m->weights, err);
  if (status == VECMILL_OK) status = fill_info(m, err);
  if (status != VECMILL_OK) model_close(&m);
  *model_out = m;
  return status;
}

vecmill_status model_open(const char *directory, model **model_out, vecmill_error *err) {
  return model_open_with(directory, cpu_features(), model_out, err);
}

void model_close(model **m_in) {
  model *m = *m_in;
  if (!m) return;
  model_weights_fini(&m->weights);
  model_config_fini(&m->config);
  tok_close(&m->tokens);
  mem_free(m->pooling);
  mem_free(m->path);
  mem_free(m);
  *m_in = NULL;
}

const model_info *model_get_info(const model *m) {
  return &m->info;
}

const tokenizer *model_tokenizer(const model *m) {
  return m->tokens;
}

const char *model_default_prompt(const model *m) {
  return m->config.default_prompt;
}

const char *model_prompt(const model *m, const char *name) {
  return json_string_value(json_object_get(m->config.prompts, name));
}
