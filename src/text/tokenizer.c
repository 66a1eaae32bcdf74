/*
 * Encoding. A text goes through in one pass: added tokens cut it into pieces,
 * a piece's characters are looked up in a charmap and fill the current word, a
 * finished word is split by the vocabulary. Nothing is built for the whole text,
 * unless a piece needs the plain normaliser (a surviving combining character,
 * or added tokens that are looked for in normalised text).
 */
#include "text/tokenizer.h"

#include <string.h>

#include "base/mem.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

#define MAX_FILE_BYTES (256u << 20)
#define MAX_TEXT_BYTES (1u << 31)

struct tok_scratch {
  char *word; /* the word being read; room for word_capacity + one entry, and 16 more to read */
  size_t word_capacity; /* more bytes than this are more than max_chars characters */
  vocab_ids ids;
  size_t ids_room;
  normalizer_codes work, codes;
  char *repaired, *normalized;
  size_t repaired_room, normalized_room;
};

/* ---- opening */

static vecmill_status open_charmaps(tokenizer *tok, vecmill_error *err) {
  vecmill_status status = charmap_open(&tok->norm, tok->split, &tok->words, err);
  if (status == VECMILL_OK)
    status = charmap_open(&tok->plain, tok->split, &tok->normalized_words, err);
  if (status == VECMILL_OK && tok->normalized_tokens.n)
    status = charmap_open(&tok->norm, CHARMAP_SPLIT_NONE, &tok->normalized, err);
  return status;
}

static vecmill_status set_normalizer(json_t *root, const tok_bert_settings *settings,
                                     const char *path, vecmill_error *err) {
  json_t *strip = settings->strip_accents == TOK_STRIP_AS_LOWERCASE
                      ? json_null()
                      : json_boolean(settings->strip_accents == TOK_STRIP);
  json_t *made =
      json_pack("{s:s, s:b, s:b, s:o}", "type", "BertNormalizer", "lowercase", settings->lowercase,
                "handle_chinese_chars", settings->space_chinese, "strip_accents", strip);
  return made && json_object_set_new(root, "normalizer", made) == 0 ? VECMILL_OK
                                                                    : err_set_memory(err, path, 0);
}

vecmill_status tok_open_bert(const char *tokenizer_json_path, const tok_bert_settings *settings,
                             tokenizer **tok_out, vecmill_error *err) {
  json_t *root;
  *tok_out = NULL;
  vecmill_status status = json_read_file(tokenizer_json_path, MAX_FILE_BYTES, &root, err);
  if (status != VECMILL_OK) return status;
  if (settings && json_is_object(root))
    status = set_normalizer(root, settings, tokenizer_json_path, err);
  tokenizer *tok = mem_calloc(1, sizeof *tok);
  if (tok && status == VECMILL_OK) status = tok_parse(root, tokenizer_json_path, tok, err);
  else if (!tok) status = err_set_memory(err, tokenizer_json_path, sizeof *tok);
  json_decref(root);
  if (status == VECMILL_OK) status = open_charmaps(tok, err);
  if (status == VECMILL_OK) *tok_out = tok;
  else tok_close(&tok);
  return status;
}

vecmill_status tok_open(const char *tokenizer_json_path, tokenizer **tok_out, vecmill_error *err) {
  return tok_open_bert(tokenizer_json_path, NULL, tok_out, err);
}

void tok_close(tokenizer **tok) {
  if (!*tok) return;
  charmap_close(&(*tok)->words);
  charmap_close(&(*tok)->normalized);
  charmap_close(&(*tok)->normalized_words);
  added_fini(&(*tok)->raw_tokens);
  added_fini(&(*tok)->normalized_tokens);
  vocab_fini(&(*tok)->vocabulary);
  mem_free(*tok);
  *tok = NULL;
}

