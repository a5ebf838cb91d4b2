"""What compiled loops (Numba) are made of: pointers, an atomic counter, a workspace, vectorised exp and softplus.

All arithmetic is float32. Multiply-adds are fused only where the code says `_fma`, so the value
of a neuron does not depend on its place in the vector, on the block or on the number of threads.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic

__all__ = ["BLOCK", "ONE", "PITCH", "ZERO", "exp", "fraction", "nearest_power", "softplus"]

BLOCK = 256
"""Neurons whose state is scanned in the first-level cache."""

PITCH = BLOCK + 16
"""float32 of a row of the workspace."""

ZERO, ONE = np.float32(0.0), np.float32(1.0)
LIMIT = np.float32(87.0)  # exp(+-87) is still a normal float32
LOG2_E = np.float32(1.44269504)
ROOT = np.float32(1.41421356)  # of 2
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # ln 2 in two parts
ROUND = np.float32(1.5 * 2**23 + 127)  # adding it rounds to an integer n; its low bits are n + 127, as in 2^n
# exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2, relative error 3e-9 (minimax fit)
P0, P1, P2 = np.float32(0.49999993), np.float32(0.16666521), np.float32(0.04166839)
P3, P4 = np.float32(0.00836872), np.float32(0.00138146)
# log(1 + e) = e q(e) for 0 <= e <= 1, relative error 3e-8 (minimax fit)
Q0, Q1, Q2 = np.float32(0.99999997), np.float32(-0.49999493), np.float32(0.33319097)
Q3, Q4, Q5 = np.float32(-0.24842982), np.float32(0.19106006), np.float32(-0.13663245)
Q6, Q7, Q8 = np.float32(0.07822594), np.float32(-0.02950523), np.float32(0.00523269)


@intrinsic
def _fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def _power_of_two(typing: Any, shifted: Any) -> Any:
    """2^n from ``ROUND + n``, -126 <= n <= 127: the low bits of ``shifted`` become the exponent."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.bitcast(args[0], word), word(23)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _power_above_inverse(typing: Any, x: Any) -> Any:
    """2^-floor(log2 x) of a normal x, 2^-126 <= x < 2^127: its exponent alone, negated."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        exponent = builder.and_(builder.bitcast(args[0], word), word(0x7F800000))
        return builder.bitcast(builder.sub(word(0x7F000000), exponent), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _fetch_add(typing: Any, pointer: Any, amount: Any) -> Any:
    """Atomic ``old = *pointer; *pointer += amount; return old``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", args[0], args[1], "monotonic")

    return types.int64(types.CPointer(types.int64), types.int64), generate


def _pointers(number: Any, stored: Any) -> Any:
    """An intrinsic (address, offset) that gives the pointer to the number ``offset`` after ``address``.

    Args:
        number: its type in Numba.
        stored: its type in LLVM.
    """

    @intrinsic
    def pointer(typing: Any, address: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.gep(builder.inttoptr(args[0], stored.as_pointer()), [args[1]])

        return types.CPointer(number)(types.int64, types.int64), generate

    return pointer


_floats = _pointers(types.float32, ir.FloatType())
_words = _pointers(types.int32, ir.IntType(32))
_pairs = _pointers(types.uint16, ir.IntType(16))


@intrinsic
def _at(typing: Any, pointer: Any, offset: Any) -> Any:
    """The pointer to the float32 ``offset`` further."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return types.CPointer(types.float32)(types.CPointer(types.float32), types.int64), generate


@intrinsic
def _integers(typing: Any, address: Any) -> Any:
    """The address as a pointer to int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), generate


@intrinsic
def _wide(typing: Any) -> Any:
    """Let LLVM use 512-bit registers in this function, where there are any."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # one that llvmlite does not list
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def _workspace(typing: Any) -> Any:
    """Eight rows of PITCH float32 on the stack of the thread."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return alloca_once(builder, ir.FloatType(), size=8 * PITCH)

    return types.CPointer(types.float32)(), generate


@njit(forceinline=True, error_model="numpy")
def exp(x: Any) -> Any:
    """e^x; x is clipped to [-87, 87]."""
    return _exp_below(x if x < LIMIT else LIMIT)


@njit(forceinline=True, error_model="numpy")
def _exp_below(x: Any) -> Any:
    """e^x = 2^n e^r, n = round(x / ln 2), r = x - n ln 2, for x of at most 87; below -87 it is e^-87."""
    x = x if x > -LIMIT else -LIMIT
    shifted = _fma(x, LOG2_E, ROUND)
    n = shifted - ROUND
    r = _fma(n, -LN2_LOW, _fma(n, -LN2_HIGH, x))
    p = _fma(_fma(_fma(_fma(P4, r, P3), r, P2), r, P1), r, P0)
    return _fma(_fma(r * r, p, r), _power_of_two(shifted), _power_of_two(shifted))


@njit(forceinline=True, error_model="numpy")
def softplus(x: Any) -> Any:
    """log(1 + e^x) = max(x, 0) + log(1 + e), e = e^-|x|."""
    e = _exp_below(-abs(x))
    q = _fma(_fma(_fma(_fma(Q8, e, Q7), e, Q6), e, Q5), e, Q4)
    q = _fma(_fma(_fma(_fma(q, e, Q3), e, Q2), e, Q1), e, Q0)
    return _fma(e, q, x if x > ZERO else ZERO)


@njit(forceinline=True, error_model="numpy")
def fraction(m: Any, z: Any) -> Any:
    """m sigmoid(-z) = m / (1 + e^z)."""
    return m / (ONE + exp(z))


@njit(forceinline=True, error_model="numpy")
def nearest_power(x: Any, most: Any) -> Any:
    """The power of two nearest to 1 / x by its logarithm, of 1, 1/2, ... 1 / most; x >= 1."""
    return _power_above_inverse(min(x * ROOT, most))


@njit(forceinline=True, error_model="numpy")
def _copy(source: Any, w: Any, row: int, size: int) -> None:
    """w[row + j] = source[j]."""
    for j in range(size):
        w[row + j] = source[j]


@njit(forceinline=True, error_model="numpy")
def _copy_out(w: Any, row: int, target: Any, size: int) -> None:
    """target[j] = w[row + j]."""
    for j in range(size):
        target[j] = w[row + j]


@njit(forceinline=True, error_model="numpy")
def _fill(w: Any, row: int, value: Any, size: int) -> None:
    """w[row + j] = value."""
    for j in range(size):
        w[row + j] = value


@njit(forceinline=True, error_model="numpy")
def _load(w: Any, row: int, start: int, size: int, address: int, period: int) -> None:
    """w[row + j] = p[(start + j) mod period], without a division for each element."""
    if period == 1:
        _fill(w, row, _floats(address, 0)[0], size)
        return
    offset, done = start % period, 0
    while done < size:
        count = min(period - offset, size - done)
        _copy(_floats(address, offset), w, row + done, count)
        offset, done = 0, done + count
