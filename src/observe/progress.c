#include "observe/progress.h"

#define SLOT_NS (PROGRESS_WINDOW_NS / PROGRESS_SLOTS)

void progress_init(progress *p, uint64_t n_total, uint64_t now_ns) {
  *p = (progress){.start_ns = now_ns, .n_total = n_total, .n_slots = 1};
  p->slots[0].time_ns = now_ns;
}

void progress_add(progress *p, uint64_t n, uint64_t n_tokens, uint64_t now_ns) {
  p->n_done += n;
  p->n_tokens += n_tokens;
  if (p->n_done > p->n_total) p->n_total = p->n_done;
  if (now_ns - p->slots[p->newest].time_ns < SLOT_NS) return;
  p->newest = (p->newest + 1) % PROGRESS_SLOTS;
  if (p->n_slots < PROGRESS_SLOTS) p->n_slots++;
  p->slots[p->newest] = (struct progress_slot){now_ns, p->n_done, p->n_tokens};
}

double progress_seconds(const progress *p, uint64_t now_ns) {
  return now_ns > p->start_ns ? (double)(now_ns - p->start_ns) * 1e-9 : 0;
}

/* The oldest slot that the window still reaches; the newest one if it reaches none. */
static const struct progress_slot *window_start(const progress *p, uint64_t now_ns) {
  for (unsigned age = p->n_slots; age-- > 0;) {
    const struct progress_slot *slot =
        &p->slots[(p->newest + PROGRESS_SLOTS - age) % PROGRESS_SLOTS];
    if (now_ns - slot->time_ns <= PROGRESS_WINDOW_NS) return slot;
  }
  return &p->slots[p->newest];
}

static double rate_since(uint64_t then_ns, uint64_t now_ns, uint64_t n) {
  return now_ns > then_ns ? (double)n / ((double)(now_ns - then_ns) * 1e-9) : 0;
}

double progress_rate(const progress *p, uint64_t now_ns) {
  const struct progress_slot *slot = window_start(p, now_ns);
  return rate_since(slot->time_ns, now_ns, p->n_done - slot->n_done);
}

double progress_token_rate(const progress *p, uint64_t now_ns) {
  const struct progress_slot *slot = window_start(p, now_ns);
  return rate_since(slot->time_ns, now_ns, p->n_tokens - slot->n_tokens);
}

double progress_eta(const progress *p, uint64_t now_ns) {
  double rate = progress_rate(p, now_ns);
  return rate > 0 ? (double)(p->n_total - p->n_done) / rate : -1;
}
