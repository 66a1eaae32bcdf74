#include "model/model_config.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/config_parts.h"

/* Bounds on what a file may ask for: far above any published encoder, far below what overflows. */
#define MAX_CONFIG_BYTES (16u << 20)
#define MAX_LAYERS 1024
#define MAX_HIDDEN (1 << 16)
#define MAX_VOCAB (1 << 26)
#define NO_LIMIT ((int64_t)1 << 53)

static const char *const pooling_names[POOL_N] = {
    "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"};

const char *model_pooling_name(enum model_pooling pooling) {
  return pooling_names[pooling];
}

vecmill_status model_config_unsupported(vecmill_error *err, const char *path, const char *what,
                                        const char *value) {
  return err_set(err, VECMILL_ERROR_UNSUPPORTED, "%s: %s %s: not supported yet", path, what, value);
}

vecmill_status model_config_read_json(const char *folder, const char *name, bool optional,
                                      char **path_out, json_t **root_out, vecmill_error *err) {
  *root_out = NULL;
  *path_out = file_join(folder, name);
  if (!*path_out) return err_set_memory(err, folder, strlen(folder));
  if (optional && !file_exists(*path_out)) return VECMILL_OK;
  vecmill_status status = json_read_file(*path_out, MAX_CONFIG_BYTES, root_out, err);
  if (status != VECMILL_OK || json_is_object(*root_out) || strcmp(name, "modules.json") == 0)
    return status;
  return err_set(err, VECMILL_ERROR_FORMAT, "%s: not a JSON object", *path_out);
}

/* --- config.json --- */

static vecmill_status read_sizes(const json_t *root, const char *path, model_config *c,
                                 vecmill_error *err) {
  const struct {
    const char *name;
    int64_t max;
    size_t *out;
  } sizes[] = {
      {"num_hidden_layers", MAX_LAYERS, &c->n_layers},
      {"hidden_size", MAX_HIDDEN, &c->hidden},
      {"intermediate_size", MAX_HIDDEN * 8, &c->intermediate},
      {"num_attention_heads", MAX_HIDDEN, &c->n_heads},
      {"vocab_size", MAX_VOCAB, &c->n_vocab},
      {"max_position_embeddings", MAX_POSITIONS, &c->max_positions},
      {"type_vocab_size", MAX_HIDDEN, &c->n_token_types}, /* BertConfig's default is 2 */
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    int64_t value, fallback = sizes[i].out == &c->n_token_types ? 2 : -1;
    vecmill_status status =
        json_get_int(root, path, sizes[i].name, 1, sizes[i].max, fallback, &value, err);
    if (status != VECMILL_OK) return status;
    if (value < 0)
      return err_set(err, VECMILL_ERROR_FORMAT, "%s: \"%s\" is missing", path, sizes[i].name);
    *sizes[i].out = (size_t)value;
  }
  if (c->hidden % c->n_heads != 0)
    return err_set(err, VECMILL_ERROR_FORMAT,
                   "%s: hidden_size %zu is not a multiple of num_attention_heads %zu", path,
                   c->hidden, c->n_heads);
  return VECMILL_OK;
}

/* Everything in config.json that would change the numbers and that this encoder does not compute.
 */
static vecmill_status refuse_what_is_not_bert(const json_t *root, const char *path,
                                              vecmill_error *err) {
  const char *text;
  bool flag;
  vecmill_status status = json_get_string(root, path, "model_type", "", &text, err);
  if (status == VECMILL_OK && strcmp(text, "bert") != 0)
    return model_config_unsupported(err, path, "model_type", *text ? text : "(none)");
  if (status == VECMILL_OK)
    status = json_get_string(root, path, "position_embedding_type", "absolute", &text, err);
  if (status == VECMILL_OK && strcmp(text, "absolute") != 0)
    return model_config_unsupported(err, path, "position_embedding_type", text);
  if (status == VECMILL_OK) status = json_get_bool(root, path, "is_decoder", false, &flag, err);
  if (status == VECMILL_OK && flag)
    return model_config_unsupported(err, path, "is_decoder", "true");
  if (status == VECMILL_OK)
    status = json_get_bool(root, path, "add_cross_attention", false, &flag, err);
  if (status == VECMILL_OK && flag)
    return model_config_unsupported(err, path, "add_cross_attention", "true");
  const json_t *quantized = json_object_get(root, "quantization_config");
  if (status == VECMILL_OK && quantized && !json_is_null(quantized)) {
    const char *method = json_string_value(json_object_get(quantized, "quant_method"));
    return model_config_unsupported(err, path, "quantization_config",
                                    method ? method : "(no method)");
  }
  int64_t chunk = 0;
  /* chunk_size_feed_forward changes memory, not numbers; it is let through. */
  return status == VECMILL_OK
             ? json_get_int(root, path, "chunk_size_feed_forward", 0, NO_LIMIT, 0, &chunk, err)
             : status;
}

