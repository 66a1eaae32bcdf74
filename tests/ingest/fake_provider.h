/*
 * A provider without a model: a text's vector is made from its bytes alone, so
 * that tests know what must be in every row. A text that begins with "FAIL" cannot be
 * embedded; one that begins with "NAN" gets a vector that is not finite.
 */
#ifndef TESTS_FAKE_PROVIDER_H
#define TESTS_FAKE_PROVIDER_H

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "provider/provider.h"

#define FAKE_DIMENSION 8

typedef struct fake_provider {
  provider base;
  unsigned delay_us;                            /* what a text costs */
  void (*on_text)(void *context, size_t n_run); /* called by a worker for every text run */
  void *context;
  int n_run;
} fake_provider;

typedef struct fake_item {
  size_t n;
  char text[];
} fake_item;

struct provider_worker {
  int unused;
};

/* FNV-1a of the text spread over the dimensions. */
static void fake_vector(const char *text, size_t n, float *vector_out) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < n; i++) hash = (hash ^ (unsigned char)text[i]) * 16777619u;
  for (size_t i = 0; i < FAKE_DIMENSION; i++) {
    hash = hash * 1664525u + 1013904223u;
    vector_out[i] = (float)(hash >> 8) / 16777216.0f - 0.5f;
  }
}

static vecmill_status fake_worker_open(provider *p, provider_worker **worker_out,
                                       vecmill_error *err) {
  (void)p;
  *worker_out = mem_calloc(1, sizeof **worker_out);
  return *worker_out ? VECMILL_OK : err_set_memory(err, "worker", sizeof **worker_out);
}

static void fake_worker_close(provider *p, provider_worker *worker) {
  (void)p;
  mem_free(worker);
}

static vecmill_status fake_prepare(provider *p, provider_worker *worker, const char *text,
                                   size_t n_bytes, provider_item *item_out, vecmill_error *err) {
  (void)p, (void)worker;
  if (n_bytes >= 4 && memcmp(text, "FAIL", 4) == 0)
    return err_set(err, VECMILL_ERROR_FORMAT, "text: told to fail (do not)");
  fake_item *item = mem_calloc(1, sizeof *item + n_bytes);
  if (!item) return err_set_memory(err, "item", n_bytes);
  item->n = n_bytes;
  memcpy(item->text, text, n_bytes);
  *item_out = (provider_item){
      .data = item, .n_tokens = n_bytes < 16 ? n_bytes + 1 : 16, .n_tokens_whole = n_bytes + 1};
  return VECMILL_OK;
}

static vecmill_status fake_run(provider *p, provider_worker *worker, const provider_item *items,
                               size_t n, float *const *vectors_out, vecmill_error *err) {
  (void)worker, (void)err;
  fake_provider *fake = (fake_provider *)p;
  for (size_t i = 0; i < n; i++) {
    const fake_item *item = items[i].data;
    if (fake->delay_us) {
      uint64_t until_ns = clock_now_ns() + fake->delay_us * 1000ull;
      while (clock_now_ns() < until_ns) continue;
    }
    fake_vector(item->text, item->n, vectors_out[i]);
    if (item->n >= 3 && memcmp(item->text, "NAN", 3) == 0) vectors_out[i][3] = (float)NAN;
    int n_run = __atomic_add_fetch(&fake->n_run, 1, __ATOMIC_RELAXED);
    if (fake->on_text) fake->on_text(fake->context, (size_t)n_run);
  }
  return VECMILL_OK;
}

static void fake_close(provider *p) {
  (void)p;
}

static const provider_operations fake_operations = {fake_close, fake_worker_open, fake_worker_close,
                                                    fake_prepare, fake_run};

static inline void fake_init(fake_provider *fake) {
  *fake = (fake_provider){.base = {.operations = &fake_operations,
                                   .dimension = FAKE_DIMENSION,
                                   .max_item_tokens = 16,
                                   .best_batch_tokens = 64,
                                   .max_batch_tokens = 64,
                                   .max_batch_items = 64}};
}

#endif
