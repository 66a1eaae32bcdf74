/* text/utf8.h: any bytes are repaired to well-formed ones, and what was well-formed stays as it
 * was. */
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  const char *text = (const char *)data;
  size_t n_replaced, again, n_valid = utf8_valid_prefix(text, n_bytes);
  char *repaired = malloc(3 * n_bytes + 1), *twice = NULL;
  if (!repaired || n_valid > n_bytes) abort();
  size_t n = utf8_repair(text, n_bytes, repaired, &n_replaced);
  if (n > 3 * n_bytes || utf8_valid_prefix(repaired, n) != n) abort();
  if ((n_valid == n_bytes) != (n_replaced == 0) || n_replaced > n_bytes) abort();
  if (memcmp(repaired, text, n_valid) || (!n_replaced && n != n_bytes)) abort();
  for (size_t i = 0; i < n;) {
    uint32_t code;
    char back[4];
    size_t length = utf8_decode(repaired + i, n - i, &code);
    if (length > n - i || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) abort();
    if (utf8_encode(code, back) != length || memcmp(back, repaired + i, length)) abort();
    i += length;
  }
  twice = malloc(3 * n + 1);
  if (!twice || utf8_repair(repaired, n, twice, &again) != n || again) abort();
  free(twice);
  free(repaired);
  return 0;
}
