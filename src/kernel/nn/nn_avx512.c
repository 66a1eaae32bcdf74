/*
 * AVX-512: register tiles of 9 rows x 48 columns (27 accumulators, 3 registers
 * of B, 2 for a broadcast element of A).
 *
 * On Zen 4 a 512-bit FMA takes both pipes for one cycle, on Zen 5 there are two
 * a cycle: 27 FMAs need 12 loads, so the loads never bind.
 */
#include "kernel/nn/nn_tile.h"
#include "kernel/nn/nn_x86.h"
#include "kernel/v16_avx512.h"

#define TILE_ROWS 9
#define TILE_VECTORS 3
#define MIX_ROWS 12
#define MIX_VECTORS 2

/*
 * The matrix microkernel. Registers: rax, rcx, rdx point to rows 0, 3, 6 of A,
 * rsi its stride, rdi B, r8 and r9 count, r10 and r11 prefetch, r12 walks over
 * init and then C, r13 its stride. zmm0 to 26 accumulate.
 */
#define S_(x) #x
#define S(x) S_(x)
#define Z(x) "%%zmm" S(x)

/* Row at ADDRESS x the 1, 2 or 3 vectors of B in zmm27 to 29; T is 30 or 31, in turns. */
#define FMA1(b, t, c) "vfmadd231ps " Z(b) "," Z(t) "," Z(c) "\n\t"
#define ROW1(k, address, t, c0, c1, c2)                                                            \
  "vbroadcastss " S(k) "*4" address "," Z(t) "\n\t" FMA1(27, t, c0)
#define ROW2(k, address, t, c0, c1, c2) ROW1(k, address, t, c0, c1, c2) FMA1(28, t, c1)
#define ROW3(k, address, t, c0, c1, c2) ROW2(k, address, t, c0, c1, c2) FMA1(29, t, c2)

#define LOAD1(k, width) "vmovups " S(k) "*" S(width) "(%%rdi)," Z(27) "\n\t"
#define LOAD2(k, width) LOAD1(k, width) "vmovups " S(k) "*" S(width) "+64(%%rdi)," Z(28) "\n\t"
#define LOAD3(k, width) LOAD2(k, width) "vmovups " S(k) "*" S(width) "+128(%%rdi)," Z(29) "\n\t"

#define STEP1(k, R) R(k, "(%%rax)", 30, 0, 1, 2)
#define STEP2(k, R) STEP1(k, R) R(k, "(%%rax,%%rsi)", 31, 3, 4, 5)
#define STEP3(k, R) STEP2(k, R) R(k, "(%%rax,%%rsi,2)", 30, 6, 7, 8)
#define STEP4(k, R) STEP3(k, R) R(k, "(%%rcx)", 31, 9, 10, 11)
#define STEP5(k, R) STEP4(k, R) R(k, "(%%rcx,%%rsi)", 30, 12, 13, 14)
#define STEP6(k, R) STEP5(k, R) R(k, "(%%rcx,%%rsi,2)", 31, 15, 16, 17)
#define STEP7(k, R) STEP6(k, R) R(k, "(%%rdx)", 30, 18, 19, 20)
#define STEP8(k, R) STEP7(k, R) R(k, "(%%rdx,%%rsi)", 31, 21, 22, 23)
#define STEP9(k, R) STEP8(k, R) R(k, "(%%rdx,%%rsi,2)", 30, 24, 25, 26)

#define IN1(c0, c1, c2) "vmovups (%%r12)," Z(c0) "\n\t"
#define IN2(c0, c1, c2) IN1(c0, c1, c2) "vmovups 64(%%r12)," Z(c1) "\n\t"
#define IN3(c0, c1, c2) IN2(c0, c1, c2) "vmovups 128(%%r12)," Z(c2) "\n\t"
#define OUT1(c0, c1, c2) "vmovups " Z(c0) ",(%%r12)\n\t"
#define OUT2(c0, c1, c2) OUT1(c0, c1, c2) "vmovups " Z(c1) ",64(%%r12)\n\t"
#define OUT3(c0, c1, c2) OUT2(c0, c1, c2) "vmovups " Z(c2) ",128(%%r12)\n\t"

