/* base/thread.h: how many processors this process may use, and who gets the signals. */
#include "base_test.h"

#include <sched.h>
#include <signal.h>

#include "base/clock.h"
#include "base/thread.h"

/* The answer follows the affinity mask, as under taskset, and never exceeds it. */
static void test_n_cpus_follows_affinity(void **state) {
  cpu_set_t whole, one;
  assert_int_equal(sched_getaffinity(0, sizeof whole, &whole), 0);
  unsigned n = thread_n_cpus();
  assert_in_range(n, 1, (unsigned)CPU_COUNT(&whole));
  int first = 0;
  while (!CPU_ISSET(first, &whole)) first++;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  assert_int_equal(thread_n_cpus(), 1);
  assert_int_equal(sched_setaffinity(0, sizeof whole, &whole), 0);
  assert_int_equal(thread_n_cpus(), n);
}

static void *blocked_signals(void *context) {
  pthread_sigmask(SIG_SETMASK, NULL, context);
  return context;
}

static void test_signals_stay_with_the_caller(void **state) {
  sigset_t inside, before, after;
  pthread_t thread;
  void *result;
  pthread_sigmask(SIG_SETMASK, NULL, &before);
  assert_int_equal(thread_start(&thread, blocked_signals, &inside, NULL), VECMILL_OK);
  pthread_join(thread, &result);
  assert_ptr_equal(result, &inside);
  assert_true(sigismember(&inside, SIGINT));
  assert_true(sigismember(&inside, SIGTERM));
  pthread_sigmask(SIG_SETMASK, NULL, &after);
  assert_int_equal(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
  assert_false(sigismember(&after, SIGTERM));
}

static void *slept(void *context) {
  clock_sleep_ms(20);
  *(uint64_t *)context += clock_slept_ns();
  return context;
}

/* Each thread's own. */
static void test_what_a_thread_slept(void **state) {
  uint64_t before = clock_slept_ns(), of_thread = 0;
  pthread_t thread;
  assert_int_equal(thread_start(&thread, slept, &of_thread, NULL), VECMILL_OK);
  pthread_join(thread, NULL);
  assert_true(of_thread >= 20000000);
  assert_true(clock_slept_ns() == before);
  clock_sleep_ms(5);
  clock_sleep_ms(5);
  assert_true(clock_slept_ns() >= before + 10000000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_n_cpus_follows_affinity),
      cmocka_unit_test(test_signals_stay_with_the_caller),
      cmocka_unit_test(test_what_a_thread_slept),
  };
  return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