vecmill_status tok_scratch_open(const tokenizer *tok, tok_scratch **scratch_out,
                                vecmill_error *err) {
  tok_scratch *scratch = mem_calloc(1, sizeof *scratch);
  *scratch_out = scratch;
  if (!scratch) return err_set_memory(err, "tokenizer scratch", sizeof *scratch);
  scratch->word_capacity = 4 * tok->vocabulary.max_chars + 4;
  scratch->word = mem_calloc(scratch->word_capacity + CHARMAP_MAX_BYTES + 16, 1);
  if (scratch->word) return VECMILL_OK;
  tok_scratch_close(scratch_out);
  return err_set_memory(err, "tokenizer scratch", 4 * tok->vocabulary.max_chars);
}

void tok_scratch_close(tok_scratch **scratch) {
  if (!*scratch) return;
  mem_free((*scratch)->word);
  mem_free((*scratch)->ids.ids);
  mem_free((*scratch)->repaired);
  mem_free((*scratch)->normalized);
  normalizer_codes_fini(&(*scratch)->work);
  normalizer_codes_fini(&(*scratch)->codes);
  mem_free(*scratch);
  *scratch = NULL;
}

size_t tok_n_vocab(const tokenizer *tok) {
  return tok->n_ids;
}

size_t tok_n_special(const tokenizer *tok) {
  return tok->before.n + tok->after.n;
}

const char *tok_type(const tokenizer *tok) {
  return "WordPiece";
}

/* ---- encoding */

static vecmill_status grow(char **block, size_t *room, size_t n, vecmill_error *err) {
  if (n <= *room) return VECMILL_OK;
  char *grown = mem_realloc(*block, n, 1);
  if (!grown) return err_set_memory(err, "tokenizing a text", n);
  *block = grown;
  *room = n;
  return VECMILL_OK;
}

typedef enum scan_result { SCAN_DONE, SCAN_SLOW, SCAN_NO_MEMORY } scan_result;

typedef struct scanner {
  const vocab *v;
  char *word;
  size_t n, capacity;
  vocab_ids *ids;
} scanner;

static inline void end_word(scanner *s) {
  if (s->n) vocab_split(s->v, s->word, s->n, s->ids);
  s->n = 0;
}

/* A word that is already too long grows no further. */
static inline void add_bytes(scanner *s, const charmap_entry *entry) {
  if (s->n > s->capacity) return;
  memcpy(s->word + s->n, entry->bytes, CHARMAP_MAX_BYTES);
  s->n += entry->n;
}

static inline charmap_kind scan_entry(scanner *s, const charmap_entry *entry) {
  switch (entry->kind) {
    case CHARMAP_WORD: add_bytes(s, entry); break;
    case CHARMAP_SPACE: end_word(s); break;
    case CHARMAP_ALONE:
      end_word(s);
      add_bytes(s, entry);
      end_word(s);
      break;
    default: break;
  }
  return (charmap_kind)entry->kind;
}

/* Well-formed UTF-8 to ids. After SCAN_SLOW and SCAN_NO_MEMORY some ids may have been pushed. */
static scan_result scan(const tokenizer *tok, charmap *map, const char *text, size_t n,
                        tok_scratch *scratch) {
  scanner s = {&tok->vocabulary, scratch->word, 0, scratch->word_capacity, &scratch->ids};
  const char *p = text, *end = text + n;
  while (p < end) {
    uint8_t c = (uint8_t)*p;
    switch (map->kinds[c]) {
      case CHARMAP_WORD:
        s.word[s.n] = map->ascii[c];
        s.n += s.n <= s.capacity;
        p++;
        break;
      case CHARMAP_SPACE:
        end_word(&s);
        p++;
        break;
      case CHARMAP_ALONE:
        end_word(&s);
        s.word[0] = map->ascii[c];
        s.n = 1;
        end_word(&s);
        p++;
        break;
      case CHARMAP_DROP: p++; break;
      default: {
        uint32_t code;
        p += utf8_decode(p, (size_t)(end - p), &code);
        const charmap_entry *entry = charmap_find(map, code);
        if (!entry) return SCAN_NO_MEMORY;
        if (scan_entry(&s, entry) == CHARMAP_SLOW) return SCAN_SLOW;
      }
    }
  }
  end_word(&s);
  return SCAN_DONE;
}

