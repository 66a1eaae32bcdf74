/*
 * How often rows were tried: a count for each key, in bounded memory.
 *
 * Keys are told apart by 64 bits of hash. Where there are more than fit, all counts are lowered by
 * one and the rows at 0 forgotten: who comes again and again stays known, who came once makes room
 * (the summary of Misra and Gries, "Finding repeated elements", 1982).
 */
#ifndef INGEST_TRIES_H
#define INGEST_TRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TRIES_MAX_SLOTS ((size_t)1 << 18) /* of 8 bytes; three quarters of them are used */

/* {0}: none yet. One thread's. */
typedef struct tries {
  uint64_t *slots; /* a hash, and in its low byte a count; 0: free */
  size_t n_slots, n_used;
} tries;

/* One more of this key; *n_before_out: how many there were, 255 at most. */
vecmill_status tries_add(tries *t, const void *key, size_t n_key_bytes, unsigned *n_before_out,
                         vecmill_error *err);

/* --- pass by pass --- */

/* A row that came so often before is worn: somebody takes back each time what was done. */
#define TRIES_UNTIL_WORN 10

typedef struct tries_pass {
  bool leaves_worn; /* they are not wanted */
  uint64_t n_claimed, n_counted, n_worn;
  uint64_t n_rest; /* not counted, but taken to be like those that were */
} tries_pass;

/* One more row of the pass. *wanted_out: it is to be tried again. */
vecmill_status tries_look(tries *t, tries_pass *pass, const void *key, size_t n_key_bytes,
                          bool *wanted_out, vecmill_error *err);

/* How many rows of the pass are worn, the rest's share included. */
double tries_n_worn(const tries_pass *pass);

void tries_fini(tries *t);

#endif
