#include "model/weights.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define MAX_NAME 256

/* What every loader below needs. */
typedef struct loader {
  const model_config *config;
  const nn_kernels *kernels;
  const st_set *tensors;
  const char *folder; /* for messages */
  const char *prefix; /* "" or "bert." */
  double n_parameters;
  vecmill_error *err;
} loader;

/* The tensor "PREFIX NAME", of exactly this shape (n_cols 0: one dimension). */
static vecmill_status find_tensor(loader *l, const char *name, size_t n_rows, size_t n_cols,
                                  const st_tensor **tensor_out) {
  char full[MAX_NAME];
  snprintf(full, sizeof full, "%s%s", l->prefix, name);
  const st_tensor *t = st_find(l->tensors, full);
  if (!t)
    return err_set(l->err, VECMILL_ERROR_FORMAT, "%s: tensor %s is missing (is this a BERT model?)",
                   l->folder, full);
  if (t->type == ST_OTHER)
    return err_set(l->err, VECMILL_ERROR_UNSUPPORTED,
                   "%s: tensor %s: its dtype: not supported yet (F32, F16 and BF16 are)", l->folder,
                   full);
  bool fits = n_cols ? t->n_dims == 2 && t->dims[0] == n_rows && t->dims[1] == n_cols
                     : t->n_dims == 1 && t->dims[0] == n_rows;
  if (!fits)
    return err_set(l->err, VECMILL_ERROR_FORMAT,
                   "%s: tensor %s has another shape than config.json says (%zu x %zu)", l->folder,
                   full, n_rows, n_cols ? n_cols : 1);
  l->n_parameters += (double)t->n_elements;
  *tensor_out = t;
  return VECMILL_OK;
}

static vecmill_status no_memory(loader *l, size_t n_floats) {
  return err_set_memory(l->err, l->folder, n_floats * sizeof(float));
}

/* A copy of n floats from `first` on, the file's pages given back. */
static vecmill_status copy_tensor(loader *l, const st_tensor *t, size_t first, size_t n,
                                  float **copy_out) {
  *copy_out = mem_alloc_aligned(n, sizeof(float));
  if (!*copy_out) return no_memory(l, n);
  st_read_f32(t, first, n, *copy_out);
  st_release(t);
  return VECMILL_OK;
}

static vecmill_status load_vector(loader *l, const char *name, size_t n, float **vector_out) {
  const st_tensor *t;
  vecmill_status status = find_tensor(l, name, n, 0, &t);
  return status == VECMILL_OK ? copy_tensor(l, t, 0, n, vector_out) : status;
}

/* LayerNorm weight and bias, which old files call gamma and beta. */
static vecmill_status load_norm(loader *l, const char *name, model_norm *norm) {
  char part[MAX_NAME], full[MAX_NAME + 8];
  snprintf(part, sizeof part, "%s.weight", name);
  snprintf(full, sizeof full, "%s%s", l->prefix, part);
  bool old = st_find(l->tensors, full) == NULL;
  if (old) snprintf(part, sizeof part, "%s.gamma", name);
  vecmill_status status = load_vector(l, part, l->config->hidden, &norm->gamma);
  snprintf(part, sizeof part, "%s.%s", name, old ? "beta" : "bias");
  return status == VECMILL_OK ? load_vector(l, part, l->config->hidden, &norm->beta) : status;
}

/* n_parts weights of (n, k) one above the other, packed as one; their biases end to end. */
static vecmill_status load_linear(loader *l, const char *const *names, size_t n_parts, size_t n,
                                  size_t k, bool has_bias, model_linear *linear) {
  char part[MAX_NAME];
  const st_tensor *t = NULL;
  size_t n_all = n * n_parts;
  linear->n = n_all;
  linear->k = k;
  linear->packed = mem_alloc_aligned(l->kernels->packed_f32_n_floats(n_all, k), sizeof(float));
  if (has_bias) linear->bias = mem_alloc_aligned(n_all, sizeof(float));
  float *rows =
      mem_alloc_aligned(n_all * k, sizeof(float)); /* sizes are bounded by model_config.c */
  vecmill_status status =
      linear->packed && rows && (!has_bias || linear->bias) ? VECMILL_OK : no_memory(l, n_all * k);
  for (size_t i = 0; status == VECMILL_OK && i < n_parts; i++) {
    snprintf(part, sizeof part, "%s.weight", names[i]);
    status = find_tensor(l, part, n, k, &t);
    if (status != VECMILL_OK) break;
    st_read_f32(t, 0, n * k, rows + i * n * k);
    st_release(t);
    if (!has_bias) continue;
    snprintf(part, sizeof part, "%s.bias", names[i]);
    status = find_tensor(l, part, n, 0, &t);
    if (status == VECMILL_OK) st_read_f32(t, 0, n, linear->bias + i * n);
  }
  if (status == VECMILL_OK) l->kernels->pack_f32(n_all, k, rows, k, linear->packed);
  mem_free(rows);
  return status;
}

static vecmill_status load_layer_linear(loader *l, size_t layer, const char *name, size_t n,
                                        size_t k, model_linear *linear) {
  char full[MAX_NAME];
  snprintf(full, sizeof full, "encoder.layer.%zu.%s", layer, name);
  const char *names[] = {full};
  return load_linear(l, names, 1, n, k, true, linear);
}

