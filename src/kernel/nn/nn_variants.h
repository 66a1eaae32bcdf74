/* The tables that are compiled for this architecture; each lives in a file of its own. */
#ifndef KERNEL_NN_VARIANTS_H
#define KERNEL_NN_VARIANTS_H

#include "kernel/nn/nn.h"

extern const nn_kernels nn_kernels_c;
#if defined(__x86_64__)
extern const nn_kernels nn_kernels_avx2;
extern const nn_kernels nn_kernels_avx512;
#elif defined(__aarch64__)
extern const nn_kernels nn_kernels_neon;
#endif

#endif
