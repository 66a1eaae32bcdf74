/* Every text of metrics_golden.json, whose numbers were worked out by hand. */
#include "text_test.h"

#include <jansson.h>

#include "text/metrics.h"
#include "wordlist_test.h"

static json_t *golden;

static wordlist *open_golden_list(void) {
  const json_t *lines = json_object_get(golden, "list");
  char *overrides = json_dumps(json_object_get(golden, "overrides"), 0), *text = calloc(1, 4096);
  for (size_t i = 0; i < json_array_size(lines); i++) {
    strcat(text, json_string_value(json_array_get(lines, i)));
    strcat(text, "\n");
  }
  wordlist *list;
  vecmill_error err = {0};
  if (open_list(text, overrides, &list, &err) != VECMILL_OK) fail_msg("%s", err.text);
  free(text);
  free(overrides);
  return list;
}

/* The bytes of a text: given as they are, or in hexadecimal where they are not UTF-8. */
static size_t bytes_of(const json_t *one, char *bytes) {
  const json_t *text = json_object_get(one, "text");
  if (text) {
    memcpy(bytes, json_string_value(text), json_string_length(text));
    return json_string_length(text);
  }
  const char *hex = json_string_value(json_object_get(one, "hex"));
  size_t n = 0;
  for (char *end; *hex; hex = end) bytes[n++] = (char)strtoul(hex, &end, 16);
  return n;
}

static int64_t number(const json_t *one, const char *name) {
  const json_t *value = json_object_get(one, name);
  assert_true(json_is_integer(value));
  return json_integer_value(value);
}

static void check_text(const wordlist *list, const json_t *one) {
  static char bytes[1000];
  text_metrics m;
  size_t n = bytes_of(one, bytes);
  const json_t *ratio = json_object_get(one, "ratio");
  int64_t n_words = json_integer_value(json_array_get(ratio, 1));
  double wanted = (double)json_integer_value(json_array_get(ratio, 0)) / (double)n_words;
  metrics_of(bytes, n, list, &m);
  bool same = m.word_count == number(one, "word_count") && m.length == number(one, "length") &&
              m.entity_count == number(one, "entity_count") && m.has_ratio == json_is_array(ratio);
  if (!same || (m.has_ratio && m.hawaiian_word_ratio != wanted))
    fail_msg("\"%.*s\": word_count %d, length %d, entity_count %d, ratio %d %f (%s)", (int)n, bytes,
             m.word_count, m.length, m.entity_count, m.has_ratio, m.hawaiian_word_ratio,
             json_string_value(json_object_get(one, "why")));
  metrics_of(bytes, n, NULL, &m); /* without a list all but the ratio is the same */
  assert_int_equal(m.word_count, number(one, "word_count"));
  assert_int_equal(m.length, number(one, "length"));
  assert_int_equal(m.entity_count, number(one, "entity_count"));
  assert_false(m.has_ratio);
}

static void metrics_are_those_worked_out_by_hand(void **state) {
  const json_t *texts = json_object_get(golden, "texts");
  wordlist *list = open_golden_list();
  assert_true(json_array_size(texts) >= 60);
  for (size_t i = 0; i < json_array_size(texts); i++) check_text(list, json_array_get(texts, i));
  wordlist_close(&list);
}

int main(int argc, char **argv) {
  json_error_t why;
  golden = argc == 2 ? json_load_file(argv[1], JSON_ALLOW_NUL, &why) : NULL;
  if (!golden) {
    fprintf(stderr, "usage: test-text-metrics_golden metrics_golden.json (readable JSON)\n");
    return 2;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(metrics_are_those_worked_out_by_hand)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  json_decref(golden);
  return failed;
}
