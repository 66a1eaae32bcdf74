/*
 * text/metrics.h: any bytes have metrics, the same as what utf8_repair makes of them, and putting
 * two texts together adds what it must.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz_file.h"
#include "text/metrics.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static const wordlist *the_list(void) {
  static const char words[] = "aloha\n'okina\nkala'\nHawai'i\nk\xC4\x81ne\na\n7\n";
  static wordlist *list;
  if (!list &&
      wordlist_open(fuzz_file((const uint8_t *)words, sizeof words - 1), NULL, &list, NULL))
    abort();
  return list;
}

static void check_same(const text_metrics *a, const text_metrics *b) {
  if (a->word_count != b->word_count || a->length != b->length ||
      a->entity_count != b->entity_count || a->has_ratio != b->has_ratio ||
      a->hawaiian_word_ratio != b->hawaiian_word_ratio)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  const char *text = (const char *)data;
  text_metrics m, other;
  size_t n_replaced, n = 2 * n_bytes + 1;
  char *copy = malloc(3 * n + 1);
  if (!copy) abort();
  metrics_of(text, n_bytes, the_list(), &m);
  if (m.length > (int64_t)n_bytes || m.word_count > m.length || m.entity_count > m.word_count)
    abort();
  if (m.has_ratio && !(m.hawaiian_word_ratio >= 0 && m.hawaiian_word_ratio <= 1)) abort();
  metrics_of(copy, utf8_repair(text, n_bytes, copy, &n_replaced), the_list(), &other);
  check_same(&m, &other);
  /* Twice the text with a space between: twice the words, the same share of them. */
  memcpy(copy, text, n_bytes);
  copy[n_bytes] = ' ';
  memcpy(copy + n_bytes + 1, text, n_bytes);
  metrics_of(copy, n, the_list(), &other);
  if (other.word_count != 2 * m.word_count || other.length != 2 * m.length + 1) abort();
  if (other.entity_count > 2 * m.entity_count + 1 || other.entity_count < m.entity_count) abort();
  if (other.has_ratio != m.has_ratio || other.hawaiian_word_ratio != m.hawaiian_word_ratio) abort();
  free(copy);
  return 0;
}
