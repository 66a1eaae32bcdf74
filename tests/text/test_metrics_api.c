/* Metrics and word lists by the public calls. */
#include "wordlist_test.h"

#include <vecmill/metrics.h>

static void public_calls(void **state) {
  char path[] = "/tmp/vecmill-list-XXXXXX";
  vecmill_wordlist *list = NULL;
  vecmill_error err = {0};
  vecmill_text_metrics m;
  vecmill_wordlist_close(&list);
  assert_int_equal(vecmill_wordlist_open("/nowhere", NULL, &list, &err), VECMILL_ERROR_NOT_FOUND);
  write_file(path, "aloha\nkai\n", 10);
  assert_int_equal(vecmill_wordlist_open(path, NULL, &list, &err), VECMILL_OK);
  unlink(path);
  assert_int_equal(vecmill_wordlist_n_words(list), 2);
  vecmill_text_measure("Aloha from Keola", 16, list, &m);
  assert_true(m.word_count == 3 && m.length == 16 && m.entity_count == 1 && m.has_ratio == 1);
  assert_true(m.hawaiian_word_ratio == 1.0 / 3);
  vecmill_text_measure("Aloha", 5, NULL, &m);
  assert_true(m.word_count == 1 && m.has_ratio == 0 && m.hawaiian_word_ratio == 0);
  vecmill_wordlist_close(&list);
  assert_null(list);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(public_calls)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
