/* wordlist.h and fold.h: what a list and its overrides may hold, and what is refused. */
#include "wordlist_test.h"

#include "base/log.h"
#include "base/mem.h"
#include "text/fold.h"
#include "text/unicode.h"
#include "text/utf8.h"

static bool holds(const wordlist *list, const char *word) {
  fold_result folded;
  fold_word(word, strlen(word), &folded);
  assert_true(folded.fits);
  return wordlist_holds(list, folded.bytes, folded.n);
}

static void lines_are_words(void **state) {
  wordlist *list;
  vecmill_error err = {0};
  const char *text = "\xEF\xBB\xBF"
                     "aloha\r\n"
                     "\n"
                     " \t\xC2\xA0\n"                /* a no-break space is white space too */
                     "\xE3\x80\x80mahalo\xC2\xA0\n" /* so is U+3000 */
                     "-hia\n"
                     "  -ana\n"
                     "raw_head\n"
                     "raw_head,count\n"
                     "e komo mai\n"
                     "pua-nani\n"
                     "'\n"
                     "K\xC4\x80NE\n"
                     "kane\n"
                     "last"; /* no line end */
  assert_int_equal(open_list(text, NULL, &list, &err), VECMILL_OK);
  wordlist_counts counts = wordlist_count(list);
  assert_int_equal(counts.n_words, 4); /* aloha, mahalo, kane, last */
  assert_int_equal(counts.n_skipped, 6);
  assert_int_equal(counts.n_unusable, 3);
  assert_int_equal(counts.n_overridden, 0);
  assert_true(holds(list, "Aloha") && holds(list, "MAHALO") && holds(list, "k\xC4\x81ne"));
  assert_true(holds(list, "last"));
  assert_false(holds(list, "") || holds(list, "\xCC\x84")); /* a macron alone folds to nothing */
  assert_false(holds(list, "hia") || holds(list, "ana") || holds(list, "raw") || holds(list, "e"));
  assert_false(holds(list, "komo") || holds(list, "alohaa") || holds(list, "aloh"));
  wordlist_close(&list);
  assert_null(list);
  wordlist_close(&list);
}

static void overrides_in_every_form(void **state) {
  static const char *const forms[] = {
      "[{\"word\": \" Pine \", \"action\": \" StopWord \"}, {\"word\": \"poi\", \"action\": "
      "\"add\"}]",
      "{\"updated_at\": \"x\", \"entries\": [\"pine\", {\"word\": \"poi\", \"normalized\": \"x\", "
      "\"action\": \"include\", \"category\": \"\", \"note\": \"\"}]}",
      "\xEF\xBB\xBF{\"stopwords\": [\"pine\"], \"recategorized\": {\"p\xC5\x8Di\": \"food\"}}",
      "[{\"word\": \"pine\", \"action\": \"remove\"}, {\"word\": \"poi\", \"action\": \"exclude\"},"
      "{\"word\": \"poi\", \"action\": \"hawaiian\"}]", /* the last on a word counts */
      "[{\"word\": \"pine\", \"action\": \"exclude\"}, {\"word\": \"poi\", \"action\": \"add\"},"
      "{\"word\": \"aloha\", \"action\": \"review\"}, {\"word\": \"aloha\", \"action\": \"note\"},"
      "{\"word\": \"aloha\", \"action\": \"clear\"}, {\"word\": \"nobody\", \"action\": "
      "\"remove\"}]",
  };
  static const size_t n_overridden[] = {2, 2, 2, 3, 3};
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    wordlist *list;
    vecmill_error err = {0};
    if (open_list("aloha\npine\n", forms[i], &list, &err) != VECMILL_OK) fail_msg("%s", err.text);
    assert_true(holds(list, "aloha") && holds(list, "poi"));
    assert_false(holds(list, "pine") || holds(list, "nobody"));
    assert_int_equal(wordlist_count(list).n_words, 2);
    assert_int_equal(wordlist_count(list).n_overridden, n_overridden[i]);
    wordlist_close(&list);
  }
}

typedef struct refusal {
  const char *list;
  size_t n;
  const char *overrides, *says;
} refusal;

#define TEXT(literal) literal, sizeof literal - 1

