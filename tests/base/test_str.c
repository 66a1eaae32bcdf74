/* base/str.h: a string that grows, and whose failure sticks. */
#include "base_test.h"

#include "base/mem.h"
#include "base/str.h"

static void test_grows(void **state) {
  str s = {0};
  char expected[4001];
  for (int i = 0; i < 1000; i++) {
    str_append_format(&s, "%03d", i);
    str_append_char(&s, ' ');
    snprintf(expected + (size_t)i * 4, 5, "%03d ", i);
  }
  assert_false(s.failed);
  assert_int_equal(s.n, 4000);
  assert_string_equal(s.data, expected);
  str_fini(&s);
  assert_null(s.data);
}

static void test_bytes(void **state) {
  str s = {0};
  str_append(&s, "a\0b", 3);
  str_append(&s, NULL, 0);
  str_append_text(&s, "");
  str_append_text(&s, "cd");
  assert_int_equal(s.n, 5);
  assert_memory_equal(s.data, "a\0bcd", 6);
  str_fini(&s);
}

static void test_reserve(void **state) {
  str s = {0};
  str_append_text(&s, "ab");
  assert_true(str_reserve(&s, 5000));
  char *data = s.data;
  for (int i = 0; i < 5000; i++) str_append_char(&s, 'c');
  assert_ptr_equal(s.data, data);
  assert_int_equal(s.n, 5002);
  assert_memory_equal(s.data, "abcc", 4);
  assert_false(str_reserve(&s, SIZE_MAX - 10));
  assert_true(s.failed);
  str_fini(&s);
}

static void test_quotes(void **state) {
  str s = {0};
  str_append_quoted(&s, "a\"b'c", '"');
  str_append_quoted(&s, "'", '\'');
  assert_string_equal(s.data, "\"a\"\"b'c\"''''");
  str_clear(&s);
  str_append_json(&s, "\0\n\"\\ \xc5\x8d", 7);
  assert_string_equal(s.data, "\"\\u0000\\u000a\\\"\\\\ \xc5\x8d\"");
  str_fini(&s);
}

static void test_shell(void **state) {
  (void)state;
  static const struct {
    const char *word, *quoted;
  } cases[] = {
      {"t", "t"},
      {"postgresql://u@h:5432/d%20?a=b+c,d-e_F.G", "\"postgresql://u@h:5432/d%20?a=b+c,d-e_F.G\""},
      {"u@h:5/d%20=b+c,d-e_F.G9", "u@h:5/d%20=b+c,d-e_F.G9"},
      {"", "\"\""},
      {"my table", "\"my table\""},
      {"a&b;c*'d", "\"a&b;c*'d\""},
      {"\xc5\x8dlelo", "\"\xc5\x8dlelo\""},
      {"\"T\"", "'\"T\"'"},
      {"$HOME", "'$HOME'"},
      {"a`b", "'a`b'"},
      {"a\\b", "'a\\b'"},
      {"hey!", "'hey!'"},
      {"it's $5", "'it'\\''s $5'"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    str s = {0};
    str_append_shell(&s, cases[i].word);
    assert_string_equal(s.data, cases[i].quoted);
    str_fini(&s);
  }
}

static void test_failure_sticks(void **state) {
  str s = {0};
  str_append_text(&s, "kept");
  mem_fail_after(0);
  str_append_format(&s, "%200d", 1); /* more than the first block holds */
  mem_fail_after(-1);
  assert_true(s.failed);
  str_append_text(&s, "not appended");
  assert_true(s.failed);
  assert_string_equal(s.data, "kept");
  str_clear(&s);
  str_append_text(&s, "again");
  assert_false(s.failed);
  assert_string_equal(s.data, "again");
  str_append(&s, "x", SIZE_MAX); /* the size overflows before anything is read */
  assert_true(s.failed);
  str_fini(&s);
}

static void test_letters(void **state) {
  (void)state;
  for (int c = 0; c < 256; c++) { /* whatever the locale, though there is an I without a dot */
    bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
    assert_int_equal((unsigned char)str_lower((char)c), upper ? c + 32 : c);
    assert_int_equal(str_is_alnum((char)c), upper || lower || digit);
  }
  assert_true(str_same("SentenceID", "sentenceid") && str_same("", ""));
  assert_false(str_same("id", "ids") || str_same("ids", "id") || str_same("\xc9", "\xe9"));
  assert_true(str_begins("SQLITE_x", "sqlite_") && str_begins("a", ""));
  assert_false(str_begins("sqlite", "sqlite_"));
  assert_true(str_holds("unsigned big int", "INT") && str_holds("INT", "int") && str_holds("", ""));
  assert_false(str_holds("big in", "INT") || str_holds("", "a"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_grows),          cmocka_unit_test(test_bytes),
      cmocka_unit_test(test_reserve),        cmocka_unit_test(test_quotes),
      cmocka_unit_test(test_failure_sticks), cmocka_unit_test(test_letters),
      cmocka_unit_test(test_shell),
  };
  return cmocka_run_group_tests_name("str", tests, NULL, NULL);
}
