/*
 * Kernels as things to time: each has a name and runs on data of its own, about
 * 0.1 to 10 ms a time. Names are public (vecmill/system.h) and stay.
 */
#ifndef KERNEL_MEASURE_H
#define KERNEL_MEASURE_H

#include <stddef.h>

#include "base/err.h"

typedef struct measure measure;

/* The i-th name, NULL past the end; a sentence on what it measures in *help_out. */
const char *measure_name(size_t i, const char **help_out);

/* `features` choose the variant (cpu_feature bits). NOT_FOUND: no such name. */
vecmill_status measure_open(const char *name, unsigned features, measure **measure_out,
                            vecmill_error *err);
void measure_close(measure **m);

/* Several loops compete for "peak_fma_f32"; every other name has one. */
size_t measure_n_loops(const measure *m);

/*
 * Runs the loop-th loop once; returns the floating-point operations done (a fused multiply-add
 * counts two).
 */
double measure_run(measure *m, size_t loop);

#endif
