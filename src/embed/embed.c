/*
 * See embed.h. Workers take texts one by one, in submission order, and run them in batches of
 * packed tokens.
 *
 * One mutex guards the list of jobs and the counts; it is held to take a text and to settle a
 * batch, never while something is computed. A worker's batch is its own: texts are prepared into it
 * until the tokens reach the target, which is what keeps one worker busiest, or, when few texts
 * wait, an even share of them, so that workers finish together. An item that does not fit any more
 * is held for the worker's next batch.
 *
 * A batch does not reach over a rest: it ends with the text after which its worker rests, which
 * then holds no item. The rest is taken once another text waits, since there may be none.
 */
#include "embed/embed.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"

#define WAITING_PER_WORKER 256
#define MIN_SHARE 4 /* at the end batches shrink to no less than a quarter of the best */

typedef struct taken {
  embed_job *job;
  embed_text *text;
  provider_item item;
} taken;

typedef struct worker {
  embed *e;
  pthread_t thread;
  provider_worker *state;
  embed_worker_stats stats;
  uint64_t resting_from_ns; /* 0: not resting */
  uint64_t rested_at_ns;    /* when the rest that is due is over; 0: none is due */
  size_t n_unrested;        /* texts embedded since the last rest was due */
  taken *batch;             /* max_batch_items */
  provider_item *items;
  float **vectors;
  size_t n, n_tokens;
  taken held; /* job NULL: nothing is held */
} worker;

struct embed {
  provider *p;
  unsigned n_workers, n_started;
  worker *workers;
  size_t max_waiting;
  uint64_t sleep_ns; /* 0: nobody rests */
  size_t rest_every; /* texts */

  pthread_mutex_t mutex; /* all below */
  pthread_cond_t not_full, not_empty, drained, woken;
  embed_job *first, *last;           /* jobs with texts that nobody has taken */
  size_t n_waiting, n_waiting_bytes; /* texts not taken */
  size_t n_open;                     /* jobs not done */
  bool stopped, closing;
  embed_stats stats;
  uint64_t n_bytes_seen,
      n_tokens_seen; /* of all prepared texts: tokens a byte, for the share at the end */
};

/* --- settling texts --- */

static void free_items(taken *batch, size_t n) {
  for (size_t i = 0; i < n; i++) mem_free(batch[i].item.data);
}

static void count_text(embed *e, const embed_text *text) {
  e->stats.n_texts++;
  if (text->status != VECMILL_OK) {
    e->stats.n_failed += text->status != VECMILL_ERROR_STOPPED;
    return;
  }
  e->stats.n_tokens += text->n_tokens;
  e->stats.n_truncated += text->n_tokens_whole > text->n_tokens;
  e->stats.n_replaced += text->n_replaced > 0;
  if (e->p->n_operations) e->stats.n_operations += e->p->n_operations(e->p, text->n_tokens);
}

/* The texts have their outcome; jobs that are complete are handed back, without the mutex. */
static void settle(embed *e, const taken *batch, size_t n) {
  for (size_t i = 0; i < n; i++) {
    pthread_mutex_lock(&e->mutex);
    count_text(e, batch[i].text);
    bool complete = --batch[i].job->n_left == 0;
    pthread_mutex_unlock(&e->mutex);
    if (!complete) continue;
    batch[i].job->done(batch[i].job);
    pthread_mutex_lock(&e->mutex);
    if (--e->n_open == 0) pthread_cond_broadcast(&e->drained);
    pthread_mutex_unlock(&e->mutex);
  }
}

static void fail_text(embed_text *text, vecmill_status status, const char *reason) {
  text->status = status;
  text->reason = mem_strdup(reason);
}

/* --- taking texts --- */

/* With the mutex held and something waiting. */
static taken take_text(embed *e) {
  embed_job *job = e->first;
  taken t = {.job = job, .text = &job->texts[job->n_taken++]};
  e->n_waiting--;
  e->n_waiting_bytes -= t.text->n_bytes;
  if (job->n_taken == job->n_texts) {
    e->first = job->next;
    if (!e->first) e->last = NULL;
  }
  if (e->n_waiting <= e->max_waiting) pthread_cond_broadcast(&e->not_full);
  return t;
}

