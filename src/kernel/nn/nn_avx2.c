/*
 * AVX2 with FMA: register tiles of 6 rows x 16 columns (12 accumulators, 2
 * registers of B, 2 for a broadcast element of A).
 *
 * Two FMAs a cycle of four or five cycles' latency want 8 to 10 chains; 12 FMAs
 * need 8 loads, which Zen and Intel deliver in 4 of the 6 cycles.
 */
#include "kernel/nn/nn_tile.h"
#include "kernel/nn/nn_x86.h"
#include "kernel/v16_avx2.h"

#define TILE_ROWS 6
#define TILE_VECTORS 1
#define MIX_ROWS 6
#define MIX_VECTORS 1

/*
 * The matrix microkernel. Registers: rax, rcx point to rows 0, 3 of A, rsi its
 * stride, rdi B, r8 and r9 count, r10 and r11 prefetch, r12 walks over init and
 * then C, r13 its stride. ymm0 to 11 accumulate, 12 and 13 hold B.
 */
#define S_(x) #x
#define S(x) S_(x)
#define Y(x) "%%ymm" S(x)

#define FMA(b, t, c) "vfmadd231ps " Y(b) "," Y(t) "," Y(c) "\n\t"
#define ROW(k, address, t, c0, c1)                                                                 \
  "vbroadcastss " S(k) "*4" address "," Y(t) "\n\t" FMA(12, t, c0) FMA(13, t, c1)

#define STEP1(k) ROW(k, "(%%rax)", 14, 0, 1)
#define STEP2(k) STEP1(k) ROW(k, "(%%rax,%%rsi)", 15, 2, 3)
#define STEP3(k) STEP2(k) ROW(k, "(%%rax,%%rsi,2)", 14, 4, 5)
#define STEP4(k) STEP3(k) ROW(k, "(%%rcx)", 15, 6, 7)
#define STEP5(k) STEP4(k) ROW(k, "(%%rcx,%%rsi)", 14, 8, 9)
#define STEP6(k) STEP5(k) ROW(k, "(%%rcx,%%rsi,2)", 15, 10, 11)

#define IN(c0, c1) "vmovups (%%r12)," Y(c0) "\n\tvmovups 32(%%r12)," Y(c1) "\n\t"
#define OUT(c0, c1) "vmovups " Y(c0) ",(%%r12)\n\tvmovups " Y(c1) ",32(%%r12)\n\t"

#define NEXT "add %%r13,%%r12\n\t"
#define EACH1(M) M(0, 1)
#define EACH2(M) EACH1(M) NEXT M(2, 3)
#define EACH3(M) EACH2(M) NEXT M(4, 5)
#define EACH4(M) EACH3(M) NEXT M(6, 7)
#define EACH5(M) EACH4(M) NEXT M(8, 9)
#define EACH6(M) EACH5(M) NEXT M(10, 11)

#define CLOBBERS                                                                                   \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",         \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

#define K_STEP(k, rows)                                                                            \
  "vmovups " S(k) "*64(%%rdi)," Y(12) "\n\tvmovups " S(k) "*64+32(%%rdi)," Y(13) "\n\t"            \
  STEP##rows(k)

#define TILE(rows)                                                                                 \
  static void tile_##rows(const nn_tile *tile) {                                                   \
    __asm__ volatile(                                                                              \
        "mov 24(%[t]),%%r12\n\t"                                                                   \
        "mov 32(%[t]),%%r13\n\t" EACH##rows(IN)                                                    \
        "mov 0(%[t]),%%rax\n\t"                                                                    \
        "mov 8(%[t]),%%rsi\n\t"                                                                    \
        "mov 16(%[t]),%%rdi\n\t"                                                                   \
        "mov 56(%[t]),%%r8\n\t"                                                                    \
        "mov 64(%[t]),%%r9\n\t"                                                                    \
        "mov 72(%[t]),%%r10\n\t"                                                                   \
        "mov 80(%[t]),%%r11\n\t"                                                                   \
        "lea (%%rsi,%%rsi,2),%%rcx\n\t"                                                            \
        "add %%rax,%%rcx\n\t"                                                                      \
        "test %%r8,%%r8\n\t"                                                                       \
        "jz 2f\n\t"                                                                                \
        ".p2align 5\n"                                                                             \
        "1:\n\t"                                                                                   \
        "prefetcht1 (%%r10)\n\t"                                                                   \
        K_STEP(0, rows) K_STEP(1, rows) K_STEP(2, rows) K_STEP(3, rows)                            \
        "add %%r11,%%r10\n\t"                                                                      \
        K_STEP(4, rows) K_STEP(5, rows) K_STEP(6, rows) K_STEP(7, rows)                            \
        "add $32,%%rax\n\t"                                                                        \
        "add $32,%%rcx\n\t"                                                                        \
        "add $8*64,%%rdi\n\t"                                                                      \
        "dec %%r8\n\t"                                                                             \
        "jnz 1b\n"                                                                                 \
        "2:\n\t"                                                                                   \
        "test %%r9,%%r9\n\t"                                                                       \
        "jz 4f\n"                                                                                  \
        "3:\n\t" K_STEP(0, rows)                                                                   \
        "add $4,%%rax\n\t"                                                                         \
        "add $4,%%rcx\n\t"                                                                         \
        "add $64,%%rdi\n\t"                                                                        \
        "dec %%r9\n\t"                                                                             \
        "jnz 3b\n"                                                                                 \
        "4:\n\t"                                                                                   \
        "mov 40(%[t]),%%r12\n\t"                                                                   \
        "mov 48(%[t]),%%r13\n\t" EACH##rows(OUT)                                                   \
        :                                                                                          \
        : [t] "r"(tile)                                                                            \
        : "rax", "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "memory", "cc",      \
          CLOBBERS);                                                                               \
  }

TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)

