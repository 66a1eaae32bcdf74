#include "store/blank.h"

/* Bytes of the white space character at text[0 .. n), n > 0; 0 if it is another one. Unicode 15,
 * PropList.txt. */
static size_t white_space(const unsigned char *text, size_t n) {
  unsigned char c = text[0];
  if (c == ' ' || (c >= 0x09 && c <= 0x0D)) return 1;
  if (c == 0xC2 && n >= 2) return text[1] == 0x85 || text[1] == 0xA0 ? 2 : 0; /* U+0085, U+00A0 */
  if (n < 3) return 0;
  if (c == 0xE1) return text[1] == 0x9A && text[2] == 0x80 ? 3 : 0; /* U+1680 */
  if (c == 0xE3) return text[1] == 0x80 && text[2] == 0x80 ? 3 : 0; /* U+3000 */
  if (c != 0xE2) return 0;
  if (text[1] == 0x81) return text[2] == 0x9F ? 3 : 0; /* U+205F */
  if (text[1] != 0x80) return 0;
  bool space = text[2] >= 0x80 && text[2] <= 0x8A;                   /* U+2000 to U+200A */
  bool line = text[2] == 0xA8 || text[2] == 0xA9 || text[2] == 0xAF; /* U+2028, U+2029, U+202F */
  return space || line ? 3 : 0;
}

bool store_is_blank(const char *text, size_t n) {
  const unsigned char *at = (const unsigned char *)text;
  while (n > 0) {
    size_t step = white_space(at, n);
    if (step == 0) return false;
    at += step;
    n -= step;
  }
  return true;
}

/* Bytes of one well-formed UTF-8 sequence at text (Unicode 15, table 3-7); 0 if it is ill-formed.
 */
static size_t well_formed(const unsigned char *text, size_t n) {
  unsigned char c = text[0];
  if (c < 0x80) return 1;
  size_t length = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
  if (c < 0xC2 || c > 0xF4 || n < length) return 0;
  unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
  unsigned char high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
  if (text[1] < low || text[1] > high) return 0;
  for (size_t i = 2; i < length; i++)
    if ((text[i] & 0xC0) != 0x80) return 0;
  return length;
}

bool store_is_utf8(const char *text, size_t n) {
  for (size_t i = 0, step; i < n; i += step)
    if ((step = well_formed((const unsigned char *)text + i, n - i)) == 0) return false;
  return true;
}
