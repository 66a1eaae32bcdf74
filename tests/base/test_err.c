/* base/err.h: the shape of an error's text. */
#include "base_test.h"

#include <errno.h>

#include "base/err.h"

static void test_formats_and_returns(void **state) {
  vecmill_error err = {0};
  assert_int_equal(err_set(&err, VECMILL_ERROR_FORMAT, "%s: %d wrong", "file", 3),
                   VECMILL_ERROR_FORMAT);
  assert_int_equal(err.status, VECMILL_ERROR_FORMAT);
  assert_string_equal(err.text, "file: 3 wrong");
  assert_int_equal(err_set(NULL, VECMILL_ERROR_BUSY, "nobody reads this"), VECMILL_ERROR_BUSY);
}

static void test_one_line(void **state) {
  vecmill_error err;
  err_set(&err, VECMILL_ERROR_IO,
          "a\nb\tc\r\x01\x7F"
          "d\xC3\xA9");
  assert_string_equal(err.text, "a b c   d\xC3\xA9");
}

#define CUT "... (cut)"

/* However a character of 2, 3 or 4 bytes falls on the end, what is left is well-formed, and says
 * that it was cut. */
static void test_cut_at_a_character(void **state) {
  static const char *const characters[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
  for (size_t c = 0; c < 3; c++) {
    size_t width = strlen(characters[c]);
    for (size_t lead = 0; lead < width; lead++) {
      char text[2 * VECMILL_ERROR_TEXT_SIZE];
      size_t n = lead;
      memset(text, 'x', lead);
      while (n + width < sizeof text - 1) {
        memcpy(text + n, characters[c], width);
        n += width;
      }
      text[n] = '\0';
      vecmill_error err;
      err_set(&err, VECMILL_ERROR_IO, "%s", text);
      assert_true(strlen(err.text) > VECMILL_ERROR_TEXT_SIZE - 1 - width);
      size_t kept = strlen(err.text) - strlen(CUT);
      assert_string_equal(err.text + kept, CUT);
      assert_int_equal((kept - lead) % width, 0);
      assert_memory_equal(err.text, text, kept);
    }
  }
}

static void test_a_text_that_just_fits(void **state) {
  char text[VECMILL_ERROR_TEXT_SIZE];
  memset(text, 'x', sizeof text);
  memcpy(text + sizeof text - 3, "\xC3\xA9", 3);
  vecmill_error err;
  err_set(&err, VECMILL_ERROR_IO, "%s", text);
  assert_string_equal(err.text, text);
}

static void test_errno(void **state) {
  vecmill_error err;
  assert_int_equal(err_set_errno(&err, ENOENT, "cannot open", "/a"), VECMILL_ERROR_NOT_FOUND);
  assert_string_equal(err.text, "cannot open /a: No such file or directory");
  assert_int_equal(err_set_errno(&err, EACCES, "cannot open", "/a"), VECMILL_ERROR_IO);
}

static void test_names(void **state) {
  assert_string_equal(vecmill_status_name(VECMILL_OK), "ok");
  assert_string_equal(vecmill_status_name(VECMILL_ERROR_INTERNAL), "internal");
  assert_string_equal(vecmill_status_name((vecmill_status)99), "unknown");
  assert_string_equal(vecmill_status_name((vecmill_status)-1), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_formats_and_returns),
      cmocka_unit_test(test_one_line),
      cmocka_unit_test(test_cut_at_a_character),
      cmocka_unit_test(test_a_text_that_just_fits),
      cmocka_unit_test(test_errno),
      cmocka_unit_test(test_names),
  };
  return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
