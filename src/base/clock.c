#include "base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_now_ns(void) {
  return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_thread_cpu_ns(void) {
  return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static _Thread_local uint64_t slept_ns;

void clock_sleep_ms(unsigned ms) {
  uint64_t from_ns = clock_now_ns();
  struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
  nanosleep(&t, NULL);
  slept_ns += clock_now_ns() - from_ns;
}

uint64_t clock_slept_ns(void) {
  return slept_ns;
}
