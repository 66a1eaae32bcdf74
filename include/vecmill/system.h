/*
 * What this machine is, which kernels it runs, and how fast they are.
 *
 * All calls may be made from any thread. Strings are static: never freed.
 */
#ifndef VECMILL_SYSTEM_H
#define VECMILL_SYSTEM_H

#include <stddef.h>

#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

VECMILL_API const char *vecmill_version(void); /* "0.1.0" */

typedef struct vecmill_system {
  const char *processor;       /* brand string, or "unknown" */
  const char *features;        /* in use: "avx2 avx512 vnni bf16", "" for none */
  const char *features_native; /* what the processor has, before VECMILL_CPU masks any */
  /* the first item of VECMILL_CPU that names no feature (and what follows it), or NULL */
  const char *unknown_mask;
  const char *kernels; /* the variant in use: "c", "avx2", "avx512" or "neon" */
  unsigned n_cpus;     /* processors that this process may use: affinity and cgroup quota */
} vecmill_system;

VECMILL_API void vecmill_system_get(vecmill_system *system_out);

/*
 * The i-th compiled kernel variant, from the C reference up; NULL past the end. *runs_out: this
 * processor can run it.
 */
VECMILL_API const char *vecmill_system_variant(size_t i, int *runs_out);

/*
 * The i-th library that this one runs with: "sqlite", "libpq", "jansson", "openssl"; NULL past the end.
 * *version_out: of what is loaded, not of what was there at build time.
 */
VECMILL_API const char *vecmill_system_library(size_t i, const char **version_out);

/*
 * What can be measured. Names are stable:
 *   peak_fma_f32        the best of several loops of independent fused multiply-adds in registers
 *   microkernel_f32     the matrix microkernel on data that stays in L1
 *   matmul_f32_KxN..., attention_f32_L, layer_norm_f32_N, dot_f32_N
 * The i-th name, NULL past the end; *help_out (may be NULL) says what it is.
 */
VECMILL_API const char *vecmill_system_kernel(size_t i, const char **help_out);

typedef struct vecmill_system_speed {
  double operations_per_second; /* of all threads together; a fused multiply-add counts two */
  double seconds;               /* that one thread was measured */
} vecmill_system_speed;

/*
 * Runs a kernel for about `seconds` (0.001 to 60) in n_threads (1 to 1,024) threads that start
 * together, each on data of its own, on the processors that any thread of this process may use. For
 * peak_fma_f32 the time is shared among its loops and the best one counts. Blocks. Compare speeds
 * only when they were taken in turns. Errors: NOT_FOUND (no such name), ARGUMENT, MEMORY, IO (no
 * thread).
 */
VECMILL_API vecmill_status vecmill_system_measure(const char *kernel, unsigned n_threads,
                                                  double seconds, vecmill_system_speed *speed_out,
                                                  vecmill_error *err);

#ifdef __cplusplus
}
#endif
#endif
