/*
 * What a matrix microkernel is given. The kernels are inline assembly that
 * reads this struct by offset (gcc folds the loads of B into every FMA and
 * spills pointers when it is given intrinsics), so its layout is fixed.
 *
 * c(rows, columns) = init + a(rows, k) b(k, columns), each element one chain of
 * fused multiply-adds in k order.
 */
#ifndef KERNEL_NN_TILE_H
#define KERNEL_NN_TILE_H

#include <stddef.h>

typedef struct nn_tile {
  const float *a;       /* 0: rows of a, */
  size_t lda_bytes;     /* 8: this far apart */
  const float *b;       /* 16: k rows of `columns` floats, one after another */
  const float *init;    /* 24: what the chains start from, */
  size_t ldinit_bytes;  /* 32: its rows this far apart (0: one row for all) */
  float *c;             /* 40 */
  size_t ldc_bytes;     /* 48 */
  size_t n_eights;      /* 56: k / 8 */
  size_t n_rest;        /* 64: k % 8 */
  const char *prefetch; /* 72: one line of it every 8 k goes to L2, */
  size_t prefetch_step; /* 80: the next one this much further */
} nn_tile;

typedef void nn_tile_kernel(const nn_tile *tile);

/*
 * out(rows, columns) = (weights^T values) * inverse: weights(n, rows) transposed, values(n,
 * columns).
 */
typedef struct nn_mix {
  const float *weights;  /* 0: n_keys rows, */
  size_t ldweights_bytes;/* 8 */
  const float *values;   /* 16 */
  size_t ldvalues_bytes; /* 24 */
  const float *inverse;  /* 32: one a row of out */
  float *out;            /* 40 */
  size_t ldout_bytes;    /* 48 */
  size_t n_keys;         /* 56: at least 1 */
} nn_mix;

typedef void nn_mix_kernel(const nn_mix *mix);

#endif
