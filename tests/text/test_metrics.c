/*
 * metrics.h beside a second reading of its rules, many passes over an array of code points, on
 * random texts made of what the rules are about.
 */
#include "wordlist_test.h"

#include "text/fold.h"
#include "text/metrics.h"
#include "text/unicode.h"
#include "text/utf8.h"

#define MAX_CODES 400

typedef struct codes {
  uint32_t code[MAX_CODES + 1]; /* a space at the end */
  size_t n;
} codes;

static void decode(const char *text, size_t n, codes *out) {
  char repaired[4 * MAX_CODES];
  size_t n_replaced, at = 0, n_repaired = utf8_repair(text, n, repaired, &n_replaced);
  for (out->n = 0; at < n_repaired; out->n++) {
    assert_true(out->n < MAX_CODES);
    at += utf8_decode(repaired + at, n_repaired - at, &out->code[out->n]);
  }
  out->code[out->n] = ' ';
}

static bool is_space(uint32_t c) {
  return unicode_flags(c) & UNICODE_SPACE;
}

static bool is_body(uint32_t c) {
  unicode_kind kind = unicode_kind_of(c);
  return c != FOLD_OKINA && kind >= UNICODE_KIND_DIGIT;
}

static bool in(uint32_t c, const uint32_t *set) {
  while (*set && *set != c) set++;
  return *set != 0;
}

static const uint32_t okinas[] = {0x2BB, 0x2018, 0x2019, '`', '\'', 0};
static const uint32_t likes[] = {0x2018, 0x2019, '`', '\'', 0};
static const uint32_t closings[] = {'"',  '\'', 0x2018, 0x2019, 0x201C, 0x201D,
                                    0xAB, 0xBB, 0x2039, 0x203A, '`',    0};
static const uint32_t endings[] = {'.', '!', '?', 0};

static size_t encode(const uint32_t *code, size_t n, char *bytes) {
  size_t at = 0;
  for (size_t i = 0; i < n; i++) at += utf8_encode(code[i], bytes + at);
  return at;
}

static bool listed(const wordlist *list, const uint32_t *code, size_t n) {
  char bytes[4 * MAX_CODES];
  fold_result folded;
  fold_word(bytes, encode(code, n, bytes), &folded);
  return folded.fits && wordlist_holds(list, folded.bytes, folded.n);
}

static bool hawaiian(const wordlist *list, const uint32_t *code, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (code[i] == FOLD_OKINA) return true;
  uint32_t base = 0; /* of these texts' letters none has a macron and another mark composed */
  for (size_t i = 0; i < n; i++) {
    static const uint32_t composed[] = {0x100, 0x101, 0x112, 0x113, 0x12A, 0x12B,
                                        0x14C, 0x14D, 0x16A, 0x16B, 0};
    if (in(code[i], composed)) return true;
    if (code[i] == FOLD_MACRON && base && strchr("aeiouAEIOU", (int)base)) return true;
    if (!(unicode_flags(code[i]) & UNICODE_COMBINING))
      base = code[i] == 0xC9 ? 'E' : code[i] < 128 ? code[i] : 0;
  }
  size_t lead = 0, trail = 0;
  while (in(code[lead], likes)) lead++;
  while (in(code[n - 1 - trail], likes)) trail++;
  const size_t fronts[] = {lead, lead > 0 ? lead - 1 : 0, 0};
  const size_t backs[] = {trail, trail > 0 ? trail - 1 : 0, 0};
  for (size_t i = 0; i < 3; i++)
    for (size_t k = 0; k < 3; k++)
      if (listed(list, code + fronts[i], n - fronts[i] - backs[k])) return true;
  return false;
}

static void read_words(const wordlist *list, const codes *t, text_metrics *m) {
  size_t n_words = 0, n_hawaiian = 0;
  for (size_t i = 0, end; i < t->n; i = end) {
    end = i + 1;
    if (!is_body(t->code[i]) && !in(t->code[i], okinas)) continue;
    bool word = false;
    for (end = i; is_body(t->code[end]) || in(t->code[end], okinas) ||
                  unicode_kind_of(t->code[end]) == UNICODE_KIND_MARK;
         end++)
      word |= is_body(t->code[end]) || t->code[end] == FOLD_OKINA;
    if (!word) continue;
    n_words++;
    n_hawaiian += hawaiian(list, t->code + i, end - i);
  }
  m->has_ratio = n_words > 0;
  m->hawaiian_word_ratio = n_words ? (double)n_hawaiian / (double)n_words : 0;
}

typedef struct run {
  size_t start, first, last; /* first and last letter or digit */
  bool has_body, ends, name;
} run;