/* Normalised text by the plain steps, for what the charmaps cannot tell. */
static vecmill_status normalize_plainly(const tokenizer *tok, tok_scratch *scratch,
                                        const char *text, size_t n, size_t *n_out,
                                        vecmill_error *err) {
  size_t at = 0;
  vecmill_status status =
      normalizer_apply(&tok->norm, text, n, &scratch->work, &scratch->codes, err);
  if (status == VECMILL_OK)
    status = grow(&scratch->normalized, &scratch->normalized_room, scratch->codes.n * 4, err);
  if (status != VECMILL_OK) return status;
  for (size_t i = 0; i < scratch->codes.n; i++)
    at += utf8_encode(scratch->codes.codes[i] & ~NORMALIZER_COMBINES, scratch->normalized + at);
  *n_out = at;
  return VECMILL_OK;
}

static vecmill_status scan_normalized(const tokenizer *tok, tok_scratch *scratch, const char *text,
                                      size_t n, vecmill_error *err) {
  /* Without steps nothing is slow. */
  if (scan(tok, tok->normalized_words, text, n, scratch) == SCAN_DONE) return VECMILL_OK;
  return err_set_memory(err, "tokenizing a text", n);
}

/* Normalises to scratch->normalized, by charmap where that is possible. */
static vecmill_status normalize(const tokenizer *tok, tok_scratch *scratch, const char *text,
                                size_t n, size_t *n_out, vecmill_error *err) {
  size_t at = 0;
  for (size_t i = 0; i < n;) {
    uint32_t code;
    i += utf8_decode(text + i, n - i, &code);
    const charmap_entry *entry = charmap_find(tok->normalized, code);
    if (!entry) return err_set_memory(err, "tokenizing a text", n);
    if (entry->kind == CHARMAP_SLOW) return normalize_plainly(tok, scratch, text, n, n_out, err);
    if (scratch->normalized_room - at < CHARMAP_MAX_BYTES) {
      size_t room = 2 * scratch->normalized_room + n + 64;
      vecmill_status status = grow(&scratch->normalized, &scratch->normalized_room, room, err);
      if (status != VECMILL_OK) return status;
    }
    memcpy(scratch->normalized + at, entry->bytes, CHARMAP_MAX_BYTES);
    at += entry->n;
  }
  *n_out = at;
  return VECMILL_OK;
}

/* A piece in which tokens are looked for in the normalised text. */
static vecmill_status encode_with_tokens(const tokenizer *tok, tok_scratch *scratch,
                                         const char *text, size_t n, vecmill_error *err) {
  added_walk walk = {0};
  const added_token *token;
  size_t start, end;
  vecmill_status status = normalize(tok, scratch, text, n, &walk.n, err);
  walk.text = scratch->normalized;
  while (status == VECMILL_OK && added_next(&tok->normalized_tokens, &walk, &start, &end, &token)) {
    status = scan_normalized(tok, scratch, walk.text + start, end - start, err);
    vocab_push(&scratch->ids, token->id);
  }
  if (status != VECMILL_OK || walk.rest_start >= walk.n) return status;
  return scan_normalized(tok, scratch, walk.text + walk.rest_start, walk.n - walk.rest_start, err);
}

