/* The embedding processor over a provider whose vectors are known and that checks what it is given.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "embed/embed.h"
#include "../ingest/fake_provider.h"

static vecmill_error error;
static int n_calls, n_bad_batches;
static int n_wanted; /* a batch does not end before so many have begun (5 s at most) */
static int is_held;  /* no batch ends while this is set (5 s at most) */

/* Counts batches, and refuses a whole batch in which one text begins with "BAD". */
static vecmill_status checking_run(provider *p, provider_worker *worker, const provider_item *items,
                                   size_t n, float *const *vectors_out, vecmill_error *err) {
  size_t n_tokens = 0;
  for (size_t i = 0; i < n; i++) n_tokens += items[i].n_tokens;
  __atomic_add_fetch(&n_calls, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < 500 && __atomic_load_n(&n_calls, __ATOMIC_RELAXED) < n_wanted; i++)
    clock_sleep_ms(10);
  for (int i = 0; i < 500 && __atomic_load_n(&is_held, __ATOMIC_RELAXED); i++) clock_sleep_ms(10);
  if (n == 0 || n > p->max_batch_items || n_tokens > p->max_batch_tokens)
    __atomic_add_fetch(&n_bad_batches, 1, __ATOMIC_RELAXED);
  for (size_t i = 0; i < n; i++) {
    const fake_item *item = items[i].data;
    if (item->n >= 3 && memcmp(item->text, "BAD", 3) == 0)
      return err_set(err, VECMILL_ERROR_FORMAT, "bad text in the batch");
  }
  return fake_run(p, worker, items, n, vectors_out, err);
}

static provider_operations checking;
static fake_provider fake;

static int setup(void **state) {
  (void)state;
  fake_init(&fake);
  checking = fake_operations;
  checking.run = checking_run;
  fake.base.operations = &checking;
  n_calls = n_bad_batches = n_wanted = is_held = 0;
  memset(&error, 0, sizeof error);
  return 0;
}

#define N_JOBS 40
static struct {
  embed_job job;
  embed_text texts[30];
  float vectors[30][FAKE_DIMENSION];
  char words[30][64];
  int n_done;
} jobs[N_JOBS];

static void job_done(embed_job *job) {
  int *n_done = job->user;
  __atomic_add_fetch(n_done, 1, __ATOMIC_RELAXED);
}

static embed_job *make_job(int j) {
  memset(&jobs[j], 0, sizeof jobs[j]);
  size_t n = (size_t)(j * 7 % 31);
  for (size_t i = 0; i < n; i++) {
    snprintf(jobs[j].words[i], sizeof jobs[j].words[i], "%.*s%d %zu", (int)(i % 20),
             "....................", j, i);
    jobs[j].texts[i] = (embed_text){.text = jobs[j].words[i],
                                    .n_bytes = strlen(jobs[j].words[i]),
                                    .vector = jobs[j].vectors[i]};
  }
  jobs[j].job =
      (embed_job){.texts = jobs[j].texts, .n_texts = n, .done = job_done, .user = &jobs[j].n_done};
  return &jobs[j].job;
}

static embed *open_embed(unsigned n_workers, size_t max_waiting) {
  embed *e = NULL;
  embed_options options = {.n_workers = n_workers, .max_texts_waiting = max_waiting};
  assert_int_equal(embed_open(&fake.base, &options, &e, &error), VECMILL_OK);
  return e;
}

static void expect_vector(const embed_text *text) {
  float expected[FAKE_DIMENSION];
  fake_vector(text->text, text->n_bytes, expected);
  assert_int_equal(text->status, VECMILL_OK);
  assert_memory_equal(text->vector, expected, sizeof expected);
}

