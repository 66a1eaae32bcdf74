/* Choosing a variant, and what needs none: row strides, half-precision files, the peak. */
#include "kernel/nn/nn.h"

#include <string.h>

#include "cpu/cpu.h"
#include "kernel/nn/nn_variants.h"

static const struct variant {
  const nn_kernels *kernels;
  unsigned features;
} variants[] = {
    {&nn_kernels_c, 0},
#if defined(__x86_64__)
    {&nn_kernels_avx2, CPU_AVX2},
    {&nn_kernels_avx512, CPU_AVX512},
#elif defined(__aarch64__)
    {&nn_kernels_neon, CPU_NEON},
#endif
};

#define N_VARIANTS (sizeof variants / sizeof variants[0])

const nn_kernels *nn_variant(size_t i, unsigned *features_out) {
  if (i >= N_VARIANTS) {
    return NULL;
  }
  *features_out = variants[i].features;
  return variants[i].kernels;
}

const nn_kernels *nn_select(unsigned features) {
  const nn_kernels *best = &nn_kernels_c;
  for (size_t i = 0; i < N_VARIANTS; i++) {
    if ((variants[i].features & features) == variants[i].features) {
      best = variants[i].kernels;
    }
  }
  return best;
}

/*
 * An odd number of cache lines: then consecutive rows fall into different sets
 * of the L1 cache, and no stride is a multiple of 4,096 bytes.
 */
size_t nn_row_stride(size_t n) {
  size_t n_lines = (n + 15) / 16;
  return (n_lines | 1) * 16;
}

double nn_peak_fma_f32(unsigned features, size_t loop, size_t n_repeats) {
  for (size_t i = 0; i < N_VARIANTS; i++) {
    if ((variants[i].features & features) != variants[i].features) {
      continue;
    }
    for (size_t own = 0; variants[i].kernels->peak_fma_f32(own, 0) >= 0; own++) {
      if (loop-- == 0) {
        return variants[i].kernels->peak_fma_f32(own, n_repeats);
      }
    }
  }
  return -1;
}

/* IEEE binary16 to binary32: exact, subnormals included; a NaN keeps its payload. */
static uint32_t bits_of_f16(uint32_t half) {
  uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
  if (exponent == 31) {
    return sign | 0x7f800000 | mantissa << 13;
  }
  if (exponent == 0) {
    if (mantissa == 0) {
      return sign;
    }
    unsigned shift = (unsigned)__builtin_clz(mantissa) - 21; /* brings the leading 1 to bit 10 */
    return sign | (113 - shift) << 23 | (mantissa << shift & 0x3ff) << 13;
  }
  return sign | (exponent + 112) << 23 | mantissa << 13;
}

void nn_convert_f16(size_t n, const void *src, float *dst) {
  const uint8_t *bytes = src;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = bits_of_f16(bytes[2 * i] | (uint32_t)bytes[2 * i + 1] << 8);
    memcpy(dst + i, &bits, sizeof bits);
  }
}

void nn_convert_bf16(size_t n, const void *src, float *dst) {
  const uint8_t *bytes = src;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = (uint32_t)bytes[2 * i] << 16 | (uint32_t)bytes[2 * i + 1] << 24;
    memcpy(dst + i, &bits, sizeof bits);
  }
}
