/*
 * A bounded queue of pointers between threads: a full queue blocks its
 * producer, so memory does not grow with the work.
 *
 * close() does not block: pushes fail from then on, pops drain what is left and
 * then fail. Any thread may call any function; fini() needs all others gone.
 */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct queue {
  pthread_mutex_t mutex;
  pthread_cond_t not_full, not_empty;
  void **items;
  size_t capacity, head, n;
  bool closed;
} queue;

vecmill_status queue_init(queue *q, size_t capacity, vecmill_error *err);
void queue_fini(queue *q);

bool queue_push(queue *q, void *item);         /* blocks while full; false once closed */
bool queue_pop(queue *q, void **item_out);     /* blocks while empty; false once closed and empty */
bool queue_try_pop(queue *q, void **item_out); /* never blocks; false when there is nothing now */
void queue_close(queue *q);

#endif