static vecmill_status read_bert(const json_t *root, const char *path, model_config *c,
                                vecmill_error *err) {
  const char *act;
  double eps;
  vecmill_status status = refuse_what_is_not_bert(root, path, err);
  if (status == VECMILL_OK) status = read_sizes(root, path, c, err);
  if (status == VECMILL_OK) status = json_get_string(root, path, "hidden_act", "gelu", &act, err);
  if (status == VECMILL_OK) status = json_get_real(root, path, "layer_norm_eps", 1e-12, &eps, err);
  if (status != VECMILL_OK) return status;
  /* "gelu_python" is the same function, by erf, spelt out in Python (transformers' ACT2FN). */
  bool is_gelu = strcmp(act, "gelu") == 0 || strcmp(act, "gelu_python") == 0;
  if (!is_gelu && strcmp(act, "relu") != 0)
    return model_config_unsupported(err, path, "hidden_act", act);
  if (!(eps >= 0 && eps < 1))
    return err_set(err, VECMILL_ERROR_FORMAT, "%s: \"layer_norm_eps\" is %g", path, eps);
  c->activation = is_gelu ? NN_GELU : NN_RELU;
  c->layer_norm_eps = (float)eps;
  return VECMILL_OK;
}

/* --- modules --- */

static vecmill_status add_named_pooling(const char *path, const json_t *name, model_module *m,
                                        vecmill_error *err) {
  const char *text = json_string_value(name);
  if (!text)
    return err_set(err, VECMILL_ERROR_FORMAT,
                   "%s: \"pooling_mode\" is not a name or a list of names", path);
  for (size_t p = 0; p < POOL_N; p++)
    if (strcmp(text, pooling_names[p]) == 0) {
      if (m->n_pooling == POOL_N)
        return err_set(err, VECMILL_ERROR_FORMAT, "%s: too many pooling modes", path);
      m->pooling[m->n_pooling++] = (enum model_pooling)p;
      return VECMILL_OK;
    }
  return model_config_unsupported(err, path, "pooling_mode", text);
}

/* The old form: one boolean a mode; several are concatenated in this order. */
static vecmill_status read_old_pooling(const json_t *root, const char *path, model_module *m,
                                       vecmill_error *err) {
  static const struct {
    const char *name;
    enum model_pooling mode;
  } flags[] = {
      {"pooling_mode_cls_token", POOL_CLS},
      {"pooling_mode_max_tokens", POOL_MAX},
      {"pooling_mode_mean_tokens", POOL_MEAN},
      {"pooling_mode_mean_sqrt_len_tokens", POOL_MEAN_SQRT_LEN},
      {"pooling_mode_weightedmean_tokens", POOL_WEIGHTED_MEAN},
      {"pooling_mode_lasttoken", POOL_LAST_TOKEN},
  };
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    bool on;
    vecmill_status status = json_get_bool(root, path, flags[i].name, false, &on, err);
    if (status != VECMILL_OK) return status;
    if (on) m->pooling[m->n_pooling++] = flags[i].mode;
  }
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)root, name, value) {
    size_t i = 0, n = sizeof flags / sizeof *flags;
    while (i < n && strcmp(flags[i].name, name) != 0) i++;
    if (i == n && strncmp(name, "pooling_mode_", 13) == 0 && json_is_true(value))
      return model_config_unsupported(err, path, name, "true");
  }
  if (m->n_pooling == 0) m->pooling[m->n_pooling++] = POOL_MEAN; /* the reference's default */
  return VECMILL_OK;
}