static void what_is_refused_names_its_place(void **state) {
  static const refusal refusals[] = {
      {TEXT("aloha\nk\xE2ne\n"), NULL, ":2: not UTF-8"},
      {TEXT("\xFF\xFE"
            "a\0"),
       NULL, ":1: not UTF-8"},
      {TEXT(""), NULL, ": no words"},
      {TEXT("\n-hia\nraw_head\ntwo words\n"), NULL, ": no words"},
      {TEXT("pine\n"), "[\"pine\"]", ": takes every word off the list /tmp/vecmill-list-"},
      {TEXT("two words\n"), "[\"pine pine\"]", ": no words"},
      {TEXT("a\n"), "[{\"word\": \"b\", \"action\": \"add\"}, {\"word\": \"c\"}]",
       ": entry 2: \"c\" has no \"action\""},
      {TEXT("a\n"), "[{\"word\": \"b\", \"action\": \"delete\"}]",
       ": entry 1: \"b\" has the action \"delete\""},
      {TEXT("a\n"), "[{\"word\": \"b\", \"action\": 1}]", ": entry 1: \"b\" has no \"action\""},
      {TEXT("a\n"), "[{\"action\": \"add\"}]", ": entry 1: no \"word\""},
      {TEXT("a\n"), "[{\"word\": 7, \"action\": \"add\"}]", ": entry 1: no \"word\""},
      {TEXT("a\n"), "[{\"word\": \"  \", \"action\": \"add\"}]", ": entry 1: its word is empty"},
      {TEXT("a\n"), "[[]]", ": entry 1: no \"word\""},
      {TEXT("a\n"), "[null]", ": entry 1: no \"word\""},
      {TEXT("a\n"), "{\"words\": []}", ": not overrides"},
      {TEXT("a\n"), "{\"stopwords\": {}}", ": not overrides"},
      {TEXT("a\n"), "{\"stopwords\": [], \"recategorized\": [\"x\"]}", ": not overrides"},
      {TEXT("a\n"), "{\"stopwords\": [3]}", ": stopword 1: no \"word\""},
      {TEXT("a\n"), "{\"recategorized\": {\"\": \"x\"}}", ": recategorized 1: its word is empty"},
      {TEXT("a\n"), "[", "line 1"},
  };
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    const refusal *r = &refusals[i];
    wordlist *list = NULL;
    vecmill_error err = {0};
    assert_int_equal(open_list_bytes(r->list, r->n, r->overrides, &list, &err),
                     VECMILL_ERROR_FORMAT);
    assert_null(list);
    bool overrides = r->overrides && !strstr(r->says, "no words");
    if (!strstr(err.text, r->says) ||
        !strstr(err.text, overrides ? "vecmill-over" : "vecmill-list"))
      fail_msg("refusal %zu: %s", i, err.text);
  }
}

static char told[4][400];
static size_t n_told;

static void on_log(void *context, vecmill_log_level level, const char *text) {
  (void)context;
  assert_int_equal(level, VECMILL_LOG_WARNING);
  assert_true(n_told < 4);
  snprintf(told[n_told++], sizeof told[0], "%s", text);
}

/* What is warned of, from the name of the file on, which is random. */
static void expect_told(const char *list_text, const char *overrides, const char *of_list,
                        const char *of_overrides) {
  const char *const expected[] = {of_list, of_overrides};
  wordlist *list;
  vecmill_error err = {0};
  size_t at = 0;
  n_told = 0;
  vecmill_log_set_handler(on_log, NULL);
  if (open_list(list_text, overrides, &list, &err) != VECMILL_OK) fail_msg("%s", err.text);
  vecmill_log_set_handler(NULL, NULL);
  wordlist_close(&list);
  for (size_t i = 0; i < 2; i++) {
    if (!expected[i]) continue;
    assert_true(at < n_told);
    char words[400], path[] = "/tmp/vecmill-list-XXXXXX";
    snprintf(path, sizeof path, "%.*s", (int)strlen(path), told[at]);
    assert_memory_equal(path, i ? "/tmp/vecmill-over-" : "/tmp/vecmill-list-", 18);
    snprintf(words, sizeof words, expected[i], path, path);
    assert_string_equal(told[at++], words);
  }
  assert_int_equal(at, n_told);
}

