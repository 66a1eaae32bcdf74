/*
 * text/tokenizer.h: any bytes as a text, under three tokenizers that take every
 * path (BERT's normaliser, combining marks that survive, added tokens in
 * normalised text). The fast path must agree with the plain one: the text
 * normalised first and given to a tokenizer without a normaliser.
 */
#include <string.h>

#include "base/mem.h"
#include "fuzz_file.h"
#include "text/normalizer.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

#define MODEL                                                                                      \
  "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##"   \
  "\","                                                                                            \
  "\"max_input_chars_per_word\":20,\"vocab\":{\"[UNK]\":0,\"[SEP]\":1,\"a\":2,\"##a\":3,\"b\":4,"  \
  "\"##b\":5,\"ab\":6,"                                                                            \
  "\"##ab\":7,\"e\":8,\"##e\":9,\"!\":10,\"\xE4\xB8\xAD\":11,\"\xC3\xA9\":12,\"##\xC3\xA9\":13,"   \
  "\"\xE3\x80\xAE\":14,"                                                                           \
  "\"##\xE3\x80\xAE\":15,\"\xE1\x84\x92\":16,\"##\xE1\x85\xA1\":17,\"##\xE1\x86\xAB\":18,\"A\":"   \
  "19,\"##A\":20,\"abcdefghijklmnopqrst\":21}}"
#define SPLIT ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"
#define PLAIN "{" MODEL SPLIT "}"

static const char *const with_normalizer[] = {
    "{" MODEL SPLIT ",\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true}}",
    "{" MODEL SPLIT
    ",\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true,\"strip_accents\":false}}",
    "{" MODEL SPLIT ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{"
    "\"type\":\"Lowercase\"}]}}",
};
static const char with_added[] =
    "{" MODEL SPLIT
    ",\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},\"added_tokens\":["
    "{\"content\":\"[SEP]\",\"special\":true},{\"content\":\"<A>\",\"lstrip\":true,\"rstrip\":true}"
    ","
    "{\"content\":\"ab\",\"normalized\":false,\"single_word\":true},{\"content\":\"\xC3\xA9!\"}]}";

static tokenizer *open_or_die(const char *json, tok_scratch **scratch_out) {
  tokenizer *tok;
  if (tok_open(fuzz_file((const uint8_t *)json, strlen(json)), &tok, NULL) != VECMILL_OK) abort();
  if (tok_scratch_open(tok, scratch_out, NULL) != VECMILL_OK) abort();
  return tok;
}

static void check_bounds(const tokenizer *tok, tok_scratch *scratch, const char *text, size_t n,
                         size_t most) {
  tok_result r;
  if (tok_encode(tok, scratch, text, n, most, &r, NULL) != VECMILL_OK) abort();
  if (r.n_ids > most || r.n_ids > r.n_ids_whole || (r.n_ids < most && r.n_ids != r.n_ids_whole))
    abort();
  for (size_t i = 0; i < r.n_ids; i++)
    if (r.ids[i] < 0 || (size_t)r.ids[i] >= tok_n_vocab(tok)) abort();
}

/* The text by the plain steps, as UTF-8. */
static char *normalize_plainly(const tokenizer *tok, const char *text, size_t n, size_t *n_out) {
  normalizer_codes work = {0}, codes = {0};
  if (normalizer_apply(&tok->norm, text, n, &work, &codes, NULL) != VECMILL_OK) abort();
  char *out = malloc(4 * codes.n + 1);
  if (!out) abort();
  *n_out = 0;
  for (size_t i = 0; i < codes.n; i++)
    *n_out += utf8_encode(codes.codes[i] & ~NORMALIZER_COMBINES, out + *n_out);
  normalizer_codes_fini(&work);
  normalizer_codes_fini(&codes);
  return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  static tokenizer *toks[3], *plain, *added;
  static tok_scratch *scratches[3], *plain_scratch, *added_scratch;
  if (!plain) {
    for (size_t i = 0; i < 3; i++) toks[i] = open_or_die(with_normalizer[i], &scratches[i]);
    plain = open_or_die(PLAIN, &plain_scratch);
    added = open_or_die(with_added, &added_scratch);
  }
  const char *text = (const char *)data;
  size_t n_replaced;
  char *repaired = malloc(3 * n_bytes + 1);
  if (!repaired) abort();
  size_t n = utf8_repair(text, n_bytes, repaired, &n_replaced);
  for (size_t i = 0; i < 3; i++) {
    tok_result fast, slow;
    size_t n_normalized;
    char *normalized = normalize_plainly(toks[i], repaired, n, &n_normalized);
    if (tok_encode(toks[i], scratches[i], text, n_bytes, SIZE_MAX, &fast, NULL) != VECMILL_OK)
      abort();
    if (tok_encode(plain, plain_scratch, normalized, n_normalized, SIZE_MAX, &slow, NULL) !=
        VECMILL_OK)
      abort();
    if (fast.n_replaced != n_replaced || fast.n_ids != slow.n_ids) abort();
    if (fast.n_ids && memcmp(fast.ids, slow.ids, fast.n_ids * sizeof *fast.ids)) abort();
    free(normalized);
  }
  check_bounds(added, added_scratch, text, n_bytes, n_bytes % 7);
  check_bounds(added, added_scratch, text, n_bytes, SIZE_MAX);
  free(repaired);
  return 0;
}
