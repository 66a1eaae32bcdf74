/*
 * See pipeline.h. Four parties share `mutex`: the reader thread, embed's workers (in page_done),
 * the writers' threads, and the caller, who keeps the books. Everything under "shared" is touched
 * with it held; nothing else is shared.
 *
 * How it ends. The caller alone decides to end early: it sees the stop flag or an error, sets
 * `ending` and calls embed_stop, so that batches being computed are finished and all other texts
 * come back at once, untouched. Pages that come back are still committed after a stop; after an
 * error they are dropped. The run is over when the reader has gone and no page is out.
 */
#include "ingest/pipeline.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "ingest/tries.h"

#define TICK_NS 100000000ull
/* Passes in a row whose rows somebody kept changing, all of them, or that came too often. */
#define MAX_FRUITLESS_PASSES 3
#define TEXTS_PER_WORKER 128 /* claimed ahead, so that token batches can be planned full */

typedef struct pipeline pipeline;

/* A page on its way, and what became of it. */
typedef struct page_job {
  embed_job job;
  store_page page;
  float *vectors;
  pipeline *p;
  struct page_job *next;

  bool is_dropped; /* nothing of it was committed, because the run has failed */
  uint64_t n_untouched;
  store_commit_counts counts;
  ingest_sums sums; /* metrics of the rows that were written */
  vecmill_status status;
  vecmill_error error;
} page_job;

typedef struct page_list {
  page_job *first, *last;
} page_list;

struct pipeline {
  const ingest_plan *plan;
  ingest_outcome *outcome; /* the caller's, but for n_passes, which is the reader's */
  embed *embed;
  size_t max_pages;

  pthread_mutex_t mutex; /* shared: */
  pthread_cond_t changed_for_reader, changed_for_writers, changed_for_caller;
  page_list embedded, committed; /* for the writers, for the caller */
  size_t n_pages_out;
  uint64_t n_rows_out, n_settled; /* written or failed, ever */
  uint64_t n_rows_unbooked;       /* taken by a writer, and not in the books yet */
  bool ending, reader_gone, dropping, writers_may_go;
  vecmill_status status;
  vecmill_error error;
  uint64_t reader_blocked_ns, reader_gone_ns, writers_blocked_ns;
  uint64_t reader_slept_ns;    /* of the first of these: in the store, which waited for somebody */
  uint64_t n_given_up, n_worn; /* the reader's, as below; read once it has gone */
  tries tries;
  tries_pass pass;

  progress progress; /* the caller's from here on */
  uint64_t n_told;   /* n_done, when a line was told last */
  pthread_t *writers;
  unsigned n_writers;
};

/* The first error is the one that is told. With the mutex held. */
static void keep_error(pipeline *p, vecmill_status status, const vecmill_error *error) {
  if (p->status != VECMILL_OK) return;
  p->status = status;
  p->error = *error;
}

/* --- pages --- */

static void list_append(page_list *list, page_job *job) {
  job->next = NULL;
  if (list->last) list->last->next = job;
  else list->first = job;
  list->last = job;
}

/* NULL: it is empty. */
static page_job *list_take(page_list *list) {
  page_job *job = list->first;
  if (job) list->first = job->next;
  if (!list->first) list->last = NULL;
  return job;
}

static void page_job_free(pipeline *p, page_job *job) {
  for (size_t i = 0; job->job.texts && i < job->job.n_texts; i++)
    mem_free(job->job.texts[i].reason);
  mem_free(job->job.texts);
  mem_free(job->vectors);
  p->plan->store->operations->page_free(p->plan->store, &job->page);
  mem_free(job);
}

/* Here, because workers do it side by side and no lock is held. */
static void measure_page(const pipeline *p, page_job *job) {
  for (size_t i = 0; i < job->page.n_rows; i++)
    if (job->job.texts[i].status == VECMILL_OK) measure_row(&job->page.rows[i], p->plan->list);
}

