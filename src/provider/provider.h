/*
 * A provider turns texts into vectors. This header is the operations table that
 * embed/ sees; local.h opens one over a model on this machine.
 *
 * Both calls are made by workers, each with a provider_worker of its own, so
 * that embed can plan batches by tokens without knowing a tokenizer:
 *   prepare: one text to one item with its token count (exact for a local model);
 *   run:     a batch of items to vectors.
 */
#ifndef PROVIDER_PROVIDER_H
#define PROVIDER_PROVIDER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct provider provider;
typedef struct provider_worker provider_worker;

/* One prepared text. Filled by prepare; `data` is freed by the caller with mem_free. */
typedef struct provider_item {
  void *data;            /* the provider's own (token ids) */
  size_t n_tokens;       /* what it costs in a batch; at least 1 */
  size_t n_tokens_whole; /* before truncation */
  size_t n_replaced;     /* ill-formed UTF-8 sequences */
} provider_item;

typedef struct provider_operations {
  /* Frees the provider; no worker may be left. Called once. */
  void (*close)(provider *p);

  /* A worker's own state (scratch memory). Called by any thread; used by one thread at a time. */
  vecmill_status (*worker_open)(provider *p, provider_worker **worker_out, vecmill_error *err);
  void (*worker_close)(provider *p, provider_worker *worker);

  /* Thread-safe across workers. May block (a service); a local model only computes. */
  vecmill_status (*prepare)(provider *p, provider_worker *worker, const char *text, size_t n_bytes,
                            provider_item *item_out, vecmill_error *err);

  /*
   * items[0 .. n), whose n_tokens add up to at most max_batch_tokens; vectors_out[i] points to
   * dimension floats. On failure no vector counts. Deterministic providers give the same bytes
   * whatever is in the batch.
   */
  vecmill_status (*run)(provider *p, provider_worker *worker, const provider_item *items, size_t n,
                        float *const *vectors_out, vecmill_error *err);
} provider_operations;

struct provider {
  const provider_operations *operations;
  size_t dimension;         /* floats in a vector */
  size_t max_item_tokens;   /* an item never has more */
  size_t best_batch_tokens; /* what keeps one worker busiest */
  size_t max_batch_tokens;  /* a batch never has more; at least max_item_tokens */
  size_t max_batch_items;
  double (*n_operations)(const provider *p, size_t n_tokens); /* for one text; NULL when unknown */
};

#endif
