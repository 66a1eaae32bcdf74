#include "provider/local.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* Activations of this many tokens stay in the second-level cache, and weights are read once for
 * them all. */
#define BEST_BATCH_TOKENS 256
#define MAX_BATCH_TOKENS 512
#define MAX_BATCH_ITEMS 512

typedef struct local {
  provider base;
  const model *m;
  char *prefix;
  size_t n_prefix_bytes;
} local;

struct provider_worker {
  model_scratch *scratch;
  tok_scratch *tokens;
  str text;     /* prefix and text together */
  int32_t *ids; /* a batch, packed */
  size_t offsets[MAX_BATCH_ITEMS + 1];
};

static void local_close(provider *p) {
  local *l = (local *)p;
  mem_free(l->prefix);
  mem_free(l);
}

static void local_worker_close(provider *p, provider_worker *w) {
  (void)p;
  if (!w) return;
  model_scratch_close(&w->scratch);
  tok_scratch_close(&w->tokens);
  str_fini(&w->text);
  mem_free(w->ids);
  mem_free(w);
}

static vecmill_status local_worker_open(provider *p, provider_worker **worker_out,
                                        vecmill_error *err) {
  local *l = (local *)p;
  provider_worker *w = mem_calloc(1, sizeof *w);
  if (!w) return err_set_memory(err, "worker", sizeof *w);
  w->ids = mem_calloc(p->max_batch_tokens, sizeof *w->ids);
  vecmill_status status =
      w->ids ? VECMILL_OK : err_set_memory(err, "worker", p->max_batch_tokens * sizeof *w->ids);
  if (status == VECMILL_OK)
    status = model_scratch_open(l->m, p->max_batch_tokens, &w->scratch, err);
  if (status == VECMILL_OK) status = tok_scratch_open(model_tokenizer(l->m), &w->tokens, err);
  if (status != VECMILL_OK) local_worker_close(p, w);
  else *worker_out = w;
  return status;
}

static vecmill_status local_prepare(provider *p, provider_worker *w, const char *text,
                                    size_t n_bytes, provider_item *item_out, vecmill_error *err) {
  local *l = (local *)p;
  tok_result tokens;
  if (l->n_prefix_bytes > 0) {
    str_clear(&w->text);
    str_append(&w->text, l->prefix, l->n_prefix_bytes);
    str_append(&w->text, text, n_bytes);
    if (w->text.failed) return err_set_memory(err, "text", n_bytes);
    text = w->text.data;
    n_bytes = w->text.n;
  }
  vecmill_status status =
      tok_encode(model_tokenizer(l->m), w->tokens, text, n_bytes, p->max_item_tokens, &tokens, err);
  if (status != VECMILL_OK) return status;
  if (tokens.n_ids == 0)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "text: no tokens, and this model adds no special ones");
  int32_t *ids = mem_realloc(NULL, tokens.n_ids, sizeof *ids);
  if (!ids) return err_set_memory(err, "text", tokens.n_ids * sizeof *ids);
  memcpy(ids, tokens.ids, tokens.n_ids * sizeof *ids);
  *item_out = (provider_item){.data = ids,
                              .n_tokens = tokens.n_ids,
                              .n_tokens_whole = tokens.n_ids_whole,
                              .n_replaced = tokens.n_replaced};
  return VECMILL_OK;
}

static vecmill_status local_run(provider *p, provider_worker *w, const provider_item *items,
                                size_t n, float *const *vectors_out, vecmill_error *err) {
  local *l = (local *)p;
  size_t n_tokens = 0;
  if (n > p->max_batch_items)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "batch: %zu texts, more than %zu", n,
                   p->max_batch_items);
  for (size_t i = 0; i < n; i++) {
    if (items[i].n_tokens > p->max_batch_tokens - n_tokens)
      return err_set(err, VECMILL_ERROR_ARGUMENT, "batch: more than %zu tokens",
                     p->max_batch_tokens);
    w->offsets[i] = n_tokens;
    memcpy(w->ids + n_tokens, items[i].data, items[i].n_tokens * sizeof *w->ids);
    n_tokens += items[i].n_tokens;
  }
  w->offsets[n] = n_tokens;
  return model_encode(l->m, w->scratch, w->ids, w->offsets, n, vectors_out, err);
}

static double local_n_operations(const provider *p, size_t n_tokens) {
  return model_n_operations(((const local *)p)->m, n_tokens);
}

static const provider_operations local_operations = {
    .close = local_close,
    .worker_open = local_worker_open,
    .worker_close = local_worker_close,
    .prepare = local_prepare,
    .run = local_run,
};

vecmill_status provider_open_local(const model *m, const char *prefix, provider **provider_out,
                                   vecmill_error *err) {
  const model_info *info = model_get_info(m);
  local *l = mem_calloc(1, sizeof *l);
  if (!l) return err_set_memory(err, "provider", sizeof *l);
  l->prefix = mem_strdup(prefix ? prefix : "");
  if (!l->prefix) {
    mem_free(l);
    return err_set_memory(err, "provider", 1);
  }
  l->m = m;
  l->n_prefix_bytes = strlen(l->prefix);
  l->base = (provider){.operations = &local_operations,
                       .dimension = info->dimension,
                       .max_item_tokens = info->max_tokens,
                       .best_batch_tokens = BEST_BATCH_TOKENS,
                       .max_batch_tokens = info->max_tokens > MAX_BATCH_TOKENS ? info->max_tokens
                                                                               : MAX_BATCH_TOKENS,
                       .max_batch_items = MAX_BATCH_ITEMS,
                       .n_operations = local_n_operations};
  *provider_out = &l->base;
  return VECMILL_OK;
}
