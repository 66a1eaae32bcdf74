/*
 * What is told of a text beside its vector: pure functions of its bytes (and of a word list). The
 * rules, with their reasons, are written down in docs/metrics.md.
 */
#ifndef TEXT_METRICS_H
#define TEXT_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/wordlist.h"

/* Counts stop at INT32_MAX, the most that an integer column holds. */
typedef struct text_metrics {
  int32_t word_count;         /* runs separated by Unicode's White_Space */
  int32_t length;             /* code points; an ill-formed sequence is one */
  int32_t entity_count;       /* names: runs of capitalised words that begin no sentence */
  bool has_ratio;             /* false without a word list, and for a text without words */
  double hawaiian_word_ratio; /* 0 to 1, where has_ratio */
} text_metrics;

/* n bytes of any kind, NUL allowed; `list` may be NULL. Allocates nothing; any number of threads.
 */
void metrics_of(const char *text, size_t n, const wordlist *list, text_metrics *metrics_out);

#endif
