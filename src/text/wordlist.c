#include "text/wordlist.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "text/fold.h"
#include "text/unicode.h"
#include "text/utf8.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "hash_bytes masks little-endian words");

/* Where a word was read, for errors: FILE:LINE, or FILE: entry NUMBER. */
typedef struct place {
  const char *path, *between;
  size_t number;
} place;
#define PLACE "%s%s%zu"
#define PLACE_OF(p) (p).path, (p).between, (p).number

/*
 * Words lie one after the other in the pool: a byte of length, a byte that says whether the word is
 * on the list, the bytes. Slots lead to them: open addressing, at most half of them taken. A slot
 * is a tag and a place, kept apart: tags are a byte each, stay in the cache, and answer for most
 * words that are not there.
 */
struct vecmill_wordlist {
  uint8_t *tags;       /* 0: the slot is free; else 128 + seven bits of the hash */
  uint32_t *places;    /* in the pool */
  unsigned slot_shift; /* a hash's top bits are the slot */
  size_t slot_mask, n_known;
  char *pool;
  size_t n_pool, pool_capacity;
  wordlist_counts counts;
  place first_unusable; /* of the file that is being read; its path is the caller's */
};

#define POOL_HEADER 2

/* The last n bytes, 1 to 8, of a word; what is read past its end is masked away. */
static inline uint64_t last_block(const char *bytes, size_t n) {
  uint64_t block;
  memcpy(&block, bytes, 8);
  return block & UINT64_MAX >> (64 - 8 * n);
}

/* Eight bytes a step, multiplied by an odd constant (2^64 over the golden ratio) and folded. n > 0.
 */