#define NEXT "add %%r13,%%r12\n\t"
#define EACH1(M) M(0, 1, 2)
#define EACH2(M) EACH1(M) NEXT M(3, 4, 5)
#define EACH3(M) EACH2(M) NEXT M(6, 7, 8)
#define EACH4(M) EACH3(M) NEXT M(9, 10, 11)
#define EACH5(M) EACH4(M) NEXT M(12, 13, 14)
#define EACH6(M) EACH5(M) NEXT M(15, 16, 17)
#define EACH7(M) EACH6(M) NEXT M(18, 19, 20)
#define EACH8(M) EACH7(M) NEXT M(21, 22, 23)
#define EACH9(M) EACH8(M) NEXT M(24, 25, 26)

#define CLOBBERS                                                                                   \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",         \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20",    \
      "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30",    \
      "xmm31"

#define K_STEP(k, rows, vectors, width) LOAD##vectors(k, width) STEP##rows(k, ROW##vectors)

#define TILE(rows, vectors, width)                                                                 \
  static void tile_##rows##x##vectors(const nn_tile *tile) {                                       \
    __asm__ volatile(                                                                              \
        "mov 24(%[t]),%%r12\n\t"                                                                   \
        "mov 32(%[t]),%%r13\n\t" EACH##rows(IN##vectors)                                           \
        "mov 0(%[t]),%%rax\n\t"                                                                    \
        "mov 8(%[t]),%%rsi\n\t"                                                                    \
        "mov 16(%[t]),%%rdi\n\t"                                                                   \
        "mov 56(%[t]),%%r8\n\t"                                                                    \
        "mov 64(%[t]),%%r9\n\t"                                                                    \
        "mov 72(%[t]),%%r10\n\t"                                                                   \
        "mov 80(%[t]),%%r11\n\t"                                                                   \
        "lea (%%rsi,%%rsi,2),%%rdx\n\t"                                                            \
        "lea (%%rax,%%rdx),%%rcx\n\t"                                                              \
        "lea (%%rcx,%%rdx),%%rdx\n\t"                                                              \
        "test %%r8,%%r8\n\t"                                                                       \
        "jz 2f\n\t"                                                                                \
        ".p2align 5\n"                                                                             \
        "1:\n\t"                                                                                   \
        "prefetcht1 (%%r10)\n\t"                                                                   \
        K_STEP(0, rows, vectors, width) K_STEP(1, rows, vectors, width)                            \
        K_STEP(2, rows, vectors, width) K_STEP(3, rows, vectors, width)                            \
        "add %%r11,%%r10\n\t"                                                                      \
        K_STEP(4, rows, vectors, width) K_STEP(5, rows, vectors, width)                            \
        K_STEP(6, rows, vectors, width) K_STEP(7, rows, vectors, width)                            \
        "add $32,%%rax\n\t"                                                                        \
        "add $32,%%rcx\n\t"                                                                        \
        "add $32,%%rdx\n\t"                                                                        \
        "add $8*" S(width) ",%%rdi\n\t"                                                            \
        "dec %%r8\n\t"                                                                             \
        "jnz 1b\n"                                                                                 \
        "2:\n\t"                                                                                   \
        "test %%r9,%%r9\n\t"                                                                       \
        "jz 4f\n"                                                                                  \
        "3:\n\t" K_STEP(0, rows, vectors, width)                                                   \
        "add $4,%%rax\n\t"                                                                         \
        "add $4,%%rcx\n\t"                                                                         \
        "add $4,%%rdx\n\t"                                                                         \
        "add $" S(width) ",%%rdi\n\t"                                                              \
        "dec %%r9\n\t"                                                                             \
        "jnz 3b\n"                                                                                 \
        "4:\n\t"                                                                                   \
        "mov 40(%[t]),%%r12\n\t"                                                                   \
        "mov 48(%[t]),%%r13\n\t" EACH##rows(OUT##vectors)                                          \
        :                                                                                          \
        : [t] "r"(tile)                                                                            \
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "memory",     \
          "cc", CLOBBERS);                                                                         \
  }

#define TILES(vectors, width)                                                                      \
  TILE(1, vectors, width) TILE(2, vectors, width) TILE(3, vectors, width)                          \
  TILE(4, vectors, width) TILE(5, vectors, width) TILE(6, vectors, width)                          \
  TILE(7, vectors, width) TILE(8, vectors, width) TILE(9, vectors, width)

TILES(1, 64)
TILES(2, 128)
TILES(3, 192)