static void test_all_done_once(void **state) {
  (void)state;
  for (unsigned n_workers = 1; n_workers <= 4; n_workers++) {
    embed *e = open_embed(n_workers, n_workers == 3 ? 1 : 0);
    size_t n_texts = 0;
    for (int j = 0; j < N_JOBS; j++) {
      n_texts += make_job(j)->n_texts;
      assert_int_equal(embed_submit(e, &jobs[j].job, &error), VECMILL_OK);
    }
    embed_drain(e);
    for (int j = 0; j < N_JOBS; j++) {
      assert_int_equal(jobs[j].n_done, 1);
      for (size_t i = 0; i < jobs[j].job.n_texts; i++) expect_vector(&jobs[j].texts[i]);
    }
    embed_stats stats;
    embed_get_stats(e, &stats);
    assert_int_equal(stats.n_texts, n_texts);
    assert_int_equal(stats.n_failed, 0);
    uint64_t n_by_workers = 0;
    for (unsigned i = 0; i < n_workers; i++) {
      embed_worker_stats own;
      embed_get_worker_stats(e, i, &own);
      n_by_workers += own.n_texts;
    }
    assert_int_equal(n_by_workers, n_texts);
    embed_close(&e);
    assert_null(e);
  }
  assert_int_equal(n_bad_batches, 0);
}

/* Batches fill up across jobs: one worker, many small jobs, all waiting before it may begin. */
static void test_batches_are_full(void **state) {
  (void)state;
  embed *e = open_embed(1, 100000);
  size_t n_tokens = 0;
  __atomic_store_n(&is_held, 1, __ATOMIC_RELAXED); /* the first batch, until all jobs are there */
  for (int j = 0; j < N_JOBS; j++)
    assert_int_equal(embed_submit(e, make_job(j), &error), VECMILL_OK);
  __atomic_store_n(&is_held, 0, __ATOMIC_RELAXED);
  embed_drain(e);
  for (int j = 0; j < N_JOBS; j++)
    for (size_t i = 0; i < jobs[j].job.n_texts; i++) n_tokens += jobs[j].texts[i].n_tokens;
  assert_true((size_t)n_calls <=
              n_tokens / 40 + 12); /* 64 a batch at best, at least 49 once held items count */
  embed_close(&e);
}

static void test_one_bad_text(void **state) {
  (void)state;
  embed *e = open_embed(2, 0);
  make_job(4); /* 28 texts */
  strcpy(jobs[4].words[9], "BAD one");
  strcpy(jobs[4].words[17], "FAIL at once");
  for (int i = 9; i <= 17; i += 8) jobs[4].texts[i].n_bytes = strlen(jobs[4].words[i]);
  assert_int_equal(embed_submit(e, &jobs[4].job, &error), VECMILL_OK);
  embed_drain(e);
  for (size_t i = 0; i < 28; i++)
    if (i != 9 && i != 17) expect_vector(&jobs[4].texts[i]);
  assert_int_equal(jobs[4].texts[9].status, VECMILL_ERROR_FORMAT);
  assert_non_null(strstr(jobs[4].texts[9].reason, "bad text"));
  assert_non_null(strstr(jobs[4].texts[17].reason, "told to fail"));
  mem_free(jobs[4].texts[9].reason);
  mem_free(jobs[4].texts[17].reason);
  embed_stats stats;
  embed_get_stats(e, &stats);
  assert_int_equal(stats.n_failed, 2);
  embed_close(&e);
}

static void test_stop(void **state) {
  (void)state;
  fake.delay_us = 200;
  embed *e = open_embed(2, 100000);
  size_t n_ok = 0, n_stopped = 0;
  for (int j = 0; j < N_JOBS; j++)
    assert_int_equal(embed_submit(e, make_job(j), &error), VECMILL_OK);
  embed_stop(e);
  embed_drain(e);
  for (int j = 0; j < N_JOBS; j++) {
    assert_int_equal(jobs[j].n_done, 1);
    for (size_t i = 0; i < jobs[j].job.n_texts; i++) {
      embed_text *text = &jobs[j].texts[i];
      if (text->status == VECMILL_OK) expect_vector(text), n_ok++;
      else assert_int_equal(text->status, VECMILL_ERROR_STOPPED), n_stopped++;
      mem_free(text->reason);
    }
  }
  assert_true(n_stopped > n_ok);
  assert_int_equal(embed_submit(e, make_job(5), &error), VECMILL_ERROR_STOPPED);
  assert_int_equal(jobs[5].n_done, 0);
  embed_close(&e);
}