static vecmill_status load_layer_norm(loader *l, size_t layer, const char *name, model_norm *norm) {
  char full[MAX_NAME];
  snprintf(full, sizeof full, "encoder.layer.%zu.%s", layer, name);
  return load_norm(l, full, norm);
}

static vecmill_status load_layer(loader *l, size_t i, model_layer *layer) {
  size_t h = l->config->hidden, f = l->config->intermediate;
  char q[MAX_NAME], k[MAX_NAME], v[MAX_NAME];
  snprintf(q, sizeof q, "encoder.layer.%zu.attention.self.query", i);
  snprintf(k, sizeof k, "encoder.layer.%zu.attention.self.key", i);
  snprintf(v, sizeof v, "encoder.layer.%zu.attention.self.value", i);
  const char *names[] = {q, k, v};
  vecmill_status status = load_linear(l, names, 3, h, h, true, &layer->qkv);
  if (status == VECMILL_OK)
    status = load_layer_linear(l, i, "attention.output.dense", h, h, &layer->attention_out);
  if (status == VECMILL_OK)
    status = load_layer_norm(l, i, "attention.output.LayerNorm", &layer->attention_norm);
  if (status == VECMILL_OK)
    status = load_layer_linear(l, i, "intermediate.dense", f, h, &layer->up);
  if (status == VECMILL_OK) status = load_layer_linear(l, i, "output.dense", h, f, &layer->down);
  return status == VECMILL_OK ? load_layer_norm(l, i, "output.LayerNorm", &layer->output_norm)
                              : status;
}

static vecmill_status load_embeddings(loader *l, model_weights *w) {
  const model_config *c = l->config;
  const st_tensor *positions, *types;
  vecmill_status status =
      find_tensor(l, "embeddings.word_embeddings.weight", c->n_vocab, c->hidden, &w->words);
  if (status == VECMILL_OK)
    status = find_tensor(l, "embeddings.position_embeddings.weight", c->max_positions, c->hidden,
                         &positions);
  if (status == VECMILL_OK)
    status = find_tensor(l, "embeddings.token_type_embeddings.weight", c->n_token_types, c->hidden,
                         &types);
  if (status == VECMILL_OK)
    status = copy_tensor(l, positions, 0, c->max_tokens * c->hidden, &w->positions);
  if (status == VECMILL_OK) status = copy_tensor(l, types, 0, c->hidden, &w->token_type);
  return status == VECMILL_OK ? load_norm(l, "embeddings.LayerNorm", &w->embedding_norm) : status;
}

/* N_Dense keeps its weights in a safetensors file of its own, under "linear.". */
static vecmill_status load_dense(loader *l, const model_module *m, model_linear *linear) {
  static const char *const names[] = {"linear"};
  st_set *tensors;
  vecmill_status status = st_open(m->folder, &tensors, l->err);
  if (status != VECMILL_OK) return status;
  loader own = *l;
  own.tensors = tensors;
  own.folder = m->folder;
  own.prefix = "";
  status = load_linear(&own, names, 1, m->n_out, m->n_in, m->has_bias, linear);
  l->n_parameters = own.n_parameters;
  st_close(&tensors);
  return status;
}

static vecmill_status load_all(loader *l, model_weights *w) {
  const model_config *c = l->config;
  l->prefix = st_find(l->tensors, "bert.embeddings.word_embeddings.weight") ? "bert." : "";
  vecmill_status status = load_embeddings(l, w);
  if (status != VECMILL_OK) return status;
  w->layers = mem_calloc(c->n_layers, sizeof *w->layers);
  if (!w->layers) return no_memory(l, c->n_layers);
  w->n_layers = c->n_layers;
  for (size_t i = 0; status == VECMILL_OK && i < c->n_layers; i++)
    status = load_layer(l, i, &w->layers[i]);
  for (size_t i = 0; status == VECMILL_OK && i < c->n_modules; i++)
    if (c->modules[i].kind == MODULE_DENSE) status = load_dense(l, &c->modules[i], &w->dense[i]);
  w->n_parameters = l->n_parameters;
  return status;
}

vecmill_status model_weights_load(const model_config *config, const nn_kernels *kernels,
                                  model_weights *w, vecmill_error *err) {
  *w = (model_weights){0};
  vecmill_status status = st_open(config->transformer_folder, &w->tensors, err);
  if (status != VECMILL_OK) return status;
  loader l = {.config = config,
              .kernels = kernels,
              .tensors = w->tensors,
              .folder = config->transformer_folder,
              .err = err};
  status = load_all(&l, w);
  if (status != VECMILL_OK) model_weights_fini(w);
  return status;
}

static void free_linear(model_linear *linear) {
  mem_free(linear->packed);
  mem_free(linear->bias);
}

static void free_norm(model_norm *norm) {
  mem_free(norm->gamma);
  mem_free(norm->beta);
}

void model_weights_fini(model_weights *w) {
  for (size_t i = 0; i < w->n_layers; i++) {
    model_layer *layer = &w->layers[i];
    free_linear(&layer->qkv);
    free_linear(&layer->attention_out);
    free_linear(&layer->up);
    free_linear(&layer->down);
    free_norm(&layer->attention_norm);
    free_norm(&layer->output_norm);
  }
  for (size_t i = 0; i < MODEL_MAX_MODULES; i++) free_linear(&w->dense[i]);
  free_norm(&w->embedding_norm);
  mem_free(w->layers);
  mem_free(w->positions);
  mem_free(w->token_type);
  st_close(&w->tensors);
  *w = (model_weights){0};
}
