/* vocab.h against the rule written plainly: random vocabularies, random words. */
#include "text_test.h"

#include "base/mem.h"
#include "text/vocab.h"

#define MAX_WORDS 600

typedef struct book {
  char text[MAX_WORDS][24];
  vocab_word words[MAX_WORDS];
  size_t n;
} book;

/* Few letters, so that words share beginnings; some of two and three bytes. */
static size_t random_word(uint64_t *seed, char *out) {
  static const char *const letters[] = {"a", "b", "c", "ab", "\xC3\xA9", "\xE4\xB8\xAD", "#", "z"};
  size_t n = 0, n_letters = 1 + next_random(seed) % 7;
  for (size_t i = 0; i < n_letters; i++) {
    const char *letter = letters[next_random(seed) % 8];
    memcpy(out + n, letter, strlen(letter));
    n += strlen(letter);
  }
  return n;
}

static void fill(book *b, uint64_t *seed, size_t n) {
  b->n = n;
  for (size_t i = 0; i < n; i++) {
    size_t before = next_random(seed) % 2 ? 2 : 0;
    memcpy(b->text[i], "##", 2);
    b->words[i] =
        (vocab_word){b->text[i], before + random_word(seed, b->text[i] + before), (int32_t)i};
  }
}

/* The last word of these bytes: of twins the later counts. */
static int32_t look_up(const book *b, const char *text, size_t n) {
  for (size_t i = b->n; i-- > 0;)
    if (b->words[i].n == n && !memcmp(b->words[i].text, text, n)) return b->words[i].id;
  return -1;
}

static size_t split_plainly(const book *b, const char *word, size_t n, const char *prefix,
                            int32_t *ids) {
  size_t n_ids = 0, start = 0;
  while (start < n) {
    char piece[64];
    size_t n_prefix = start ? strlen(prefix) : 0, end = n;
    int32_t id = -1;
    for (; end > start; end--) {
      memcpy(piece, prefix, n_prefix);
      memcpy(piece + n_prefix, word + start, end - start);
      if ((id = look_up(b, piece, n_prefix + end - start)) >= 0) break;
    }
    if (id < 0) {
      ids[0] = 9999;
      return 1;
    }
    ids[n_ids++] = id;
    start = end;
  }
  return n_ids;
}

static void splits_by_the_rule(void **state) {
  uint64_t seed = first_seed(7);
  static book b;
  unsigned n_pieces = 0, n_unknown = 0;
  for (unsigned round = 0; round < 60; round++) {
    const char *prefix = round % 3 == 2 ? "" : "##";
    vocab v;
    fill(&b, &seed, round < 3 ? round : 1 + next_random(&seed) % MAX_WORDS);
    assert_int_equal(vocab_init(&v, b.words, b.n, prefix, strlen(prefix), NULL), VECMILL_OK);
    v.unknown_id = 9999;
    for (size_t i = 0; i < b.n; i++)
      assert_int_equal(vocab_find(&v, b.words[i].text, b.words[i].n),
                       look_up(&b, b.words[i].text, b.words[i].n));
    for (unsigned k = 0; k < 500; k++) {
      char word[64] = {0};
      int32_t want[64], have[64];
      size_t n = random_word(&seed, word);
      if (k % 2) n += random_word(&seed, word + n);
      size_t n_want = split_plainly(&b, word, n, prefix, want);
      memset(word + n, '~', 16); /* whatever lies after a word is no part of it */
      vocab_ids ids = {have, 64, 0};
      vocab_split(&v, word, n, &ids);
      assert_int_equal(ids.n, n_want);
      assert_memory_equal(have, want, n_want * sizeof *want);
      n_pieces += n_want > 1;
      n_unknown += want[0] == 9999;
    }
    vocab_fini(&v);
  }
  assert_true(n_pieces > 1000 && n_unknown > 1000);
}

static void counts_what_it_does_not_keep(void **state) {
  const vocab_word words[] = {{"a", 1, 3}, {"##a", 3, 4}};
  int32_t kept[2] = {-7, -7};
  char word[32] = "aaaaa";
  vocab v;
  assert_int_equal(vocab_init(&v, words, 2, "##", 2, NULL), VECMILL_OK);
  vocab_ids ids = {kept, 1, 0};
  vocab_split(&v, word, 5, &ids);
  assert_int_equal(ids.n, 5);
  assert_int_equal(kept[0], 3);
  assert_int_equal(kept[1], -7);
  vocab_fini(&v);
}

static void survives_failing_allocations(void **state) {
  const vocab_word words[] = {{"a", 1, 3}, {"##a", 3, 4}, {"abc", 3, 5}};
  vecmill_status status = VECMILL_ERROR_MEMORY;
  for (long n = 0; status != VECMILL_OK; n++) {
    vocab v;
    mem_fail_after(n);
    status = vocab_init(&v, words, 3, "##", 2, NULL);
    mem_fail_after(-1);
    assert_true(status == VECMILL_OK || status == VECMILL_ERROR_MEMORY);
    vocab_fini(&v);
    assert_true(n < 50);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits_by_the_rule),
      cmocka_unit_test(counts_what_it_does_not_keep),
      cmocka_unit_test(survives_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