/* From a worker: the page joins the writers' list. */
static void page_done(embed_job *done) {
  page_job *job = done->user;
  pipeline *p = job->p;
  if (p->plan->measures) measure_page(p, job);
  pthread_mutex_lock(&p->mutex);
  list_append(&p->embedded, job);
  pthread_cond_signal(&p->changed_for_writers);
  pthread_mutex_unlock(&p->mutex);
}

/* Takes over the page's memory, on failure too. */
static page_job *page_job_make(pipeline *p, store_page *page) {
  size_t dimension = p->plan->provider->dimension, n = page->n_rows, n_floats;
  page_job *job = mem_calloc(1, sizeof *job);
  if (!job) {
    p->plan->store->operations->page_free(p->plan->store, page);
    return NULL;
  }
  job->p = p;
  job->page = *page;
  job->job = (embed_job){
      .texts = mem_calloc(n, sizeof *job->job.texts), .n_texts = n, .done = page_done, .user = job};
  if (mem_mul(n, dimension, &n_floats)) job->vectors = mem_alloc_aligned(n_floats, sizeof(float));
  if (!job->job.texts || !job->vectors) {
    page_job_free(p, job);
    return NULL;
  }
  for (size_t i = 0; i < n; i++)
    job->job.texts[i] = (embed_text){.text = page->rows[i].text,
                                     .n_bytes = page->rows[i].n_text_bytes,
                                     .vector = job->vectors + i * dimension};
  for (size_t i = 0; i < n; i++) {
    if (page->rows[i].outcome != STORE_FAILED) continue;
    job->job.texts[i].status = VECMILL_ERROR_PARTIAL;
    job->job.texts[i].reason = mem_strdup(page->rows[i].reason);
  }
  return job;
}

/* --- the reader --- */

/* Waits, as blocked time, until fewer than `max_pages` are out. False when the run is ending. */
static bool wait_for_room(pipeline *p, size_t max_pages) {
  uint64_t from_ns = clock_now_ns();
  pthread_mutex_lock(&p->mutex);
  while (p->n_pages_out >= max_pages && !p->ending)
    pthread_cond_wait(&p->changed_for_reader, &p->mutex);
  bool go_on = !p->ending;
  p->reader_blocked_ns += clock_now_ns() - from_ns;
  pthread_mutex_unlock(&p->mutex);
  return go_on;
}

static void count_out(pipeline *p, int n_pages, size_t n_rows) {
  pthread_mutex_lock(&p->mutex);
  p->n_pages_out += (size_t)n_pages;
  p->n_rows_out = n_pages > 0 ? p->n_rows_out + n_rows : p->n_rows_out - n_rows;
  pthread_cond_signal(&p->changed_for_reader);
  pthread_mutex_unlock(&p->mutex);
}

/* Takes those out of the page that are not to be embedded: its commit leaves them as they are. If
 * none is left nothing else will commit it, and it would only be claimed again. */
static vecmill_status try_page(pipeline *p, store_page *page, vecmill_error *err) {
  size_t n_wanted = 0;
  vecmill_status status = VECMILL_OK;
  if (p->outcome->n_passes < 2) return status;
  for (size_t i = 0; status == VECMILL_OK && i < page->n_rows; i++) {
    const store_row *row = &page->rows[i];
    bool wanted = true;
    if (row->outcome != STORE_FAILED)
      status = tries_look(&p->tries, &p->pass, row->key, row->n_key_bytes, &wanted, err);
    if (wanted) page->rows[n_wanted++] = *row;
  }
  if (status != VECMILL_OK) return status;
  page->n_rows = n_wanted;
  store_commit_counts counts;
  store *s = p->plan->store;
  return n_wanted > 0 ? VECMILL_OK : s->operations->commit(s, page, &counts, err);
}

