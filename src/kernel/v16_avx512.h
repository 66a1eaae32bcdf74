/* 16 lanes in one register of AVX-512: the vocabulary of nn_simd.h and vec_simd.h. */
#ifndef KERNEL_V16_AVX512_H
#define KERNEL_V16_AVX512_H

#include <immintrin.h>
#include <stddef.h>

typedef __m512 v16;

static inline v16 v16_zero(void) { return _mm512_setzero_ps(); }
static inline v16 v16_set1(float x) { return _mm512_set1_ps(x); }
static inline v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v16_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
static inline __mmask16 first(size_t n) { return (__mmask16)((1u << n) - 1); }
static inline v16 v16_first(v16 a, size_t n) { return _mm512_maskz_mov_ps(first(n), a); }
static inline v16 v16_load_n(const float *p, size_t n) {
  return _mm512_maskz_loadu_ps(first(n), p);
}
static inline void v16_store_n(float *p, v16 a, size_t n) { _mm512_mask_storeu_ps(p, first(n), a); }
static inline v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v16_fnma(v16 a, v16 b, v16 c) { return _mm512_fnmadd_ps(a, b, c); }
static inline v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
static inline v16 v16_abs(v16 a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }

static inline v16 v16_copy_sign(v16 a, v16 sign) {
  return _mm512_or_ps(v16_abs(a), _mm512_and_ps(_mm512_set1_ps(-0.0f), sign));
}

static inline v16 v16_shift_left_23(v16 a) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}

static inline float v16_add_lanes(v16 a) {
  __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

#endif
