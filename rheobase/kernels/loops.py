"""The compiled loops (Numba): vectorised exp, log1p and sigmoid, then one C function for each kernel.

A kernel is a C function ``void kernel(int64 *task)``. The task holds a ticket counter, sizes and
addresses; every thread that calls the kernel with the same task draws blocks of neurons from the
counter until none is left, so any number of threads may help, and none has to know of the others.
A block of neurons stays in the first-level cache while the kernel scans its K steps.

All arithmetic is float32. Multiply-adds are fused only where the code says `_fma`, so the value
of a neuron does not depend on its place in the vector, on the block or on the number of threads.

Everything compiled lives in this one file: Numba's cache looks at the date of the file of the
outermost function only.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic

__all__ = ["BLOCK", "TASK", "compiled"]

BLOCK = 1024
"""Neurons that one thread takes at a time."""

PITCH = BLOCK + 16
V, MEAN, LAST, TH, UNIT, Z = 0, PITCH, 2 * PITCH, 3 * PITCH, 4 * PITCH, 5 * PITCH
"""Where the rows of a block lie in a thread's workspace: state, threshold, 1 / scale, sigmoid's argument."""

TASK = ("ticket", "neurons", "steps", "stride", "period", "current", "threshold", "values", "potential")
"""The meaning of the int64 slots of a task; the rest belongs to the kernel."""

ZERO, ONE = np.float32(0.0), np.float32(1.0)
LIMIT = np.float32(87.0)  # exp(+-87) is still a normal float32
LOG2_E = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # ln 2 in two parts
ROUND = np.float32(1.5 * 2**23)  # adding it rounds to an integer, kept in the low bits
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
        biased = builder.add(builder.bitcast(args[0], word), word(127))
        return builder.bitcast(builder.shl(biased, word(23)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _fetch_add(typing: Any, pointer: Any, amount: Any) -> Any:
    """Atomic ``old = *pointer; *pointer += amount; return old``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", args[0], args[1], "monotonic")

    return types.int64(types.CPointer(types.int64), types.int64), generate


@intrinsic
def _floats(typing: Any, address: Any, offset: Any) -> Any:
    """A pointer to the float32 number ``offset`` after ``address``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(builder.inttoptr(args[0], ir.FloatType().as_pointer()), [args[1]])

    return types.CPointer(types.float32)(types.int64, types.int64), generate


@intrinsic
def _integers(typing: Any, address: Any) -> Any:
    """The address as a pointer to int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), generate