/* The tokens that this worker's batch should reach. With the mutex held. */
static size_t batch_target(const embed *e) {
  size_t best = e->p->best_batch_tokens;
  if (e->n_bytes_seen == 0) return best;
  double per_byte = (double)e->n_tokens_seen / (double)e->n_bytes_seen;
  double share = ((double)e->n_waiting_bytes * per_byte + (double)e->n_waiting) / e->n_workers;
  if (share >= (double)best) return best;
  return share < (double)best / MIN_SHARE ? best / MIN_SHARE : (size_t)share;
}

/* With the mutex held: until a text waits, or none ever will. */
static void wait_for_text(worker *w) {
  embed *e = w->e;
  if (e->n_waiting > 0 || e->closing) return;
  uint64_t from_ns = clock_now_ns();
  while (e->n_waiting == 0 && !e->closing) pthread_cond_wait(&e->not_empty, &e->mutex);
  w->stats.wait_ns += clock_now_ns() - from_ns;
}

/*
 * The next text for a batch that holds n_tokens. Waits only if `may_wait`. False: the batch is to
 * be run as it is, or, if it is empty, the worker is to end.
 */
static bool next_text(worker *w, bool may_wait, taken *taken_out) {
  embed *e = w->e;
  bool got = false;
  pthread_mutex_lock(&e->mutex);
  if (may_wait) wait_for_text(w);
  if (e->n_waiting > 0 && (w->n == 0 || w->n_tokens < batch_target(e))) {
    *taken_out = take_text(e);
    got = true;
  }
  bool stopped = e->stopped;
  pthread_mutex_unlock(&e->mutex);
  if (got && stopped) fail_text(taken_out->text, VECMILL_ERROR_STOPPED, "stopped");
  return got;
}

/* Into an item; false when the text has failed and is settled. */
static bool prepare(worker *w, taken *t) {
  embed *e = w->e;
  vecmill_error error; /* all of it empty would take as long as a short text */
  error.text[0] = '\0';
  embed_text *text = t->text;
  if (text->status == VECMILL_OK) {
    text->status =
        e->p->operations->prepare(e->p, w->state, text->text, text->n_bytes, &t->item, &error);
    if (text->status != VECMILL_OK) fail_text(text, text->status, error.text);
  }
  if (text->status != VECMILL_OK) {
    settle(e, t, 1);
    return false;
  }
  text->n_tokens = (uint32_t)t->item.n_tokens;
  text->n_tokens_whole = (uint32_t)t->item.n_tokens_whole;
  text->n_replaced = (uint32_t)t->item.n_replaced;
  pthread_mutex_lock(&e->mutex);
  e->n_bytes_seen += text->n_bytes;
  e->n_tokens_seen += t->item.n_tokens;
  pthread_mutex_unlock(&e->mutex);
  return true;
}

static void add(worker *w, const taken *t) {
  w->batch[w->n++] = *t;
  w->n_tokens += t->item.n_tokens;
}

/* How many texts the worker's batch may hold. */
static size_t batch_room(const worker *w) {
  const embed *e = w->e;
  size_t until_rest = e->rest_every - w->n_unrested;
  return e->sleep_ns && until_rest < e->p->max_batch_items ? until_rest : e->p->max_batch_items;
}

/* Fills the worker's batch. False: there is nothing more, ever. */
static bool fill(worker *w) {
  const provider *p = w->e->p;
  size_t room = batch_room(w);
  taken t;
  w->n = w->n_tokens = 0;
  if (w->held.job) add(w, &w->held);
  w->held.job = NULL;
  while (w->n < room && w->n_tokens < p->best_batch_tokens) {
    if (!next_text(w, w->n == 0, &t)) return w->n > 0;
    if (!prepare(w, &t)) continue;
    if (w->n > 0 && w->n_tokens + t.item.n_tokens > p->max_batch_tokens) {
      w->held = t;
      return true;
    }
    add(w, &t);
  }
  return true;
}

/* --- running --- */

static vecmill_status run_range(worker *w, size_t from, size_t n, vecmill_error *err) {
  provider *p = w->e->p;
  for (size_t i = 0; i < n; i++) {
    w->items[i] = w->batch[from + i].item;
    w->vectors[i] = w->batch[from + i].text->vector;
  }
  return p->operations->run(p, w->state, w->items, n, w->vectors, err);
}

static bool is_finite(const float *vector, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!isfinite(vector[i])) return false;
  return true;
}

