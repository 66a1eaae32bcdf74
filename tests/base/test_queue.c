/* base/queue.h: order, bounds, closing, and many threads at once. */
#include "base_test.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/queue.h"
#include "base/thread.h"

enum { N_PRODUCERS = 4, N_CONSUMERS = 3, N_EACH = 5000 };

typedef struct shared {
  queue q;
  atomic_uchar seen[N_PRODUCERS * N_EACH];
  atomic_uint n_started, n_done;
} shared;

typedef struct producer {
  shared *all;
  unsigned index;
} producer;

static void *number(size_t i) {
  return (void *)(uintptr_t)i;
}

static void wait_until(atomic_uint *counter, unsigned value) {
  while (atomic_load(counter) < value) clock_sleep_ms(1);
}

static void test_order_and_bounds(void **state) {
  queue q;
  void *item;
  assert_int_equal(queue_init(&q, 3, NULL), VECMILL_OK);
  assert_false(queue_try_pop(&q, &item));
  for (size_t round = 0; round < 5; round++) { /* the ring wraps */
    for (size_t i = 0; i < 3; i++) assert_true(queue_push(&q, number(round * 3 + i)));
    for (size_t i = 0; i < 3; i++) {
      assert_true(i == 1 ? queue_try_pop(&q, &item) : queue_pop(&q, &item));
      assert_ptr_equal(item, number(round * 3 + i));
    }
  }
  queue_fini(&q);
  queue_fini(&q); /* tolerated */
}

static void test_close_drains(void **state) {
  queue q;
  void *item;
  assert_int_equal(queue_init(&q, 3, NULL), VECMILL_OK);
  assert_true(queue_push(&q, number(1)));
  assert_true(queue_push(&q, number(2)));
  queue_close(&q);
  assert_false(queue_push(&q, number(3)));
  assert_true(queue_pop(&q, &item));
  assert_ptr_equal(item, number(1));
  assert_true(queue_pop(&q, &item));
  assert_ptr_equal(item, number(2));
  assert_false(queue_pop(&q, &item));
  queue_fini(&q);
}

static void *push_one(void *context) {
  shared *all = context;
  atomic_fetch_add(&all->n_started, 1);
  bool pushed = queue_push(&all->q, number(9));
  atomic_fetch_add(&all->n_done, 1);
  return number(pushed);
}

static void *pop_one(void *context) {
  shared *all = context;
  void *item;
  atomic_fetch_add(&all->n_started, 1);
  bool popped = queue_pop(&all->q, &item);
  atomic_fetch_add(&all->n_done, 1);
  return number(popped);
}

/* A push into a full queue waits for room; a close wakes whoever waits, on either side. */
static void test_full_blocks_until_room(void **state) {
  shared *all = mem_calloc(1, sizeof *all);
  pthread_t thread;
  void *item, *result;
  assert_int_equal(queue_init(&all->q, 1, NULL), VECMILL_OK);
  assert_true(queue_push(&all->q, number(1)));
  assert_int_equal(thread_start(&thread, push_one, all, NULL), VECMILL_OK);
  wait_until(&all->n_started, 1);
  clock_sleep_ms(30);
  assert_int_equal(atomic_load(&all->n_done), 0);
  assert_true(queue_pop(&all->q, &item));
  pthread_join(thread, &result);
  assert_ptr_equal(result, number(true));
  assert_true(queue_pop(&all->q, &item));
  assert_ptr_equal(item, number(9));
  queue_fini(&all->q);
  mem_free(all);
}

static void test_close_wakes(void *(*run)(void *), bool full) {
  shared *all = mem_calloc(1, sizeof *all);
  pthread_t threads[3];
  void *result;
  assert_int_equal(queue_init(&all->q, 1, NULL), VECMILL_OK);
  if (full) assert_true(queue_push(&all->q, number(1)));
  for (int i = 0; i < 3; i++)
    assert_int_equal(thread_start(&threads[i], run, all, NULL), VECMILL_OK);
  wait_until(&all->n_started, 3);
  clock_sleep_ms(10);
  assert_int_equal(atomic_load(&all->n_done), 0);
  queue_close(&all->q);
  for (int i = 0; i < 3; i++) {
    pthread_join(threads[i], &result);
    assert_ptr_equal(result, number(false));
  }
  queue_fini(&all->q);
  mem_free(all);
}

static void test_close_wakes_producers(void **state) {
  test_close_wakes(push_one, true);
}

static void test_close_wakes_consumers(void **state) {
  test_close_wakes(pop_one, false);
}

static void *produce(void *context) {
  producer *me = context;
  for (size_t i = 0; i < N_EACH; i++) queue_push(&me->all->q, number(me->index * N_EACH + i));
  return NULL;
}

/* Each producer's items leave in the order it pushed them: a consumer sees them rising. */
static void *consume(void *context) {
  shared *all = context;
  size_t last[N_PRODUCERS] = {0}, n_disorder = 0;
  void *item;
  while (queue_pop(&all->q, &item)) {
    size_t i = (size_t)(uintptr_t)item, from = i / N_EACH;
    if (i % N_EACH + 1 <= last[from]) n_disorder++;
    last[from] = i % N_EACH + 1;
    atomic_fetch_add(&all->seen[i], 1);
  }
  return number(n_disorder);
}

static void test_many_threads(void **state) {
  shared *all = mem_calloc(1, sizeof *all);
  producer producers[N_PRODUCERS];
  pthread_t pushing[N_PRODUCERS], popping[N_CONSUMERS];
  void *result;
  assert_int_equal(queue_init(&all->q, 7, NULL), VECMILL_OK);
  for (int i = 0; i < N_CONSUMERS; i++)
    assert_int_equal(thread_start(&popping[i], consume, all, NULL), 0);
  for (unsigned i = 0; i < N_PRODUCERS; i++) {
    producers[i] = (producer){all, i};
    assert_int_equal(thread_start(&pushing[i], produce, &producers[i], NULL), 0);
  }
  for (int i = 0; i < N_PRODUCERS; i++) pthread_join(pushing[i], NULL);
  queue_close(&all->q);
  for (int i = 0; i < N_CONSUMERS; i++) {
    pthread_join(popping[i], &result);
    assert_ptr_equal(result, number(0));
  }
  for (size_t i = 0; i < N_PRODUCERS * N_EACH; i++) assert_int_equal(all->seen[i], 1);
  queue_fini(&all->q);
  mem_free(all);
}

static void test_out_of_memory(void **state) {
  queue q;
  vecmill_error err = {0};
  mem_fail_after(0);
  vecmill_status status = queue_init(&q, 4, &err);
  mem_fail_after(-1);
  assert_int_equal(status, VECMILL_ERROR_MEMORY);
  assert_int_equal(err.status, VECMILL_ERROR_MEMORY);
  queue_fini(&q); /* of a half-built queue */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_order_and_bounds),       cmocka_unit_test(test_close_drains),
      cmocka_unit_test(test_full_blocks_until_room), cmocka_unit_test(test_close_wakes_producers),
      cmocka_unit_test(test_close_wakes_consumers),  cmocka_unit_test(test_many_threads),
      cmocka_unit_test(test_out_of_memory),
  };
  return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
