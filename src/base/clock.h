/* Time. Durations come from the monotonic clock; nothing else measures them. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_now_ns(void);        /* monotonic */
uint64_t clock_thread_cpu_ns(void); /* processor time of the calling thread */
void clock_sleep_ms(unsigned ms);   /* returns early on a signal */
uint64_t clock_slept_ns(void);      /* by the calling thread, ever, in clock_sleep_ms */

#endif
