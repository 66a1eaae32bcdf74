/*
 * Arithmetic over vectors: dot products, norms, distances.
 *
 * Same rules as nn.h: one table a variant, every variant gives the C
 * reference's bytes, reductions along a vector use 16 lanes (element i to lane
 * i % 16, fused multiply-add, in order, the vector taken as filled up with
 * zeros to a multiple of 16) and the tree 8, 4, 2, 1. Vectors may be
 * unaligned; nothing is touched beyond n.
 */
#ifndef KERNEL_VEC_H
#define KERNEL_VEC_H

#include <stddef.h>

typedef struct vec_kernels {
  const char *name;
  float (*dot_f32)(size_t n, const float *a, const float *b);
  /* sum of (a - b)^2, no cancellation */
  float (*squared_l2_f32)(size_t n, const float *a, const float *b);
  float (*squared_norm_f32)(size_t n, const float *a);
} vec_kernels;

const vec_kernels *vec_select(unsigned features);
const vec_kernels *vec_variant(size_t i, unsigned *features_out);

#endif
