#include "text/vocab.h"

#include <string.h>

#include "base/mem.h"

#define BLOCK          256 /* an XOR by one byte stays inside a block */
#define MAX_TRIES      64  /* free places looked at for one node before a new block is taken */
#define NONE           UINT32_MAX
#define MAX_SLOT_BYTES 16

/* ---- a plain trie on the way: children are found by a hash of (node, byte), listed as siblings */

typedef struct draft_node {
  uint32_t parent, child, sibling;
  int32_t id;
  uint8_t byte;
} draft_node;

typedef struct draft {
  draft_node *nodes;
  uint32_t *edges; /* nodes by their parent and byte; 0: free (the root is nobody's child) */
  unsigned edge_shift;
  uint32_t edge_mask, n;
} draft;

static uint32_t draft_child(draft *d, uint32_t node, uint8_t byte) {
  uint64_t hash = ((uint64_t)node << 8 | byte) * UINT64_C(0x9E3779B97F4A7C15);
  for (uint32_t at = (uint32_t)(hash >> d->edge_shift);; at = (at + 1) & d->edge_mask) {
    uint32_t child = d->edges[at];
    if (child && d->nodes[child].parent == node && d->nodes[child].byte == byte) return child;
    if (child) continue;
    d->edges[at] = d->n;
    d->nodes[d->n] = (draft_node){node, NONE, d->nodes[node].child, -1, byte};
    d->nodes[node].child = d->n;
    return d->n++;
  }
}

static vecmill_status draft_build(draft *d, const vocab_word *words, size_t n_words,
                                  vecmill_error *err) {
  size_t n_nodes = 1;
  unsigned bits = 4;
  for (size_t i = 0; i < n_words; i++)
    if (!mem_add(n_nodes, words[i].n, &n_nodes)) n_nodes = SIZE_MAX;
  if (n_nodes > INT32_MAX / 2)
    return err_set(err, VECMILL_ERROR_FORMAT, "vocabulary: more than 2^30 bytes");
  while (((size_t)1 << bits) < n_nodes + n_nodes / 2) bits++;
  d->edge_shift = 64 - bits;
  d->edge_mask = (uint32_t)(((uint64_t)1 << bits) - 1);
  d->nodes = mem_realloc(NULL, n_nodes, sizeof *d->nodes);
  d->edges = mem_calloc((size_t)1 << bits, sizeof *d->edges);
  if (!d->nodes || !d->edges) return err_set_memory(err, "vocabulary", n_nodes * sizeof *d->nodes);
  d->nodes[0] = (draft_node){NONE, NONE, NONE, -1, 0};
  d->n = 1;
  for (size_t i = 0; i < n_words; i++) {
    uint32_t node = 0;
    for (size_t k = 0; k < words[i].n; k++) node = draft_child(d, node, (uint8_t)words[i].text[k]);
    d->nodes[node].id = words[i].id;
  }
  return VECMILL_OK;
}

/* ---- the double array */

typedef struct placer {
  vocab *v;
  uint32_t *next_free, *previous_free; /* by unit; a ring through unit 0, which is never free */
  size_t capacity;
} placer;

static vecmill_status add_block(placer *p, vecmill_error *err) {
  size_t n = p->v->n_units;
  if (n + BLOCK > p->capacity) {
    size_t capacity = p->capacity ? p->capacity * 2 : 64 * BLOCK;
    if (capacity > INT32_MAX) return err_set(err, VECMILL_ERROR_FORMAT, "vocabulary: too large");
    vocab_unit *units = mem_realloc(p->v->units, capacity, sizeof *units);
    if (units) p->v->units = units;
    uint32_t *next = mem_realloc(p->next_free, capacity, sizeof *next);
    if (next) p->next_free = next;
    uint32_t *previous = mem_realloc(p->previous_free, capacity, sizeof *previous);
    if (previous) p->previous_free = previous;
    if (!units || !next || !previous)
      return err_set_memory(err, "vocabulary", capacity * sizeof *units);
    p->capacity = capacity;
  }
  for (uint32_t i = (uint32_t)n; i < n + BLOCK; i++) {
    p->v->units[i] = (vocab_unit){0, NONE, -1};
    if (i == 0) {
      p->next_free[0] = p->previous_free[0] = 0;
      continue;
    }
    uint32_t last = p->previous_free[0];
    p->next_free[i] = 0;
    p->previous_free[i] = last;
    p->next_free[last] = p->previous_free[0] = i;
  }
  p->v->n_units = n + BLOCK;
  return VECMILL_OK;
}

