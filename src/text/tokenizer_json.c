/*
 * Reading a tokenizer.json, as written by any generation of the tokenizers
 * library: what an old file leaves out has the meaning it had then, and what
 * this tokenizer cannot honour is refused by name.
 */
#include "text/tokenizer_json.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "text/utf8.h"

#define MAX_ID         (INT32_MAX - 1)
#define MAX_WORD_CHARS 100000 /* files say 100 */
#define MAX_ADDED      16384  /* twins are looked for by pairs */

static vecmill_status bad(const char *where, const char *what, vecmill_error *err) {
  return err_set(err, VECMILL_ERROR_FORMAT, "%s: %s", where, what);
}

static vecmill_status unsupported(const char *where, const char *part, const char *type,
                                  vecmill_error *err) {
  return err_set(err, VECMILL_ERROR_UNSUPPORTED, "%s: %s %s: not supported yet", where, part, type);
}

static bool is_id(const json_t *value) {
  return json_is_integer(value) && json_integer_value(value) >= 0 &&
         json_integer_value(value) <= MAX_ID;
}

static void note_id(tokenizer *tok, int32_t id) {
  if ((size_t)id + 1 > tok->n_ids) tok->n_ids = (size_t)id + 1;
}

/* ---- model */

/* The oldest files name no type: told by the members, in the order in which the library tries. */
static const char *guess_model(const json_t *model) {
  if (json_object_get(model, "merges")) return "BPE";
  if (json_object_get(model, "max_input_chars_per_word")) return "WordPiece";
  return json_is_array(json_object_get(model, "vocab")) ? "Unigram" : "WordLevel";
}

static vecmill_status collect_words(json_t *vocab_json, const char *where, tokenizer *tok,
                                    vocab_word *words, vecmill_error *err) {
  const char *text;
  json_t *id;
  size_t i = 0;
  json_object_foreach(vocab_json, text, id) {
    if (!is_id(id))
      return bad(where, "model: \"vocab\": an id is not a whole number from 0 to 2^31 - 2", err);
    words[i++] = (vocab_word){text, strlen(text), (int32_t)json_integer_value(id)};
    note_id(tok, (int32_t)json_integer_value(id));
  }
  return VECMILL_OK;
}

static vecmill_status parse_vocab(json_t *model, const char *where, const char *prefix,
                                  tokenizer *tok, vecmill_error *err) {
  json_t *vocab_json = json_object_get(model, "vocab");
  if (!json_is_object(vocab_json)) return bad(where, "model: \"vocab\" is not an object", err);
  size_t n = json_object_size(vocab_json);
  vocab_word *words = mem_calloc(n, sizeof *words);
  if (!words) return err_set_memory(err, where, n * sizeof *words);
  vecmill_status status = collect_words(vocab_json, where, tok, words, err);
  if (status == VECMILL_OK)
    status = vocab_init(&tok->vocabulary, words, n, prefix, strlen(prefix), err);
  mem_free(words);
  return status;
}

static vecmill_status parse_model(json_t *model, const char *where, tokenizer *tok,
                                  vecmill_error *err) {
  const char *type, *unknown, *prefix;
  int64_t max_chars;
  if (!json_is_object(model)) return bad(where, "\"model\" is missing or not an object", err);
  vecmill_status status = json_get_string(model, where, "type", guess_model(model), &type, err);
  if (status != VECMILL_OK) return status;
  if (strcmp(type, "WordPiece")) return unsupported(where, "tokenizer", type, err);
  status = json_get_string(model, where, "unk_token", "[UNK]", &unknown, err);
  if (status == VECMILL_OK)
    status = json_get_string(model, where, "continuing_subword_prefix", "##", &prefix, err);
  if (status == VECMILL_OK)
    status = json_get_int(model, where, "max_input_chars_per_word", 0, MAX_WORD_CHARS, 100,
                          &max_chars, err);
  if (status == VECMILL_OK) status = parse_vocab(model, where, prefix, tok, err);
  if (status != VECMILL_OK) return status;
  tok->vocabulary.max_chars = (size_t)max_chars;
  tok->vocabulary.unknown_id = vocab_find(&tok->vocabulary, unknown, strlen(unknown));
  if (tok->vocabulary.unknown_id < 0)
    return err_set(err, VECMILL_ERROR_FORMAT, "%s: model: \"unk_token\" %s is not in \"vocab\"",
                   where, unknown);
  return VECMILL_OK;
}

