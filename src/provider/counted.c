#include "provider/counted.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

#define N_BYTES (2 * sizeof(uint64_t))

typedef struct counted {
  provider base; /* first: a provider * is a counted * */
  provider *inner;
  uint64_t *counts; /* texts, calls; shared */
} counted;

static void close_counted(provider *p) {
  counted *c = (counted *)p;
  c->inner->operations->close(c->inner);
  munmap(c->counts, N_BYTES);
  mem_free(c);
}

static vecmill_status worker_open(provider *p, provider_worker **worker_out, vecmill_error *err) {
  provider *inner = ((counted *)p)->inner;
  return inner->operations->worker_open(inner, worker_out, err);
}

static void worker_close(provider *p, provider_worker *worker) {
  provider *inner = ((counted *)p)->inner;
  inner->operations->worker_close(inner, worker);
}

static vecmill_status prepare(provider *p, provider_worker *worker, const char *text,
                              size_t n_bytes, provider_item *item_out, vecmill_error *err) {
  provider *inner = ((counted *)p)->inner;
  return inner->operations->prepare(inner, worker, text, n_bytes, item_out, err);
}

/* Counted before it is done: a call that a kill ends was a call. */
static vecmill_status run(provider *p, provider_worker *worker, const provider_item *items,
                          size_t n, float *const *vectors_out, vecmill_error *err) {
  counted *c = (counted *)p;
  __atomic_fetch_add(&c->counts[0], n, __ATOMIC_RELAXED);
  __atomic_fetch_add(&c->counts[1], 1, __ATOMIC_RELAXED);
  return c->inner->operations->run(c->inner, worker, items, n, vectors_out, err);
}

static double n_operations(const provider *p, size_t n_tokens) {
  const provider *inner = ((const counted *)p)->inner;
  return inner->n_operations(inner, n_tokens);
}

static const provider_operations counted_operations = {.close = close_counted,
                                                       .worker_open = worker_open,
                                                       .worker_close = worker_close,
                                                       .prepare = prepare,
                                                       .run = run};

/* The file's two numbers, mapped. */
static vecmill_status map_counts(const char *path, uint64_t **counts_out, vecmill_error *err) {
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return err_set_errno(err, errno, "cannot count into", path);
  void *counts = MAP_FAILED;
  if (ftruncate(file, N_BYTES) == 0)
    counts = mmap(NULL, N_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  int problem = errno;
  close(file);
  if (counts == MAP_FAILED) return err_set_errno(err, problem, "cannot count into", path);
  *counts_out = counts;
  return VECMILL_OK;
}

vecmill_status provider_count(provider **p, const char *path, vecmill_error *err) {
  counted *c = mem_calloc(1, sizeof *c);
  if (!c) return err_set_memory(err, path, sizeof *c);
  vecmill_status status = map_counts(path, &c->counts, err);
  if (status != VECMILL_OK) {
    mem_free(c);
    return status;
  }
  c->base = **p; /* its sizes */
  c->base.operations = &counted_operations;
  c->base.n_operations = (*p)->n_operations ? n_operations : NULL;
  c->inner = *p;
  *p = &c->base;
  return VECMILL_OK;
}
