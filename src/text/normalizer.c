#include "text/normalizer.h"

#include <string.h>

#include "base/mem.h"
#include "text/unicode.h"
#include "text/utf8.h"

#define MAX_NESTING 8

static vecmill_status add_step(normalizer *norm, normalizer_step step, const char *where,
                               vecmill_error *err) {
  if (norm->n_steps == NORMALIZER_MAX_STEPS)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED, "%s: normalizer: more than %d steps", where,
                   NORMALIZER_MAX_STEPS);
  norm->steps[norm->n_steps++] = (uint8_t)step;
  return VECMILL_OK;
}

/* strip_accents: null means "as lowercase". */
static vecmill_status parse_bert(const json_t *json, const char *where, normalizer *norm,
                                 vecmill_error *err) {
  bool clean, cjk, lowercase, strip;
  vecmill_status status = json_get_bool(json, where, "clean_text", true, &clean, err);
  if (status == VECMILL_OK)
    status = json_get_bool(json, where, "handle_chinese_chars", true, &cjk, err);
  if (status == VECMILL_OK) status = json_get_bool(json, where, "lowercase", true, &lowercase, err);
  if (status == VECMILL_OK)
    status = json_get_bool(json, where, "strip_accents", lowercase, &strip, err);
  if (status == VECMILL_OK && clean) status = add_step(norm, NORMALIZER_CLEAN, where, err);
  if (status == VECMILL_OK && cjk) status = add_step(norm, NORMALIZER_SPACE_CJK, where, err);
  if (status == VECMILL_OK && strip) status = add_step(norm, NORMALIZER_DECOMPOSE, where, err);
  if (status == VECMILL_OK && strip)
    status = add_step(norm, NORMALIZER_DROP_NONSPACING, where, err);
  if (status == VECMILL_OK && lowercase) status = add_step(norm, NORMALIZER_LOWER, where, err);
  return status;
}

static vecmill_status parse(const json_t *json, const char *where, unsigned depth, normalizer *norm,
                            vecmill_error *err) {
  const char *type;
  if (!json_is_object(json) || depth > MAX_NESTING)
    return err_set(err, VECMILL_ERROR_FORMAT, "%s: normalizer: not an object, or nested too deeply",
                   where);
  /* The oldest files have no "type"; of what we honour these two have members to be told by. */
  const char *untyped = json_object_get(json, "normalizers")  ? "Sequence"
                        : json_object_get(json, "clean_text") ? "BertNormalizer"
                                                              : NULL;
  vecmill_status status = json_get_string(json, where, "type", untyped, &type, err);
  if (status != VECMILL_OK) return status;
  if (!type) return err_set(err, VECMILL_ERROR_FORMAT, "%s: normalizer: it has no \"type\"", where);
  if (!strcmp(type, "BertNormalizer") || !strcmp(type, "Bert"))
    return parse_bert(json, where, norm, err);
  if (!strcmp(type, "Lowercase")) return add_step(norm, NORMALIZER_LOWER, where, err);
  if (!strcmp(type, "NFD")) return add_step(norm, NORMALIZER_DECOMPOSE, where, err);
  if (!strcmp(type, "StripAccents")) return add_step(norm, NORMALIZER_DROP_MARKS, where, err);
  if (strcmp(type, "Sequence"))
    return err_set(err, VECMILL_ERROR_UNSUPPORTED, "%s: normalizer %s: not supported yet", where,
                   type);
  const json_t *parts = json_object_get(json, "normalizers");
  if (!json_is_array(parts))
    return err_set(err, VECMILL_ERROR_FORMAT,
                   "%s: normalizer Sequence: \"normalizers\" is not a list", where);
  for (size_t i = 0; i < json_array_size(parts) && status == VECMILL_OK; i++)
    status = parse(json_array_get(parts, i), where, depth + 1, norm, err);
  return status;
}

vecmill_status normalizer_parse(const json_t *json, const char *where, normalizer *normalizer_out,
                                vecmill_error *err) {
  *normalizer_out = (normalizer){0};
  if (!json || json_is_null(json)) return VECMILL_OK;
  return parse(json, where, 0, normalizer_out, err);
}

void normalizer_codes_fini(normalizer_codes *codes) {
  mem_free(codes->codes);
  *codes = (normalizer_codes){0};
}

static vecmill_status reserve(normalizer_codes *codes, size_t n, vecmill_error *err) {
  if (n <= codes->capacity) return VECMILL_OK;
  size_t capacity = n < 64 ? 64 : n;
  if (capacity < codes->capacity * 2) capacity = codes->capacity * 2;
  uint32_t *grown = mem_realloc(codes->codes, capacity, sizeof *grown);
  if (!grown) return err_set_memory(err, "normalizing a text", capacity * sizeof *grown);
  codes->codes = grown;
  codes->capacity = capacity;
  return VECMILL_OK;
}

