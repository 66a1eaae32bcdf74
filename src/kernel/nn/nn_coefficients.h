/* Made by scripts/fit-polynomials.py; the constant term first. */
#ifndef KERNEL_NN_COEFFICIENTS_H
#define KERNEL_NN_COEFFICIENTS_H

/* 2^r, |r| <= 0.5: relative error 7.5e-08 in float32. */
#define NN_EXP2_COEFFICIENTS_N 7
static const float nn_exp2_coefficients[NN_EXP2_COEFFICIENTS_N] = {
    0x1.0000000000000p+0f,
    0x1.62e4320000000p-1f,
    0x1.ebfbe00000000p-3f,
    0x1.c6ae2c0000000p-5f,
    0x1.3b29e40000000p-7f,
    0x1.5f88fe0000000p-10f,
    0x1.446c7e0000000p-13f};

/* q(u) = Phi(-t), u = t NN_GELU_SCALE - 1, 0 <= t <= NN_GELU_CUT: gelu's absolute error 8.2e-07 on [-8, 8]. */
#define NN_GELU_CUT 0x1.4ccccc0000000p+2f
#define NN_GELU_SCALE 0x1.89d89e0000000p-2f
#define NN_GELU_COEFFICIENTS_N 14
static const float nn_gelu_coefficients[NN_GELU_COEFFICIENTS_N] = {
    0x1.317d0a0000000p-8f,
    -0x1.214c400000000p-5f,
    0x1.e8d3e00000000p-4f,
    -0x1.d56b060000000p-3f,
    0x1.0367820000000p-2f,
    -0x1.c035ea0000000p-4f,
    -0x1.bb13ec0000000p-4f,
    0x1.8623600000000p-3f,
    -0x1.25fa6a0000000p-4f,
    -0x1.1c7d680000000p-4f,
    0x1.2322a80000000p-4f,
    -0x1.7f0ca60000000p-9f,
    -0x1.2ebc780000000p-6f,
    0x1.7f233a0000000p-8f};

#endif