static void what_is_left_out_is_told(void **state) {
  expect_told("aloha\n\n-hia\nraw_head\n", "[\"pine\"]", NULL, NULL);
  expect_told("aloha\ne komo mai\n\npua-nani\n", NULL,
              "%s: 2 lines are no single word and were left out (the first: %s:2)", NULL);
  expect_told("aloha\ne komo mai\n", "[\"pine\", {\"word\": \"a b\", \"action\": \"add\"}]",
              "%s: 1 line is no single word and was left out (the first: %s:2)",
              "%s: 1 entry is no single word and was left out (the first: %s: entry 2)");
  expect_told("aloha\n", "{\"stopwords\": [\"a\", \"b c\"], \"recategorized\": {\"d e\": 1}}", NULL,
              "%s: 2 entries are no single word and were left out (the first: %s: stopword 2)");
}

static void missing_files_and_long_words(void **state) {
  wordlist *list;
  vecmill_error err = {0};
  assert_int_equal(wordlist_open("/nowhere/words.txt", NULL, &list, &err), VECMILL_ERROR_NOT_FOUND);
  assert_non_null(strstr(err.text, "/nowhere/words.txt"));
  assert_int_equal(wordlist_open("/tmp", NULL, &list, &err), VECMILL_ERROR_IO);
  char word[] = "/tmp/vecmill-list-XXXXXX";
  write_file(word, "a\n", 2);
  assert_int_equal(wordlist_open(word, "/nowhere/over.json", &list, &err), VECMILL_ERROR_NOT_FOUND);
  assert_non_null(strstr(err.text, "/nowhere/over.json"));
  unlink(word);

  char text[300] = "a\n";
  memset(text + 2, 'k', 255);
  strcpy(text + 257, "\n");
  assert_int_equal(open_list(text, NULL, &list, &err), VECMILL_OK); /* the longest there may be */
  text[257] = '\0';
  assert_true(holds(list, text + 2));
  wordlist_close(&list);
  strcpy(text + 257, "k\n");
  assert_int_equal(open_list(text, NULL, &list, &err), VECMILL_ERROR_FORMAT);
  assert_non_null(strstr(err.text, ":2: a word of 256 bytes"));
}

/* Words made of numbers: 100,000 of them, and as many that are not there. */
static void number_word(unsigned i, char *word) {
  size_t n = 0;
  for (i += 10; i > 0; i /= 10) {
    word[n++] = "hklmnpwstr"[i % 10];
    word[n++] = "aeiou"[i % 5];
  }
  word[n] = '\0';
}

static void a_hundred_thousand_words(void **state) {
  enum { N = 100000 };
  char *text = calloc(N, 16), word[32], *at = text;
  wordlist *list;
  vecmill_error err = {0};
  for (unsigned i = 0; i < N; i++) {
    number_word(2 * i, word);
    at += sprintf(at, "%s\n", word);
  }
  assert_int_equal(open_list(text, NULL, &list, &err), VECMILL_OK);
  assert_int_equal(wordlist_count(list).n_words, N);
  for (unsigned i = 0; i < 2 * N; i++) {
    number_word(i, word);
    assert_int_equal(holds(list, word), i % 2 == 0);
  }
  wordlist_close(&list);
  free(text);
}

static void fingerprints_are_of_the_words(void **state) {
  static const char *const texts[] = {"aloha\nwai\nkai\n", "# kai\n-\nkai\n\nWai\naloha\naloha\n", "aloha\nwai\n",
                                      "aloha\nwai\nkai\nkau\n"};
  uint64_t prints[4];
  for (int i = 0; i < 4; i++) {
    wordlist *list;
    vecmill_error err = {0};
    assert_int_equal(open_list(texts[i], i == 3 ? "[{\"word\": \"kau\", \"action\": \"exclude\"}]" : NULL, &list, &err),
                     VECMILL_OK);
    prints[i] = wordlist_fingerprint(list);
    wordlist_close(&list);
  }
  assert_true(prints[0] == prints[1] && prints[0] == prints[3]);
  assert_true(prints[2] != prints[0] && prints[2] != 0);
}

static void every_allocation_may_fail(void **state) {
  enum { N = 3000 };
  char *text = calloc(N, 16), word[32], *at = text;
  for (unsigned i = 0; i < N; i++) {
    number_word(i, word);
    at += sprintf(at, "%s\n", word);
  }
  bool done = false;
  int n_failed = 0;
  for (long n = 0; !done; n++) {
    wordlist *list = NULL;
    vecmill_error err = {0};
    mem_fail_after(n);
    vecmill_status status =
        open_list(text, "[{\"word\": \"poi\", \"action\": \"add\"}]", &list, &err);
    mem_fail_after(-1);
    done = status == VECMILL_OK;
    if (done) wordlist_close(&list);
    if (done) break;
    n_failed++;
    assert_int_equal(status, VECMILL_ERROR_MEMORY);
    assert_int_equal(err.status, VECMILL_ERROR_MEMORY);
    assert_null(list);
  }
  assert_true(n_failed > 6);
  free(text);
}

