#include <vecmill/system.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "cpu/cpu.h"
#include "kernel/measure.h"
#include "kernel/nn/nn.h"

#define MAX_THREADS 1024

const char *vecmill_version(void) {
  return VECMILL_VERSION;
}

static char features_used[80], features_native[80];
static const char *unknown_mask;
static pthread_once_t described = PTHREAD_ONCE_INIT;

static void describe(char *text, unsigned features) {
  for (unsigned bit = 1; cpu_feature_name(bit) != NULL; bit <<= 1) {
    if (features & bit) {
      strcat(strcat(text, text[0] != '\0' ? " " : ""), cpu_feature_name(bit));
    }
  }
}

static void describe_all(void) {
  describe(features_used, cpu_features());
  describe(features_native, cpu_features_native());
  cpu_features_masked_by(cpu_features_native(), getenv("VECMILL_CPU"), &unknown_mask);
}

void vecmill_system_get(vecmill_system *system_out) {
  pthread_once(&described, describe_all);
  *system_out = (vecmill_system){
      .processor = cpu_brand(),
      .features = features_used,
      .features_native = features_native,
      .unknown_mask = unknown_mask,
      .kernels = nn_select(cpu_features())->name,
      .n_cpus = thread_n_cpus(),
  };
}

const char *vecmill_system_variant(size_t i, int *runs_out) {
  unsigned needs;
  const nn_kernels *kernels = nn_variant(i, &needs);
  if (kernels == NULL) {
    return NULL;
  }
  *runs_out = (needs & cpu_features()) == needs;
  return kernels->name;
}

const char *vecmill_system_kernel(size_t i, const char **help_out) {
  const char *help;
  const char *name = measure_name(i, &help);
  if (name != NULL && help_out != NULL) {
    *help_out = help;
  }
  return name;
}

/* One thread's part. The mutex is held by whoever starts the threads until all are there. */
typedef struct runner {
  measure *work;
  size_t n_loops;
  pthread_mutex_t *gate;
  pthread_barrier_t *barrier;
  const int *cancelled;
  double seconds, *speeds; /* one speed a loop */
} runner;

static void *run_loops(void *context) {
  runner *r = context;
  pthread_mutex_lock(r->gate);
  pthread_mutex_unlock(r->gate);
  if (*r->cancelled) {
    return NULL;
  }
  double loop_ns = r->seconds * 1e9 / (double)r->n_loops;
  for (size_t loop = 0; loop < r->n_loops; loop++) {
    measure_run(r->work, loop); /* touches the data and wakes the wide units */
    pthread_barrier_wait(r->barrier);
    double operations = 0;
    uint64_t start = clock_now_ns(), now = start;
    do {
      operations += measure_run(r->work, loop);
      now = clock_now_ns();
    } while ((double)(now - start) < loop_ns);
    r->speeds[loop] = operations * 1e9 / (double)(now - start);
  }
  return NULL;
}

static vecmill_status start_and_join(runner *runners, unsigned n_threads, pthread_t *threads,
                                     vecmill_error *err) {
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_barrier_t barrier;
  int cancelled = 0;
  vecmill_status status = VECMILL_OK;
  if (pthread_barrier_init(&barrier, NULL, n_threads) != 0) {
    return err_set_memory(err, "measuring a kernel", sizeof barrier);
  }
  pthread_mutex_lock(&gate);
  unsigned n_started = 0;
  for (; n_started < n_threads && status == VECMILL_OK; n_started += status == VECMILL_OK) {
    runners[n_started].gate = &gate;
    runners[n_started].barrier = &barrier;
    runners[n_started].cancelled = &cancelled;
    status = thread_start(&threads[n_started], run_loops, &runners[n_started], err);
  }
  cancelled = status != VECMILL_OK;
  pthread_mutex_unlock(&gate);
  for (unsigned i = 0; i < n_started; i++) {
    pthread_join(threads[i], NULL);
  }
  pthread_barrier_destroy(&barrier);
  return status;
}

/* Loops run in step across the threads, so the best loop is the best of the sums. */
static void best_loop(const runner *runners, unsigned n_threads, vecmill_system_speed *speed_out) {
  double best = 0;
  for (size_t loop = 0; loop < runners[0].n_loops; loop++) {
    double sum = 0;
    for (unsigned i = 0; i < n_threads; i++) {
      sum += runners[i].speeds[loop];
    }
    best = sum > best ? sum : best;
  }
  *speed_out = (vecmill_system_speed){best, runners[0].seconds};
}

static vecmill_status open_runners(const char *kernel, runner *runners, unsigned n_threads,
                                   double seconds, vecmill_error *err) {
  for (unsigned i = 0; i < n_threads; i++) {
    vecmill_status status = measure_open(kernel, cpu_features(), &runners[i].work, err);
    if (status != VECMILL_OK) {
      return status;
    }
    runners[i].seconds = seconds;
    runners[i].n_loops = measure_n_loops(runners[i].work);
    runners[i].speeds = mem_calloc(runners[i].n_loops, sizeof(double));
    if (runners[i].speeds == NULL) {
      return err_set_memory(err, "measuring a kernel", runners[i].n_loops * sizeof(double));
    }
  }
  return VECMILL_OK;
}

vecmill_status vecmill_system_measure(const char *kernel, unsigned n_threads, double seconds,
                                      vecmill_system_speed *speed_out, vecmill_error *err) {
  *speed_out = (vecmill_system_speed){0};
  if (n_threads < 1 || n_threads > MAX_THREADS) {
    return err_set(err, VECMILL_ERROR_ARGUMENT, "measure: %u threads: out of range (1 to %d)",
                   n_threads, MAX_THREADS);
  }
  if (!(seconds >= 0.001 && seconds <= 60)) {
    return err_set(err, VECMILL_ERROR_ARGUMENT, "measure: %g seconds: out of range (0.001 to 60)",
                   seconds);
  }
  vecmill_status status = VECMILL_ERROR_MEMORY;
  runner *runners = mem_calloc(n_threads, sizeof *runners);
  pthread_t *threads = mem_calloc(n_threads, sizeof *threads);
  if (runners == NULL || threads == NULL) {
    err_set_memory(err, "measuring a kernel", n_threads * sizeof *runners);
  } else if ((status = open_runners(kernel, runners, n_threads, seconds, err)) == VECMILL_OK &&
             (status = start_and_join(runners, n_threads, threads, err)) == VECMILL_OK) {
    best_loop(runners, n_threads, speed_out);
  }
  for (unsigned i = 0; runners != NULL && i < n_threads; i++) {
    measure_close(&runners[i].work);
    mem_free(runners[i].speeds);
  }
  mem_free(runners);
  mem_free(threads);
  return status;
}
