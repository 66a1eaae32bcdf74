/*
 * Embedding batches of texts with a pool of workers.
 *
 * An embedder runs one model. Texts are handed over as jobs; token batches are
 * planned inside and across jobs, nothing is padded, and the same text gives
 * the same bytes whatever stands beside it and however many workers there are.
 *
 *   vecmill_embedder_embed()   hands over one array of texts and waits;
 *   vecmill_embedder_submit()  hands over a job and goes on; done() tells its end.
 *
 * Any thread may submit. Close an embedder from one thread, after all others have finished with it.
 */
#ifndef VECMILL_EMBED_H
#define VECMILL_EMBED_H

#include <stddef.h>
#include <stdint.h>

#include <vecmill/model.h>
#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vecmill_embedder vecmill_embedder;

typedef struct vecmill_embedder_options {
  unsigned n_workers; /* 0: one a processor that this process may use */
  const char *prefix; /* put before every text; NULL: the model's default prompt; "": nothing */
  size_t max_texts_waiting; /* submit blocks above this; 0: chosen from the workers */
} vecmill_embedder_options;

/* One text and its outcome. The caller fills the first three. */
typedef struct vecmill_embed_text {
  const char *text; /* n_bytes of UTF-8, NUL allowed; an ill-formed sequence is taken as U+FFFD */
  size_t n_bytes;
  float *vector; /* room for `dimension` floats; written when status is VECMILL_OK */

  vecmill_status status;
  char *reason;            /* NULL, or why it failed; freed by vecmill_embed_text_clear */
  uint32_t n_tokens;       /* as embedded, special tokens included */
  uint32_t n_tokens_whole; /* more than n_tokens: the text was truncated */
  uint32_t n_replaced;     /* ill-formed sequences */
} vecmill_embed_text;

/* Frees the reason. */
VECMILL_API void vecmill_embed_text_clear(vecmill_embed_text *text);

typedef struct vecmill_embed_job {
  vecmill_embed_text *texts; /* borrowed until done() */
  size_t n_texts;
  /* Called once, by a worker (by submit if n_texts is 0). Must not block for long nor call the
   * embedder. */
  void (*done)(struct vecmill_embed_job *job);
  void *user;  /* the caller's own */
  void *inner; /* the library's own */
} vecmill_embed_job;

typedef struct vecmill_embedder_stats {
  uint64_t n_texts, n_failed, n_truncated, n_replaced, n_tokens, n_batches;
  double n_operations; /* floating-point, for the texts embedded so far */
} vecmill_embedder_stats;

/* The model is borrowed and must outlive the embedder. options NULL: all defaults. Errors: MEMORY.
 */
VECMILL_API vecmill_status vecmill_embedder_open(const vecmill_model *model,
                                                 const vecmill_embedder_options *options,
                                                 vecmill_embedder **embedder_out,
                                                 vecmill_error *err);

/* Stops (waiting texts end as STOPPED), waits for the workers, frees; NULL inside is allowed;
 * clears it. */
VECMILL_API void vecmill_embedder_close(vecmill_embedder **embedder);

/* Waits until all have their outcome. PARTIAL when some failed: each has its status and reason. */
VECMILL_API vecmill_status vecmill_embedder_embed(vecmill_embedder *embedder,
                                                  vecmill_embed_text *texts, size_t n_texts,
                                                  vecmill_error *err);

/* Takes the job until done(). Blocks while too many texts wait. Errors: STOPPED, MEMORY; then
 * done() is not called. */
VECMILL_API vecmill_status vecmill_embedder_submit(vecmill_embedder *embedder,
                                                   vecmill_embed_job *job, vecmill_error *err);

VECMILL_API void vecmill_embedder_drain(
    vecmill_embedder *embedder); /* until every submitted job is done */
VECMILL_API void vecmill_embedder_stop(vecmill_embedder *embedder); /* does not block */

VECMILL_API unsigned vecmill_embedder_n_workers(const vecmill_embedder *embedder);
VECMILL_API void vecmill_embedder_get_stats(const vecmill_embedder *embedder,
                                            vecmill_embedder_stats *stats_out);
/* Share of its time, 0 to 1, that a worker has been busy since the embedder was opened. */
VECMILL_API double vecmill_embedder_busy_share(const vecmill_embedder *embedder, unsigned worker);

#ifdef __cplusplus
}
#endif
#endif