/* ---- added tokens */

typedef struct added_draft {
  const char *text; /* borrowed from the JSON */
  size_t n;
  int32_t id;
  bool single_word, lstrip, rstrip, normalized;
} added_draft;

static vecmill_status parse_added(const json_t *json, const char *where, added_draft *draft,
                                  vecmill_error *err) {
  bool special;
  const json_t *content = json_object_get(json, "content");
  if (!json_is_object(json) || !json_is_string(content))
    return bad(where, "\"added_tokens\": one has no \"content\"", err);
  draft->text = json_string_value(content);
  draft->n = json_string_length(content);
  vecmill_status status =
      json_get_bool(json, where, "single_word", false, &draft->single_word, err);
  if (status == VECMILL_OK)
    status = json_get_bool(json, where, "lstrip", false, &draft->lstrip, err);
  if (status == VECMILL_OK)
    status = json_get_bool(json, where, "rstrip", false, &draft->rstrip, err);
  if (status == VECMILL_OK) status = json_get_bool(json, where, "special", false, &special, err);
  if (status == VECMILL_OK)
    status = json_get_bool(json, where, "normalized", !special, &draft->normalized, err);
  return status;
}

/*
 * The library's rule for ids, which looks at no "id" in the file: the
 * vocabulary's if the text is in it, else the next one after the vocabulary.
 * Of two with one text or one id, the later counts.
 */
static vecmill_status assign_ids(const json_t *list, const char *where, tokenizer *tok,
                                 size_t n_vocab, added_draft *drafts, size_t *n_out,
                                 vecmill_error *err) {
  size_t n = 0;
  int64_t next = (int64_t)n_vocab;
  bool warned = false;
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *json = json_array_get(list, i);
    added_draft draft;
    vecmill_status status = parse_added(json, where, &draft, err);
    if (status != VECMILL_OK) return status;
    if (!draft.n) continue;
    draft.id = vocab_find(&tok->vocabulary, draft.text, draft.n);
    size_t at = 0;
    while (at < n && (drafts[at].n != draft.n || memcmp(drafts[at].text, draft.text, draft.n)))
      at++;
    if (at < n)
      draft.id = drafts[at].id;
    else if (draft.id < 0)
      draft.id = (int32_t)next++;
    for (at = 0; at < n && drafts[at].id != draft.id;) at++;
    if (next > MAX_ID) return bad(where, "\"added_tokens\": ids above 2^31 - 2", err);
    const json_t *claimed = json_object_get(json, "id");
    if (claimed && !warned &&
        !(json_is_integer(claimed) && json_integer_value(claimed) == draft.id)) {
      warned = true;
      log_warning(
          "%s: added token %s: the file says another id than its place in the vocabulary, %d, "
          "which counts",
          where, draft.text, (int)draft.id);
    }
    drafts[at] = draft;
    if (at == n) n++;
    note_id(tok, draft.id);
  }
  *n_out = n;
  return VECMILL_OK;
}

/* The text under which a normalised token is looked for. */
static vecmill_status normalize_text(const normalizer *norm, const added_draft *draft,
                                     char **text_out, size_t *n_out, vecmill_error *err) {
  normalizer_codes work = {0}, codes = {0};
  size_t n = 0;
  vecmill_status status = normalizer_apply(norm, draft->text, draft->n, &work, &codes, err);
  char *text = status == VECMILL_OK ? mem_calloc(codes.n, 4) : NULL;
  if (status == VECMILL_OK && !text) status = err_set_memory(err, "added tokens", codes.n * 4);
  for (size_t i = 0; status == VECMILL_OK && i < codes.n; i++)
    n += utf8_encode(codes.codes[i] & ~NORMALIZER_COMBINES, text + n);
  normalizer_codes_fini(&work);
  normalizer_codes_fini(&codes);
  *text_out = text;
  *n_out = n;
  return status;
}