/* Claims a page and hands it to embed. *n_claimed_out 0: the pass has ended. */
static vecmill_status read_page(pipeline *p, size_t *n_claimed_out, vecmill_error *err) {
  store_page page;
  store *s = p->plan->store;
  vecmill_status status = s->operations->claim(s, p->plan->batch, &page, err);
  *n_claimed_out = status == VECMILL_OK ? page.n_rows : 0;
  if (status != VECMILL_OK) return status;
  if (page.n_rows > 0) status = try_page(p, &page, err);
  if (status != VECMILL_OK || page.n_rows == 0) {
    s->operations->page_free(s, &page);
    return status;
  }
  size_t n_rows = page.n_rows;
  bool is_settled = page.rows[0].outcome == STORE_FAILED;
  page_job *job = page_job_make(p, &page);
  if (!job)
    return err_set_memory(err, "page", n_rows * sizeof(float) * p->plan->provider->dimension);
  count_out(p, 1, n_rows);
  if (is_settled) {
    page_done(&job->job);
    return VECMILL_OK;
  }
  uint64_t from_ns = clock_now_ns();
  status = embed_submit(p->embed, &job->job, err);
  uint64_t blocked_ns = clock_now_ns() - from_ns;
  if (status != VECMILL_OK) {
    count_out(p, -1, n_rows);
    page_job_free(p, job);
    return status;
  }
  pthread_mutex_lock(&p->mutex);
  p->reader_blocked_ns += blocked_ns;
  pthread_mutex_unlock(&p->mutex);
  return VECMILL_OK;
}

static bool is_ending(pipeline *p) {
  pthread_mutex_lock(&p->mutex);
  bool ending = p->ending;
  pthread_mutex_unlock(&p->mutex);
  return ending;
}

static uint64_t settled(pipeline *p) {
  pthread_mutex_lock(&p->mutex);
  uint64_t n = p->n_settled;
  pthread_mutex_unlock(&p->mutex);
  return n;
}

/* One pass; all its rows are committed when this returns. */
static vecmill_status read_pass(pipeline *p, vecmill_error *err) {
  size_t n_claimed = 0;
  vecmill_status status = VECMILL_OK;
  do {
    if (!wait_for_room(p, p->max_pages)) return VECMILL_OK;
    status = read_page(p, &n_claimed, err);
    p->pass.n_claimed += n_claimed;
  } while (status == VECMILL_OK && n_claimed > 0);
  wait_for_room(p, 1);
  return status;
}

/* Whether more was settled than what may be rows that come again and again. */
static bool was_fruitful(pipeline *p, uint64_t n_settled_before) {
  double n_worn = p->pass.leaves_worn ? 0 : tries_n_worn(&p->pass);
  return (double)(settled(p) - n_settled_before) > n_worn;
}

static vecmill_status read_all(pipeline *p, vecmill_error *err) {
  store *s = p->plan->store;
  for (unsigned n_fruitless = 0; n_fruitless < MAX_FRUITLESS_PASSES;) {
    bool may_find = true;
    uint64_t n_before = settled(p);
    p->pass = (tries_pass){.leaves_worn = n_fruitless == MAX_FRUITLESS_PASSES - 1};
    vecmill_status status = s->operations->pass_begin(s, &may_find, err);
    if (status == VECMILL_OK && may_find) {
      p->outcome->n_passes++;
      status = read_pass(p, err);
    }
    if (status != VECMILL_OK || !may_find || is_ending(p)) return status;
    /* a pass without rows is one whose rows others had, who may still give them up */
    if (was_fruitful(p, n_before)) n_fruitless = 0;
    else n_fruitless += p->pass.n_claimed > 0;
  }
  p->n_given_up = p->pass.n_claimed;
  if (p->pass.n_worn > 0) p->n_worn = p->pass.n_worn + p->pass.n_rest; /* left with them */
  return VECMILL_OK;
}

