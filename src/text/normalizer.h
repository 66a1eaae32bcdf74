/*
 * Normalisers: what a text goes through before it is split into words.
 *
 * A normaliser is a list of steps, each over whole code points. This is the
 * plain form of it: charmap.h turns the same steps into tables for speed.
 */
#ifndef TEXT_NORMALIZER_H
#define TEXT_NORMALIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

typedef enum normalizer_step {
  NORMALIZER_CLEAN,           /* drops what UNICODE_OTHER says; white space becomes a space */
  NORMALIZER_SPACE_CJK,       /* a space before and after */
  NORMALIZER_DECOMPOSE,       /* NFD, canonical reordering included */
  NORMALIZER_DROP_NONSPACING, /* Mn */
  NORMALIZER_DROP_MARKS,      /* M* */
  NORMALIZER_LOWER
} normalizer_step;

#define NORMALIZER_MAX_STEPS 32

/* No steps: the text stays as it is. */
typedef struct normalizer {
  uint8_t steps[NORMALIZER_MAX_STEPS];
  unsigned n_steps;
} normalizer;

/* From the "normalizer" of a tokenizer.json (null: no steps). `where` names the file in errors. */
vecmill_status normalizer_parse(const json_t *json, const char *where, normalizer *normalizer_out,
                                vecmill_error *err);

/* Working memory for code points; {0} to begin with. */
typedef struct normalizer_codes {
  uint32_t *codes;
  size_t n, capacity;
} normalizer_codes;
void normalizer_codes_fini(normalizer_codes *codes);

/* Set in normalizer_apply's output on code points that NFD may reorder (class above 0). */
#define NORMALIZER_COMBINES (UINT32_C(1) << 31)

/*
 * Normalises n bytes of well-formed UTF-8 into codes_out (code points, some
 * marked with NORMALIZER_COMBINES); `work` is overwritten.
 */
vecmill_status normalizer_apply(const normalizer *norm, const char *text, size_t n,
                                normalizer_codes *work, normalizer_codes *codes_out,
                                vecmill_error *err);

#endif
