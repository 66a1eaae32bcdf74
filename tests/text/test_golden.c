/* The ids of golden.json: what the Hugging Face library gave for every variant of a tokenizer.json.
 */
#include "text_test.h"

#include <jansson.h>

static json_t *golden;

static json_t *vocabulary(void) {
  json_t *words = json_object_get(golden, "vocab"), *vocab = json_object();
  for (size_t i = 0; i < json_array_size(words); i++)
    json_object_set_new(vocab, json_string_value(json_array_get(words, i)),
                        json_integer((json_int_t)i));
  assert_int_equal(json_object_size(vocab), json_array_size(words));
  return vocab;
}

static void check_text(const tokenizer *tok, tok_scratch *scratch, const json_t *text,
                       const json_t *ids, const char *name, size_t index) {
  tok_result r;
  vecmill_error err = {0};
  size_t n = json_array_size(ids), n_special = tok_n_special(tok);
  const char *bytes = json_string_value(text);
  assert_int_equal(tok_encode(tok, scratch, bytes, json_string_length(text), SIZE_MAX, &r, &err),
                   VECMILL_OK);
  bool same = r.n_ids == n;
  for (size_t i = 0; i < n && same; i++)
    same = r.ids[i] == json_integer_value(json_array_get(ids, i));
  if (!same) fail_msg("%s: text %zu: other ids than the library's", name, index);
  assert_int_equal(r.n_ids_whole, n);
  assert_int_equal(r.n_replaced, 0);
  /* Cut anywhere, the front is the same and the count of the whole is right. */
  for (size_t most = n_special; most < n; most += 1 + n / 7) {
    assert_int_equal(tok_encode(tok, scratch, bytes, json_string_length(text), most, &r, &err),
                     VECMILL_OK);
    assert_int_equal(r.n_ids, most);
    assert_int_equal(r.n_ids_whole, n);
    size_t n_after = n_special / 2;
    for (size_t i = 0; i < most - n_after; i++)
      assert_int_equal(r.ids[i], json_integer_value(json_array_get(ids, i)));
    for (size_t i = 0; i < n_after; i++)
      assert_int_equal(r.ids[most - 1 - i], json_integer_value(json_array_get(ids, n - 1 - i)));
  }
}

static void check_case(const json_t *one, json_t *vocab) {
  json_t *content = json_object_get(one, "tokenizer"), *texts = json_object_get(golden, "texts");
  const json_t *ids = json_object_get(one, "ids");
  const char *name = json_string_value(json_object_get(one, "name"));
  tokenizer *tok;
  tok_scratch *scratch;
  vecmill_error err = {0};
  json_object_set(json_object_get(content, "model"), "vocab", vocab);
  char *json = json_dumps(content, 0);
  assert_non_null(json);
  vecmill_status status = open_json(json, &tok, &err);
  if (status != VECMILL_OK) fail_msg("%s: %s", name, err.text);
  free(json);
  assert_int_equal(tok_scratch_open(tok, &scratch, &err), VECMILL_OK);
  assert_int_equal(json_array_size(ids), json_array_size(texts));
  for (size_t i = 0; i < json_array_size(texts); i++)
    check_text(tok, scratch, json_array_get(texts, i), json_array_get(ids, i), name, i);
  tok_scratch_close(&scratch);
  tok_close(&tok);
}

static void ids_are_the_librarys(void **state) {
  const json_t *cases = json_object_get(golden, "cases");
  json_t *vocab = vocabulary();
  assert_true(json_array_size(cases) >= 20);
  assert_true(json_array_size(json_object_get(golden, "texts")) >= 130);
  for (size_t i = 0; i < json_array_size(cases); i++) check_case(json_array_get(cases, i), vocab);
  json_decref(vocab);
}

int main(int argc, char **argv) {
  json_error_t why;
  golden = argc == 2 ? json_load_file(argv[1], JSON_ALLOW_NUL, &why) : NULL;
  if (!golden) {
    fprintf(stderr, "usage: test-text-golden golden.json (readable JSON)\n");
    return 2;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(ids_are_the_librarys)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  json_decref(golden);
  return failed;
}
