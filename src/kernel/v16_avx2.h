/* 16 lanes in two registers of AVX2: the vocabulary of nn_simd.h and vec_simd.h. */
#ifndef KERNEL_V16_AVX2_H
#define KERNEL_V16_AVX2_H

#include <immintrin.h>
#include <stddef.h>

typedef struct v16 {
  __m256 a, b;
} v16;

static inline v16 v16_of(__m256 a, __m256 b) { return (v16){a, b}; }
static inline v16 v16_set1(float x) { return v16_of(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
static inline v16 v16_zero(void) { return v16_of(_mm256_setzero_ps(), _mm256_setzero_ps()); }
static inline v16 v16_load(const float *p) {
  return v16_of(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
static inline void v16_store(float *p, v16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}

/* 16 ones, 16 zeros: a window into it is the mask of the first n lanes. */
static const int first_n[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

static inline __m256i first_a(size_t n) {
  return _mm256_loadu_si256((const __m256i *)(first_n + 16 - n));
}
static inline __m256i first_b(size_t n) {
  return _mm256_loadu_si256((const __m256i *)(first_n + 24 - n));
}

static inline v16 v16_first(v16 x, size_t n) {
  return v16_of(_mm256_and_ps(x.a, _mm256_castsi256_ps(first_a(n))),
                _mm256_and_ps(x.b, _mm256_castsi256_ps(first_b(n))));
}
static inline v16 v16_load_n(const float *p, size_t n) {
  return n == 16 ? v16_load(p)
                 : v16_of(_mm256_maskload_ps(p, first_a(n)), _mm256_maskload_ps(p + 8, first_b(n)));
}
static inline void v16_store_n(float *p, v16 x, size_t n) {
  if (n == 16) {
    v16_store(p, x);
  } else {
    _mm256_maskstore_ps(p, first_a(n), x.a);
    _mm256_maskstore_ps(p + 8, first_b(n), x.b);
  }
}

#define V16_2(name, intrinsic)                                                                     \
  static inline v16 name(v16 x, v16 y) { return v16_of(intrinsic(x.a, y.a), intrinsic(x.b, y.b)); }
V16_2(v16_add, _mm256_add_ps)
V16_2(v16_sub, _mm256_sub_ps)
V16_2(v16_mul, _mm256_mul_ps)
V16_2(v16_div, _mm256_div_ps)
V16_2(v16_max, _mm256_max_ps)
V16_2(v16_min, _mm256_min_ps)

static inline v16 v16_fma(v16 x, v16 y, v16 z) {
  return v16_of(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
static inline v16 v16_fnma(v16 x, v16 y, v16 z) {
  return v16_of(_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b));
}
static inline v16 v16_abs(v16 x) {
  __m256 sign = _mm256_set1_ps(-0.0f);
  return v16_of(_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b));
}
static inline v16 v16_copy_sign(v16 x, v16 from) {
  __m256 sign = _mm256_set1_ps(-0.0f);
  x = v16_abs(x);
  return v16_of(_mm256_or_ps(x.a, _mm256_and_ps(sign, from.a)),
                _mm256_or_ps(x.b, _mm256_and_ps(sign, from.b)));
}
static inline v16 v16_shift_left_23(v16 x) {
  return v16_of(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.a), 23)),
                _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.b), 23)));
}
static inline float v16_add_lanes(v16 x) {
  __m256 b = _mm256_add_ps(x.a, x.b);
  __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

#endif