@intrinsic
def _workspace(typing: Any) -> Any:
    """Six rows of PITCH float32 on the stack of the thread."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return alloca_once(builder, ir.FloatType(), size=6 * PITCH)

    return types.CPointer(types.float32)(), generate


@njit(forceinline=True, error_model="numpy")
def exp(x: Any) -> Any:
    """e^x = 2^n e^r, n = round(x / ln 2), r = x - n ln 2; x is clipped to [-87, 87]."""
    x = x if x < LIMIT else LIMIT
    x = x if x > -LIMIT else -LIMIT
    shifted = _fma(x, LOG2_E, ROUND)
    n = shifted - ROUND
    r = _fma(n, -LN2_LOW, _fma(n, -LN2_HIGH, x))
    p = _fma(_fma(_fma(_fma(P4, r, P3), r, P2), r, P1), r, P0)
    return _fma(_fma(r * r, p, r), _power_of_two(shifted), _power_of_two(shifted))


@njit(forceinline=True, error_model="numpy")
def softplus(x: Any) -> Any:
    """log(1 + e^x) = max(x, 0) + log(1 + e), e = e^-|x|."""
    e = exp(x if x < ZERO else -x)
    q = _fma(_fma(_fma(_fma(Q8, e, Q7), e, Q6), e, Q5), e, Q4)
    q = _fma(_fma(_fma(_fma(q, e, Q3), e, Q2), e, Q1), e, Q0)
    return _fma(e, q, x if x > ZERO else ZERO)


@njit(forceinline=True, error_model="numpy")
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return ONE / (ONE + exp(-x))


@njit(forceinline=True, error_model="numpy")
def _copy(source: Any, offset: int, target: Any, position: int, size: int) -> None:
    """target[position + j] = source[offset + j]."""
    for j in range(size):
        target[position + j] = source[offset + j]


@njit(forceinline=True, error_model="numpy")
def _load_threshold(w: Any, start: int, size: int, threshold: Any, period: int) -> None:
    """w[TH + j] = threshold[(start + j) mod period], without a division for each element."""
    if period == 1:
        for j in range(size):
            w[TH + j] = threshold[0]
        return
    offset, done = start % period, 0
    while done < size:
        count = min(period - offset, size - done)
        _copy(threshold, offset, w, TH + done, count)
        offset, done = 0, done + count


@njit(forceinline=True, error_model="numpy")
def _if_row(w: Any, x: Any, y: Any, size: int, hard: bool) -> None:
    """One step of a block: s = [v + x >= M]; y = s M; v = v + x - y, or 0 where s (hard)."""
    for j in range(size):
        pre, th = w[V + j] + x[j], w[TH + j]
        fired = pre >= th
        y[j] = th if fired else ZERO
        after = ZERO if hard else pre - th
        w[V + j] = after if fired else pre


@njit(forceinline=True, error_model="numpy")
def _decay_row(w: Any, p: Any, size: int, raw: bool) -> None:
    """z = dtt_gain (alpha d + V_T + ka log(1 + exp(d / ki))), d = (v - mean) u."""
    alpha, ka, inverse_ki, v_t, gain = p[0], p[1], p[2], p[4], p[5]
    for j in range(size):
        d = (w[V + j] - w[MEAN + j]) * w[UNIT + j]
        rest = v_t * (w[TH + j] if raw else ONE)
        w[Z + j] = gain * _fma(ka, softplus(d * inverse_ki), _fma(alpha, d, rest))


@njit(forceinline=True, error_model="numpy")
def _drive_row(w: Any, x: Any, p: Any, size: int, instant: bool) -> None:
    """z += det_gain exp(-drive / C), drive = (v + x - last) u, or x u (instant)."""
    inverse_c, gain = p[3], p[6]
    for j in range(size):
        drive = (x[j] if instant else w[V + j] + x[j] - w[LAST + j]) * w[UNIT + j]
        w[Z + j] = _fma(gain, exp(-drive * inverse_c), w[Z + j])


@njit(forceinline=True, error_model="numpy")
def _fire_row(w: Any, x: Any, y: Any, size: int, share: Any) -> None:
    """th = M sigmoid(z); s = [v + x >= th]; y = s th; v = v + x - y; mean += (v - mean) / t."""
    for j in range(size):
        pre = w[V + j] + x[j]
        th = w[TH + j] * sigmoid(w[Z + j])
        emitted = th if pre >= th else ZERO
        after = pre - emitted
        y[j], w[V + j], w[LAST + j] = emitted, after, pre
        w[MEAN + j] = _fma(after - w[MEAN + j], share, w[MEAN + j])


@njit(forceinline=True, error_model="numpy")
def _first_row(w: Any, x: Any, y: Any, size: int) -> None:
    """The first step ever of MSAT: th = M, and the mean is v."""
    for j in range(size):
        pre, th = w[V + j] + x[j], w[TH + j]
        emitted = th if pre >= th else ZERO
        after = pre - emitted
        y[j], w[V + j], w[LAST + j], w[MEAN + j] = emitted, after, pre, after


def _if_kernel(task: Any) -> None:
    """IF. Slots: those of TASK, then whether the reset is hard."""
    neurons, steps, stride = task[1], task[2], task[3]
    threshold, potential = _floats(task[6], 0), _floats(task[8], 0)
    hard = task[9] != 0
    w = _workspace()
    while True:
        start = _fetch_add(task, 1) * BLOCK
        if start >= neurons:
            break
        size = min(BLOCK, neurons - start)
        _load_threshold(w, start, size, threshold, task[4])
        _copy(potential, start, w, V, size)
        for k in range(steps):
            x, y = _floats(task[5], k * stride + start), _floats(task[7], k * neurons + start)
            _if_row(w, x, y, size, hard)
        _copy(w, V, potential, start, size)


def _msat_kernel(task: Any) -> None:
    """MSAT. Slots: TASK, then mean, last, parameters, steps done, use DTT, use DET, instant drive, raw."""
    neurons, steps, stride = task[1], task[2], task[3]
    threshold, potential = _floats(task[6], 0), _floats(task[8], 0)
    mean, last, p = _floats(task[9], 0), _floats(task[10], 0), _floats(task[11], 0)
    done, use_dtt, use_det = task[12], task[13] != 0, task[14] != 0
    instant, raw = task[15] != 0, task[16] != 0
    w = _workspace()
    while True:
        start = _fetch_add(task, 1) * BLOCK
        if start >= neurons:
            break
        size = min(BLOCK, neurons - start)
        _load_threshold(w, start, size, threshold, task[4])
        _copy(potential, start, w, V, size)
        _copy(mean, start, w, MEAN, size)
        _copy(last, start, w, LAST, size)
        for j in range(size):
            th = w[TH + j]
            unit = ONE / th if th != ZERO else ZERO
            w[UNIT + j] = ONE if raw else unit
            w[Z + j] = ZERO
        for k in range(steps):
            x, y = _floats(task[5], k * stride + start), _floats(task[7], k * neurons + start)
            if done + k == 0:
                _first_row(w, x, y, size)
                continue
            if use_dtt:
                _decay_row(w, p, size, raw)
            else:
                for j in range(size):
                    w[Z + j] = ZERO
            if use_det:
                _drive_row(w, x, p, size, instant)
            _fire_row(w, x, y, size, np.float32(1.0 / (done + k + 1)))
        _copy(w, V, potential, start, size)
        _copy(w, MEAN, mean, start, size)
        _copy(w, LAST, last, start, size)


def _count_kernel(task: Any) -> None:
    """Non-zero elements. Slots: ticket, elements of a step, steps, stride, -, values, -, -, counts."""
    neurons, steps = task[1], task[2]
    span = 16 * BLOCK
    blocks = (neurons + span - 1) // span
    while True:
        ticket = _fetch_add(task, 1)
        if ticket >= blocks * steps:
            break
        k, start = ticket // blocks, ticket % blocks * span
        row = _floats(task[5], k * task[3] + start)
        total = 0
        for j in range(min(span, neurons - start)):
            total += row[j] != ZERO
        _fetch_add(_integers(task[8] + 8 * k), total)


def _function_kernel(task: Any) -> None:
    """exp, softplus and sigmoid of ``current``, for the tests of their accuracy."""
    x, y, size = _floats(task[5], 0), _floats(task[7], 0), task[1]
    for j in range(size):
        y[j], y[size + j], y[2 * size + j] = exp(x[j]), softplus(x[j]), sigmoid(x[j])


_KERNELS = {"if": _if_kernel, "msat": _msat_kernel, "count": _count_kernel, "functions": _function_kernel}


@cache
def compiled(name: str) -> Any:
    """The C function of kernel ``name``, compiled on first use, or loaded from Numba's cache."""
    signature = types.void(types.CPointer(types.int64))
    kernel = _KERNELS[name]
    try:
        return cfunc(signature, cache=True, error_model="numpy")(kernel)
    except Exception:  # noqa: BLE001 (no folder for the cache, or a damaged one: compile all the same)
        return cfunc(signature, error_model="numpy")(kernel)
