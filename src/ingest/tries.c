#include "ingest/tries.h"

#include "base/hash.h"
#include "base/mem.h"

#define FIRST_SLOTS 1024
#define COUNT_MASK 0xFFull

/* With the finalizer of MurmurHash3 (Appleby) for keys that differ in their last byte alone. Never
 * 0 in what is kept of it. */
static uint64_t hash_of(const void *key, size_t n_key_bytes) {
  uint64_t h = hash_bytes(key, n_key_bytes);
  h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDull;
  h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53ull;
  h = (h ^ h >> 33) & ~COUNT_MASK;
  return h ? h : COUNT_MASK + 1;
}

/* Where this hash is, or would be. */
static uint64_t *slot_of(const tries *t, uint64_t hash) {
  size_t i = (size_t)(hash >> 8) & (t->n_slots - 1);
  while (t->slots[i] && (t->slots[i] & ~COUNT_MASK) != hash) i = (i + 1) & (t->n_slots - 1);
  return &t->slots[i];
}

/* Twice the room, or as much and all counts lower. */
static vecmill_status make_room(tries *t, vecmill_error *err) {
  bool lowers = t->n_slots >= TRIES_MAX_SLOTS;
  tries wider = {.n_slots = !t->n_slots ? FIRST_SLOTS : lowers ? t->n_slots : 2 * t->n_slots};
  wider.slots = mem_calloc(wider.n_slots, sizeof *wider.slots);
  if (!wider.slots) return err_set_memory(err, "rows tried", wider.n_slots * sizeof *wider.slots);
  for (size_t i = 0; i < t->n_slots; i++) {
    uint64_t slot = t->slots[i] - (lowers && t->slots[i]);
    if (!(slot & COUNT_MASK)) continue;
    *slot_of(&wider, slot & ~COUNT_MASK) = slot;
    wider.n_used++;
  }
  mem_free(t->slots);
  *t = wider;
  return VECMILL_OK;
}

vecmill_status tries_add(tries *t, const void *key, size_t n_key_bytes, unsigned *n_before_out,
                         vecmill_error *err) {
  while (t->n_used >= t->n_slots / 4 * 3) {
    vecmill_status status = make_room(t, err);
    if (status != VECMILL_OK) return status;
  }
  uint64_t hash = hash_of(key, n_key_bytes), *slot = slot_of(t, hash);
  *n_before_out = (unsigned)(*slot & COUNT_MASK);
  if (!*slot) {
    *slot = hash;
    t->n_used++;
  }
  *slot += *n_before_out < COUNT_MASK;
  return VECMILL_OK;
}

/* --- pass by pass --- */

/* Of a pass so many rows are counted: of a table that loses all vectors again the first rows come
 * in each pass, whatever other processes take of them. */
#define MAX_COUNTED 4096

vecmill_status tries_look(tries *t, tries_pass *pass, const void *key, size_t n_key_bytes,
                          bool *wanted_out, vecmill_error *err) {
  unsigned n_before = 0;
  bool is_counted = pass->n_counted < MAX_COUNTED;
  vecmill_status status = is_counted ? tries_add(t, key, n_key_bytes, &n_before, err) : VECMILL_OK;
  bool is_worn = n_before >= TRIES_UNTIL_WORN;
  pass->n_counted += is_counted;
  pass->n_worn += is_worn;
  pass->n_rest += !is_counted;
  *wanted_out = !pass->leaves_worn || !(is_counted ? is_worn : pass->n_worn > 0);
  return status;
}

double tries_n_worn(const tries_pass *pass) {
  double n_worn = (double)pass->n_worn;
  return pass->n_counted ? n_worn + n_worn * (double)pass->n_rest / (double)pass->n_counted : 0;
}

void tries_fini(tries *t) {
  mem_free(t->slots);
  *t = (tries){0};
}
