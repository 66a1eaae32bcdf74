#include "text/unicode.h"

#include <stddef.h>

#include "text/unicode_table.h"

/* The last run that begins at or before `code`. */
static uint32_t find_run(const uint32_t *runs, unsigned n, unsigned shift, uint32_t code) {
  unsigned low = 0, high = n; /* runs[low] <= code < runs[high] */
  while (high - low > 1) {
    unsigned middle = low + (high - low) / 2;
    if (runs[middle] >> shift <= code)
      low = middle;
    else
      high = middle;
  }
  return runs[low];
}

unsigned unicode_flags(uint32_t code) {
  return code > 0x10FFFF ? 0 : find_run(unicode_runs, unicode_n_runs, 11, code) & 0x7FF;
}

unicode_kind unicode_kind_of(uint32_t code) {
  if (code < UNICODE_N_DIRECT) return (unicode_kind)unicode_kinds[code];
  if (code > 0x10FFFF) return UNICODE_KIND_OTHER;
  return (unicode_kind)(find_run(unicode_kind_runs, unicode_n_kind_runs, 3, code) & 7);
}

unsigned unicode_combining_rank(uint32_t code) {
  return code > 0x10FFFF ? 0 : find_run(unicode_rank_runs, unicode_n_rank_runs, 8, code) & 0xFF;
}

/* Hangul syllables decompose by arithmetic: The Unicode Standard, 3.12. */
static unsigned decompose_hangul(uint32_t code, uint32_t *out) {
  uint32_t s = code - 0xAC00;
  out[0] = 0x1100 + s / 588;
  out[1] = 0x1161 + s % 588 / 28;
  out[2] = 0x11A7 + s % 28;
  return s % 28 ? 3 : 2;
}

unsigned unicode_decompose(uint32_t code, uint32_t out[UNICODE_MAX_DECOMPOSED]) {
  if (code >= 0xAC00 && code <= 0xD7A3) return decompose_hangul(code, out);
  size_t low = 0, high = unicode_n_decompositions;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const unicode_decomposition *d = &unicode_decompositions[middle];
    if (d->code_and_n >> 3 == code) {
      unsigned n = d->code_and_n & 7;
      for (unsigned i = 0; i < n; i++) out[i] = unicode_decomposition_pool[d->at + i];
      return n;
    }
    if (d->code_and_n >> 3 < code)
      low = middle + 1;
    else
      high = middle;
  }
  out[0] = code;
  return 1;
}

unsigned unicode_lower(uint32_t code, uint32_t out[UNICODE_MAX_LOWERED]) {
  out[0] = code;
  if (code == 0x130) { /* the one character whose lower case is two */
    out[0] = 0x69;
    out[1] = 0x307;
    return 2;
  }
  size_t low = 0, high = unicode_n_lower_rows;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const unicode_lower_row *row = &unicode_lower_rows[middle];
    if (code < row->first)
      high = middle;
    else if (code > row->last)
      low = middle + 1;
    else {
      if ((code - row->first) % (uint32_t)row->step == 0)
        out[0] = (uint32_t)((int32_t)code + row->delta);
      return 1;
    }
  }
  return 1;
}
