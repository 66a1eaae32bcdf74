#!/usr/bin/env python3
"""Fits the polynomials of src/kernel/nn/nn_coefficients.h and prints that file.

Remez exchange in double precision, coefficients rounded to float32, then the
error of the float32 evaluation (as the kernels do it: Horner, fused) measured
on a dense grid. Needs nothing but the standard library.

  exp2:  2^r on [-0.5, 0.5], relative error, the constant term fixed at 1.
  gelu:  x Phi(x) = max(x, 0) - t q(u), t = min(|x|, C), u = t (2 / C) - 1, where t q = t Phi(-t).
         The weight t makes gelu(0) = 0 and keeps the relative error small around it.

usage: fit-polynomials.py > src/kernel/nn/nn_coefficients.h
"""
import math
import struct
import sys

EXP2_DEGREE = 6
GELU_DEGREE = 13  # of q
GELU_CUT = 5.2


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def solve(rows, right):
    """Gaussian elimination with partial pivoting."""
    n = len(rows)
    a = [row[:] + [value] for row, value in zip(rows, right)]
    for column in range(n):
        pivot = max(range(column, n), key=lambda r: abs(a[r][column]))
        a[column], a[pivot] = a[pivot], a[column]
        for r in range(column + 1, n):
            factor = a[r][column] / a[column][column]
            for c in range(column, n + 1):
                a[r][c] -= factor * a[column][c]
    x = [0.0] * n
    for r in reversed(range(n)):
        x[r] = (a[r][n] - sum(a[r][c] * x[c] for c in range(r + 1, n))) / a[r][r]
    return x


def remez(f, weight, basis, low, high, n_grid=4000):
    """Coefficients over `basis` that minimise max |weight (f - sum)| on [low, high]."""
    n = len(basis)
    grid = [0.5 * (low + high) - 0.5 * (high - low) * math.cos(math.pi * i / n_grid)
            for i in range(n_grid + 1)]
    grid = [x for x in grid if weight(x) > 0]
    values = [(x, f(x), weight(x), [b(x) for b in basis]) for x in grid]
    points = [values[round(i * (len(values) - 1) / n)] for i in range(n + 1)]
    for _ in range(60):
        rows = [b + [(-1) ** i / w] for i, (_, _, w, b) in enumerate(points)]
        solution = solve(rows, [y for _, y, _, _ in points])
        coefficients = solution[:n]
        errors = [w * (y - sum(c * v for c, v in zip(coefficients, b))) for _, y, w, b in values]
        # One extremum from each run of equal sign, then the n + 1 neighbours with the largest errors.
        extrema = []
        for i, e in enumerate(errors):
            if extrema and (errors[extrema[-1]] > 0) == (e > 0):
                if abs(e) > abs(errors[extrema[-1]]):
                    extrema[-1] = i
            else:
                extrema.append(i)
        while len(extrema) > n + 1:
            if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]):
                extrema.pop(0)
            else:
                extrema.pop()
        if len(extrema) < n + 1:
            break
        largest = max(abs(e) for e in errors)
        points = [values[i] for i in extrema]
        if largest - abs(solution[n]) < 1e-4 * largest:
            break
    return coefficients, max(abs(e) for e in errors)


def horner(coefficients, x):
    y = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        y = f32(y * x + c)  # a fused multiply-add, but for a rare double rounding
    return y


def fit_exp2():
    basis = [(lambda x, p=p: x ** p) for p in range(1, EXP2_DEGREE + 1)]
    fit, _ = remez(lambda x: 2.0 ** x - 1, lambda x: 2.0 ** -x, basis, -0.5, 0.5)
    coefficients = [1.0] + [f32(c) for c in fit]
    error = max(abs(horner(coefficients, r) / 2.0 ** r - 1)
                for r in (f32(-0.5 + i / 100000) for i in range(100001)))
    return coefficients, error


def fit_gelu():
    cut = f32(GELU_CUT)
    scale = f32(2 / cut)
    basis = [(lambda t, p=p: (t * scale - 1) ** p) for p in range(GELU_DEGREE + 1)]
    fit, _ = remez(lambda t: 0.5 * math.erfc(t / math.sqrt(2)), lambda t: t, basis, 0.0, cut)
    coefficients = [f32(c) for c in fit]
    error = 0.0
    for i in range(-160000, 160001):
        x = f32(i / 20000)
        t = min(abs(x), cut)
        u = f32(t * scale - 1)
        y = f32(max(x, 0.0) - t * horner(coefficients, u))
        error = max(error, abs(y - 0.5 * x * math.erfc(-x / math.sqrt(2))))
    return cut, scale, coefficients, error


def table(name, coefficients):
    lines = ",\n".join("    %sf" % c.hex() for c in coefficients)
    return "#define %s_N %d\nstatic const float %s[%s_N] = {\n%s};\n" % (
        name.upper(), len(coefficients), name, name.upper(), lines)


def main():
    exp2, exp2_error = fit_exp2()
    cut, scale, gelu, gelu_error = fit_gelu()
    print("""/* Made by scripts/fit-polynomials.py; the constant term first. */
#ifndef KERNEL_NN_COEFFICIENTS_H
#define KERNEL_NN_COEFFICIENTS_H

/* 2^r, |r| <= 0.5: relative error %.2g in float32. */
%s
/* q(u) = Phi(-t), u = t NN_GELU_SCALE - 1, 0 <= t <= NN_GELU_CUT: gelu's absolute error %.2g on [-8, 8]. */
#define NN_GELU_CUT %sf
#define NN_GELU_SCALE %sf
%s
#endif""" % (exp2_error, table("nn_exp2_coefficients", exp2), gelu_error, cut.hex(), scale.hex(),
             table("nn_gelu_coefficients", gelu)))


if __name__ == "__main__":
    sys.exit(main())
