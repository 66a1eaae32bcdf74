/* Threads and how many of them make sense here. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

#include "base/err.h"

/*
 * Processors that this process may use: its affinity mask, cut by the cgroup's
 * CPU quota (v2 cpu.max or v1 cpu.cfs_quota_us, rounded up). At least 1.
 */
unsigned thread_n_cpus(void);

/* pthread_create with all signals blocked in the new thread: signals belong to the caller's thread.
 */
vecmill_status thread_start(pthread_t *thread_out, void *(*run)(void *), void *context,
                            vecmill_error *err);

#endif