static vecmill_status read_pooling(model_module *m, vecmill_error *err) {
  char *path;
  json_t *root;
  bool include_prompt = true;
  vecmill_status status =
      model_config_read_json(m->folder, "config.json", false, &path, &root, err);
  if (status == VECMILL_OK)
    status = json_get_bool(root, path, "include_prompt", true, &include_prompt, err);
  if (status == VECMILL_OK && !include_prompt)
    status = model_config_unsupported(err, path, "include_prompt", "false");
  const json_t *mode = status == VECMILL_OK ? json_object_get(root, "pooling_mode") : NULL;
  if (json_is_array(mode)) {
    for (size_t i = 0; status == VECMILL_OK && i < json_array_size(mode); i++)
      status = add_named_pooling(path, json_array_get(mode, i), m, err);
    if (status == VECMILL_OK && m->n_pooling == 0)
      status = err_set(err, VECMILL_ERROR_FORMAT, "%s: \"pooling_mode\" is empty", path);
  } else if (mode && !json_is_null(mode)) {
    status = add_named_pooling(path, mode, m, err);
  } else if (status == VECMILL_OK) {
    status = read_old_pooling(root, path, m, err);
  }
  json_decref(root);
  mem_free(path);
  return status;
}

/* What a module after Pooling reads and writes: the vector of a text, nothing else. */
static vecmill_status check_feature_names(const json_t *root, const char *path,
                                          vecmill_error *err) {
  static const char *const names[] = {"module_input_name", "module_output_name"};
  static const char vector[] = "sentence_embedding";
  for (size_t i = 0; i < 2; i++) {
    const char *text;
    vecmill_status status = json_get_string(root, path, names[i], vector, &text, err);
    if (status != VECMILL_OK) return status;
    if (strcmp(text, vector) != 0) return model_config_unsupported(err, path, names[i], text);
  }
  return VECMILL_OK;
}

static vecmill_status read_normalize(model_module *m, vecmill_error *err) {
  char *path;
  json_t *root;
  vecmill_status status = model_config_read_json(m->folder, "config.json", true, &path, &root, err);
  if (status == VECMILL_OK) status = check_feature_names(root, path, err);
  json_decref(root);
  mem_free(path);
  return status;
}

static vecmill_status read_dense(model_module *m, vecmill_error *err) {
  static const struct {
    const char *name;
    enum nn_activation act;
  } activations[] = {
      {"torch.nn.modules.activation.Tanh", NN_TANH},
      {"torch.nn.modules.linear.Identity", NN_LINEAR},
      {"torch.nn.modules.activation.ReLU", NN_RELU},
      {"torch.nn.modules.activation.GELU", NN_GELU},
      {"torch.nn.Tanh", NN_TANH},
      {"torch.nn.Identity", NN_LINEAR},
      {"torch.nn.ReLU", NN_RELU},
      {"torch.nn.GELU", NN_GELU},
  };
  bool use_residual = false;
  char *path;
  json_t *root;
  const char *act = NULL;
  int64_t n_in = 0, n_out = 0;
  vecmill_status status =
      model_config_read_json(m->folder, "config.json", false, &path, &root, err);
  if (status == VECMILL_OK)
    status = json_get_int(root, path, "in_features", 1, MAX_HIDDEN, 0, &n_in, err);
  if (status == VECMILL_OK)
    status = json_get_int(root, path, "out_features", 1, MAX_HIDDEN, 0, &n_out, err);
  if (status == VECMILL_OK) status = json_get_bool(root, path, "bias", true, &m->has_bias, err);
  if (status == VECMILL_OK)
    status = json_get_string(root, path, "activation_function", activations[0].name, &act, err);
  if (status == VECMILL_OK) status = check_feature_names(root, path, err);
  if (status == VECMILL_OK)
    status = json_get_bool(root, path, "use_residual", false, &use_residual, err);
  if (status == VECMILL_OK && use_residual)
    status = model_config_unsupported(err, path, "use_residual", "true");
  if (status == VECMILL_OK && (n_in == 0 || n_out == 0))
    status = err_set(err, VECMILL_ERROR_FORMAT,
                     "%s: \"in_features\" or \"out_features\" is missing", path);
  size_t i = 0, n = sizeof activations / sizeof *activations;
  if (status == VECMILL_OK) {
    while (i < n && strcmp(activations[i].name, act) != 0) i++;
    if (i == n) status = model_config_unsupported(err, path, "activation_function", act);
    else m->activation = activations[i].act;
  }
  m->n_in = (size_t)n_in;
  m->n_out = (size_t)n_out;
  json_decref(root);
  mem_free(path);
  return status;
}

/* "sentence_transformers.models.Pooling" and
 * "sentence_transformers.sentence_transformer.modules.pooling.Pooling" alike. */
static const char *class_of(const char *type) {
  const char *dot = strrchr(type, '.');
  return dot ? dot + 1 : type;
}