static void *reader_thread(void *context) {
  pipeline *p = context;
  vecmill_error error = {0};
  vecmill_status status = read_all(p, &error);
  pthread_mutex_lock(&p->mutex);
  if (status != VECMILL_OK && status != VECMILL_ERROR_STOPPED) /* the caller sees the flag */
    keep_error(p, status, &error);
  p->reader_gone = true;
  p->reader_gone_ns = clock_now_ns();
  p->reader_slept_ns = clock_slept_ns();
  p->reader_blocked_ns += p->reader_slept_ns;
  pthread_cond_signal(&p->changed_for_caller);
  pthread_mutex_unlock(&p->mutex);
  return NULL;
}

/* --- the writers --- */

/* Out of memory is no fault of the row's: it is left for another run, and this one ends. */
static void settle_row(page_job *job, const embed_text *text, store_row *row) {
  switch (text->status) {
    case VECMILL_OK:
      row->outcome = STORE_EMBEDDED;
      row->vector = text->vector;
      break;
    case VECMILL_ERROR_MEMORY:
      job->status = err_set(&job->error, VECMILL_ERROR_MEMORY, "%s",
                            text->reason ? text->reason : "out of memory");
      row->outcome = STORE_UNTOUCHED;
      break;
    case VECMILL_ERROR_STOPPED: row->outcome = STORE_UNTOUCHED; break;
    default:
      row->outcome = STORE_FAILED;
      row->reason = text->reason ? text->reason : vecmill_status_name(text->status);
  }
  job->n_untouched += row->outcome == STORE_UNTOUCHED;
}

/* What can be written is, even of a page that has met an error of its own. */
static void commit_page(pipeline *p, page_job *job) {
  for (size_t i = 0; i < job->page.n_rows; i++)
    settle_row(job, &job->job.texts[i], &job->page.rows[i]);
  if (job->n_untouched == job->page.n_rows) return;
  vecmill_error error = {0};
  store *s = p->plan->store;
  vecmill_status status = s->operations->commit(s, &job->page, &job->counts, &error);
  for (size_t i = 0; p->plan->measures && i < job->page.n_rows; i++)
    if (job->page.rows[i].is_written) measure_add(&job->sums, &job->page.rows[i].metrics);
  if (status == VECMILL_OK || job->status != VECMILL_OK) return;
  job->status = status;
  job->error = error;
}

/* The next page to commit; NULL: there will be none. */
static page_job *next_embedded(pipeline *p) {
  uint64_t from_ns = clock_now_ns();
  pthread_mutex_lock(&p->mutex);
  while (!p->embedded.first && !p->writers_may_go)
    pthread_cond_wait(&p->changed_for_writers, &p->mutex);
  page_job *job = list_take(&p->embedded);
  if (job) job->is_dropped = p->dropping;
  if (job) p->n_rows_unbooked += job->page.n_rows;
  p->writers_blocked_ns += clock_now_ns() - from_ns;
  pthread_mutex_unlock(&p->mutex);
  return job;
}

static void *writer_thread(void *context) {
  pipeline *p = context;
  page_job *job;
  while ((job = next_embedded(p)) != NULL) {
    if (!job->is_dropped) commit_page(p, job);
    pthread_mutex_lock(&p->mutex);
    list_append(&p->committed, job);
    pthread_cond_signal(&p->changed_for_caller);
    pthread_mutex_unlock(&p->mutex);
  }
  return NULL;
}

/* One will do, where the machine has no more threads. */
static vecmill_status start_writers(pipeline *p, vecmill_error *err) {
  unsigned n_wanted = p->plan->store->n_writers;
  p->writers = mem_calloc(n_wanted, sizeof *p->writers);
  if (!p->writers) return err_set_memory(err, "writers", n_wanted * sizeof *p->writers);
  vecmill_status status = VECMILL_OK;
  while (status == VECMILL_OK && p->n_writers < n_wanted) {
    status = thread_start(&p->writers[p->n_writers], writer_thread, p, err);
    p->n_writers += status == VECMILL_OK;
  }
  return p->n_writers > 0 ? VECMILL_OK : status;
}

