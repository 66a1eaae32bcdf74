/*
 * Tokenizers: a text to the ids that a model was trained on, id for id as the
 * Hugging Face tokenizers library gives them.
 *
 * Opened from a tokenizer.json. Its truncation and padding settings are ignored:
 * the caller says how many tokens a model takes. A part that cannot be honoured
 * is refused by name ("tokenizer Unigram: not supported yet").
 *
 * A tokenizer is immutable after open (but for pages of its character tables,
 * made atomically when a text first needs them) and may be used by any number of
 * threads, each with a tok_scratch of its own.
 *
 * WordPiece: normalizers BertNormalizer, NFD, Lowercase, StripAccents, Sequence
 * of them, or none; pre-tokenizers BertPreTokenizer, WhitespaceSplit or none;
 * post-processors TemplateProcessing, BertProcessing, RobertaProcessing or none.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct tokenizer tokenizer;
typedef struct tok_scratch tok_scratch;

vecmill_status tok_open(const char *tokenizer_json_path, tokenizer **tok_out, vecmill_error *err);

/* What a tokenizer_config.json says to BertTokenizer. */
typedef struct tok_bert_settings {
  bool lowercase;     /* do_lower_case */
  bool space_chinese; /* tokenize_chinese_chars */
  enum { TOK_STRIP_AS_LOWERCASE, TOK_STRIP_NOT, TOK_STRIP } strip_accents;
} tok_bert_settings;
/* As tok_open, with a BertNormalizer of these settings in place of the file's own normalizer:
 * transformers makes one (BertTokenizer, tokenization_bert.py). NULL: the file's own. */
vecmill_status tok_open_bert(const char *tokenizer_json_path, const tok_bert_settings *settings,
                             tokenizer **tok_out, vecmill_error *err);
void tok_close(tokenizer **tok);

vecmill_status tok_scratch_open(const tokenizer *tok, tok_scratch **scratch_out,
                                vecmill_error *err);
void tok_scratch_close(tok_scratch **scratch);

/* What one text became. */
typedef struct tok_result {
  const int32_t *ids; /* special tokens included; owned by the scratch, valid until its next use */
  size_t n_ids;       /* 2 for an empty text with [CLS] and [SEP]; at most max_tokens */
  size_t n_ids_whole; /* n_ids without truncation: what is cut off is tokenized too, and counted */
  size_t n_replaced;  /* ill-formed UTF-8 sequences that became U+FFFD */
} tok_result;

/*
 * text: n bytes of UTF-8, NUL allowed. max_tokens counts special tokens too and
 * is at least their number. Errors: VECMILL_ERROR_MEMORY, VECMILL_ERROR_ARGUMENT
 * (text of more than 2^31 bytes).
 */
vecmill_status tok_encode(const tokenizer *tok, tok_scratch *scratch, const char *text, size_t n,
                          size_t max_tokens, tok_result *result_out, vecmill_error *err);

size_t tok_n_vocab(const tokenizer *tok);   /* highest id + 1, added tokens included */
size_t tok_n_special(const tokenizer *tok); /* special tokens added to every text */
const char *tok_type(const tokenizer *tok); /* "WordPiece" */

#endif
