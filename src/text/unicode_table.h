/*
 * The tables that scripts/make_unicode_table.py takes from the Hugging Face
 * tokenizers library. Read them through unicode.h.
 */
#ifndef TEXT_UNICODE_TABLE_H
#define TEXT_UNICODE_TABLE_H

#include <stdint.h>

/* first code point << 11 | unicode_flag set; ascending from U+0000, a run ends where the next begins */
extern const uint32_t unicode_runs[];
extern const unsigned unicode_n_runs;

/* unicode_kind of the first code points, and of all: first code point << 3 | unicode_kind, runs as
 * above. */
#define UNICODE_N_DIRECT 0x400
extern const uint8_t unicode_kinds[UNICODE_N_DIRECT];
extern const uint32_t unicode_kind_runs[];
extern const unsigned unicode_n_kind_runs;

/* Ascending: every step-th code point from first to last has the lower case code point + delta. */
typedef struct unicode_lower_row {
  uint32_t first, last;
  int32_t step, delta;
} unicode_lower_row;
extern const unicode_lower_row unicode_lower_rows[];
extern const unsigned unicode_n_lower_rows;

/* first code point << 8 | rank of its canonical combining class (0 for class 0), runs as above. */
extern const uint32_t unicode_rank_runs[];
extern const unsigned unicode_n_rank_runs;

/* Full canonical decompositions, ascending: code point << 3 | length, its beginning in the pool. */
typedef struct unicode_decomposition {
  uint32_t code_and_n;
  uint16_t at;
} unicode_decomposition;
extern const unicode_decomposition unicode_decompositions[];
extern const unsigned unicode_n_decompositions;
extern const uint32_t unicode_decomposition_pool[];

#endif