static run read_run(const codes *t, size_t start, size_t end) {
  run r = {.start = start, .first = start, .last = start};
  for (size_t i = end; i-- > start;)
    if (is_body(t->code[i])) r.first = i;
  for (size_t i = start; i < end; i++)
    if (is_body(t->code[i])) r.last = i, r.has_body = true;
  size_t back = end;
  while (back > start && (in(t->code[back - 1], closings) ||
                          unicode_kind_of(t->code[back - 1]) == UNICODE_KIND_MARK))
    back--;
  r.ends = back > start && in(t->code[back - 1], endings);
  return r;
}

/* Between the last body of one run and the first of the next only okina forms, marks, space. */
static bool joined(const codes *t, size_t from, size_t to) {
  for (size_t i = from + 1; i < to; i++)
    if (!is_space(t->code[i]) && !in(t->code[i], okinas) &&
        unicode_kind_of(t->code[i]) != UNICODE_KIND_MARK)
      return false;
  return true;
}

/* Of the stop list only what these texts hold. */
static bool stopped(const codes *t, const run *r) {
  static const char *const words[] = {"the", "i'm", "ka",  "o",  "a",  "i",   "e", "aia",
                                      "aka", "au",  "eia", "ia", "oe", "oia", "ua"};
  char bytes[4 * MAX_CODES];
  size_t last = r->last;
  while (unicode_kind_of(t->code[last + 1]) == UNICODE_KIND_MARK) last++;
  fold_result one, other;
  fold_word(bytes, encode(t->code + r->first, last + 1 - r->first, bytes), &one);
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    fold_word(words[i], strlen(words[i]), &other);
    if (one.fits && one.n == other.n && !memcmp(one.bytes, other.bytes, one.n)) return true;
  }
  return false;
}

static void read_runs(const codes *t, text_metrics *m) {
  run before = {0};
  bool begins = true;
  for (size_t i = 0; i < t->n;) {
    size_t end = i;
    while (!is_space(t->code[end])) end++;
    if (end == i) {
      i++;
      continue;
    }
    run r = read_run(t, i, end);
    m->word_count++;
    r.name = r.has_body && unicode_kind_of(t->code[r.first]) == UNICODE_KIND_UPPER && !begins &&
             !stopped(t, &r);
    if (r.name && !(before.name && joined(t, before.last, r.first))) m->entity_count++;
    begins = r.ends || (begins && !r.has_body);
    before = r;
    i = end;
  }
}

static const char *const pieces[] = {
    " ",
    " ",
    " ",
    "  ",
    "\n",
    "\xC2\xA0",
    "\xE3\x80\x80",
    ".",
    "!",
    "?",
    ",",
    "-",
    "(",
    ")",
    "\"",
    "\xE2\x80\x9D",
    "'",
    "`",
    "\xE2\x80\x98",
    "\xE2\x80\x99",
    "\xCA\xBB",
    "\xC2\xBB",
    "\xE2\x80\xA6",
    "\xCC\x84",
    "\xCC\xA3",
    "\xEF\xB8\x8F",
    "\xC4\x81",
    "\xC5\xAA",
    "a",
    "A",
    "E",
    "o",
    "i",
    "I'm",
    "The",
    "Ka",
    "aloha",
    "ALOHA",
    "'okina",
    "kala'",
    "Keola",
    "Kai",
    "abcdefghijklmnop",
    "7",
    "12",
    "\xC3\x89",
    "\xE6\x9D\xB1",
    "\xF0\x9F\x8C\xBA",
    "\xFF",
    "\xE4\xB8",
    "Hawai'i",
    "nui",
    "Z",
};

static void random_texts_read_in_two_ways(void **state) {
  wordlist *list;
  vecmill_error err = {0};
  uint64_t random = first_seed(4242);
  size_t n_names = 0, n_ratios = 0;
  assert_int_equal(open_list("aloha\n'okina\nkala'\nHawai'i\nnui\na\n7\n", NULL, &list, &err),
                   VECMILL_OK);
  for (int round = 0; round < 200000; round++) {
    char text[MAX_CODES] = "";
    size_t n = 0, n_pieces = next_random(&random) % 20;
    for (size_t i = 0; i < n_pieces; i++) {
      const char *piece = pieces[next_random(&random) % (sizeof pieces / sizeof *pieces)];
      memcpy(text + n, piece, strlen(piece));
      n += strlen(piece);
    }
    codes t;
    text_metrics got, wanted = {0};
    char *exact = malloc(n + 1); /* the sanitizers see a read past its end */
    memcpy(exact, text, n);
    metrics_of(exact, n, list, &got);
    decode(text, n, &t);
    wanted.length = (int32_t)t.n;
    read_words(list, &t, &wanted);
    read_runs(&t, &wanted);
    if (got.word_count != wanted.word_count || got.length != wanted.length ||
        got.entity_count != wanted.entity_count || got.has_ratio != wanted.has_ratio ||
        got.hawaiian_word_ratio != wanted.hawaiian_word_ratio)
      fail_msg("round %d: \"%.*s\": %d %d %d %f, not %d %d %d %f", round, (int)n, text,
               got.word_count, got.length, got.entity_count, got.hawaiian_word_ratio,
               wanted.word_count, wanted.length, wanted.entity_count, wanted.hawaiian_word_ratio);
    free(exact);
    n_names += (size_t)got.entity_count;
    n_ratios += got.has_ratio && got.hawaiian_word_ratio > 0 && got.hawaiian_word_ratio < 1;
  }
  assert_true(n_names > 10000 && n_ratios > 10000); /* the texts are about something */
  wordlist_close(&list);
}

