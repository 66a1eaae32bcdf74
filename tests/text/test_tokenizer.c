/* tokenizer.h: what is refused and in which words, what a result holds, damaged files, memory,
 * threads. */
#include "text_test.h"

#include <pthread.h>

#include "base/mem.h"
#include "text/utf8.h"

#define VOCAB                                                                                      \
  "\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"a\":4,\"##b\":5,\"ab\":6,\"c\":7," \
  "\"e\":8,\"!\":9,"                                                                               \
  "\"\xE4\xB8\xAD\":10,\"\xC3\xA9\":11,\"##e\":12,\"hello\":13,\"##\xC3\xA9\":14}"
#define MODEL                                                                                      \
  "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##"   \
  "\","                                                                                            \
  "\"max_input_chars_per_word\":100," VOCAB "}"
#define BERT                                                                                       \
  "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true," \
  "\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"
#define AROUND                                                                                     \
  "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]}"
#define ADDED                                                                                      \
  "\"added_tokens\":[{\"id\":3,\"content\":\"[SEP]\",\"special\":true,\"normalized\":false,"       \
  "\"single_word\":false,"                                                                         \
  "\"lstrip\":false,\"rstrip\":false},{\"id\":15,\"content\":\"<New>\",\"special\":false}]"
#define GOOD "{" MODEL "," BERT "," AROUND "," ADDED "}"

static tokenizer *tok;
static tok_scratch *scratch;

static int open_good(void **state) {
  vecmill_error err = {0};
  if (open_json(GOOD, &tok, &err) == VECMILL_OK &&
      tok_scratch_open(tok, &scratch, &err) == VECMILL_OK)
    return 0;
  fprintf(stderr, "%s\n", err.text);
  return 1;
}

static int close_good(void **state) {
  tok_scratch_close(&scratch);
  tok_close(&tok);
  tok_close(&tok); /* twice does no harm */
  return 0;
}

static void expect(const char *text, size_t n, size_t most, const int32_t *ids, size_t n_ids,
                   size_t n_whole, size_t n_replaced) {
  tok_result r;
  assert_int_equal(tok_encode(tok, scratch, text, n, most, &r, NULL), VECMILL_OK);
  assert_int_equal(r.n_ids, n_ids);
  for (size_t i = 0; i < n_ids; i++) assert_int_equal(r.ids[i], ids[i]);
  assert_int_equal(r.n_ids_whole, n_whole);
  assert_int_equal(r.n_replaced, n_replaced);
}
#define EXPECT(text, most, n_whole, n_replaced, ...)                                               \
  expect(text, sizeof(text) - 1, most, (const int32_t[]){__VA_ARGS__},                             \
         sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t), n_whole, n_replaced)

static void results_say_what_was_cut_and_replaced(void **state) {
  EXPECT("", 512, 2, 0, 2, 3);
  EXPECT("AB c!", 512, 5, 0, 2, 6, 7, 9, 3);
  EXPECT("AB c!", 4, 5, 0, 2, 6, 7, 3);
  EXPECT("AB c!", 2, 5, 0, 2, 3);
  EXPECT("a\0b", 512, 3, 0, 2, 6, 3);
  EXPECT("a\x80"
         "b \xE4\xB8",
         512, 3, 2, 2, 6, 3); /* what is replaced is then cleaned away */
  EXPECT("\xE4\xB8\xAD\xE4\xB8\xAD", 512, 4, 0, 2, 10, 10, 3);
  EXPECT("e\xCC\x81", 512, 3, 0, 2, 8, 3);
  EXPECT("a[SEP]<new>c", 512, 6, 0, 2, 4, 3, 15, 7, 3);
  EXPECT("[sep]", 512, 5, 0, 2, 1, 1, 1, 3);
}

static void limits_are_errors(void **state) {
  tok_result r;
  vecmill_error err = {0};
  assert_int_equal(tok_encode(tok, scratch, "a", 1, 1, &r, &err), VECMILL_ERROR_ARGUMENT);
  assert_int_equal(tok_encode(tok, scratch, "a", ((size_t)1 << 31) + 1, 9, &r, &err),
                   VECMILL_ERROR_ARGUMENT);
  assert_non_null(strstr(err.text, "2^31"));
}

static void tells_about_itself(void **state) {
  assert_int_equal(tok_n_vocab(tok), 16); /* 15 words, one added token after them */
  assert_int_equal(tok_n_special(tok), 2);
  assert_string_equal(tok_type(tok), "WordPiece");
}

typedef struct refusal {
  const char *json;
  vecmill_status status;
  const char *words; /* in the error */
} refusal;

#define WITH(part)       "{" MODEL "," part "}"
#define WORDPIECE(vocab) "{\"model\":{\"type\":\"WordPiece\"," vocab "}}"

