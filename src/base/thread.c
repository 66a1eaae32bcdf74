#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static unsigned affinity_cpus(void) {
  /* The mask grows until the kernel accepts it: machines may have over 1,024 processors. */
  for (size_t n_cpus = 1024; n_cpus <= 1u << 16; n_cpus *= 2) {
    cpu_set_t *set = CPU_ALLOC(n_cpus);
    if (!set) return 1;
    size_t n_bytes = CPU_ALLOC_SIZE(n_cpus);
    int failed = sched_getaffinity(0, n_bytes, set);
    int n = failed ? 0 : CPU_COUNT_S(n_bytes, set);
    CPU_FREE(set);
    if (n > 0) return (unsigned)n;
  }
  return 1;
}

/* Quota / period rounded up from one cgroup file pair; 0 when there is no limit. */
static unsigned quota_of(const char *folder) {
  char path[512], word[64];
  long long quota = 0, period = 0;
  snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  if (fscanf(file, "%63s %lld", word, &period) != 2 || sscanf(word, "%lld", &quota) != 1) quota = 0;
  fclose(file);
  return quota > 0 && period > 0 ? (unsigned)((quota + period - 1) / period) : 0;
}

static unsigned quota_v1(void) {
  long long quota = 0, period = 0;
  FILE *file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re");
  if (!file) return 0;
  if (fscanf(file, "%lld", &quota) != 1) quota = 0;
  fclose(file);
  file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
  if (!file) return 0;
  if (fscanf(file, "%lld", &period) != 1) period = 0;
  fclose(file);
  return quota > 0 && period > 0 ? (unsigned)((quota + period - 1) / period) : 0;
}

static unsigned min_limit(unsigned a, unsigned b) {
  if (a == 0) return b;
  return b != 0 && b < a ? b : a;
}

/* The tightest quota of this process's cgroup (v2) and of every group above it. */
static unsigned quota_cpus(void) {
  unsigned limit = min_limit(quota_v1(), quota_of(""));
  char line[512];
  FILE *file = fopen("/proc/self/cgroup", "re");
  if (!file) return limit;
  while (fgets(line, sizeof line, file)) {
    if (strncmp(line, "0::/", 4) != 0) continue;
    char *folder = line + 3;
    folder[strcspn(folder, "\n")] = '\0';
    for (char *slash; (slash = strrchr(folder, '/')) != NULL && slash[1]; *slash = '\0')
      limit = min_limit(limit, quota_of(folder));
  }
  fclose(file);
  return limit;
}

unsigned thread_n_cpus(void) {
  unsigned n = affinity_cpus();
  return min_limit(n, quota_cpus());
}

vecmill_status thread_start(pthread_t *thread_out, void *(*run)(void *), void *context,
                            vecmill_error *err) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(thread_out, NULL, run, context);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!failed) return VECMILL_OK;
  char reason[128];
  return err_set(err, VECMILL_ERROR_MEMORY, "cannot start a thread: %s (use fewer --workers)",
                 strerror_r(failed, reason, sizeof reason));
}