/* Once no page is out. */
static void end_writers(pipeline *p) {
  pthread_mutex_lock(&p->mutex);
  p->writers_may_go = true;
  pthread_cond_broadcast(&p->changed_for_writers);
  pthread_mutex_unlock(&p->mutex);
  for (unsigned i = 0; i < p->n_writers; i++) pthread_join(p->writers[i], NULL);
  mem_free(p->writers);
}

/* --- the caller --- */

static void tell(pipeline *p, bool is_tick, uint64_t n_batch, const ingest_sums *sums) {
  if (!p->plan->on_progress) return;
  pthread_mutex_lock(&p->mutex);
  uint64_t n_rows_out = p->n_rows_out;
  pthread_mutex_unlock(&p->mutex);
  ingest_progress now = {.progress = &p->progress,
                         .now_ns = clock_now_ns(),
                         .is_tick = is_tick,
                         .n_batch = n_batch,
                         .n_failed = p->outcome->n_failed,
                         .n_in_flight = n_rows_out,
                         .sums = sums};
  if (!is_tick) p->n_told = p->progress.n_done;
  p->plan->on_progress(p->plan->context, &now);
}

/* What was embedded, and the first thing that could not be. Gives the number of tokens. */
static uint64_t count_texts(pipeline *p, const page_job *job) {
  ingest_outcome *outcome = p->outcome;
  uint64_t n_tokens = 0;
  for (size_t i = 0; i < job->page.n_rows; i++) {
    const embed_text *text = &job->job.texts[i];
    const store_row *row = &job->page.rows[i];
    if (row->outcome == STORE_FAILED && !outcome->first_failure)
      outcome->first_failure = mem_strdup(row->reason);
    if (text->status != VECMILL_OK) continue;
    n_tokens += text->n_tokens;
    outcome->n_truncated += text->n_tokens_whole > text->n_tokens;
    outcome->n_repaired += text->n_replaced > 0;
  }
  outcome->n_tokens += n_tokens;
  return n_tokens;
}

static void count_rows(pipeline *p, const page_job *job, uint64_t n_left, uint64_t n_tokens) {
  ingest_outcome *outcome = p->outcome;
  const store_commit_counts *counts = &job->counts;
  uint64_t n_batch = counts->n_written + counts->n_failed;
  outcome->n_written += counts->n_written;
  outcome->n_failed += counts->n_failed;
  outcome->n_changed += counts->n_changed;
  outcome->n_taken_over += counts->n_taken_over;
  outcome->n_left += n_left;
  outcome->n_batches += n_batch > 0;
  if (counts->refusal[0] && !outcome->first_failure)
    outcome->first_failure = mem_strdup(counts->refusal);
  pthread_mutex_lock(&p->mutex);
  p->n_settled += n_batch;
  p->n_rows_unbooked -= job->page.n_rows;
  /* Where several processes share the run, what is shown is the run's; but what it has done may
   * hold pages of ours that are still to be booked. */
  uint64_t n_known = p->progress.n_done + n_batch + p->n_rows_unbooked;
  pthread_mutex_unlock(&p->mutex);
  uint64_t n_others = counts->n_run_done > n_known ? counts->n_run_done - n_known : 0;
  progress_add(&p->progress, n_batch + n_others, n_tokens, clock_now_ns());
}