/* A piece between two added tokens of the raw text. */
static vecmill_status encode_piece(const tokenizer *tok, tok_scratch *scratch, const char *text,
                                   size_t n, vecmill_error *err) {
  if (!n) return VECMILL_OK;
  if (tok->normalized_tokens.n) return encode_with_tokens(tok, scratch, text, n, err);
  size_t n_before = scratch->ids.n;
  switch (scan(tok, tok->words, text, n, scratch)) {
    case SCAN_DONE: return VECMILL_OK;
    case SCAN_NO_MEMORY: return err_set_memory(err, "tokenizing a text", n);
    case SCAN_SLOW: break;
  }
  scratch->ids.n = n_before;
  size_t n_normalized;
  vecmill_status status = normalize_plainly(tok, scratch, text, n, &n_normalized, err);
  if (status != VECMILL_OK) return status;
  return scan_normalized(tok, scratch, scratch->normalized, n_normalized, err);
}

static vecmill_status encode_text(const tokenizer *tok, tok_scratch *scratch, const char *text,
                                  size_t n, vecmill_error *err) {
  added_walk walk = {.text = text, .n = n};
  const added_token *token;
  size_t start, end;
  while (added_next(&tok->raw_tokens, &walk, &start, &end, &token)) {
    vecmill_status status = encode_piece(tok, scratch, text + start, end - start, err);
    if (status != VECMILL_OK) return status;
    vocab_push(&scratch->ids, token->id);
  }
  return encode_piece(tok, scratch, text + walk.rest_start, n - walk.rest_start, err);
}

/*
 * Encodes with room for `room` ids, special ones included; those beyond are
 * counted. Truncation keeps the first ids and always leaves room for the
 * special tokens, as the library does.
 */
static vecmill_status encode_into(const tokenizer *tok, tok_scratch *scratch, const char *text,
                                  size_t n, size_t room, tok_result *result, vecmill_error *err) {
  vocab_ids *ids = &scratch->ids;
  if (room > scratch->ids_room) {
    int32_t *grown = mem_realloc(ids->ids, room, sizeof *grown);
    if (!grown) return err_set_memory(err, "tokenizing a text", room * sizeof *grown);
    ids->ids = grown;
    scratch->ids_room = room;
  }
  ids->n = 0;
  ids->capacity = room - tok->after.n;
  for (size_t i = 0; i < tok->before.n; i++) vocab_push(ids, tok->before.ids[i]);
  vecmill_status status = encode_text(tok, scratch, text, n, err);
  if (status != VECMILL_OK) return status;
  size_t n_kept = ids->n < ids->capacity ? ids->n : ids->capacity;
  for (size_t i = 0; i < tok->after.n; i++) ids->ids[n_kept + i] = tok->after.ids[i];
  result->ids = ids->ids;
  result->n_ids = n_kept + tok->after.n;
  result->n_ids_whole = ids->n + tok->after.n;
  return VECMILL_OK;
}

vecmill_status tok_encode(const tokenizer *tok, tok_scratch *scratch, const char *text, size_t n,
                          size_t max_tokens, tok_result *result_out, vecmill_error *err) {
  size_t n_special = tok_n_special(tok);
  vecmill_status status = VECMILL_OK;
  tok_result result = {0};
  if (n > MAX_TEXT_BYTES)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "tokenizing a text: it has more than 2^31 bytes");
  if (max_tokens < n_special)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "tokenizing a text: at most %zu tokens, but %zu are special", max_tokens,
                   n_special);
  if (utf8_valid_prefix(text, n) < n) {
    status = grow(&scratch->repaired, &scratch->repaired_room, 3 * n, err);
    if (status != VECMILL_OK) return status;
    n = utf8_repair(text, n, scratch->repaired, &result.n_replaced);
    text = scratch->repaired;
  }
  /* A token a byte is more than texts give; should one give more, the second time there is room. */
  size_t room = n + n_special + 1 < max_tokens ? n + n_special + 1 : max_tokens;
  status = encode_into(tok, scratch, text, n, room, &result, err);
  if (status == VECMILL_OK && result.n_ids_whole > room && room < max_tokens) {
    room = result.n_ids_whole < max_tokens ? result.n_ids_whole : max_tokens;
    status = encode_into(tok, scratch, text, n, room, &result, err);
  }
  if (status == VECMILL_OK) *result_out = result;
  return status;
}
