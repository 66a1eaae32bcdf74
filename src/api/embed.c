#include <vecmill/embed.h>

#include <pthread.h>

#include "api/model_api.h"
#include "base/mem.h"
#include "embed/embed.h"
#include "provider/local.h"

struct vecmill_embedder {
  provider *source;
  embed *pool;
};

/* One public job under way: embed's texts, and the public ones they are copied back to. */
typedef struct running {
  embed_job job;
  vecmill_embed_job *caller;
  embed_text texts[];
} running;

vecmill_status vecmill_embedder_open(const vecmill_model *m,
                                     const vecmill_embedder_options *options,
                                     vecmill_embedder **embedder_out, vecmill_error *err) {
  *embedder_out = NULL;
  vecmill_embedder_options chosen = options ? *options : (vecmill_embedder_options){0};
  embed_options pool_options = {.n_workers = chosen.n_workers,
                                .max_texts_waiting = chosen.max_texts_waiting};
  vecmill_embedder *e = mem_calloc(1, sizeof *e);
  if (!e) return err_set_memory(err, "embedder", sizeof *e);
  const char *prefix = chosen.prefix ? chosen.prefix : model_default_prompt(m->inner);
  vecmill_status status = provider_open_local(m->inner, prefix, &e->source, err);
  if (status == VECMILL_OK) status = embed_open(e->source, &pool_options, &e->pool, err);
  if (status != VECMILL_OK) vecmill_embedder_close(&e);
  *embedder_out = e;
  return status;
}

void vecmill_embedder_close(vecmill_embedder **embedder) {
  vecmill_embedder *e = *embedder;
  if (!e) return;
  embed_close(&e->pool);
  if (e->source) e->source->operations->close(e->source);
  mem_free(e);
  *embedder = NULL;
}

void vecmill_embed_text_clear(vecmill_embed_text *text) {
  mem_free(text->reason);
  text->reason = NULL;
}

static void copy_back(embed_job *job) {
  running *r = (running *)job;
  vecmill_embed_job *caller = r->caller;
  for (size_t i = 0; i < job->n_texts; i++) {
    vecmill_embed_text *to = &caller->texts[i];
    to->status = r->texts[i].status;
    to->reason = r->texts[i].reason;
    to->n_tokens = r->texts[i].n_tokens;
    to->n_tokens_whole = r->texts[i].n_tokens_whole;
    to->n_replaced = r->texts[i].n_replaced;
  }
}

static void job_done(embed_job *job) {
  vecmill_embed_job *caller = ((running *)job)->caller;
  copy_back(job);
  caller->inner = NULL;
  mem_free(job);
  caller->done(caller);
}

vecmill_status vecmill_embedder_submit(vecmill_embedder *e, vecmill_embed_job *job,
                                       vecmill_error *err) {
  size_t n_bytes;
  if (!mem_mul(job->n_texts, sizeof(embed_text), &n_bytes) ||
      !mem_add(n_bytes, sizeof(running), &n_bytes))
    return err_set_memory(err, "job", job->n_texts);
  running *r = mem_calloc(1, n_bytes);
  if (!r) return err_set_memory(err, "job", n_bytes);
  r->caller = job;
  r->job = (embed_job){.texts = r->texts, .n_texts = job->n_texts, .done = job_done};
  for (size_t i = 0; i < job->n_texts; i++)
    r->texts[i] = (embed_text){.text = job->texts[i].text,
                               .n_bytes = job->texts[i].n_bytes,
                               .vector = job->texts[i].vector};
  job->inner = r;
  vecmill_status status = embed_submit(e->pool, &r->job, err);
  if (status != VECMILL_OK) {
    job->inner = NULL;
    mem_free(r);
  }
  return status;
}

/* One caller waiting for one job. */
typedef struct waiting {
  pthread_mutex_t mutex;
  pthread_cond_t ended;
  int is_done;
} waiting;

static void wake(vecmill_embed_job *job) {
  waiting *w = job->user;
  pthread_mutex_lock(&w->mutex);
  w->is_done = 1;
  pthread_cond_signal(&w->ended);
  pthread_mutex_unlock(&w->mutex);
}

vecmill_status vecmill_embedder_embed(vecmill_embedder *e, vecmill_embed_text *texts,
                                      size_t n_texts, vecmill_error *err) {
  waiting w = {.mutex = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
  vecmill_embed_job job = {.texts = texts, .n_texts = n_texts, .done = wake, .user = &w};
  vecmill_status status = vecmill_embedder_submit(e, &job, err);
  if (status != VECMILL_OK) return status;
  pthread_mutex_lock(&w.mutex);
  while (!w.is_done) pthread_cond_wait(&w.ended, &w.mutex);
  pthread_mutex_unlock(&w.mutex);
  size_t n_failed = 0;
  for (size_t i = 0; i < n_texts; i++) n_failed += texts[i].status != VECMILL_OK;
  if (n_failed == 0) return VECMILL_OK;
  return err_set(err, VECMILL_ERROR_PARTIAL,
                 "%zu of %zu texts could not be embedded: each has its reason", n_failed, n_texts);
}

void vecmill_embedder_drain(vecmill_embedder *e) {
  embed_drain(e->pool);
}

void vecmill_embedder_stop(vecmill_embedder *e) {
  embed_stop(e->pool);
}

unsigned vecmill_embedder_n_workers(const vecmill_embedder *e) {
  return embed_n_workers(e->pool);
}

void vecmill_embedder_get_stats(const vecmill_embedder *e, vecmill_embedder_stats *stats_out) {
  embed_stats stats;
  embed_get_stats(e->pool, &stats);
  *stats_out = (vecmill_embedder_stats){.n_texts = stats.n_texts,
                                        .n_failed = stats.n_failed,
                                        .n_truncated = stats.n_truncated,
                                        .n_replaced = stats.n_replaced,
                                        .n_tokens = stats.n_tokens,
                                        .n_batches = stats.n_batches,
                                        .n_operations = stats.n_operations};
}

double vecmill_embedder_busy_share(const vecmill_embedder *e, unsigned worker) {
  embed_worker_stats stats;
  embed_get_worker_stats(e->pool, worker, &stats);
  double all = (double)stats.busy_ns + (double)stats.wait_ns;
  return all > 0 ? (double)stats.busy_ns / all : 0;
}