static nn_tile_kernel *const tile_kernels[TILE_VECTORS][TILE_ROWS] = {
    {tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1, tile_6x1, tile_7x1, tile_8x1, tile_9x1},
    {tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2, tile_6x2, tile_7x2, tile_8x2, tile_9x2},
    {tile_1x3, tile_2x3, tile_3x3, tile_4x3, tile_5x3, tile_6x3, tile_7x3, tile_8x3, tile_9x3},
};

/*
 * Weights times values, up to 12 queries x 32 columns: rax walks over the
 * weights (a query is a column of them), rdi over the values.
 */
#define MIX_ROW1(i, t, c0, c1) "vbroadcastss " S(i) "*4(%%rax)," Z(t) "\n\t" FMA1(27, t, c0)
#define MIX_ROW2(i, t, c0, c1) MIX_ROW1(i, t, c0, c1) FMA1(28, t, c1)
#define MIX_LOAD1 "vmovups (%%rdi)," Z(27) "\n\t"
#define MIX_LOAD2 MIX_LOAD1 "vmovups 64(%%rdi)," Z(28) "\n\t"
#define MIX_ZERO1(i, t, c0, c1) "vpxord " Z(c0) "," Z(c0) "," Z(c0) "\n\t"
#define MIX_ZERO2(i, t, c0, c1) MIX_ZERO1(i, t, c0, c1) MIX_ZERO1(i, t, c1, c0)
#define MIX_OUT1(i, t, c0, c1)                                                                     \
  "vbroadcastss " S(i) "*4(%%rcx)," Z(t) "\n\t"                                                    \
  "vmulps " Z(t) "," Z(c0) "," Z(c0) "\n\t"                                                        \
  "vmovups " Z(c0) ",(%%rdx)\n\t"
#define MIX_OUT2(i, t, c0, c1)                                                                     \
  MIX_OUT1(i, t, c0, c1)                                                                           \
  "vmulps " Z(t) "," Z(c1) "," Z(c1) "\n\t"                                                        \
  "vmovups " Z(c1) ",64(%%rdx)\n\t"

#define MIX_EACH1(M, N) M(0, 29, 0, 1)
#define MIX_EACH2(M, N) MIX_EACH1(M, N) N M(1, 30, 2, 3)
#define MIX_EACH3(M, N) MIX_EACH2(M, N) N M(2, 31, 4, 5)
#define MIX_EACH4(M, N) MIX_EACH3(M, N) N M(3, 29, 6, 7)
#define MIX_EACH5(M, N) MIX_EACH4(M, N) N M(4, 30, 8, 9)
#define MIX_EACH6(M, N) MIX_EACH5(M, N) N M(5, 31, 10, 11)
#define MIX_EACH7(M, N) MIX_EACH6(M, N) N M(6, 29, 12, 13)
#define MIX_EACH8(M, N) MIX_EACH7(M, N) N M(7, 30, 14, 15)
#define MIX_EACH9(M, N) MIX_EACH8(M, N) N M(8, 31, 16, 17)
#define MIX_EACH10(M, N) MIX_EACH9(M, N) N M(9, 29, 18, 19)
#define MIX_EACH11(M, N) MIX_EACH10(M, N) N M(10, 30, 20, 21)
#define MIX_EACH12(M, N) MIX_EACH11(M, N) N M(11, 31, 22, 23)

#define MIX(rows, vectors)                                                                         \
  static void mix_##rows##x##vectors(const nn_mix *mix) {                                          \
    __asm__ volatile(                                                                              \
        "mov 0(%[m]),%%rax\n\t"                                                                    \
        "mov 8(%[m]),%%rsi\n\t"                                                                    \
        "mov 16(%[m]),%%rdi\n\t"                                                                   \
        "mov 24(%[m]),%%r9\n\t"                                                                    \
        "mov 56(%[m]),%%r8\n\t" MIX_EACH##rows(MIX_ZERO##vectors, "")                              \
        ".p2align 5\n"                                                                             \
        "1:\n\t" MIX_LOAD##vectors MIX_EACH##rows(MIX_ROW##vectors, "")                            \
        "add %%rsi,%%rax\n\t"                                                                      \
        "add %%r9,%%rdi\n\t"                                                                       \
        "dec %%r8\n\t"                                                                             \
        "jnz 1b\n\t"                                                                               \
        "mov 32(%[m]),%%rcx\n\t"                                                                   \
        "mov 40(%[m]),%%rdx\n\t"                                                                   \
        "mov 48(%[m]),%%r9\n\t" MIX_EACH##rows(MIX_OUT##vectors, "add %%r9,%%rdx\n\t")             \
        :                                                                                          \
        : [m] "r"(mix)                                                                             \
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "memory", "cc", CLOBBERS);                \
  }