static vecmill_status build_set(const tokenizer *tok, const added_draft *drafts, size_t n_drafts,
                                bool normalized, const char *where, added_set *set,
                                vecmill_error *err) {
  const normalizer *norm = normalized ? &tok->norm : &tok->plain;
  added_token *tokens = mem_calloc(n_drafts, sizeof *tokens);
  if (!tokens) return err_set_memory(err, where, n_drafts * sizeof *tokens);
  size_t n = 0;
  vecmill_status status = VECMILL_OK;
  for (size_t i = 0; i < n_drafts && status == VECMILL_OK; i++) {
    const added_draft *d = &drafts[i];
    if (d->normalized != normalized) continue;
    tokens[n] = (added_token){
        .id = d->id, .single_word = d->single_word, .lstrip = d->lstrip, .rstrip = d->rstrip};
    status = d->n > ADDED_MAX_BYTES ? bad(where, "\"added_tokens\": a \"content\" is too long", err)
                                    : normalize_text(norm, d, &tokens[n].text, &tokens[n].n, err);
    if (status == VECMILL_OK) n++;
  }
  vecmill_status built = added_init(set, tokens, n, where, status == VECMILL_OK ? err : NULL);
  return status == VECMILL_OK ? built : status;
}

static vecmill_status parse_all_added(const json_t *root, const char *where, tokenizer *tok,
                                      vecmill_error *err) {
  const json_t *list = json_object_get(root, "added_tokens");
  if (!list || json_is_null(list)) return VECMILL_OK;
  if (!json_is_array(list)) return bad(where, "\"added_tokens\" is not a list", err);
  size_t n = json_array_size(list);
  if (n > MAX_ADDED)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED, "%s: more than %d added tokens", where,
                   MAX_ADDED);
  size_t n_vocab = json_object_size(json_object_get(json_object_get(root, "model"), "vocab"));
  added_draft *drafts = mem_calloc(n, sizeof *drafts);
  if (!drafts) return err_set_memory(err, where, n * sizeof *drafts);
  vecmill_status status = assign_ids(list, where, tok, n_vocab, drafts, &n, err);
  if (status == VECMILL_OK) status = build_set(tok, drafts, n, false, where, &tok->raw_tokens, err);
  if (status == VECMILL_OK)
    status = build_set(tok, drafts, n, true, where, &tok->normalized_tokens, err);
  mem_free(drafts);
  return status;
}

/* ---- post-processor */

static vecmill_status add_special(tok_specials *specials, const json_t *id, const char *where,
                                  tokenizer *tok, vecmill_error *err) {
  if (!is_id(id)) return bad(where, "post_processor: a special token has no id", err);
  if (specials->n == TOK_MAX_SPECIAL)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                   "%s: post_processor: more than %d special tokens on one side", where,
                   TOK_MAX_SPECIAL);
  specials->ids[specials->n++] = (int32_t)json_integer_value(id);
  note_id(tok, (int32_t)json_integer_value(id));
  return VECMILL_OK;
}

/* "cls": ["[CLS]", 101], "sep": ["[SEP]", 102] */
static vecmill_status parse_cls_sep(const json_t *json, const char *where, tokenizer *tok,
                                    vecmill_error *err) {
  const json_t *cls = json_array_get(json_object_get(json, "cls"), 1);
  vecmill_status status = add_special(&tok->before, cls, where, tok, err);
  if (status != VECMILL_OK) return status;
  return add_special(&tok->after, json_array_get(json_object_get(json, "sep"), 1), where, tok, err);
}

static vecmill_status add_template_special(const json_t *json, const json_t *piece,
                                           const char *where, tok_specials *side, tokenizer *tok,
                                           vecmill_error *err) {
  const char *name = json_string_value(json_object_get(piece, "id"));
  const json_t *special =
      name ? json_object_get(json_object_get(json, "special_tokens"), name) : NULL;
  const json_t *ids = json_object_get(special, "ids");
  if (!json_is_array(ids))
    return bad(where, "post_processor TemplateProcessing: a special token without \"ids\"", err);
  vecmill_status status = VECMILL_OK;
  for (size_t i = 0; i < json_array_size(ids) && status == VECMILL_OK; i++)
    status = add_special(side, json_array_get(ids, i), where, tok, err);
  return status;
}