/* A batch that fails is run text by text, so that only the culprit fails. */
static void run(worker *w) {
  vecmill_error error = {0};
  vecmill_status status = run_range(w, 0, w->n, &error);
  if (status != VECMILL_OK)
    for (size_t i = 0; i < w->n; i++) {
      bool alone = w->n > 1 && status != VECMILL_ERROR_MEMORY;
      vecmill_status own = alone ? run_range(w, i, 1, &error) : status;
      if (own != VECMILL_OK) fail_text(w->batch[i].text, own, error.text);
    }
  for (size_t i = 0; i < w->n; i++) {
    embed_text *text = w->batch[i].text;
    if (text->status == VECMILL_OK && !is_finite(text->vector, w->e->p->dimension))
      fail_text(text, VECMILL_ERROR_FORMAT, "the model gave a vector that is not finite");
  }
}

static void count_batch(worker *w, uint64_t busy_ns) {
  pthread_mutex_lock(&w->e->mutex);
  w->stats.busy_ns += busy_ns;
  w->stats.n_batches++;
  w->stats.n_texts += w->n;
  w->stats.n_tokens += w->n_tokens;
  w->e->stats.n_batches++;
  pthread_mutex_unlock(&w->e->mutex);
}

/* The batch has been handed back. */
static void count_towards_rest(worker *w) {
  if (w->e->sleep_ns == 0) return;
  w->n_unrested += w->n;
  if (w->n_unrested < w->e->rest_every) return;
  w->n_unrested = 0;
  w->rested_at_ns = clock_now_ns() + w->e->sleep_ns;
}

/* Before a batch, if a rest is due. The texts that wait meanwhile are any worker's. */
static void rest(worker *w) {
  embed *e = w->e;
  if (w->rested_at_ns == 0) return;
  uint64_t until_ns = w->rested_at_ns;
  struct timespec until = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};
  pthread_mutex_lock(&e->mutex);
  wait_for_text(w);
  uint64_t from_ns = clock_now_ns(), now_ns = from_ns;
  if (!e->stopped) w->stats.n_rests++;
  w->resting_from_ns = from_ns;
  for (; now_ns < until_ns && !e->stopped; now_ns = clock_now_ns())
    pthread_cond_timedwait(&e->woken, &e->mutex, &until);
  w->resting_from_ns = w->rested_at_ns = 0;
  w->stats.wait_ns += now_ns - from_ns;
  w->stats.sleep_ns += now_ns - from_ns;
  pthread_mutex_unlock(&e->mutex);
}

static void *worker_thread(void *context) {
  worker *w = context;
  for (;;) {
    rest(w);
    uint64_t from_ns = clock_now_ns(), waited_ns = w->stats.wait_ns;
    if (!fill(w)) return NULL;
    if (w->n == 0) continue;
    run(w);
    free_items(w->batch, w->n);
    count_batch(w, clock_now_ns() - from_ns - (w->stats.wait_ns - waited_ns));
    settle(w->e, w->batch, w->n);
    count_towards_rest(w);
  }
}

/* --- open and close --- */

static vecmill_status start_worker(embed *e, worker *w, vecmill_error *err) {
  size_t n = e->p->max_batch_items;
  w->e = e;
  w->batch = mem_calloc(n, sizeof *w->batch);
  w->items = mem_calloc(n, sizeof *w->items);
  w->vectors = mem_calloc(n, sizeof *w->vectors);
  if (!w->batch || !w->items || !w->vectors)
    return err_set_memory(err, "worker", n * sizeof *w->batch);
  vecmill_status status = e->p->operations->worker_open(e->p, &w->state, err);
  if (status == VECMILL_OK) status = thread_start(&w->thread, worker_thread, w, err);
  if (status == VECMILL_OK) e->n_started++;
  return status;
}

vecmill_status embed_open(provider *p, const embed_options *options, embed **embed_out,
                          vecmill_error *err) {
  embed *e = mem_calloc(1, sizeof *e);
  if (!e) return err_set_memory(err, "embed", sizeof *e);
  e->p = p;
  e->sleep_ns = options->rest_every ? options->sleep_ns : 0;
  e->rest_every = options->rest_every;
  e->n_workers = options->n_workers ? options->n_workers : thread_n_cpus();
  e->max_waiting = options->max_texts_waiting ? options->max_texts_waiting
                                              : (size_t)e->n_workers * WAITING_PER_WORKER;
  pthread_mutex_init(&e->mutex, NULL);
  pthread_cond_init(&e->not_full, NULL);
  pthread_cond_init(&e->not_empty, NULL);
  pthread_cond_init(&e->drained, NULL);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&e->woken, &monotonic);
  pthread_condattr_destroy(&monotonic);
  e->workers = mem_calloc(e->n_workers, sizeof *e->workers);
  vecmill_status status =
      e->workers ? VECMILL_OK : err_set_memory(err, "embed", e->n_workers * sizeof *e->workers);
  for (unsigned i = 0; status == VECMILL_OK && i < e->n_workers; i++)
    status = start_worker(e, &e->workers[i], err);
  if (status != VECMILL_OK) embed_close(&e);
  else *embed_out = e;
  return status;
}