static void book_page(pipeline *p, page_job *job) {
  size_t n_rows = job->page.n_rows;
  const store_commit_counts *counts = &job->counts;
  uint64_t n_batch = counts->n_written + counts->n_failed;
  if (job->is_dropped) {
    p->outcome->n_left += n_rows;
  } else {
    uint64_t n_tokens = count_texts(p, job),
             n_lost = n_rows - n_batch - counts->n_changed - counts->n_taken_over;
    measure_merge(&p->outcome->sums, &job->sums);
    count_rows(p, job, n_lost, n_tokens);
    pthread_mutex_lock(&p->mutex);
    if (job->status != VECMILL_OK) keep_error(p, job->status, &job->error);
    p->dropping |= job->status != VECMILL_OK;
    pthread_mutex_unlock(&p->mutex);
  }
  ingest_sums sums = job->sums;
  page_job_free(p, job);
  count_out(p, -1, n_rows);
  if (n_batch > 0) tell(p, false, n_batch, &sums);
}

static void wait_a_tick(pipeline *p) {
  uint64_t until_ns = clock_now_ns() + TICK_NS;
  struct timespec until = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};
  pthread_cond_timedwait(&p->changed_for_caller, &p->mutex, &until);
}

/* With the mutex held: ends the run early if somebody asked or something broke. */
static void look_for_the_end(pipeline *p) {
  bool asked = p->plan->stop && __atomic_load_n(p->plan->stop, __ATOMIC_RELAXED) != 0;
  if (p->ending || (!asked && p->status == VECMILL_OK)) return;
  p->ending = true;
  pthread_cond_signal(&p->changed_for_reader);
  pthread_mutex_unlock(&p->mutex);
  embed_stop(p->embed);
  pthread_mutex_lock(&p->mutex);
}

/* The next page to book; NULL: a tick passed. False: all is over. */
static bool next_committed(pipeline *p, page_job **job_out) {
  pthread_mutex_lock(&p->mutex);
  look_for_the_end(p);
  if (!p->committed.first && !(p->reader_gone && p->n_pages_out == 0)) wait_a_tick(p);
  look_for_the_end(p);
  *job_out = list_take(&p->committed);
  bool more = *job_out || !p->reader_gone || p->n_pages_out > 0;
  pthread_mutex_unlock(&p->mutex);
  return more;
}

static void keep_books(pipeline *p) {
  page_job *job;
  uint64_t told_ns = 0;
  while (next_committed(p, &job)) {
    if (job) book_page(p, job);
    if (clock_now_ns() - told_ns < TICK_NS) continue;
    told_ns = clock_now_ns();
    tell(p, true, 0, &(ingest_sums){0});
  }
}

/* --- all together --- */

static double share(uint64_t blocked_ns, uint64_t elapsed_ns) {
  return elapsed_ns && blocked_ns < elapsed_ns ? 1.0 - (double)blocked_ns / (double)elapsed_ns : 0;
}

/* A reader that has read all waits for the others, as one that waits for room does. */
static void measure(pipeline *p, uint64_t start_ns) {
  ingest_outcome *outcome = p->outcome;
  uint64_t now_ns = clock_now_ns(), elapsed_ns = now_ns - start_ns;
  p->reader_blocked_ns += now_ns - p->reader_gone_ns;
  outcome->seconds = (double)elapsed_ns * 1e-9;
  outcome->reader_busy = share(p->reader_blocked_ns, elapsed_ns);
  if (elapsed_ns) outcome->reader_waiting = (double)p->reader_slept_ns / (double)elapsed_ns;
  outcome->writer_busy = share(p->writers_blocked_ns / p->n_writers, elapsed_ns);
  outcome->n_workers = embed_n_workers(p->embed);
  outcome->worker_busy = mem_calloc(outcome->n_workers, sizeof(double));
  if (!outcome->worker_busy) outcome->n_workers = 0;
  for (unsigned i = 0; i < outcome->n_workers; i++) {
    embed_worker_stats stats;
    embed_get_worker_stats(p->embed, i, &stats);
    double busy = elapsed_ns ? (double)stats.busy_ns / (double)elapsed_ns : 0;
    outcome->worker_busy[i] = busy < 1 ? busy : 1;
    outcome->embed_busy += outcome->worker_busy[i] / outcome->n_workers;
    if (elapsed_ns)
      outcome->embed_rest += (double)stats.sleep_ns / (double)elapsed_ns / outcome->n_workers;
  }
}