static void free_job(embed_job *job) {
  int *n_done = job->user;
  mem_free(job->texts->vector);
  mem_free(job->texts);
  mem_free(job);
  __atomic_add_fetch(n_done, 1, __ATOMIC_RELAXED);
}

/* A job belongs to its submitter again from done() on: nothing may look at it after that. */
static void test_done_may_free_the_job(void **state) {
  (void)state;
  int n_done = 0;
  embed *e = open_embed(2, 0);
  for (int i = 0; i < 2000; i++) {
    embed_job *job = mem_calloc(1, sizeof *job);
    embed_text *text = mem_calloc(1, sizeof *text);
    *text = (embed_text){.text = "a", .n_bytes = 1};
    text->vector = mem_calloc(FAKE_DIMENSION, sizeof(float));
    *job = (embed_job){.texts = text, .n_texts = 1, .done = free_job, .user = &n_done};
    assert_int_equal(embed_submit(e, job, &error), VECMILL_OK);
    if (i % 2) embed_drain(e);
  }
  embed_drain(e);
  assert_int_equal(n_done, 2000);
  embed_close(&e);
}

/* Few texts, that would fit one batch: they are shared, so that both workers run at once. */
static void test_shared_out_at_the_end(void **state) {
  (void)state;
  fake.base.best_batch_tokens = fake.base.max_batch_tokens = 4000;
  fake.base.max_batch_items = 4000;
  embed *e = open_embed(2, 0);
  embed_submit(e, make_job(4), &error); /* teaches it the tokens a byte */
  embed_drain(e);
  n_calls = 0;
  n_wanted = 2;
  static embed_text texts[400];
  static float vectors[400][FAKE_DIMENSION];
  for (int i = 0; i < 400; i++)
    texts[i] = (embed_text){.text = "eight of", .n_bytes = 8, .vector = vectors[i]};
  int n_done = 0;
  embed_job job = {.texts = texts, .n_texts = 400, .done = job_done, .user = &n_done};
  embed_submit(e, &job, &error);
  embed_drain(e);
  assert_in_range(n_calls, 2, 400);
  embed_worker_stats stats[2];
  for (unsigned i = 0; i < 2; i++) embed_get_worker_stats(e, i, &stats[i]);
  assert_true(stats[0].n_texts >= 60 && stats[1].n_texts >= 60);
  embed_close(&e);
}

static embed *open_resting(uint64_t sleep_ns, size_t rest_every) {
  embed *e = NULL;
  embed_options options = {.n_workers = 1,
                           .max_texts_waiting = 100000,
                           .sleep_ns = sleep_ns,
                           .rest_every = rest_every};
  assert_int_equal(embed_open(&fake.base, &options, &e, &error), VECMILL_OK);
  return e;
}

/* n texts of a length in one job. */
static void expect_rests(size_t n, size_t n_bytes, size_t rest_every, uint64_t sleep_ns) {
  static embed_text texts[400];
  static float vectors[400][FAKE_DIMENSION];
  static char text[1000];
  memset(text, '.', sizeof text);
  for (size_t i = 0; i < n; i++)
    texts[i] = (embed_text){.text = text, .n_bytes = n_bytes, .vector = vectors[i]};
  int n_done = 0;
  embed_job job = {.texts = texts, .n_texts = n, .done = job_done, .user = &n_done};
  uint64_t from_ns = clock_now_ns();
  embed *e = open_resting(sleep_ns, rest_every);
  assert_int_equal(embed_submit(e, &job, &error), VECMILL_OK);
  embed_drain(e);
  embed_worker_stats stats;
  embed_get_worker_stats(e, 0, &stats);
  uint64_t elapsed_ns = clock_now_ns() - from_ns;
  size_t n_rests = rest_every ? (n - 1) / rest_every : 0;
  assert_int_equal(stats.n_rests, n_rests);
  assert_true(elapsed_ns >= n_rests * sleep_ns);
  assert_true(stats.sleep_ns <= stats.wait_ns && stats.sleep_ns >= n_rests * sleep_ns / 2);
  assert_true(stats.busy_ns + stats.wait_ns <= elapsed_ns);
  for (size_t i = 0; i < n; i++) expect_vector(&texts[i]);
  embed_close(&e);
}