static nn_tile_kernel *const tile_kernels[TILE_VECTORS][TILE_ROWS] = {
    {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6},
};

/*
 * Weights times values, up to 6 queries x 16 columns: rax walks over the weights, rdi over the
 * values.
 */
#define MIX_ROW(i, t, c0, c1)                                                                      \
  "vbroadcastss " S(i) "*4(%%rax)," Y(t) "\n\t" FMA(12, t, c0) FMA(13, t, c1)
#define MIX_ZERO(i, t, c0, c1)                                                                     \
  "vxorps " Y(c0) "," Y(c0) "," Y(c0) "\n\tvxorps " Y(c1) "," Y(c1) "," Y(c1) "\n\t"
#define MIX_OUT(i, t, c0, c1)                                                                      \
  "vbroadcastss " S(i) "*4(%%rcx)," Y(t) "\n\t"                                                    \
  "vmulps " Y(t) "," Y(c0) "," Y(c0) "\n\t"                                                        \
  "vmulps " Y(t) "," Y(c1) "," Y(c1) "\n\t"                                                        \
  "vmovups " Y(c0) ",(%%rdx)\n\tvmovups " Y(c1) ",32(%%rdx)\n\t"

#define MIX_EACH1(M, N) M(0, 14, 0, 1)
#define MIX_EACH2(M, N) MIX_EACH1(M, N) N M(1, 15, 2, 3)
#define MIX_EACH3(M, N) MIX_EACH2(M, N) N M(2, 14, 4, 5)
#define MIX_EACH4(M, N) MIX_EACH3(M, N) N M(3, 15, 6, 7)
#define MIX_EACH5(M, N) MIX_EACH4(M, N) N M(4, 14, 8, 9)
#define MIX_EACH6(M, N) MIX_EACH5(M, N) N M(5, 15, 10, 11)

#define MIX(rows)                                                                                  \
  static void mix_##rows(const nn_mix *mix) {                                                      \
    __asm__ volatile(                                                                              \
        "mov 0(%[m]),%%rax\n\t"                                                                    \
        "mov 8(%[m]),%%rsi\n\t"                                                                    \
        "mov 16(%[m]),%%rdi\n\t"                                                                   \
        "mov 24(%[m]),%%r9\n\t"                                                                    \
        "mov 56(%[m]),%%r8\n\t" MIX_EACH##rows(MIX_ZERO, "")                                       \
        ".p2align 5\n"                                                                             \
        "1:\n\t"                                                                                   \
        "vmovups (%%rdi)," Y(12) "\n\tvmovups 32(%%rdi)," Y(13) "\n\t"                             \
        MIX_EACH##rows(MIX_ROW, "")                                                                \
        "add %%rsi,%%rax\n\t"                                                                      \
        "add %%r9,%%rdi\n\t"                                                                       \
        "dec %%r8\n\t"                                                                             \
        "jnz 1b\n\t"                                                                               \
        "mov 32(%[m]),%%rcx\n\t"                                                                   \
        "mov 40(%[m]),%%rdx\n\t"                                                                   \
        "mov 48(%[m]),%%r9\n\t" MIX_EACH##rows(MIX_OUT, "add %%r9,%%rdx\n\t")                      \
        :                                                                                          \
        : [m] "r"(mix)                                                                             \
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "memory", "cc", CLOBBERS);                \
  }

MIX(1) MIX(2) MIX(3) MIX(4) MIX(5) MIX(6)

static nn_mix_kernel *const mix_kernels[MIX_VECTORS][MIX_ROWS] = {
    {mix_1, mix_2, mix_3, mix_4, mix_5, mix_6},
};

/* Peaks: independent chains a <- a b + c, b = 1/2, so that values stay near 2c. */
#define PEAK_FMA(c) "vfmadd132ps " Y(14) "," Y(15) "," Y(c) "\n\t"
#define PEAK_SET(c) "vbroadcastss (%[p])," Y(c) "\n\t"
#define PEAK_8(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define PEAK_10(M) PEAK_8(M) M(8) M(9)
#define PEAK_12(M) PEAK_10(M) M(10) M(11)
#define PEAK_14(M) PEAK_12(M) M(12) M(13)
#define PEAK_LOOP(n_chains)                                                                        \
  static void peak_##n_chains(size_t n, const float *halves) {                                     \
    __asm__ volatile(PEAK_SET(14) PEAK_SET(15) PEAK_14(PEAK_SET)                                   \
                     ".p2align 5\n"                                                                \
                     "1:\n\t" PEAK_##n_chains(PEAK_FMA) PEAK_##n_chains(PEAK_FMA) "dec %[n]\n\t"  \
                     "jnz 1b\n\t"                                                                  \
                     : [n] "+r"(n)                                                                 \
                     : [p] "r"(halves)                                                             \
                     : "cc", CLOBBERS);                                                            \
  }

PEAK_LOOP(8) PEAK_LOOP(10) PEAK_LOOP(12) PEAK_LOOP(14)

static double peak_fma(size_t loop, size_t n_repeats) {
  static const float half = 0.5f;
  static const struct {
    void (*run)(size_t n, const float *halves);
    unsigned n_fmas;
  } loops[] = {{peak_8, 16}, {peak_10, 20}, {peak_12, 24}, {peak_14, 28}};
  if (loop >= sizeof loops / sizeof loops[0]) {
    return -1;
  }
  if (n_repeats > 0) {
    loops[loop].run(n_repeats, &half);
  }
  return 2.0 * 8 * loops[loop].n_fmas * (double)n_repeats;
}

#include "kernel/nn/nn_simd.h"

const nn_kernels nn_kernels_avx2 = NN_TABLE("avx2");
