#include "text/charmap.h"

#include <string.h>

#include "base/mem.h"
#include "text/unicode.h"
#include "text/utf8.h"

#define PAGE_SIZE 256

static charmap_kind kind_of(charmap_split split, uint32_t code) {
  unsigned flags = split == CHARMAP_SPLIT_NONE ? 0 : unicode_flags(code);
  if (flags & UNICODE_SPACE) return CHARMAP_SPACE;
  if (split == CHARMAP_SPLIT_BERT && flags & UNICODE_PUNCTUATION) return CHARMAP_ALONE;
  return CHARMAP_WORD;
}

/* The entry for what one code point became. */
static charmap_entry make_entry(charmap_split split, const uint32_t *codes, size_t n) {
  charmap_entry slow = {CHARMAP_SLOW}, entry = {CHARMAP_DROP};
  size_t before = 0, after = 0;
  for (size_t i = 0; i < n; i++)
    if (codes[i] & NORMALIZER_COMBINES) return slow;
  while (before < n && kind_of(split, codes[before]) == CHARMAP_SPACE) before++;
  while (after < n - before && kind_of(split, codes[n - 1 - after]) == CHARMAP_SPACE) after++;
  if (n && before == n) entry.kind = CHARMAP_SPACE;
  for (size_t i = before; i < n - after; i++) {
    charmap_kind kind = kind_of(split, codes[i]);
    bool only = n - before - after == 1;
    if (kind == CHARMAP_SPACE || (kind == CHARMAP_ALONE && !only)) return slow;
    if (entry.n + 4 > CHARMAP_MAX_BYTES) return slow;
    entry.kind = (uint8_t)kind;
    entry.n = (uint8_t)(entry.n + utf8_encode(codes[i], entry.bytes + entry.n));
  }
  if (entry.kind == CHARMAP_WORD && (before || after)) {
    if (!before || !after) return slow;
    entry.kind = CHARMAP_ALONE;
  }
  return entry;
}

const charmap_entry *charmap_make_page(charmap *map, uint32_t code) {
  normalizer_codes work = {0}, codes = {0};
  uint32_t first = code & ~(uint32_t)(PAGE_SIZE - 1);
  charmap_entry *page = mem_calloc(PAGE_SIZE, sizeof *page), *theirs = NULL;
  vecmill_status status = page ? VECMILL_OK : VECMILL_ERROR_MEMORY;
  for (unsigned i = 0; i < PAGE_SIZE && status == VECMILL_OK; i++) {
    char text[4];
    size_t n = utf8_encode(first + i, text); /* surrogates are never asked for; they do no harm */
    status = normalizer_apply(map->norm, text, n, &work, &codes, NULL);
    if (status == VECMILL_OK) page[i] = make_entry(map->split, codes.codes, codes.n);
  }
  normalizer_codes_fini(&work);
  normalizer_codes_fini(&codes);
  if (status != VECMILL_OK) {
    mem_free(page);
    return NULL;
  }
  if (atomic_compare_exchange_strong(&map->pages[code >> 8], &theirs, page)) return page;
  mem_free(page); /* another thread made the same one first */
  return theirs;
}

vecmill_status charmap_open(const normalizer *norm, charmap_split split, charmap **map_out,
                            vecmill_error *err) {
  charmap *map = mem_calloc(1, sizeof *map);
  if (!map) return err_set_memory(err, "opening a tokenizer", sizeof *map);
  map->norm = norm;
  map->split = split;
  const charmap_entry *ascii = charmap_find(map, 0);
  if (!ascii) {
    charmap_close(&map);
    return err_set_memory(err, "opening a tokenizer", PAGE_SIZE * sizeof *ascii);
  }
  memset(map->kinds, CHARMAP_LONG, sizeof map->kinds);
  for (unsigned c = 0; c < 128; c++) {
    /* No step makes more than one byte of an ASCII character; the long way would be right. */
    map->kinds[c] = ascii[c].n > 1 ? CHARMAP_LONG : ascii[c].kind;
    map->ascii[c] = ascii[c].bytes[0];
  }
  *map_out = map;
  return VECMILL_OK;
}

void charmap_close(charmap **map) {
  if (!*map) return;
  for (size_t i = 0; i < sizeof(*map)->pages / sizeof *(*map)->pages; i++)
    mem_free(atomic_load_explicit(&(*map)->pages[i], memory_order_relaxed));
  mem_free(*map);
  *map = NULL;
}