void embed_close(embed **embed_in) {
  embed *e = *embed_in;
  *embed_in = NULL;
  if (!e) return;
  pthread_mutex_lock(&e->mutex);
  e->stopped = e->closing = true;
  pthread_cond_broadcast(&e->not_empty);
  pthread_cond_broadcast(&e->not_full);
  pthread_cond_broadcast(&e->woken);
  pthread_mutex_unlock(&e->mutex);
  for (unsigned i = 0; i < e->n_started; i++) pthread_join(e->workers[i].thread, NULL);
  for (unsigned i = 0; e->workers && i < e->n_workers; i++) {
    worker *w = &e->workers[i];
    if (w->state) e->p->operations->worker_close(e->p, w->state);
    mem_free(w->batch);
    mem_free(w->items);
    mem_free(w->vectors);
  }
  mem_free(e->workers);
  pthread_cond_destroy(&e->woken);
  pthread_cond_destroy(&e->drained);
  pthread_cond_destroy(&e->not_empty);
  pthread_cond_destroy(&e->not_full);
  pthread_mutex_destroy(&e->mutex);
  mem_free(e);
}

/* --- jobs --- */

vecmill_status embed_submit(embed *e, embed_job *job, vecmill_error *err) {
  job->n_left = job->n_texts;
  job->n_taken = 0;
  job->next = NULL;
  bool is_empty = job->n_texts == 0;
  size_t n_bytes = 0;
  for (size_t i = 0; i < job->n_texts; i++) {
    embed_text *text = &job->texts[i];
    text->status = VECMILL_OK;
    text->reason = NULL;
    text->n_tokens = text->n_tokens_whole = text->n_replaced = 0;
    n_bytes += text->n_bytes;
  }
  pthread_mutex_lock(&e->mutex);
  while (e->n_waiting > e->max_waiting && !e->stopped) pthread_cond_wait(&e->not_full, &e->mutex);
  bool stopped = e->stopped;
  if (!stopped && !is_empty) {
    if (e->last) e->last->next = job;
    else e->first = job;
    e->last = job;
    e->n_waiting += job->n_texts;
    e->n_waiting_bytes += n_bytes;
    e->n_open++;
    pthread_cond_broadcast(&e->not_empty);
  }
  pthread_mutex_unlock(&e->mutex);
  if (stopped) return err_set(err, VECMILL_ERROR_STOPPED, "stopped");
  if (is_empty) job->done(job); /* one with texts may be done, and gone, by now */
  return VECMILL_OK;
}

void embed_drain(embed *e) {
  pthread_mutex_lock(&e->mutex);
  while (e->n_open > 0) pthread_cond_wait(&e->drained, &e->mutex);
  pthread_mutex_unlock(&e->mutex);
}

void embed_stop(embed *e) {
  pthread_mutex_lock(&e->mutex);
  e->stopped = true;
  pthread_cond_broadcast(&e->not_full);
  pthread_cond_broadcast(&e->woken);
  pthread_mutex_unlock(&e->mutex);
}

unsigned embed_n_workers(const embed *e) {
  return e->n_workers;
}

void embed_get_stats(const embed *e, embed_stats *stats_out) {
  embed *unlocked = (embed *)e;
  pthread_mutex_lock(&unlocked->mutex);
  *stats_out = e->stats;
  pthread_mutex_unlock(&unlocked->mutex);
}

void embed_get_worker_stats(const embed *e, unsigned index, embed_worker_stats *stats_out) {
  embed *unlocked = (embed *)e;
  pthread_mutex_lock(&unlocked->mutex);
  const worker *w = index < e->n_workers ? &e->workers[index] : NULL;
  *stats_out = w ? w->stats : (embed_worker_stats){0};
  if (w && w->resting_from_ns > 0) { /* a rest under way counts as far as it has come */
    uint64_t rested_ns = clock_now_ns() - w->resting_from_ns;
    stats_out->wait_ns += rested_ns;
    stats_out->sleep_ns += rested_ns;
  }
  pthread_mutex_unlock(&unlocked->mutex);
}
