/*
 * The batch embedding processor: many texts, a pool of workers, planned batches.
 *
 * Work comes as jobs. A job is an array of texts whose vectors are wanted
 * together (a page of a table, a block of a file); submit() returns at once or blocks
 * while too much is in flight; done() is called once, by a worker, when every
 * text of the job has its outcome. Token batches are planned inside and across
 * jobs: a worker prepares texts until it can fill a batch, in submission order;
 * when no more texts wait, the rest is shared out evenly so that workers finish together.
 * Nothing is padded, so texts need not be sorted.
 */
#ifndef EMBED_EMBED_H
#define EMBED_EMBED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "provider/provider.h"

typedef struct embed embed;

/* One text and its outcome. The caller fills the first four, embed the rest. */
typedef struct embed_text {
  const char *text; /* n_bytes of UTF-8 (repaired if ill-formed); borrowed until done() */
  size_t n_bytes;
  float *vector; /* room for `dimension` floats */
  void *user;    /* the caller's own */

  vecmill_status status; /* VECMILL_OK: the vector is there, all of it finite */
  char *reason; /* otherwise why, freed by the caller with mem_free; may be NULL when memory was out
                 */
  uint32_t n_tokens;       /* as embedded */
  uint32_t n_tokens_whole; /* before truncation: more than n_tokens means truncated */
  uint32_t n_replaced;     /* ill-formed sequences that became U+FFFD */
} embed_text;

typedef struct embed_job embed_job;
struct embed_job {
  embed_text *texts;
  size_t n_texts;               /* 0 is allowed: done() is called by submit */
  void (*done)(embed_job *job); /* from a worker thread; must not block long nor call embed_* */
  void *user;
  size_t n_left;   /* embed's own */
  embed_job *next; /* embed's own */
  size_t n_taken;  /* embed's own */
};

typedef struct embed_options {
  unsigned n_workers;       /* 0: one a processor that this process may use */
  size_t max_texts_waiting; /* submit blocks above this; 0: chosen from n_workers */
  /* A worker that has embedded `rest_every` texts since its last rest rests for
   * sleep_ns before the next one, which leaves processor time to others; the time in which no
   * text waits is a part of it. 0 of either: none rests. A stop ends a rest at once. */
  uint64_t sleep_ns;
  size_t rest_every;
} embed_options;

/* What a worker did. Read at any time; exact after embed_drain. */
typedef struct embed_worker_stats {
  uint64_t busy_ns;  /* preparing or running */
  uint64_t wait_ns;  /* nothing to do, or resting */
  uint64_t sleep_ns; /* of wait_ns, the rests while texts waited */
  uint64_t n_batches, n_texts, n_tokens, n_rests;
} embed_worker_stats;

typedef struct embed_stats {
  uint64_t n_texts, n_failed, n_truncated, n_replaced, n_tokens, n_batches;
  double n_operations;
} embed_stats;

/* The provider is borrowed. Starts the workers. */
vecmill_status embed_open(provider *p, const embed_options *options, embed **embed_out,
                          vecmill_error *err);

/* Takes the job until done(). Blocks while max_texts_waiting is exceeded. Errors: STOPPED after
 * embed_stop. */
vecmill_status embed_submit(embed *e, embed_job *job, vecmill_error *err);

void embed_drain(embed *e); /* waits until every job submitted so far is done */
void embed_stop(
    embed *e); /* does not block: waiting texts end as STOPPED, batches in flight finish */
void embed_close(embed **e); /* stops, waits for the workers, frees */

unsigned embed_n_workers(const embed *e);
void embed_get_stats(const embed *e, embed_stats *stats_out);
void embed_get_worker_stats(const embed *e, unsigned worker, embed_worker_stats *stats_out);

#endif