static void what_cannot_be_honoured_is_refused_by_name(void **state) {
  static const refusal refusals[] = {
      {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1.5]]}}", VECMILL_ERROR_UNSUPPORTED,
       "tokenizer Unigram: not supported yet"},
      {"{\"model\":{\"vocab\":[[\"a\",-1.5]],\"unk_id\":0}}", VECMILL_ERROR_UNSUPPORTED,
       "tokenizer Unigram: not supported yet"},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", VECMILL_ERROR_UNSUPPORTED,
       "tokenizer BPE: not supported yet"},
      {"{\"model\":{\"vocab\":{},\"merges\":[]}}", VECMILL_ERROR_UNSUPPORTED,
       "tokenizer BPE: not supported yet"},
      {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", VECMILL_ERROR_UNSUPPORTED,
       "tokenizer WordLevel: not supported yet"},
      {WITH("\"normalizer\":{\"type\":\"Precompiled\"}"), VECMILL_ERROR_UNSUPPORTED,
       "normalizer Precompiled: not supported yet"},
      {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":"
            "\"NFKC\"}]}"),
       VECMILL_ERROR_UNSUPPORTED, "normalizer NFKC: not supported yet"},
      {WITH("\"normalizer\":{}"), VECMILL_ERROR_FORMAT, "normalizer"},
      {WITH("\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":1}"), VECMILL_ERROR_FORMAT,
       "lowercase"},
      {WITH("\"pre_tokenizer\":{\"type\":\"ByteLevel\"}"), VECMILL_ERROR_UNSUPPORTED,
       "pre_tokenizer ByteLevel: not supported yet"},
      {WITH("\"post_processor\":{\"type\":\"ByteLevel\"}"), VECMILL_ERROR_UNSUPPORTED,
       "post_processor ByteLevel: not supported yet"},
      {WITH("\"post_processor\":{\"cls\":[\"[CLS]\"],\"sep\":[\"[SEP]\",3]}"), VECMILL_ERROR_FORMAT,
       "post_processor"},
      {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[],\"special_tokens\":{"
            "}}"),
       VECMILL_ERROR_FORMAT, "single"},
      {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
            "\"id\":\"x\"}},{\"Sequence\":{\"id\":\"A\"}}]}"),
       VECMILL_ERROR_FORMAT, "special token"},
      {WITH("\"added_tokens\":{}"), VECMILL_ERROR_FORMAT, "added_tokens"},
      {WITH("\"added_tokens\":[{\"id\":1}]"), VECMILL_ERROR_FORMAT, "added_tokens"},
      {WITH("\"version\":\"2.0\""), VECMILL_ERROR_UNSUPPORTED, "tokenizer version 2.0"},
      {WORDPIECE("\"vocab\":{\"a\":1}"), VECMILL_ERROR_FORMAT, "[UNK]"},
      {WORDPIECE("\"vocab\":{\"[UNK]\":-1}"), VECMILL_ERROR_FORMAT, "vocab"},
      {WORDPIECE("\"vocab\":{\"[UNK]\":2147483647}"), VECMILL_ERROR_FORMAT, "vocab"},
      {WORDPIECE("\"vocab\":{\"[UNK]\":1.5}"), VECMILL_ERROR_FORMAT, "vocab"},
      {WORDPIECE("\"vocab\":[]"), VECMILL_ERROR_FORMAT, "vocab"},
      {WORDPIECE("\"max_input_chars_per_word\":-1," VOCAB), VECMILL_ERROR_FORMAT,
       "max_input_chars_per_word"},
      {WORDPIECE("\"max_input_chars_per_word\":1e18," VOCAB), VECMILL_ERROR_FORMAT,
       "max_input_chars_per_word"},
      {WORDPIECE("\"unk_token\":5," VOCAB), VECMILL_ERROR_FORMAT, "unk_token"},
      {"{}", VECMILL_ERROR_FORMAT, "model"},
      {"[]", VECMILL_ERROR_FORMAT, "object"},
      {"", VECMILL_ERROR_FORMAT, "JSON"},
  };
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    tokenizer *none = (tokenizer *)1;
    vecmill_error err = {0};
    vecmill_status status = open_json(refusals[i].json, &none, &err);
    if (status != refusals[i].status || !strstr(err.text, refusals[i].words))
      fail_msg("%s: status %s, %s", refusals[i].json, vecmill_status_name(status), err.text);
    assert_null(none);
  }
}

/* An added token that normalisation leaves nothing of, or that becomes another's text: the library
 * refuses them too. */
static void added_tokens_that_vanish_are_refused(void **state) {
  static const char *const lists[] = {
      "\"added_tokens\":[{\"id\":15,\"content\":\"\xCC\x81\",\"special\":false}]",
      "\"added_tokens\":[{\"id\":15,\"content\":\"Xy\",\"special\":false},{\"id\":16,\"content\":"
      "\"xY\",\"special\":false}]",
  };
  for (size_t i = 0; i < 2; i++) {
    char json[4096];
    tokenizer *none;
    vecmill_error err = {0};
    snprintf(json, sizeof json, "{%s,%s,%s}", MODEL, BERT, lists[i]);
    assert_int_equal(open_json(json, &none, &err), VECMILL_ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "added token"));
  }
}

