#include <vecmill/text.h>

#include "text/utf8.h"

size_t vecmill_text_valid_prefix(const char *text, size_t n_bytes) {
  return utf8_valid_prefix(text, n_bytes);
}

size_t vecmill_text_repair(const char *text, size_t n_bytes, char *copy_out,
                           size_t *n_replaced_out) {
  size_t n_replaced = 0;
  size_t n = utf8_repair(text, n_bytes, copy_out, &n_replaced);
  if (n_replaced_out) *n_replaced_out = n_replaced;
  return n;
}
