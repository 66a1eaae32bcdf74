/*
 * UTF-8 by The Unicode Standard, table 3-7 (what is well-formed) and section
 * 3.9 (an ill-formed sequence is replaced by one U+FFFD per maximal subpart).
 */
#include "text/utf8.h"

#include <string.h>

/*
 * How many bytes at p (n > 0 are there) belong together: a whole well-formed
 * sequence (true), or the maximal subpart of an ill-formed one (false).
 */
static bool sequence(const uint8_t *p, size_t n, size_t *n_bytes_out) {
  uint8_t lead = p[0], low = 0x80, high = 0xBF; /* what the second byte may be */
  size_t need;
  *n_bytes_out = 1;
  if (lead < 0x80) return true;
  if (lead < 0xC2 || lead > 0xF4) return false;
  if (lead < 0xE0) {
    need = 2;
  } else if (lead < 0xF0) {
    need = 3;
    if (lead == 0xE0) low = 0xA0;  /* no overlong form */
    if (lead == 0xED) high = 0x9F; /* no surrogate */
  } else {
    need = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F; /* nothing past U+10FFFF */
  }
  if (n < 2 || p[1] < low || p[1] > high) return false;
  size_t have = 2;
  while (have < need && have < n && (p[have] & 0xC0) == 0x80) have++;
  *n_bytes_out = have;
  return have == need;
}

size_t utf8_valid_prefix(const char *text, size_t n) {
  const uint8_t *p = (const uint8_t *)text;
  size_t i = 0, n_bytes;
  while (i < n) {
    uint64_t block[2];
    if (n - i >= sizeof block) {
      memcpy(block, p + i, sizeof block);
      if (!((block[0] | block[1]) & UINT64_C(0x8080808080808080))) {
        i += sizeof block;
        continue;
      }
    }
    if (!sequence(p + i, n - i, &n_bytes)) return i;
    i += n_bytes;
  }
  return n;
}

size_t utf8_repair(const char *text, size_t n, char *dst, size_t *n_replaced_out) {
  size_t i = 0, at = 0, n_replaced = 0;
  while (i < n) {
    size_t good = utf8_valid_prefix(text + i, n - i), bad;
    if (good) memcpy(dst + at, text + i, good);
    at += good;
    i += good;
    if (i == n) break;
    sequence((const uint8_t *)text + i, n - i, &bad);
    memcpy(dst + at, "\xEF\xBF\xBD", 3);
    at += 3;
    i += bad;
    n_replaced++;
  }
  *n_replaced_out = n_replaced;
  return at;
}

size_t utf8_decode(const char *text, size_t n, uint32_t *code_point_out) {
  const uint8_t *p = (const uint8_t *)text;
  uint32_t lead = p[0];
  if (lead < 0x80) {
    *code_point_out = lead;
    return 1;
  }
  if (lead < 0xE0 && n >= 2) {
    *code_point_out = (lead & 0x1F) << 6 | (p[1] & 0x3Fu);
    return 2;
  }
  if (lead < 0xF0 && n >= 3) {
    *code_point_out = (lead & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    return 3;
  }
  if (n >= 4) {
    *code_point_out =
        (lead & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
    return 4;
  }
  *code_point_out = 0xFFFD; /* only if the caller broke the contract */
  return 1;
}

size_t utf8_next(const char *text, size_t n, uint32_t *code_point_out) {
  size_t n_bytes;
  if (sequence((const uint8_t *)text, n, &n_bytes))
    return utf8_decode(text, n_bytes, code_point_out);
  *code_point_out = 0xFFFD;
  return n_bytes;
}

size_t utf8_encode(uint32_t code, char *dst) {
  if (code < 0x80) {
    dst[0] = (char)code;
    return 1;
  }
  if (code < 0x800) {
    dst[0] = (char)(0xC0 | code >> 6);
    dst[1] = (char)(0x80 | (code & 0x3F));
    return 2;
  }
  if (code < 0x10000) {
    dst[0] = (char)(0xE0 | code >> 12);
    dst[1] = (char)(0x80 | (code >> 6 & 0x3F));
    dst[2] = (char)(0x80 | (code & 0x3F));
    return 3;
  }
  dst[0] = (char)(0xF0 | code >> 18);
  dst[1] = (char)(0x80 | (code >> 12 & 0x3F));
  dst[2] = (char)(0x80 | (code >> 6 & 0x3F));
  dst[3] = (char)(0x80 | (code & 0x3F));
  return 4;
}