/* After as many texts as were asked for, whether those are part of a batch of tokens or many of
 * them; not after the last text; and the rest counts as waiting, not as work. */
static void test_rests(void **state) {
  (void)state;
  const uint64_t sleep_ns = 5000000;
  static const size_t n_bytes[] = {1, 60, 1000};
  for (size_t i = 0; i < 3; i++) {
    expect_rests(300, n_bytes[i], 100, sleep_ns);
    expect_rests(301, n_bytes[i], 100, sleep_ns);
    expect_rests(40, n_bytes[i], 1, sleep_ns);
    expect_rests(95, n_bytes[i], 7, sleep_ns);
    expect_rests(99, n_bytes[i], 100, sleep_ns);
    expect_rests(300, n_bytes[i], 0, sleep_ns);
  }
  assert_int_equal(n_bad_batches, 0);
}

/* The time in which no text waits is a part of the rest. */
static void test_waiting_is_rest(void **state) {
  (void)state;
  const uint64_t sleep_ns = 20000000;
  embed *e = open_resting(sleep_ns, 30);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(make_job(22)->n_texts, 30);
    assert_int_equal(embed_submit(e, &jobs[22].job, &error), VECMILL_OK);
    embed_drain(e);
    clock_sleep_ms(100);
  }
  embed_worker_stats stats;
  embed_get_worker_stats(e, 0, &stats);
  assert_int_equal(stats.n_texts, 150);
  assert_int_equal(stats.n_rests, 4);
  assert_true(stats.sleep_ns < stats.n_rests * sleep_ns); /* none, unless the machine is busy */
  embed_close(&e);
}

/* It would rest for an hour: a stop, and a close, end that at once. */
static void test_stop_ends_a_rest(void **state) {
  (void)state;
  for (int stops = 0; stops < 2; stops++) {
    embed *e = open_resting(3600ull * 1000000000u, 10);
    size_t n_stopped = 0;
    for (int j = 0; j < 20; j++) assert_int_equal(embed_submit(e, make_job(j), &error), VECMILL_OK);
    embed_worker_stats stats = {0};
    while (stats.n_batches == 0) {
      clock_sleep_ms(1);
      embed_get_worker_stats(e, 0, &stats);
    }
    if (stops) embed_stop(e), embed_drain(e);
    embed_close(&e);
    for (int j = 0; j < 20; j++)
      for (size_t i = 0; i < jobs[j].job.n_texts; i++) {
        n_stopped += jobs[j].texts[i].status == VECMILL_ERROR_STOPPED;
        mem_free(jobs[j].texts[i].reason);
      }
    assert_true(n_stopped > 0);
  }
}

static void test_memory_fails(void **state) {
  (void)state;
  long n = 0;
  for (vecmill_status status = VECMILL_ERROR_MEMORY; status != VECMILL_OK; n++) {
    embed *e = NULL;
    embed_options options = {.n_workers = 2};
    mem_fail_after(n);
    status = embed_open(&fake.base, &options, &e, &error);
    mem_fail_after(-1);
    assert_true(status == VECMILL_OK || status == VECMILL_ERROR_MEMORY);
    embed_close(&e);
  }
  assert_true(n > 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_all_done_once, setup),
      cmocka_unit_test_setup(test_batches_are_full, setup),
      cmocka_unit_test_setup(test_one_bad_text, setup),
      cmocka_unit_test_setup(test_stop, setup),
      cmocka_unit_test_setup(test_done_may_free_the_job, setup),
      cmocka_unit_test_setup(test_shared_out_at_the_end, setup),
      cmocka_unit_test_setup(test_rests, setup),
      cmocka_unit_test_setup(test_waiting_is_rest, setup),
      cmocka_unit_test_setup(test_stop_ends_a_rest, setup),
      cmocka_unit_test_setup(test_memory_fails, setup),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
