/* UTF-8: checking, repairing, decoding. */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes before the first ill-formed sequence; n when there is none (Unicode 15, table 3-7). */
size_t utf8_valid_prefix(const char *text, size_t n);

/*
 * Copies text, each maximal subpart of an ill-formed sequence becoming U+FFFD
 * (Unicode 15, 3.9: as Python's errors="replace" and WHATWG do). dst has room for 3 x n bytes.
 * Returns the bytes written; *n_replaced_out counts the U+FFFD put in.
 */
size_t utf8_repair(const char *text, size_t n, char *dst, size_t *n_replaced_out);

/* Decodes one code point of well-formed UTF-8 (n > 0); returns its length in bytes. */
size_t utf8_decode(const char *text, size_t n, uint32_t *code_point_out);

/* The same of any bytes (n > 0): each maximal subpart of an ill-formed sequence is one U+FFFD. */
size_t utf8_next(const char *text, size_t n, uint32_t *code_point_out);

/* Encodes a scalar value into at most 4 bytes; returns how many. */
size_t utf8_encode(uint32_t code_point, char *dst);

#endif