/* Every letter in every form that it can come in folds to the same bytes, and those to themselves.
 */
static void folding_is_one_form(void **state) {
  for (uint32_t code = 1; code <= 0x10FFFF; code++) {
    if (code >= 0xD800 && code < 0xE000) continue;
    char word[40] = "", parts[40] = "";
    uint32_t decomposed[UNICODE_MAX_DECOMPOSED], lowered[UNICODE_MAX_LOWERED];
    size_t n_word = utf8_encode(code, word), n_parts = 0;
    unsigned n = unicode_decompose(code, decomposed);
    for (unsigned i = 0; i < n; i++) n_parts += utf8_encode(decomposed[i], parts + n_parts);
    fold_result one, other, again;
    fold_word(word, n_word, &one);
    fold_word(parts, n_parts, &other);
    fold_word(one.bytes, one.n, &again);
    bool same = one.n == other.n && !memcmp(one.bytes, other.bytes, one.n) &&
                one.macron_vowel == other.macron_vowel;
    if (!same || one.n != again.n || memcmp(one.bytes, again.bytes, one.n))
      fail_msg("U+%04X folds in two ways", code);
    n = unicode_lower(code, lowered);
    n_parts = 0;
    for (unsigned i = 0; i < n; i++) n_parts += utf8_encode(lowered[i], parts + n_parts);
    fold_word(parts, n_parts, &other);
    if (one.n != other.n || memcmp(one.bytes, other.bytes, one.n))
      fail_msg("U+%04X and its lower case fold in two ways", code);
  }
}

/* Marks that stand in another order than the canonical one mean the same. */
static void marks_come_into_order(void **state) {
  static const char *const orders[] = {"a\xCC\x81\xCC\xA3\xCC\x84", "a\xCC\xA3\xCC\x81\xCC\x84",
                                       "\xC4\x81\xCC\xA3\xCC\x81", "\xC3\xA1\xCC\x84\xCC\xA3",
                                       "\xE1\xBA\xA1\xCC\x84\xCC\x81"};
  fold_result one, other;
  fold_word(orders[0], strlen(orders[0]), &one);
  assert_true(one.n == 5 && one.macron_vowel && !memcmp(one.bytes, "a\xCC\xA3\xCC\x81", 5));
  for (size_t i = 1; i < sizeof orders / sizeof *orders; i++) {
    fold_word(orders[i], strlen(orders[i]), &other);
    assert_true(other.n == one.n && other.macron_vowel && !memcmp(other.bytes, one.bytes, one.n));
  }
}

static void folding_knows_its_room(void **state) {
  static char word[3000];
  fold_result folded;
  memset(word, 'A', sizeof word);
  fold_word(word, 255, &folded);
  assert_true(folded.fits && folded.n == 255 && folded.bytes[254] == 'a');
  fold_word(word, 256, &folded);
  assert_true(!folded.fits && folded.n == 0 && !folded.macron_vowel);
  memcpy(word + sizeof word - 3, "e\xCC\x84", 3); /* far behind what fits */
  fold_word(word, sizeof word, &folded);
  assert_true(!folded.fits && folded.macron_vowel);
  for (size_t i = 0; i < 130; i++) word[i] = '\''; /* fits as it is, not as U+02BB */
  fold_word(word, 130, &folded);
  assert_false(folded.fits);
  fold_word(word, 127, &folded);
  assert_true(folded.fits && folded.n == 254);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_are_words),
      cmocka_unit_test(overrides_in_every_form),
      cmocka_unit_test(what_is_refused_names_its_place),
      cmocka_unit_test(what_is_left_out_is_told),
      cmocka_unit_test(missing_files_and_long_words),
      cmocka_unit_test(a_hundred_thousand_words),
      cmocka_unit_test(fingerprints_are_of_the_words),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(folding_is_one_form),
      cmocka_unit_test(marks_come_into_order),
      cmocka_unit_test(folding_knows_its_room),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