static void damaged_files_are_errors(void **state) {
  uint64_t seed = first_seed(11);
  unsigned n_opened = 0, n_refused = 0;
  for (unsigned round = 0; round < 3000; round++) {
    char json[] = GOOD;
    size_t n = round % 3 ? sizeof json - 1 : next_random(&seed) % sizeof json;
    for (unsigned k = next_random(&seed) % 3; k > 0 || (round % 3 && k == 0); k--) {
      json[next_random(&seed) % (sizeof json - 1)] = (char)next_random(&seed);
      if (k == 0) break;
    }
    tokenizer *maybe;
    tok_scratch *its;
    tok_result r;
    vecmill_error err = {0};
    if (open_bytes(json, n, &maybe, &err) != VECMILL_OK) {
      assert_true(err.text[0] && !strchr(err.text, '\n'));
      n_refused++;
      continue;
    }
    n_opened++;
    assert_int_equal(tok_scratch_open(maybe, &its, &err), VECMILL_OK);
    assert_int_equal(tok_encode(maybe, its, "AB \xC3\xA9 <new>[SEP]", 15, 5, &r, &err), VECMILL_OK);
    tok_scratch_close(&its);
    tok_close(&maybe);
  }
  assert_true(n_refused > 100 && n_opened > 20);
}

static void failing_allocations_leave_nothing(void **state) {
  /* U+302E survives BERT's steps, so this text takes the plain path too; U+10400 needs a page. */
  static const char text[] = "a\xCC\x81\xE3\x80\xAE\x80 <NEW> \xF0\x90\x90\x80[SEP]";
  vecmill_status status = VECMILL_ERROR_MEMORY;
  for (long n = 0; status != VECMILL_OK; n++) {
    tokenizer *one = NULL;
    tok_scratch *its = NULL;
    tok_result r;
    vecmill_error err = {0};
    mem_fail_after(n);
    status = open_json(GOOD, &one, &err);
    if (status == VECMILL_OK) status = tok_scratch_open(one, &its, &err);
    if (status == VECMILL_OK) status = tok_encode(one, its, text, sizeof text - 1, 100, &r, &err);
    mem_fail_after(-1);
    assert_true(status == VECMILL_OK || (status == VECMILL_ERROR_MEMORY && err.text[0]));
    if (its) { /* after a failure the scratch still serves */
      assert_int_equal(tok_encode(one, its, "ab", 2, 100, &r, &err), VECMILL_OK);
      assert_int_equal(r.n_ids, 3);
    }
    tok_scratch_close(&its);
    tok_close(&one);
    assert_true(n < 500);
  }
}

/* Threads that meet every page for the first time at once give what one thread gives. */
#define N_CODES 3000
static void *encode_many(void *context) {
  uint64_t *sum_out = context, sum = 0;
  tok_scratch *mine;
  if (tok_scratch_open(tok, &mine, NULL) != VECMILL_OK) return NULL;
  for (uint32_t i = 0; i < N_CODES; i++) {
    uint32_t code = i * 353 % 0x110000;
    char text[16] = "a";
    tok_result r;
    if (code >= 0xD800 && code < 0xE000) continue;
    size_t n = 1 + utf8_encode(code, text + 1);
    text[n++] = 'b';
    if (tok_encode(tok, mine, text, n, 100, &r, NULL) != VECMILL_OK) return NULL;
    for (size_t k = 0; k < r.n_ids; k++) sum = sum * 31 + (uint64_t)r.ids[k];
  }
  tok_scratch_close(&mine);
  *sum_out = sum;
  return sum_out;
}

static void threads_share_a_tokenizer(void **state) {
  pthread_t threads[4];
  uint64_t sums[4], alone;
  void *finished;
  for (unsigned i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, encode_many, &sums[i]), 0);
  for (unsigned i = 0; i < 4; i++) {
    pthread_join(threads[i], &finished);
    assert_ptr_equal(finished, &sums[i]);
  }
  assert_non_null(encode_many(&alone));
  for (unsigned i = 0; i < 4; i++) assert_true(sums[i] == alone);
}

/* A run of marks that somebody made long: the sort must not be quadratic (this would take minutes).
 */
static void long_runs_of_marks_are_no_trap(void **state) {
  static const char run[] = "\xCC\xB4\xE3\x80\xAE\xCC\x81\xCD\x85"; /* classes 1, 224, 230, 240 */
  size_t n = 200000, at = 0;
  char *text = malloc(n * (sizeof run - 1));
  assert_non_null(text);
  for (size_t i = 0; i < n; i++, at += sizeof run - 1) memcpy(text + at, run, sizeof run - 1);
  expect(text, at, 100, (const int32_t[]){2, 1, 3}, 3, 3, 0);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(results_say_what_was_cut_and_replaced),
      cmocka_unit_test(limits_are_errors),
      cmocka_unit_test(tells_about_itself),
      cmocka_unit_test(what_cannot_be_honoured_is_refused_by_name),
      cmocka_unit_test(added_tokens_that_vanish_are_refused),
      cmocka_unit_test(damaged_files_are_errors),
      cmocka_unit_test(failing_allocations_leave_nothing),
      cmocka_unit_test(threads_share_a_tokenizer),
      cmocka_unit_test(long_runs_of_marks_are_no_trap),
  };
  return cmocka_run_group_tests(tests, open_good, close_good);
}