#define MIXES(vectors)                                                                             \
  MIX(1, vectors) MIX(2, vectors) MIX(3, vectors) MIX(4, vectors) MIX(5, vectors)                  \
  MIX(6, vectors) MIX(7, vectors) MIX(8, vectors) MIX(9, vectors) MIX(10, vectors)                 \
  MIX(11, vectors) MIX(12, vectors)

MIXES(1)
MIXES(2)

static nn_mix_kernel *const mix_kernels[MIX_VECTORS][MIX_ROWS] = {
    {mix_1x1, mix_2x1, mix_3x1, mix_4x1, mix_5x1, mix_6x1, mix_7x1, mix_8x1, mix_9x1, mix_10x1,
     mix_11x1, mix_12x1},
    {mix_1x2, mix_2x2, mix_3x2, mix_4x2, mix_5x2, mix_6x2, mix_7x2, mix_8x2, mix_9x2, mix_10x2,
     mix_11x2, mix_12x2},
};

/* Peaks: independent chains a <- a b + c, b = 1/2, so that values stay near 2c. */
#define PEAK_FMA(c) "vfmadd132ps " Z(30) "," Z(31) "," Z(c) "\n\t"
#define PEAK_8(M, a, b, c, d, e, f, g, h) M(a) M(b) M(c) M(d) M(e) M(f) M(g) M(h)
#define PEAK_LOOP(name, fmas)                                                                      \
  static void name(size_t n, const float *halves) {                                                \
    __asm__ volatile("vbroadcastss (%[p])," Z(30) "\n\t"                                           \
                     "vbroadcastss (%[p])," Z(31) "\n\t" PEAK_START                                \
                     ".p2align 5\n"                                                                \
                     "1:\n\t" fmas fmas "dec %[n]\n\t"                                            \
                     "jnz 1b\n\t"                                                                  \
                     : [n] "+r"(n)                                                                 \
                     : [p] "r"(halves)                                                             \
                     : "cc", CLOBBERS);                                                            \
  }
#define PEAK_SET(c) "vbroadcastss (%[p])," Z(c) "\n\t"
#define PEAK_START                                                                                 \
  PEAK_8(PEAK_SET, 0, 1, 2, 3, 4, 5, 6, 7) PEAK_8(PEAK_SET, 8, 9, 10, 11, 12, 13, 14, 15)          \
  PEAK_8(PEAK_SET, 16, 17, 18, 19, 20, 21, 22, 23)

PEAK_LOOP(peak_12, PEAK_8(PEAK_FMA, 0, 1, 2, 3, 4, 5, 6, 7) PEAK_FMA(8) PEAK_FMA(9) PEAK_FMA(10)
                       PEAK_FMA(11))
PEAK_LOOP(peak_16, PEAK_8(PEAK_FMA, 0, 1, 2, 3, 4, 5, 6, 7)
                       PEAK_8(PEAK_FMA, 8, 9, 10, 11, 12, 13, 14, 15))
PEAK_LOOP(peak_24, PEAK_8(PEAK_FMA, 0, 1, 2, 3, 4, 5, 6, 7)
                       PEAK_8(PEAK_FMA, 8, 9, 10, 11, 12, 13, 14, 15)
                           PEAK_8(PEAK_FMA, 16, 17, 18, 19, 20, 21, 22, 23))

static double peak_fma(size_t loop, size_t n_repeats) {
  static const float half = 0.5f;
  static const struct {
    void (*run)(size_t n, const float *halves);
    unsigned n_fmas;
  } loops[] = {{peak_12, 24}, {peak_16, 32}, {peak_24, 48}};
  if (loop >= sizeof loops / sizeof loops[0]) {
    return -1;
  }
  if (n_repeats > 0) {
    loops[loop].run(n_repeats, &half);
  }
  return 2.0 * 16 * loops[loop].n_fmas * (double)n_repeats;
}

#include "kernel/nn/nn_simd.h"

const nn_kernels nn_kernels_avx512 = NN_TABLE("avx512");