static unsigned rank_of(uint32_t marked) {
  return unicode_combining_rank(marked & ~NORMALIZER_COMBINES);
}

static void insertion_sort(uint32_t *codes, size_t n) {
  for (size_t i = 1; i < n; i++) {
    uint32_t moving = codes[i];
    unsigned rank = rank_of(moving);
    size_t at = i;
    for (; at > 0 && rank_of(codes[at - 1]) > rank; at--) codes[at] = codes[at - 1];
    codes[at] = moving;
  }
}

/* Linear, for runs that somebody made long on purpose. */
static void counting_sort(uint32_t *codes, size_t n, uint32_t *work) {
  size_t begins[257] = {0};
  memcpy(work, codes, n * sizeof *codes);
  for (size_t i = 0; i < n; i++) begins[rank_of(work[i]) + 1]++;
  for (unsigned r = 0; r < 256; r++) begins[r + 1] += begins[r];
  for (size_t i = 0; i < n; i++) codes[begins[rank_of(work[i])]++] = work[i];
}

/* A stable sort of every run of combining characters by class (The Unicode Standard, 3.11). */
static void reorder(uint32_t *codes, size_t n, uint32_t *work) {
  for (size_t i = 0; i < n;) {
    size_t end = i;
    while (end < n && codes[end] & NORMALIZER_COMBINES) end++;
    if (end - i > 32)
      counting_sort(codes + i, end - i, work);
    else if (end - i > 1)
      insertion_sort(codes + i, end - i);
    i = end + 1;
  }
}

/* One code point through one step: at most UNICODE_MAX_DECOMPOSED of them into out. */
static unsigned step_one(normalizer_step step, uint32_t marked, uint32_t *out) {
  uint32_t code = marked & ~NORMALIZER_COMBINES;
  unsigned flags = unicode_flags(code);
  unsigned n = 1;
  out[0] = marked;
  switch (step) {
    case NORMALIZER_CLEAN:
      if (flags & UNICODE_SPACE && !(flags & UNICODE_OTHER)) out[0] = ' ';
      return !(flags & UNICODE_OTHER);
    case NORMALIZER_SPACE_CJK:
      if (!(flags & UNICODE_CJK)) return 1;
      out[0] = out[2] = ' ';
      out[1] = marked;
      return 3;
    case NORMALIZER_DROP_NONSPACING: return !(flags & UNICODE_NONSPACING);
    case NORMALIZER_DROP_MARKS: return !(flags & UNICODE_MARK);
    case NORMALIZER_LOWER:
      if (!(flags & UNICODE_LOWERS)) return 1;
      n = unicode_lower(code, out);
      out[0] |= marked & NORMALIZER_COMBINES;
      return n;
    case NORMALIZER_DECOMPOSE: break;
  }
  out[0] = code;
  if (flags & UNICODE_DECOMPOSES) n = unicode_decompose(code, out);
  for (unsigned i = 0; i < n; i++)
    if (unicode_flags(out[i]) & UNICODE_COMBINING) out[i] |= NORMALIZER_COMBINES;
  return n;
}

/* `in` is overwritten. */
static vecmill_status apply_step(normalizer_step step, normalizer_codes *in, normalizer_codes *out,
                                 vecmill_error *err) {
  out->n = 0;
  for (size_t i = 0; i < in->n; i++) {
    if (out->capacity - out->n < UNICODE_MAX_DECOMPOSED) {
      vecmill_status status = reserve(out, out->n + (in->n - i) + UNICODE_MAX_DECOMPOSED, err);
      if (status != VECMILL_OK) return status;
    }
    out->n += step_one(step, in->codes[i], out->codes + out->n);
  }
  if (step != NORMALIZER_DECOMPOSE) return VECMILL_OK;
  vecmill_status status = reserve(in, out->n, err);
  if (status == VECMILL_OK) reorder(out->codes, out->n, in->codes);
  return status;
}

vecmill_status normalizer_apply(const normalizer *norm, const char *text, size_t n,
                                normalizer_codes *work, normalizer_codes *codes_out,
                                vecmill_error *err) {
  vecmill_status status = reserve(codes_out, n, err);
  if (status != VECMILL_OK) return status;
  codes_out->n = 0;
  for (size_t i = 0; i < n;) i += utf8_decode(text + i, n - i, &codes_out->codes[codes_out->n++]);
  for (unsigned i = 0; i < norm->n_steps && status == VECMILL_OK; i++) {
    normalizer_codes swap = *work;
    *work = *codes_out;
    *codes_out = swap;
    status = apply_step((normalizer_step)norm->steps[i], work, codes_out, err);
  }
  return status;
}
