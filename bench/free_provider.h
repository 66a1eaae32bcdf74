/*
 * A provider whose vectors cost next to nothing, so that a run over it shows what all the rest
 * costs. A text's vector is copied from a sequence, from where its length says: finite numbers, no
 * two alike, so that nothing on the way can compress them. For bench-ingest alone.
 */
#ifndef BENCH_FREE_PROVIDER_H
#define BENCH_FREE_PROVIDER_H

#include <string.h>

#include "base/mem.h"
#include "provider/provider.h"

#define FREE_DIMENSION 384
#define FREE_BATCH 256

struct provider_worker {
  char unused;
};

#define FREE_STARTS 4096
static float free_numbers[FREE_STARTS + FREE_DIMENSION];

/* Before the first vector. */
static inline void free_init(void) {
  uint32_t x = 1;
  for (size_t i = 0; i < FREE_STARTS + FREE_DIMENSION; i++) {
    x = x * 1664525u + 1013904223u;
    free_numbers[i] = (float)(x >> 8) / 16777216.0f - 0.5f;
  }
}

static inline void free_vector(uint32_t seed, float *vector_out) {
  memcpy(vector_out, &free_numbers[seed % FREE_STARTS], FREE_DIMENSION * sizeof *vector_out);
}

static vecmill_status free_worker_open(provider *p, provider_worker **worker_out,
                                       vecmill_error *err) {
  *worker_out = mem_calloc(1, sizeof **worker_out);
  return *worker_out ? VECMILL_OK : err_set_memory(err, "worker", sizeof **worker_out);
}

static void free_worker_close(provider *p, provider_worker *worker) {
  mem_free(worker);
}

static vecmill_status free_prepare(provider *p, provider_worker *worker, const char *text,
                                   size_t n_bytes, provider_item *item_out, vecmill_error *err) {
  uint32_t *seed = mem_calloc(1, sizeof *seed);
  if (!seed) return err_set_memory(err, "item", sizeof *seed);
  *seed = (uint32_t)n_bytes;
  *item_out = (provider_item){.data = seed, .n_tokens = 1, .n_tokens_whole = 1};
  return VECMILL_OK;
}

static vecmill_status free_run(provider *p, provider_worker *worker, const provider_item *items,
                               size_t n, float *const *vectors_out, vecmill_error *err) {
  for (size_t i = 0; i < n; i++) free_vector(*(const uint32_t *)items[i].data, vectors_out[i]);
  return VECMILL_OK;
}

static void free_close(provider *p) {
}

static const provider_operations free_operations = {free_close, free_worker_open, free_worker_close,
                                                    free_prepare, free_run};

static provider free_provider = {.operations = &free_operations,
                                 .dimension = FREE_DIMENSION,
                                 .max_item_tokens = 1,
                                 .best_batch_tokens = FREE_BATCH,
                                 .max_batch_tokens = FREE_BATCH,
                                 .max_batch_items = FREE_BATCH};

#endif