static void take(placer *p, uint32_t unit, uint32_t parent) {
  p->next_free[p->previous_free[unit]] = p->next_free[unit];
  p->previous_free[p->next_free[unit]] = p->previous_free[unit];
  p->v->units[unit].parent = parent;
}

static bool fits(const placer *p, uint32_t base, const uint8_t *bytes, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    uint32_t unit = base ^ bytes[i];
    if (unit == 0 || p->v->units[unit].parent != NONE) return false;
  }
  return true;
}

/*
 * A base under which all n children find free units. An only child fills the
 * oldest hole; families look among the newest units, where room is.
 */
static vecmill_status find_base(placer *p, const uint8_t *bytes, unsigned n, uint32_t *base_out,
                                vecmill_error *err) {
  uint32_t unit = n == 1 ? p->next_free[0] : p->previous_free[0];
  for (unsigned tries = 0; unit != 0 && tries < MAX_TRIES; unit = p->previous_free[unit], tries++) {
    if (!fits(p, unit ^ bytes[0], bytes, n)) continue;
    *base_out = unit ^ bytes[0];
    return VECMILL_OK;
  }
  vecmill_status status = add_block(p, err); /* a whole block always fits */
  *base_out = (uint32_t)p->v->n_units - BLOCK;
  return status;
}

/*
 * Breadth first, so that the levels that every word passes lie together.
 * queue: n_nodes x {draft node, unit}.
 */
static vecmill_status place_all(placer *p, const draft *d, uint32_t (*queue)[2],
                                vecmill_error *err) {
  size_t head = 0, tail = 1;
  queue[0][0] = queue[0][1] = 0;
  while (head < tail) {
    const draft_node *node = &d->nodes[queue[head][0]];
    uint32_t unit = queue[head++][1], base, child = node->child;
    uint8_t bytes[256];
    unsigned n = 0;
    p->v->units[unit].id = node->id;
    for (; child != NONE; child = d->nodes[child].sibling) bytes[n++] = d->nodes[child].byte;
    if (!n) continue;
    vecmill_status status = find_base(p, bytes, n, &base, err);
    if (status != VECMILL_OK) return status;
    p->v->units[unit].base = base;
    child = node->child;
    for (unsigned i = 0; i < n; i++, child = d->nodes[child].sibling) {
      take(p, base ^ bytes[i], unit);
      queue[tail][0] = child;
      queue[tail++][1] = base ^ bytes[i];
    }
  }
  return VECMILL_OK;
}

static vecmill_status build_trie(vocab *v, const vocab_word *words, size_t n_words,
                                 vecmill_error *err) {
  draft d = {0};
  placer p = {.v = v};
  uint32_t(*queue)[2] = NULL;
  vecmill_status status = draft_build(&d, words, n_words, err);
  if (status == VECMILL_OK) status = add_block(&p, err);
  if (status == VECMILL_OK) {
    queue = mem_realloc(NULL, d.n, sizeof *queue);
    status = queue ? place_all(&p, &d, queue, err)
                   : err_set_memory(err, "vocabulary", d.n * sizeof *queue);
  }
  if (status == VECMILL_OK) {
    vocab_unit *units = mem_realloc(v->units, v->n_units, sizeof *units);
    if (units) v->units = units;
  }
  mem_free(queue);
  mem_free(p.next_free);
  mem_free(p.previous_free);
  mem_free(d.nodes);
  mem_free(d.edges);
  return status;
}

/* The node after one byte, or VOCAB_NO_NODE. Unit 0 is the root and nobody's child. */
static inline uint32_t step(const vocab *v, uint32_t node, uint8_t byte) {
  uint32_t unit = v->units[node].base ^ byte;
  return unit && v->units[unit].parent == node ? unit : VOCAB_NO_NODE;
}

static uint32_t walk(const vocab *v, const char *text, size_t n) {
  uint32_t node = 0;
  for (size_t i = 0; i < n && node != VOCAB_NO_NODE; i++) node = step(v, node, (uint8_t)text[i]);
  return node;
}

int32_t vocab_find(const vocab *v, const char *text, size_t n) {
  uint32_t node = walk(v, text, n);
  return node == VOCAB_NO_NODE ? -1 : v->units[node].id;
}

/* ---- whole words */

static inline uint64_t hash_of(const uint64_t key[2], size_t n) {
  uint64_t h = (key[0] ^ n) * UINT64_C(0x9E3779B97F4A7C15);
  return (h ^ h >> 29 ^ key[1]) * UINT64_C(0xD6E8FEB86659FD93);
}