static vecmill_status add_module(const char *directory, const char *path, const char *type,
                                 const char *sub, model_config *c, vecmill_error *err) {
  const char *class = class_of(type);
  bool ours = strncmp(type, "sentence_transformers.", 22) == 0;
  if (c->n_modules == MODEL_MAX_MODULES)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED, "%s: more than %d modules", path,
                   MODEL_MAX_MODULES);
  model_module *m = &c->modules[c->n_modules];
  if (ours && strcmp(class, "Pooling") == 0) m->kind = MODULE_POOLING;
  else if (ours && strcmp(class, "Dense") == 0) m->kind = MODULE_DENSE;
  else if (ours && strcmp(class, "Normalize") == 0) m->kind = MODULE_NORMALIZE;
  else return model_config_unsupported(err, path, "module", type);
  if ((m->kind == MODULE_POOLING) != (c->n_modules == 0))
    return model_config_unsupported(err, path, "module order:", type);
  m->folder = file_join(directory, sub);
  if (!m->folder) return err_set_memory(err, path, 0);
  c->n_modules++;
  if (m->kind == MODULE_POOLING) return read_pooling(m, err);
  return m->kind == MODULE_DENSE ? read_dense(m, err) : read_normalize(m, err);
}

/* A folder name out of modules.json: inside the model directory, nowhere else. */
static bool is_plain_folder(const char *name) {
  return name[0] != '/' && strstr(name, "..") == NULL;
}

static vecmill_status read_modules(const char *directory, const char *path, const json_t *root,
                                   model_config *c, vecmill_error *err) {
  if (!json_is_array(root) || json_array_size(root) < 2)
    return err_set(err, VECMILL_ERROR_FORMAT,
                   "%s: not a list of a Transformer, a Pooling and what follows", path);
  for (size_t i = 0; i < json_array_size(root); i++) {
    const json_t *entry = json_array_get(root, i);
    const char *type, *sub;
    vecmill_status status = json_get_string(entry, path, "type", "", &type, err);
    if (status == VECMILL_OK) status = json_get_string(entry, path, "path", "", &sub, err);
    if (status != VECMILL_OK) return status;
    if (!is_plain_folder(sub))
      return err_set(err, VECMILL_ERROR_FORMAT, "%s: path \"%s\" leads out of the model", path,
                     sub);
    if (i > 0) {
      status = add_module(directory, path, type, sub, c, err);
      if (status != VECMILL_OK) return status;
      continue;
    }
    if (strncmp(type, "sentence_transformers.", 22) != 0 ||
        strcmp(class_of(type), "Transformer") != 0)
      return model_config_unsupported(err, path, "module", type);
    c->transformer_folder = *sub ? file_join(directory, sub) : mem_strdup(directory);
    if (!c->transformer_folder) return err_set_memory(err, path, 0);
  }
  return VECMILL_OK;
}

/* A plain BERT directory: mean pooling, as sentence-transformers makes of it. */
static vecmill_status assume_mean_pooling(const char *directory, model_config *c,
                                          vecmill_error *err) {
  c->transformer_folder = mem_strdup(directory);
  if (!c->transformer_folder) return err_set_memory(err, directory, 0);
  c->modules[0] = (model_module){.kind = MODULE_POOLING, .pooling = {POOL_MEAN}, .n_pooling = 1};
  c->n_modules = 1;
  c->is_plain = true;
  return VECMILL_OK;
}

/* --- prompts and the finished vector --- */

/* The reference knows these two of every model, empty where nothing is said of them. */
static bool is_known_prompt(const char *name) {
  return strcmp(name, "query") == 0 || strcmp(name, "document") == 0;
}

/* A copy in which every prompt is a string: null is an empty one. */
static vecmill_status copy_prompts(const json_t *prompts, const char *path, json_t **copy_out,
                                   vecmill_error *err) {
  const char *name;
  json_t *value;
  *copy_out = json_copy((json_t *)prompts);
  if (!*copy_out) return err_set_memory(err, path, 0);
  json_object_foreach((json_t *)prompts, name, value) {
    if (json_is_string(value)) continue;
    if (!json_is_null(value))
      return err_set(err, VECMILL_ERROR_FORMAT, "%s: prompt \"%s\" is not a string", path, name);
    if (json_object_set_new(*copy_out, name, json_string("")) != 0)
      return err_set_memory(err, path, 0);
  }
  return VECMILL_OK;
}