/* NFC and NFD of a text differ in length alone. */
static void composed_and_decomposed_agree(void **state) {
  wordlist *list;
  vecmill_error err = {0};
  uint64_t random = first_seed(99);
  assert_int_equal(open_list("\xC3\xA9tude\nk\xC4\x81ne\n", NULL, &list, &err), VECMILL_OK);
  for (uint32_t code = 0x80; code <= 0x10FFFF; code++) {
    uint32_t parts[UNICODE_MAX_DECOMPOSED];
    if (!(unicode_flags(code) & UNICODE_DECOMPOSES) || code == 0x1FEF) continue;
    char one[64], other[64];
    unsigned n_parts = unicode_decompose(code, parts);
    const char *before = next_random(&random) & 1 ? "we saw " : "x", *after = "tude K";
    size_t n_one = strlen(strcpy(one, before)), n_other = strlen(strcpy(other, before));
    n_one += utf8_encode(code, one + n_one);
    n_other += encode(parts, n_parts, other + n_other);
    n_one += strlen(strcpy(one + n_one, after));
    n_other += strlen(strcpy(other + n_other, after));
    text_metrics a, b;
    metrics_of(one, n_one, list, &a);
    metrics_of(other, n_other, list, &b);
    if (a.word_count != b.word_count || a.entity_count != b.entity_count ||
        a.hawaiian_word_ratio != b.hawaiian_word_ratio)
      fail_msg("U+%04X: %d %d %f, decomposed %d %d %f", code, a.word_count, a.entity_count,
               a.hawaiian_word_ratio, b.word_count, b.entity_count, b.hawaiian_word_ratio);
    assert_int_equal(b.length, a.length + (int)n_parts - 1);
  }
  wordlist_close(&list);
}

/* A word longer than any list's is no listed one, but its macron or okina still counts. */
static void words_longer_than_any_list(void **state) {
  static char text[2000];
  wordlist *list;
  vecmill_error err = {0};
  text_metrics m;
  assert_int_equal(open_list("aaa\n", NULL, &list, &err), VECMILL_OK);
  for (size_t n = 250; n < 1000; n += 50) {
    memset(text, 'a', n);
    metrics_of(text, n, list, &m);
    assert_true(m.word_count == 1 && m.length == (int)n && m.hawaiian_word_ratio == 0);
    memcpy(text + n, "\xCC\x84", 2);
    metrics_of(text, n + 2, list, &m);
    assert_true(m.word_count == 1 && m.length == (int)n + 1 && m.hawaiian_word_ratio == 1);
    memset(text, '\'', n);
    memcpy(text + n, "aaa", 3);
    metrics_of(text, n + 3, list, &m);
    assert_true(m.has_ratio && m.hawaiian_word_ratio == 1);
  }
  wordlist_close(&list);
}

static const char *guide; /* docs/metrics.md */

static int n_names(const char *text) {
  text_metrics m;
  metrics_of(text, strlen(text), NULL, &m);
  return m.entity_count;
}

/* Every word of the stop list that the guide prints is one here; a letter more, and it is none. */
static void the_stop_list_is_the_guides(void **state) {
  FILE *file = fopen(guide, "r");
  char line[1000], text[100];
  bool inside = false;
  int n_words = 0;
  assert_non_null(file);
  while (fgets(line, sizeof line, file)) {
    if (line[0] == '<') inside = strstr(line, "stop list") != NULL;
    if (line[0] != ' ' || !inside) continue;
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
      word[0] = (char)(word[0] - 'a' + 'A');
      snprintf(text, sizeof text, "saw %s", word);
      if (n_names(text) != 0) fail_msg("%s is not on the stop list", word);
      snprintf(text, sizeof text, "saw %sz", word);
      assert_int_equal(n_names(text), 1);
      n_words++;
    }
  }
  fclose(file);
  assert_int_equal(n_words, 139); /* he, i, me and no are in both languages */
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: test-text-metrics docs/metrics.md\n");
    return 2;
  }
  guide = argv[1];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_texts_read_in_two_ways),
      cmocka_unit_test(composed_and_decomposed_agree),
      cmocka_unit_test(the_stop_list_is_the_guides),
      cmocka_unit_test(words_longer_than_any_list),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