/* The first n <= 16 bytes of 16 readable ones, the rest zero. */
static inline void load_key(const char *text, size_t n, uint64_t key[2]) {
  static const uint8_t masks[32] = {255, 255, 255, 255, 255, 255, 255, 255,
                                    255, 255, 255, 255, 255, 255, 255, 255};
  uint64_t mask[2];
  memcpy(key, text, 16);
  memcpy(mask, masks + 16 - n, 16);
  key[0] &= mask[0];
  key[1] &= mask[1];
}

static inline vocab_slot *find_slot(const vocab *v, const uint64_t key[2], size_t n) {
  size_t at = (size_t)(hash_of(key, n) >> v->slot_shift);
  for (;; at = (at + 1) & v->slot_mask) {
    vocab_slot *slot = &v->slots[at];
    if (!slot->n || (slot->key[0] == key[0] && slot->key[1] == key[1] && slot->n == n)) return slot;
  }
}

static vecmill_status build_slots(vocab *v, const vocab_word *words, size_t n_words,
                                  const char *prefix, size_t n_prefix, vecmill_error *err) {
  unsigned bits = 4;
  while (((size_t)1 << bits) < 2 * n_words) bits++;
  v->slot_shift = 64 - bits;
  v->slot_mask = ((size_t)1 << bits) - 1;
  v->slots = mem_calloc((size_t)1 << bits, sizeof *v->slots);
  if (!v->slots) return err_set_memory(err, "vocabulary", sizeof *v->slots << bits);
  for (size_t i = 0; i < n_words; i++) {
    const vocab_word *w = &words[i];
    if (w->n == 0 || w->n > MAX_SLOT_BYTES) continue;
    /* Later pieces would only fill the table; should such a text be a word, the trie answers. */
    if (n_prefix && w->n >= n_prefix && !memcmp(w->text, prefix, n_prefix)) continue;
    char padded[16] = {0};
    uint64_t key[2];
    memcpy(padded, w->text, w->n);
    load_key(padded, w->n, key);
    *find_slot(v, key, w->n) = (vocab_slot){{key[0], key[1]}, w->id, (uint32_t)w->n};
  }
  return VECMILL_OK;
}

vecmill_status vocab_init(vocab *v, const vocab_word *words, size_t n_words, const char *prefix,
                          size_t n_prefix, vecmill_error *err) {
  *v = (vocab){.unknown_id = -1, .max_chars = 100};
  vecmill_status status = build_trie(v, words, n_words, err);
  if (status == VECMILL_OK) status = build_slots(v, words, n_words, prefix, n_prefix, err);
  if (status == VECMILL_OK) v->continuing = walk(v, prefix, n_prefix);
  return status;
}

void vocab_fini(vocab *v) {
  mem_free(v->units);
  mem_free(v->slots);
  *v = (vocab){0};
}

/* ---- splitting */

/* Code points in n bytes of UTF-8. */
static size_t count_chars(const char *text, size_t n) {
  size_t n_chars = 0;
  for (size_t i = 0; i < n; i++) n_chars += ((uint8_t)text[i] & 0xC0) != 0x80;
  return n_chars;
}

/*
 * Greedy: the longest piece that is in the vocabulary, then the same for what
 * is left, below the prefix. A word that cannot be used up is unknown as a whole.
 * Pieces end between characters of themselves: texts and words are well-formed UTF-8.
 */
static void split_by_trie(const vocab *v, const char *word, size_t n, vocab_ids *ids) {
  size_t n_before = ids->n, start = 0;
  uint32_t root = 0;
  while (start < n) {
    size_t longest = start;
    int32_t id = -1;
    uint32_t node = root;
    for (size_t i = start; i < n && node != VOCAB_NO_NODE;) {
      node = step(v, node, (uint8_t)word[i++]);
      if (node != VOCAB_NO_NODE && v->units[node].id >= 0) {
        id = v->units[node].id;
        longest = i;
      }
    }
    if (id < 0) {
      ids->n = n_before;
      vocab_push(ids, v->unknown_id);
      return;
    }
    vocab_push(ids, id);
    start = longest;
    root = v->continuing;
  }
}

void vocab_split(const vocab *v, const char *word, size_t n, vocab_ids *ids) {
  if (n > v->max_chars && count_chars(word, n) > v->max_chars) {
    vocab_push(ids, v->unknown_id);
    return;
  }
  if (n <= MAX_SLOT_BYTES) {
    uint64_t key[2];
    load_key(word, n, key);
    const vocab_slot *slot = find_slot(v, key, n);
    if (slot->n) {
      vocab_push(ids, slot->id);
      return;
    }
  }
  split_by_trie(v, word, n, ids);
}
