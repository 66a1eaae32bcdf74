/*
 * How a model makes tokens of a text: what sentence_bert_config.json (the settings of the
 * Transformer module) and tokenizer_config.json say beside tokenizer.json. Which of them wins is
 * what sentence-transformers 6.2 and transformers 5.23 do (Transformer.load_config,
 * Transformer.__init__, PreTrainedTokenizerBase.__init__, BertTokenizer.__init__).
 */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/config_parts.h"

#define NO_LIMIT ((int64_t)1 << 53)

/* A member that is a string must be this one. */
static vecmill_status check_string(const json_t *root, const char *path, const char *name,
                                   const char *wanted, vecmill_error *err) {
  const char *text;
  vecmill_status status = json_get_string(root, path, name, wanted, &text, err);
  return status == VECMILL_OK && strcmp(text, wanted) != 0
             ? model_config_unsupported(err, path, name, text)
             : status;
}

/* Settings for loading that change the numbers: none but trust_remote_code, which does not. Those
 * of the weights (model_args) say a precision and an attention kernel, and are not looked at. */
static vecmill_status check_arguments(const json_t *root, const char *path, vecmill_error *err) {
  static const char *const members[] = {"tokenizer_args", "processor_kwargs", "config_args",
                                        "config_kwargs", "processing_kwargs"};
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(root, members[i]), name, value) {
      if (strcmp(name, "trust_remote_code") != 0)
        return model_config_unsupported(err, path, members[i], name);
    }
  }
  return VECMILL_OK;
}

/* The last layer's token embeddings of a text, which is what everything else here stands on. */
static vecmill_status check_task(const json_t *root, const char *path, vecmill_error *err) {
  vecmill_status status = check_string(root, path, "transformer_task", "feature-extraction", err);
  if (status == VECMILL_OK)
    status = check_string(root, path, "module_output_name", "token_embeddings", err);
  const json_t *text = json_object_get(json_object_get(root, "modality_config"), "text");
  if (status == VECMILL_OK) status = check_string(text, path, "method", "forward", err);
  return status == VECMILL_OK
             ? check_string(text, path, "method_output_name", "last_hidden_state", err)
             : status;
}

static vecmill_status read_transformer_settings(const json_t *root, const char *path,
                                                int64_t *limit_out, vecmill_error *err) {
  bool lower;
  vecmill_status status =
      json_get_int(root, path, "max_seq_length", 1, NO_LIMIT, NO_LIMIT, limit_out, err);
  if (status == VECMILL_OK) status = json_get_bool(root, path, "do_lower_case", false, &lower, err);
  if (status == VECMILL_OK && lower)
    return model_config_unsupported(err, path, "do_lower_case", "true");
  if (status == VECMILL_OK) status = check_task(root, path, err);
  return status == VECMILL_OK ? check_arguments(root, path, err) : status;
}

/* The first of the names that the reference tries. A directory without modules.json has none. */
static vecmill_status find_transformer_settings(const model_config *c, int64_t *limit_out,
                                                vecmill_error *err) {
  static const char *const names[] = {
      "sentence_bert_config.json",       "sentence_roberta_config.json",
      "sentence_distilbert_config.json", "sentence_camembert_config.json",
      "sentence_albert_config.json",     "sentence_xlm-roberta_config.json",
      "sentence_xlnet_config.json"};
  *limit_out = NO_LIMIT;
  for (size_t i = 0; !c->is_plain && i < sizeof names / sizeof *names; i++) {
    char *path;
    json_t *root;
    vecmill_status status =
        model_config_read_json(c->transformer_folder, names[i], true, &path, &root, err);
    bool is_it = json_object_size(root) > 0;
    if (status == VECMILL_OK && root)
      status = read_transformer_settings(root, path, limit_out, err);
    json_decref(root);
    mem_free(path);
    if (status != VECMILL_OK || is_it) return status;
  }
  return VECMILL_OK;
}

/* model_max_length, which old files call max_len. Models without a limit say 1e30. */
static vecmill_status read_limit(const json_t *root, const char *path, int64_t *limit_out,
                                 vecmill_error *err) {
  double limit = 0;
  const char *name = json_object_get(root, "model_max_length") ? "model_max_length" : "max_len";
  vecmill_status status = json_get_real(root, path, name, 0, &limit, err);
  *limit_out = limit >= 1 && limit < MAX_POSITIONS ? (int64_t)limit : NO_LIMIT;
  return status;
}

/* BertTokenizer makes its normalizer anew from these; other classes take tokenizer.json's. */
static vecmill_status read_bert_tokenizer(const json_t *root, const char *path, model_config *c,
                                          vecmill_error *err) {
  tok_bert_settings *s = &c->bert_tokenizer;
  bool strip = false;
  const char *class;
  vecmill_status status =
      json_get_string(root, path, "tokenizer_class", "BertTokenizer", &class, err);
  if (status != VECMILL_OK) return status;
  c->is_bert_tokenizer =
      strcmp(class, "BertTokenizer") == 0 || strcmp(class, "BertTokenizerFast") == 0;
  status = json_get_bool(root, path, "do_lower_case", true, &s->lowercase, err);
  if (status == VECMILL_OK)
    status = json_get_bool(root, path, "tokenize_chinese_chars", true, &s->space_chinese, err);
  const json_t *said = json_object_get(root, "strip_accents");
  if (status == VECMILL_OK) status = json_get_bool(root, path, "strip_accents", false, &strip, err);
  s->strip_accents = !said || json_is_null(said) ? TOK_STRIP_AS_LOWERCASE
                     : strip                     ? TOK_STRIP
                                                 : TOK_STRIP_NOT;
  return status;
}

vecmill_status model_config_read_tokens(model_config *c, vecmill_error *err) {
  char *path = NULL;
  json_t *root = NULL;
  int64_t from_st = NO_LIMIT, from_tok = NO_LIMIT;
  vecmill_status status = find_transformer_settings(c, &from_st, err);
  if (status == VECMILL_OK)
    status = model_config_read_json(c->transformer_folder, "tokenizer_config.json", true, &path,
                                    &root, err);
  if (status == VECMILL_OK) status = read_limit(root, path, &from_tok, err);
  if (status == VECMILL_OK) status = read_bert_tokenizer(root, path, c, err);
  int64_t limit = from_st != NO_LIMIT ? from_st : from_tok;
  c->max_tokens = limit < (int64_t)c->max_positions ? (size_t)limit : c->max_positions;
  json_decref(root);
  mem_free(path);
  return status;
}

vecmill_status model_config_open_tokenizer(const model_config *c, tokenizer **tok_out,
                                           vecmill_error *err) {
  *tok_out = NULL;
  char *path = file_join(c->transformer_folder, "tokenizer.json");
  if (!path) return err_set_memory(err, c->transformer_folder, strlen(c->transformer_folder));
  vecmill_status status =
      tok_open_bert(path, c->is_bert_tokenizer ? &c->bert_tokenizer : NULL, tok_out, err);
  if (status == VECMILL_OK && (tok_n_special(*tok_out) > c->max_tokens || c->max_tokens == 0)) {
    status = err_set(err, VECMILL_ERROR_FORMAT,
                     "%s: %zu tokens a text leave no room for the special ones",
                     c->transformer_folder, c->max_tokens);
    tok_close(tok_out);
  }
  mem_free(path);
  return status;
}