static vecmill_status parse_template(const json_t *json, const char *where, tokenizer *tok,
                                     vecmill_error *err) {
  const json_t *single = json_object_get(json, "single");
  if (!json_is_array(single))
    return bad(where, "post_processor TemplateProcessing: \"single\" is not a list", err);
  unsigned n_sequences = 0;
  vecmill_status status = VECMILL_OK;
  for (size_t i = 0; i < json_array_size(single) && status == VECMILL_OK; i++) {
    const json_t *part = json_array_get(single, i),
                 *special = json_object_get(part, "SpecialToken");
    const char *sequence =
        json_string_value(json_object_get(json_object_get(part, "Sequence"), "id"));
    if (special)
      status = add_template_special(json, special, where, n_sequences ? &tok->after : &tok->before,
                                    tok, err);
    else if (!sequence || strcmp(sequence, "A") || n_sequences++)
      status =
          bad(where, "post_processor TemplateProcessing: \"single\" does not hold the text A once",
              err);
  }
  if (status == VECMILL_OK && n_sequences != 1)
    status = bad(
        where, "post_processor TemplateProcessing: \"single\" does not hold the text A once", err);
  return status;
}

static const char *guess_post_processor(const json_t *json) {
  if (json_object_get(json, "cls")) return "BertProcessing";
  if (json_object_get(json, "single")) return "TemplateProcessing";
  return json_object_get(json, "processors") ? "Sequence" : "without a type";
}

static vecmill_status parse_post_processor(const json_t *json, const char *where, tokenizer *tok,
                                           vecmill_error *err) {
  const char *type;
  if (!json || json_is_null(json)) return VECMILL_OK;
  if (!json_is_object(json)) return bad(where, "\"post_processor\" is not an object", err);
  vecmill_status status =
      json_get_string(json, where, "type", guess_post_processor(json), &type, err);
  if (status != VECMILL_OK) return status;
  if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing"))
    return parse_cls_sep(json, where, tok, err);
  if (!strcmp(type, "TemplateProcessing")) return parse_template(json, where, tok, err);
  return unsupported(where, "post_processor", type, err);
}

/* ---- the whole */

static vecmill_status parse_pre_tokenizer(const json_t *json, const char *where, tokenizer *tok,
                                          vecmill_error *err) {
  const char *type;
  tok->split = CHARMAP_SPLIT_NONE;
  if (!json || json_is_null(json)) return VECMILL_OK;
  if (!json_is_object(json)) return bad(where, "\"pre_tokenizer\" is not an object", err);
  vecmill_status status = json_get_string(json, where, "type", "without a type", &type, err);
  if (status != VECMILL_OK) return status;
  if (!strcmp(type, "BertPreTokenizer"))
    tok->split = CHARMAP_SPLIT_BERT;
  else if (!strcmp(type, "WhitespaceSplit"))
    tok->split = CHARMAP_SPLIT_SPACES;
  else
    return unsupported(where, "pre_tokenizer", type, err);
  return VECMILL_OK;
}

vecmill_status tok_parse(const json_t *root, const char *where, tokenizer *tok,
                         vecmill_error *err) {
  const char *version;
  if (!json_is_object(root)) return bad(where, "not an object", err);
  vecmill_status status = json_get_string(root, where, "version", "1.0", &version, err);
  if (status != VECMILL_OK) return status;
  if (strcmp(version, "1.0")) return unsupported(where, "tokenizer version", version, err);
  /* The model first: what kind of tokenizer this is says more than which normaliser it uses. */
  status = parse_model(json_object_get(root, "model"), where, tok, err);
  if (status != VECMILL_OK) return status;
  const json_t *norm = json_object_get(root, "normalizer");
  const json_t *pre = json_object_get(root, "pre_tokenizer");
  const json_t *post = json_object_get(root, "post_processor");
  status = normalizer_parse(norm, where, &tok->norm, err);
  if (status == VECMILL_OK) status = parse_pre_tokenizer(pre, where, tok, err);
  if (status == VECMILL_OK) status = parse_post_processor(post, where, tok, err);
  if (status == VECMILL_OK) status = parse_all_added(root, where, tok, err);
  return status;
}
