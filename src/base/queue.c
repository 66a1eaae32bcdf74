#include "base/queue.h"

#include "base/mem.h"

vecmill_status queue_init(queue *q, size_t capacity, vecmill_error *err) {
  *q = (queue){.capacity = capacity ? capacity : 1};
  q->items = mem_calloc(q->capacity, sizeof *q->items);
  if (!q->items) return err_set_memory(err, "queue", q->capacity * sizeof *q->items);
  pthread_mutex_init(&q->mutex, NULL);
  pthread_cond_init(&q->not_full, NULL);
  pthread_cond_init(&q->not_empty, NULL);
  return VECMILL_OK;
}

void queue_fini(queue *q) {
  if (!q->items) return;
  pthread_cond_destroy(&q->not_empty);
  pthread_cond_destroy(&q->not_full);
  pthread_mutex_destroy(&q->mutex);
  mem_free(q->items);
  q->items = NULL;
}

bool queue_push(queue *q, void *item) {
  pthread_mutex_lock(&q->mutex);
  while (q->n == q->capacity && !q->closed) pthread_cond_wait(&q->not_full, &q->mutex);
  bool pushed = !q->closed;
  if (pushed) {
    q->items[(q->head + q->n++) % q->capacity] = item;
    pthread_cond_signal(&q->not_empty);
  }
  pthread_mutex_unlock(&q->mutex);
  return pushed;
}

/* With the mutex held and something in the queue. */
static void *take(queue *q) {
  void *item = q->items[q->head];
  q->head = (q->head + 1) % q->capacity;
  q->n--;
  pthread_cond_signal(&q->not_full);
  return item;
}

bool queue_pop(queue *q, void **item_out) {
  pthread_mutex_lock(&q->mutex);
  while (q->n == 0 && !q->closed) pthread_cond_wait(&q->not_empty, &q->mutex);
  bool popped = q->n > 0;
  if (popped) *item_out = take(q);
  pthread_mutex_unlock(&q->mutex);
  return popped;
}

bool queue_try_pop(queue *q, void **item_out) {
  pthread_mutex_lock(&q->mutex);
  bool popped = q->n > 0;
  if (popped) *item_out = take(q);
  pthread_mutex_unlock(&q->mutex);
  return popped;
}

void queue_close(queue *q) {
  pthread_mutex_lock(&q->mutex);
  q->closed = true;
  pthread_cond_broadcast(&q->not_full);
  pthread_cond_broadcast(&q->not_empty);
  pthread_mutex_unlock(&q->mutex);
}
