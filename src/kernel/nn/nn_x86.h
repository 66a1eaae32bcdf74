/* What the AVX2 and AVX-512 variants share: transposing, with AVX2 instructions. */
#ifndef KERNEL_NN_X86_H
#define KERNEL_NN_X86_H

#include <immintrin.h>
#include <stddef.h>

#define NN_TRANSPOSE 8 /* side of the block */

/* dst[j][i] = src[i][j] * factor over an 8 x 8 block. */
static inline void nn_transpose_block(const float *src, size_t ld_src, float factor, float *dst,
                                      size_t ld_dst) {
  __m256 r[8], s[8], f = _mm256_set1_ps(factor);
  for (int i = 0; i < 8; i++) {
    r[i] = _mm256_mul_ps(_mm256_loadu_ps(src + i * ld_src), f);
  }
  for (int i = 0; i < 8; i += 2) { /* pairs of rows interleaved */
    s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) { /* columns of four */
    r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) { /* and the 128-bit halves */
    _mm256_storeu_ps(dst + i * ld_dst, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(dst + (i + 4) * ld_dst, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

#endif