/* Rows that were counted but are gone, and those that others did, have progressed too: the end is
 * the total, and all that the run has done. They are no batch of this process. */
static void finish_progress(pipeline *p) {
  const store *s = p->plan->store;
  if (p->status != VECMILL_OK || p->outcome->n_left > 0) return;
  uint64_t n_run = s->operations->n_run_done ? s->operations->n_run_done(s) : 0,
           n_end = n_run > p->progress.n_total ? n_run : p->progress.n_total;
  if (p->progress.n_done < n_end)
    progress_add(&p->progress, n_end - p->progress.n_done, 0, clock_now_ns());
  if (p->n_told < p->progress.n_done) tell(p, false, 0, &(ingest_sums){0});
}

static void pipeline_init(pipeline *p, const ingest_plan *plan, ingest_outcome *outcome) {
  *p = (pipeline){.plan = plan, .outcome = outcome};
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_mutex_init(&p->mutex, NULL);
  pthread_cond_init(&p->changed_for_reader, NULL);
  pthread_cond_init(&p->changed_for_writers, NULL);
  pthread_cond_init(&p->changed_for_caller, &monotonic);
  pthread_condattr_destroy(&monotonic);
}

static void pipeline_fini(pipeline *p) {
  embed_close(&p->embed);
  tries_fini(&p->tries);
  pthread_cond_destroy(&p->changed_for_caller);
  pthread_cond_destroy(&p->changed_for_writers);
  pthread_cond_destroy(&p->changed_for_reader);
  pthread_mutex_destroy(&p->mutex);
}

vecmill_status ingest_pipeline_run(const ingest_plan *plan, ingest_outcome *outcome_out,
                                   vecmill_error *err) {
  pipeline pipe, *p = &pipe;
  pthread_t reader;
  *outcome_out = (ingest_outcome){0};
  pipeline_init(p, plan, outcome_out);
  embed_options options = {
      .n_workers = plan->n_workers, .sleep_ns = plan->sleep_ns, .rest_every = plan->batch};
  vecmill_status status = embed_open(plan->provider, &options, &p->embed, err);
  if (status != VECMILL_OK) {
    pipeline_fini(p);
    return status;
  }
  unsigned n_workers = embed_n_workers(p->embed);
  /* One page being read, one at each writer, and enough texts between them for the workers. */
  p->max_pages = 2 + plan->store->n_writers +
                 ((size_t)n_workers * TEXTS_PER_WORKER + plan->batch - 1) / plan->batch;
  if (plan->on_start) plan->on_start(plan->context, n_workers);
  uint64_t start_ns = clock_now_ns();
  progress_init(&p->progress, plan->n_run_total ? plan->n_run_total : plan->n_total, start_ns);
  p->progress.n_done = plan->n_run_done;
  if (p->progress.n_total < p->progress.n_done) p->progress.n_total = p->progress.n_done;
  status = start_writers(p, err);
  if (status == VECMILL_OK) status = thread_start(&reader, reader_thread, p, err);
  bool has_reader = status == VECMILL_OK;
  if (has_reader) {
    keep_books(p);
    pthread_join(reader, NULL);
  }
  end_writers(p);
  if (has_reader) {
    if (p->ending && p->status == VECMILL_OK) /* and nothing tells more, as what it hung at */
      p->status = err_set(&p->error, VECMILL_ERROR_STOPPED,
                          "stopped: what was done is kept (run again to go on)");
    status = p->status;
    if (status != VECMILL_OK && err) *err = p->error;
    outcome_out->n_left += p->n_given_up;
    outcome_out->n_worn = p->n_worn;
    finish_progress(p);
    measure(p, start_ns);
  }
  pipeline_fini(p);
  return status;
}
