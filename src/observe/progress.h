/*
 * How far, how fast, how long still. Arithmetic only: the caller gives the time,
 * so that tests can.
 *
 * The rate is that of the last PROGRESS_WINDOW_NS (of the whole time while it
 * is shorter): it follows a machine whose neighbours come and go, and one slow batch does
 * not throw the ETA about.
 */
#ifndef OBSERVE_PROGRESS_H
#define OBSERVE_PROGRESS_H

#include <stdint.h>

#define PROGRESS_WINDOW_NS 10000000000ull
#define PROGRESS_SLOTS 20 /* the window moves in steps of a twentieth */

typedef struct progress {
  uint64_t start_ns;
  uint64_t n_total, n_done; /* n_done <= n_total always: the total grows with it */
  uint64_t n_tokens;
  struct progress_slot {
    uint64_t time_ns, n_done, n_tokens; /* the sums at that time */
  } slots[PROGRESS_SLOTS];
  unsigned n_slots, newest;
} progress;

void progress_init(progress *p, uint64_t n_total, uint64_t now_ns);

/* n rows more are done. */
void progress_add(progress *p, uint64_t n, uint64_t n_tokens, uint64_t now_ns);

double progress_seconds(const progress *p, uint64_t now_ns);
double progress_rate(const progress *p, uint64_t now_ns);       /* rows a second, lately */
double progress_token_rate(const progress *p, uint64_t now_ns); /* tokens a second, lately */
/* seconds; -1 while there is no rate */
double progress_eta(const progress *p, uint64_t now_ns);

#endif