static inline uint64_t hash_bytes(const char *bytes, size_t n) {
  uint64_t h = n, block;
  for (; n > 8; bytes += 8, n -= 8) {
    memcpy(&block, bytes, 8);
    h = (h ^ block) * UINT64_C(0x9E3779B97F4A7C15);
    h ^= h >> 32;
  }
  h = (h ^ last_block(bytes, n)) * UINT64_C(0x9E3779B97F4A7C15);
  return (h ^ h >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
}

/* Most words are short, and memcmp is a call. */
static inline bool same_bytes(const char *a, const char *b, size_t n) {
  return n <= 8 ? last_block(a, n) == last_block(b, n) : !memcmp(a, b, n);
}

static uint8_t tag_of(uint64_t hash) {
  return (uint8_t)(0x80 | hash);
}

/* The slot where a word is, or the free one where it would be. */
static inline size_t find(const wordlist *list, const char *bytes, size_t n, uint64_t hash) {
  for (size_t i = hash >> list->slot_shift;; i = (i + 1) & list->slot_mask) {
    if (list->tags[i] == 0) return i;
    if (list->tags[i] != tag_of(hash)) continue;
    const char *known = list->pool + list->places[i];
    if ((unsigned char)known[0] == n && same_bytes(known + POOL_HEADER, bytes, n)) return i;
  }
}

bool wordlist_holds(const wordlist *list, const char *folded, size_t n) {
  if (n == 0) return false;
  size_t slot = find(list, folded, n, hash_bytes(folded, n));
  return list->tags[slot] != 0 && list->pool[list->places[slot] + 1];
}

static void take_slot(wordlist *list, size_t slot, uint64_t hash, size_t at) {
  list->tags[slot] = tag_of(hash);
  list->places[slot] = (uint32_t)at;
}

static vecmill_status make_slots(wordlist *list, unsigned log2_slots, vecmill_error *err) {
  size_t n_slots = (size_t)1 << log2_slots;
  uint8_t *tags = mem_calloc(n_slots, sizeof *tags);
  uint32_t *places = mem_calloc(n_slots, sizeof *places);
  if (!tags || !places) {
    mem_free(tags);
    mem_free(places);
    return err_set_memory(err, "word list", n_slots * (sizeof *tags + sizeof *places));
  }
  mem_free(list->tags);
  mem_free(list->places);
  list->tags = tags;
  list->places = places;
  list->slot_shift = 64 - log2_slots;
  list->slot_mask = n_slots - 1;
  for (size_t at = 0; at < list->n_pool;) { /* all words find their places again */
    size_t n = (unsigned char)list->pool[at];
    uint64_t hash = hash_bytes(list->pool + at + POOL_HEADER, n);
    take_slot(list, find(list, list->pool + at + POOL_HEADER, n, hash), hash, at);
    at += POOL_HEADER + n;
  }
  return VECMILL_OK;
}

/* Room for one more word in pool and slots. Folding makes at most three bytes of one, so that with
 * files of this size places in the pool stay within 32 bits; that is checked all the same. */
static vecmill_status make_room(wordlist *list, vecmill_error *err) {
  size_t wanted = list->n_pool + POOL_HEADER + FOLD_MAX_BYTES + 8; /* hash_bytes reads on */
  if (wanted > UINT32_MAX)
    return err_set(err, VECMILL_ERROR_FORMAT, "word list: more than 4 GiB of words");
  if (wanted > list->pool_capacity) {
    size_t capacity = wanted + wanted / 2;
    char *pool = mem_realloc(list->pool, capacity, 1);
    if (!pool) return err_set_memory(err, "word list", capacity);
    list->pool = pool;
    list->pool_capacity = capacity;
  }
  if (list->n_known < (list->slot_mask + 1) / 2) return VECMILL_OK;
  return make_slots(list, 64 - list->slot_shift + 1, err);
}

static vecmill_status put(wordlist *list, const fold_result *word, bool on_list,
                          vecmill_error *err) {
  vecmill_status status = make_room(list, err);
  if (status != VECMILL_OK) return status;
  uint64_t hash = hash_bytes(word->bytes, word->n);
  size_t slot = find(list, word->bytes, word->n, hash);
  if (list->tags[slot] == 0) {
    char *to = list->pool + list->n_pool;
    to[0] = (char)word->n;
    to[1] = 0;
    memcpy(to + POOL_HEADER, word->bytes, word->n);
    take_slot(list, slot, hash, list->n_pool);
    list->n_pool += POOL_HEADER + word->n;
    list->n_known++;
  }
  char *is_on = &list->pool[list->places[slot] + 1];
  if (on_list && !*is_on) list->counts.n_words++;
  if (!on_list && *is_on) list->counts.n_words--;
  *is_on = (char)on_list;
  return VECMILL_OK;
}

/* The bytes of the last character of well-formed text, n > 0. */
static size_t last_bytes(const char *text, size_t n) {
  size_t back = 1;
  while (back < n && ((unsigned char)text[n - back] & 0xC0) == 0x80) back++;
  return back;
}

static void trim(const char **text, size_t *n) {
  uint32_t code;
  while (*n > 0) {
    size_t step = utf8_decode(*text, *n, &code);
    if (unicode_kind_of(code) != UNICODE_KIND_SPACE) break;
    *text += step;
    *n -= step;
  }
  while (*n > 0) {
    size_t step = last_bytes(*text, *n);
    utf8_decode(*text + *n - step, step, &code);
    if (unicode_kind_of(code) != UNICODE_KIND_SPACE) break;
    *n -= step;
  }
}

/* Whether metrics.h could ever take this for one word. */
static bool is_one_word(const char *text, size_t n) {
  bool has_body = false;
  for (size_t at = 0; at < n;) {
    uint32_t code;
    bool first = at == 0;
    at += utf8_decode(text + at, n - at, &code);
    unicode_kind kind = unicode_kind_of(code);
    bool body = kind >= UNICODE_KIND_DIGIT;
    if (!body && !fold_is_okina_like(code) && (kind != UNICODE_KIND_MARK || first)) return false;
    has_body |= body;
  }
  return has_body;
}

/* A word of the list or of the overrides, trimmed, well-formed and not empty. */
static vecmill_status put_word(wordlist *list, place where, const char *text, size_t n,
                               bool on_list, vecmill_error *err) {
  fold_result word;
  if (!is_one_word(text, n)) {
    if (!list->first_unusable.path) list->first_unusable = where;
    list->counts.n_unusable++;
    return VECMILL_OK;
  }
  fold_word(text, n, &word);
  if (!word.fits)
    return err_set(err, VECMILL_ERROR_FORMAT,
                   PLACE ": a word of %zu bytes, more than the %d allowed (one word a line)",
                   PLACE_OF(where), n, FOLD_MAX_BYTES);
  return put(list, &word, on_list, err);
}

/* Of the file that was read; n_before of those counted so far were another's. */
static void warn_of_unusable(wordlist *list, const char *path, const char *noun, const char *nouns,
                             size_t n_before) {
  size_t n = list->counts.n_unusable - n_before;
  if (n > 0)
    log_warning("%s: %zu %s no single word and %s left out (the first: " PLACE ")", path, n,
                n == 1 ? noun : nouns, n == 1 ? "was" : "were", PLACE_OF(list->first_unusable));
  list->first_unusable = (place){0};
}

static bool begins_with(const char *text, size_t n, const char *prefix) {
  return n >= strlen(prefix) && !memcmp(text, prefix, strlen(prefix));
}

static vecmill_status read_line(wordlist *list, place where, const char *text, size_t n,
                                vecmill_error *err) {
  if (utf8_valid_prefix(text, n) != n)
    return err_set(err, VECMILL_ERROR_FORMAT, PLACE ": not UTF-8 (save the word list as UTF-8)",
                   PLACE_OF(where));
  trim(&text, &n);
  if (n == 0 || begins_with(text, n, "-") || begins_with(text, n, "raw_head")) {
    list->counts.n_skipped++;
    return VECMILL_OK;
  }
  return put_word(list, where, text, n, true, err);
}

static vecmill_status read_list(wordlist *list, const char *path, vecmill_error *err) {
  char *data;
  size_t n, n_line = 0;
  vecmill_status status = file_read(path, WORDLIST_MAX_FILE_BYTES, &data, &n, err);
  if (status != VECMILL_OK) return status;
  size_t at = begins_with(data, n, "\xEF\xBB\xBF") ? 3 : 0;
  while (at < n && status == VECMILL_OK) {
    const char *end = memchr(data + at, '\n', n - at);
    size_t n_bytes = end ? (size_t)(end - data) - at : n - at;
    status = read_line(list, (place){path, ":", ++n_line}, data + at, n_bytes, err);
    at += n_bytes + 1;
  }
  warn_of_unusable(list, path, "line is", "lines are", 0);
  mem_free(data);
  return status;
}

typedef enum override_action {
  OVERRIDE_EXCLUDE,
  OVERRIDE_INCLUDE,
  OVERRIDE_NOTHING,
  OVERRIDE_UNKNOWN
} override_action;

static override_action action_of(const char *text, size_t n) {
  static const struct {
    const char *name;
    override_action action;
  } actions[] = {
      {"stopword", OVERRIDE_EXCLUDE}, {"exclude", OVERRIDE_EXCLUDE},  {"remove", OVERRIDE_EXCLUDE},
      {"include", OVERRIDE_INCLUDE},  {"hawaiian", OVERRIDE_INCLUDE}, {"add", OVERRIDE_INCLUDE},
      {"review", OVERRIDE_NOTHING},   {"note", OVERRIDE_NOTHING},     {"clear", OVERRIDE_NOTHING},
  };
  fold_result folded;
  trim(&text, &n);
  fold_word(text, n, &folded);
  for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
    if (folded.n == strlen(actions[i].name) && !memcmp(folded.bytes, actions[i].name, folded.n))
      return actions[i].action;
  return OVERRIDE_UNKNOWN;
}

static vecmill_status override_word(wordlist *list, place where, const char *text, size_t n,
                                    override_action action, vecmill_error *err) {
  trim(&text, &n);
  if (n == 0)
    return err_set(err, VECMILL_ERROR_FORMAT, PLACE ": its word is empty", PLACE_OF(where));
  if (action == OVERRIDE_NOTHING) return VECMILL_OK;
  size_t n_unusable = list->counts.n_unusable;
  vecmill_status status = put_word(list, where, text, n, action == OVERRIDE_INCLUDE, err);
  if (list->counts.n_unusable == n_unusable) list->counts.n_overridden++;
  return status;
}

static vecmill_status override_entry(wordlist *list, place where, const json_t *entry,
                                     vecmill_error *err) {
  const json_t *word = json_is_string(entry) ? entry : json_object_get(entry, "word");
  const json_t *action = json_object_get(entry, "action");
  if (!json_is_string(word))
    return err_set(err, VECMILL_ERROR_FORMAT, PLACE ": no \"word\" that is a string",
                   PLACE_OF(where));
  override_action what = OVERRIDE_EXCLUDE;
  if (!json_is_string(entry)) {
    if (!json_is_string(action))
      return err_set(err, VECMILL_ERROR_FORMAT, PLACE ": \"%s\" has no \"action\" that is a string",
                     PLACE_OF(where), json_string_value(word));
    what = action_of(json_string_value(action), json_string_length(action));
  }
  if (what == OVERRIDE_UNKNOWN)
    return err_set(err, VECMILL_ERROR_FORMAT,
                   PLACE
                   ": \"%s\" has the action \"%s\", which is none of stopword, exclude, remove, "
                   "include, hawaiian, add, review, note, clear",
                   PLACE_OF(where), json_string_value(word), json_string_value(action));
  return override_word(list, where, json_string_value(word), json_string_length(word), what, err);
}

static vecmill_status override_array(wordlist *list, const char *path, const char *between,
                                     const json_t *entries, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (size_t i = 0; i < json_array_size(entries) && status == VECMILL_OK; i++) {
    place where = {path, between, i + 1};
    status = override_entry(list, where, json_array_get(entries, i), err);
  }
  return status;
}

/* Files from before entries had actions. */
static vecmill_status override_old_form(wordlist *list, const char *path, json_t *root,
                                        vecmill_error *err) {
  json_t *stopwords = json_object_get(root, "stopwords"), *unused;
  json_t *included = json_object_get(root, "recategorized");
  const char *word;
  size_t n, number = 0;
  if ((!stopwords && !included) || (stopwords && !json_is_array(stopwords)) ||
      (included && !json_is_object(included) && json_array_size(included) > 0))
    return err_set(err, VECMILL_ERROR_FORMAT,
                   "%s: not overrides (an array of entries with \"word\" and \"action\", or an "
                   "object with that array as \"entries\")",
                   path);
  vecmill_status status = override_array(list, path, ": stopword ", stopwords, err);
  json_object_keylen_foreach(included, word, n, unused) {
    if (status == VECMILL_OK)
      status = override_word(list, (place){path, ": recategorized ", ++number}, word, n,
                             OVERRIDE_INCLUDE, err);
  }
  return status;
}

static vecmill_status read_overrides(wordlist *list, const char *path, vecmill_error *err) {
  json_t *root;
  size_t n_unusable = list->counts.n_unusable;
  vecmill_status status = json_read_file(path, WORDLIST_MAX_FILE_BYTES, &root, err);
  if (status != VECMILL_OK) return status;
  const json_t *entries = json_is_array(root) ? root : json_object_get(root, "entries");
  if (json_is_array(entries)) status = override_array(list, path, ": entry ", entries, err);
  else status = override_old_form(list, path, root, err);
  warn_of_unusable(list, path, "entry is", "entries are", n_unusable);
  json_decref(root);
  return status;
}

static vecmill_status no_words(const wordlist *list, const char *path, const char *overrides_path,
                               vecmill_error *err) {
  if (list->n_known > 0 && overrides_path)
    return err_set(err, VECMILL_ERROR_FORMAT,
                   "%s: takes every word off the list %s (leave one there)", overrides_path, path);
  return err_set(err, VECMILL_ERROR_FORMAT, "%s: no words (a word list has one word a line)", path);
}

vecmill_status wordlist_open(const char *path, const char *overrides_path, wordlist **list_out,
                             vecmill_error *err) {
  wordlist *list = mem_calloc(1, sizeof *list);
  if (!list) return err_set_memory(err, "word list", sizeof *list);
  vecmill_status status = make_slots(list, 10, err);
  if (status == VECMILL_OK) status = read_list(list, path, err);
  if (status == VECMILL_OK && overrides_path) status = read_overrides(list, overrides_path, err);
  if (status == VECMILL_OK && list->counts.n_words == 0)
    status = no_words(list, path, overrides_path, err);
  if (status != VECMILL_OK) {
    wordlist_close(&list);
    return status;
  }
  *list_out = list;
  return VECMILL_OK;
}

void wordlist_close(wordlist **list) {
  if (!*list) return;
  mem_free((*list)->tags);
  mem_free((*list)->places);
  mem_free((*list)->pool);
  mem_free(*list);
  *list = NULL;
}

wordlist_counts wordlist_count(const wordlist *list) {
  return list->counts;
}

uint64_t wordlist_fingerprint(const wordlist *list) {
  uint64_t sum = 0;
  for (size_t at = 0; at < list->n_pool;) {
    const char *word = list->pool + at;
    size_t n = (unsigned char)word[0];
    if (word[1]) sum += hash_bytes(word + POOL_HEADER, n);
    at += POOL_HEADER + n;
  }
  return sum ? sum : 1;
}