static vecmill_status read_prompts(const json_t *root, const char *path, model_config *c,
                                   vecmill_error *err) {
  const char *name, *text = "";
  json_t *prompts = json_object_get(root, "prompts");
  if (prompts && !json_is_null(prompts) && !json_is_object(prompts))
    return err_set(err, VECMILL_ERROR_FORMAT, "%s: \"prompts\" is not an object", path);
  vecmill_status status = json_get_string(root, path, "default_prompt_name", NULL, &name, err);
  if (status == VECMILL_OK && json_is_object(prompts))
    status = copy_prompts(prompts, path, &c->prompts, err);
  if (status != VECMILL_OK) return status;
  if (name) text = json_string_value(json_object_get(c->prompts, name));
  if (!text && is_known_prompt(name)) text = "";
  if (!text)
    return err_set(err, VECMILL_ERROR_FORMAT,
                   "%s: default_prompt_name \"%s\" is not among the prompts", path, name);
  c->default_prompt = mem_strdup(text);
  return c->default_prompt ? VECMILL_OK : err_set_memory(err, path, 0);
}

/* Other kinds (SparseEncoder, MultiVectorEncoder) are other modules than they seem. */
static vecmill_status check_model_type(const json_t *root, const char *path, vecmill_error *err) {
  static const char ours[] = "SentenceTransformer";
  const char *type;
  vecmill_status status = json_get_string(root, path, "model_type", ours, &type, err);
  return status == VECMILL_OK && strcmp(type, ours) != 0
             ? model_config_unsupported(err, path, "model_type", type)
             : status;
}

/* Follows the modules: what goes into each must be what came out of the one before. */
static vecmill_status check_dimensions(model_config *c, int64_t truncate, vecmill_error *err) {
  size_t dimension = c->hidden * c->modules[0].n_pooling;
  for (size_t i = 1; i < c->n_modules; i++) {
    const model_module *m = &c->modules[i];
    if (m->kind != MODULE_DENSE) continue;
    if (m->n_in != dimension)
      return err_set(err, VECMILL_ERROR_FORMAT, "%s: in_features is %zu, but %zu come in",
                     m->folder, m->n_in, dimension);
    dimension = m->n_out;
  }
  c->dimension = truncate > 0 && (size_t)truncate < dimension ? (size_t)truncate : dimension;
  return VECMILL_OK;
}

static vecmill_status read_rest(const char *directory, model_config *c, vecmill_error *err) {
  char *bert_path = NULL, *st_path = NULL;
  json_t *bert = NULL, *st = NULL;
  int64_t truncate = 0;
  vecmill_status status =
      model_config_read_json(c->transformer_folder, "config.json", false, &bert_path, &bert, err);
  if (status == VECMILL_OK) status = read_bert(bert, bert_path, c, err);
  if (status == VECMILL_OK) status = model_config_read_tokens(c, err);
  /* In a plain directory the reference does not look at it. */
  if (status == VECMILL_OK && !c->is_plain)
    status = model_config_read_json(directory, "config_sentence_transformers.json", true, &st_path,
                                    &st, err);
  if (status == VECMILL_OK) status = check_model_type(st, st_path, err);
  if (status == VECMILL_OK) status = read_prompts(st, st_path, c, err);
  if (status == VECMILL_OK)
    status = json_get_int(st, st_path, "truncate_dim", 1, MAX_HIDDEN, 0, &truncate, err);
  if (status == VECMILL_OK) status = check_dimensions(c, truncate, err);
  json_decref(bert);
  json_decref(st);
  mem_free(bert_path);
  mem_free(st_path);
  return status;
}

vecmill_status model_config_read(const char *directory, model_config *c, vecmill_error *err) {
  char *path;
  json_t *modules;
  *c = (model_config){0};
  vecmill_status status =
      model_config_read_json(directory, "modules.json", true, &path, &modules, err);
  if (status == VECMILL_OK)
    status = modules ? read_modules(directory, path, modules, c, err)
                     : assume_mean_pooling(directory, c, err);
  json_decref(modules);
  mem_free(path);
  if (status == VECMILL_OK) status = read_rest(directory, c, err);
  if (status != VECMILL_OK) model_config_fini(c);
  return status;
}

void model_config_fini(model_config *c) {
  for (size_t i = 0; i < MODEL_MAX_MODULES; i++) mem_free(c->modules[i].folder);
  mem_free(c->transformer_folder);
  mem_free(c->default_prompt);
  json_decref(c->prompts);
  *c = (model_config){0};
}
