/* utf8.h against The Unicode Standard's own examples and a slow check of every short sequence. */
#include "text_test.h"

#include "text/utf8.h"

static void every_scalar_value_survives(void **state) {
  for (uint32_t code = 0; code <= 0x10FFFF; code++) {
    char bytes[4];
    uint32_t back;
    size_t n = utf8_encode(code, bytes);
    if (code >= 0xD800 && code < 0xE000) {
      assert_int_equal(utf8_valid_prefix(bytes, n), 0);
      continue;
    }
    assert_int_equal(n, code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4);
    assert_int_equal(utf8_valid_prefix(bytes, n), n);
    assert_int_equal(utf8_decode(bytes, n, &back), n);
    assert_int_equal(back, code);
    for (size_t cut = 1; cut < n; cut++) assert_int_equal(utf8_valid_prefix(bytes, cut), 0);
  }
}

/* Well-formed sequences of each length among all strings of that length that begin with a lead
 * byte. */
static void nothing_else_is_well_formed(void **state) {
  unsigned n_three = 0, n_four = 0;
  for (uint32_t x = 0xE00000; x <= 0xFFFFFF; x++) {
    const char bytes[3] = {(char)(x >> 16), (char)(x >> 8), (char)x};
    n_three += utf8_valid_prefix(bytes, 3) == 3;
  }
  assert_int_equal(n_three, 0x10000 - 0x800 - 0x800);
  for (unsigned lead = 0xF0; lead < 0x100; lead++)
    for (unsigned second = 0; second < 0x100; second++)
      for (unsigned third = 0; third < 0x100; third++) {
        const char bytes[4] = {(char)lead, (char)second, (char)third, (char)0x80};
        n_four += utf8_valid_prefix(bytes, 4) == 4;
      }
  assert_int_equal(n_four, 0x100000 / 64);
  unsigned n_two = 0;
  for (uint32_t x = 0x8000; x <= 0xFFFF; x++) {
    const char bytes[2] = {(char)(x >> 8), (char)x};
    n_two += utf8_valid_prefix(bytes, 2) == 2;
  }
  assert_int_equal(n_two, 0x800 - 0x80);
}

typedef struct repair_case {
  const char *from, *to; /* U+FFFD is written ? */
} repair_case;

static void each_maximal_subpart_is_replaced(void **state) {
  /* The first four are tables 3-8 to 3-11 of The Unicode Standard 15, 3.9. */
  static const repair_case cases[] = {
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "????????A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "????????A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "?????A??B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "????A"},
      {"", ""},
      {"plain", "plain"},
      {"0123456789abcdef0123456789abcdef\x80", "0123456789abcdef0123456789abcdef?"},
      {"\xE4\xB8", "?"},
      {"a\xF0\x9F\x98", "a?"},
      {"\xC3(", "?("},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char out[200], shown[200];
    size_t n = strlen(cases[i].from), n_replaced, n_shown = 0, n_marks = 0;
    size_t n_out = utf8_repair(cases[i].from, n, out, &n_replaced);
    assert_true(n_out <= 3 * n);
    assert_int_equal(utf8_valid_prefix(out, n_out), n_out);
    for (size_t k = 0; k < n_out; k++) {
      bool mark = n_out - k >= 3 && !memcmp(out + k, "\xEF\xBF\xBD", 3);
      shown[n_shown++] = mark ? '?' : out[k];
      n_marks += mark;
      k += mark ? 2 : 0;
    }
    shown[n_shown] = '\0';
    assert_string_equal(shown, cases[i].to);
    assert_int_equal(n_replaced, n_marks);
  }
}

/* utf8_next reads any bytes as utf8_repair would have made them. */
static void reading_on_is_repairing(void **state) {
  uint64_t random = first_seed(77);
  for (int round = 0; round < 20000; round++) {
    char text[24], repaired[72];
    size_t n = next_random(&random) % sizeof text, n_replaced, at = 0, back = 0;
    for (size_t i = 0; i < n; i++) {
      uint32_t r = next_random(&random);
      text[i] = (char)(r & 0x300 ? 0x80 | r : r & 0x7F); /* mostly parts of longer sequences */
    }
    size_t n_repaired = utf8_repair(text, n, repaired, &n_replaced);
    while (at < n) {
      uint32_t code, wanted;
      at += utf8_next(text + at, n - at, &code);
      back += utf8_decode(repaired + back, n_repaired - back, &wanted);
      assert_int_equal(code, wanted);
    }
    assert_int_equal(at, n);
    assert_int_equal(back, n_repaired);
  }
}

/* A block that is looked at whole must not hide what stands at any place in it. */
static void bad_bytes_are_found_everywhere(void **state) {
  char text[100];
  for (size_t at = 0; at < sizeof text; at++) {
    memset(text, 'x', sizeof text);
    text[at] = (char)0x80;
    assert_int_equal(utf8_valid_prefix(text, sizeof text), at);
    assert_int_equal(utf8_valid_prefix(text, at), at);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_scalar_value_survives),
      cmocka_unit_test(nothing_else_is_well_formed),
      cmocka_unit_test(each_maximal_subpart_is_replaced),
      cmocka_unit_test(reading_on_is_repairing),
      cmocka_unit_test(bad_bytes_are_found_everywhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
