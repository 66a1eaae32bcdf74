#include "text/fold.h"

#include "text/unicode.h"
#include "text/utf8.h"

/* Code points of a word under way; the rank of the combining class lies above each. */
typedef struct fold_codes {
  uint32_t codes[FOLD_MAX_BYTES];
  size_t n;
  uint32_t base; /* the last one that is no combining mark */
  bool fits, macron_vowel;
} fold_codes;

#define RANK_SHIFT 24

static bool is_vowel(uint32_t code) {
  return code == 'a' || code == 'e' || code == 'i' || code == 'o' || code == 'u';
}

/* Marks that were not in canonical order come into it: The Unicode Standard, 3.11, D109. */
static void push(fold_codes *f, uint32_t code) {
  if (code == FOLD_MACRON) {
    f->macron_vowel |= is_vowel(f->base);
    return;
  }
  uint32_t rank = code < 0x300 ? 0 : unicode_combining_rank(code);
  if (rank == 0) f->base = code;
  if (f->n == FOLD_MAX_BYTES) {
    f->fits = false;
    return;
  }
  size_t at = f->n++;
  while (rank > 0 && at > 0 && f->codes[at - 1] >> RANK_SHIFT > rank) {
    f->codes[at] = f->codes[at - 1];
    at--;
  }
  f->codes[at] = rank << RANK_SHIFT | code;
}

/* The small vowel of a composed macron vowel, the only letters past ASCII that Hawaiian has. */
static uint32_t without_macron(uint32_t code) {
  switch (code | 1) {
    case 0x101: return 'a';
    case 0x113: return 'e';
    case 0x12B: return 'i';
    case 0x14D: return 'o';
    case 0x16B: return 'u';
    default: return 0;
  }
}

static void fold_code(fold_codes *f, uint32_t code) {
  uint32_t parts[UNICODE_MAX_DECOMPOSED], lowered[UNICODE_MAX_LOWERED], vowel;
  if (code < 0x80) {
    if (fold_is_okina_like(code)) code = FOLD_OKINA;
    push(f, code >= 'A' && code <= 'Z' ? code | 0x20 : code);
    return;
  }
  if ((vowel = without_macron(code)) != 0) {
    push(f, vowel);
    push(f, FOLD_MACRON);
    return;
  }
  unsigned n_parts = unicode_decompose(code, parts);
  for (unsigned i = 0; i < n_parts; i++) {
    unsigned n = unicode_lower(fold_is_okina_like(parts[i]) ? FOLD_OKINA : parts[i], lowered);
    for (unsigned k = 0; k < n; k++) push(f, lowered[k]);
  }
}

/* The bytes of word that are ASCII letters, digits and the like, folded, until one is not. */
static size_t fold_ascii(const char *word, size_t n, char *bytes) {
  size_t i = 0;
  while (i < n) {
    unsigned char c = (unsigned char)word[i];
    if (c >= 0x80 || c == '\'' || c == '`') break;
    bytes[i++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
  }
  return i;
}

void fold_word(const char *word, size_t n, fold_result *result_out) {
  fold_result *r = result_out;
  r->fits = true;
  r->macron_vowel = false;
  r->n = n <= FOLD_MAX_BYTES ? fold_ascii(word, n, r->bytes) : 0;
  if (r->n == n) return;
  fold_codes f;
  f.n = 0;
  f.base = 0;
  f.fits = true;
  f.macron_vowel = false;
  for (size_t at = 0; at < n;) {
    uint32_t code;
    at += utf8_next(word + at, n - at, &code);
    fold_code(&f, code);
  }
  r->n = 0;
  r->macron_vowel = f.macron_vowel;
  for (size_t i = 0; i < f.n && f.fits; i++) {
    char bytes[4];
    size_t n_bytes = utf8_encode(f.codes[i] & ((UINT32_C(1) << RANK_SHIFT) - 1), bytes);
    f.fits = r->n + n_bytes <= FOLD_MAX_BYTES;
    for (size_t k = 0; k < n_bytes && f.fits; k++) r->bytes[r->n++] = bytes[k];
  }
  r->fits = f.fits;
  if (!f.fits) r->n = 0;
}
