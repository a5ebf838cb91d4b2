"""The compiled loops (Numba): vectorised exp and softplus, then one C function for each kernel.

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
from numba import njit, types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic

from rheobase.kernels.compilation import compile_kernel

__all__ = ["BLOCK", "SLOTS", "SPAN", "compiled"]

BLOCK = 256
"""Neurons whose state is scanned in the first-level cache."""

SPAN = 16 * BLOCK
"""Neurons that one thread takes at a time: enough for the processor to fetch ahead, and to draw few tickets."""

PITCH = BLOCK + 16
V, MEAN, LAST, TH, DECAY, DRIVE, Z, X = (row * PITCH for row in range(8))
"""Where the rows of a block lie in a thread's workspace: state, threshold, units, the exponent of the sigmoid."""

TICKET, NEURONS, STEPS, STRIDE, PERIOD, CURRENT, THRESHOLD, VALUES = range(8)
POTENTIAL, POTENTIAL_AFTER, MEAN_BEFORE, MEAN_AFTER, LAST_BEFORE, LAST_AFTER = range(8, 14)
HARD = 14  # IF
DONE, USE_DTT, USE_DET, INSTANT, RAW, PARAMETERS = range(14, 20)  # MSAT
PER_KI, PER_C, SLOPE, HEIGHT, REST, GAIN, LEAST = range(7)
"""The parameters of MSAT: 1 / ki, -1 / C, and the weights of d / ki, softplus, V_T and DET in the exponent z.

BDETT has the same, with th = M max(-z, LEAST) in place of the sigmoid.
"""
COUNTS, SAMPLE = 20, 21  # where spikes are counted, by step and sample, or 0; neurons of a sample
SLOTS = 22
"""The int64 slots of a task: sizes, addresses and switches."""

ZERO, ONE = np.float32(0.0), np.float32(1.0)
LIMIT = np.float32(87.0)  # exp(+-87) is still a normal float32
LOG2_E = np.float32(1.44269504)
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
def _load(w: Any, row: int, start: int, size: int, address: int, period: int) -> None:
    """w[row + j] = p[(start + j) mod period], without a division for each element."""
    if period == 1:
        scalar = _floats(address, 0)[0]
        for j in range(size):
            w[row + j] = scalar
        return
    offset, done = start % period, 0
    while done < size:
        count = min(period - offset, size - done)
        _copy(_floats(address, offset), w, row + done, count)
        offset, done = 0, done + count


@njit(forceinline=True, error_model="numpy")
def _load_units(w: Any, p: Any, size: int, raw: bool) -> None:
    """What DTT multiplies potentials by, u / ki, and DET the drive, -u / C; u = 1 / M, or 1 in raw units.

    Where M = 0, th is 0 whatever u is.
    """
    for j in range(size):
        u = ONE if raw else ONE / w[TH + j]
        w[DECAY + j], w[DRIVE + j] = u * p[PER_KI], u * p[PER_C]


@njit(forceinline=True, error_model="numpy")
def _zero_row(w: Any, size: int) -> None:
    """z = 0."""
    for j in range(size):
        w[Z + j] = ZERO


@njit(forceinline=True, error_model="numpy")
def _block(task: Any, start: Any, limit: Any) -> Any:
    """How many neurons from ``start`` on are a block: where spikes are counted, those of one sample."""
    size = min(BLOCK, limit - start)
    return min(size, task[SAMPLE] - start % task[SAMPLE]) if task[COUNTS] else size


@njit(forceinline=True, error_model="numpy")
def _count(task: Any, k: Any, start: Any, spikes: Any) -> None:
    """Add the spikes of a block in step k, where they are counted."""
    if task[COUNTS]:
        sample = task[SAMPLE]
        _fetch_add(_integers(task[COUNTS] + 8 * (k * (task[NEURONS] // sample) + start // sample)), spikes)


@njit(forceinline=True, error_model="numpy")
def _if_row(w: Any, x: Any, y: Any, size: int, hard: bool) -> Any:
    """One step of a block: s = [v + x >= M]; y = s M; v = v + x - y, or 0 where s (hard). The sum of s."""
    _wide()
    spikes = np.int32(0)
    for j in range(size):
        pre, th = w[V + j] + x[j], w[TH + j]
        fired = pre >= th
        y[j] = th if fired else ZERO
        after = ZERO if hard else pre - th
        w[V + j] = after if fired else pre
        spikes = np.int32(spikes + np.int32(fired))
    return spikes


@njit(forceinline=True, error_model="numpy")
def _decay_row(w: Any, p: Any, size: int, raw: bool) -> None:
    """z = -dtt_gain (alpha d + V_T + ka log(1 + exp(d / ki))), d = (v - mean) u."""
    _wide()
    slope, height, rest = p[SLOPE], p[HEIGHT], p[REST]
    for j in range(size):
        d = (w[V + j] - w[MEAN + j]) * w[DECAY + j]
        w[Z + j] = _fma(height, softplus(d), _fma(slope, d, rest * w[TH + j] if raw else rest))


@njit(forceinline=True, error_model="numpy")
def _drive_row(w: Any, x: Any, p: Any, size: int, instant: bool) -> None:
    """z -= det_gain exp(-drive u / C), drive = v + x - last, or x (instant)."""
    _wide()
    gain = p[GAIN]
    for j in range(size):
        drive = x[j] if instant else w[V + j] + x[j] - w[LAST + j]
        w[Z + j] = _fma(gain, exp(drive * w[DRIVE + j]), w[Z + j])


@njit(forceinline=True, error_model="numpy")
def _fire_row(w: Any, x: Any, y: Any, p: Any, size: int, share: Any, linear: bool) -> Any:
    """th = M / (1 + e^z), or M max(-z, LEAST) (linear); s = [v + x >= th]; y = s th; v = v + x - y; the mean of v.

    The number of y > 0.
    """
    _wide()
    spikes = np.int32(0)
    for j in range(size):
        pre = w[V + j] + x[j]
        th = w[TH + j] * max(-w[Z + j], p[LEAST]) if linear else fraction(w[TH + j], w[Z + j])
        emitted = th if pre >= th else ZERO
        after = pre - emitted
        y[j], w[V + j], w[LAST + j] = emitted, after, pre
        w[MEAN + j] = _fma(after - w[MEAN + j], share, w[MEAN + j])
        spikes = np.int32(spikes + np.int32(emitted != ZERO))
    return spikes


@njit(forceinline=True, error_model="numpy")
def _first_row(w: Any, x: Any, y: Any, size: int) -> Any:
    """The first step ever of MSAT: th = M, and the mean is v. The number of spikes."""
    _wide()
    spikes = np.int32(0)
    for j in range(size):
        pre, th = w[V + j] + x[j], w[TH + j]
        emitted = th if pre >= th else ZERO
        after = pre - emitted
        y[j], w[V + j], w[LAST + j], w[MEAN + j] = emitted, after, pre, after
        spikes = np.int32(spikes + np.int32(emitted != ZERO))
    return spikes


def _if_kernel(task: Any) -> None:
    """IF."""
    neurons, stride, hard = task[NEURONS], task[STRIDE], task[HARD] != 0
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= neurons:
            break
        start, limit = first, min(first + SPAN, neurons)
        while start < limit:
            size = _block(task, start, limit)
            _load(w, TH, start, size, task[THRESHOLD], task[PERIOD])
            _copy(_floats(task[POTENTIAL], start), w, V, size)
            for k in range(task[STEPS]):
                x, y = _floats(task[CURRENT], k * stride + start), _floats(task[VALUES], k * neurons + start)
                if task[CURRENT] == task[VALUES]:  # y takes the place of x
                    _copy(x, w, X, size)
                    x = _at(w, X)
                _count(task, k, start, _if_row(w, x, y, size, hard))
            _copy_out(w, V, _floats(task[POTENTIAL_AFTER], start), size)
            start += size


@njit(forceinline=True, error_model="numpy")
def _adapt(task: Any, linear: bool) -> None:
    """MSAT, or BDETT (linear)."""
    neurons, stride, done = task[NEURONS], task[STRIDE], task[DONE]
    use_dtt, use_det, instant, raw = (
        task[USE_DTT] != 0,
        task[USE_DET] != 0,
        task[INSTANT] != 0,
        task[RAW] != 0,
    )
    p = _floats(task[PARAMETERS], 0)
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= neurons:
            break
        start, limit = first, min(first + SPAN, neurons)
        while start < limit:
            size = _block(task, start, limit)
            _load(w, TH, start, size, task[THRESHOLD], task[PERIOD])
            _load_units(w, p, size, raw)
            _copy(_floats(task[POTENTIAL], start), w, V, size)
            _copy(_floats(task[MEAN_BEFORE], start), w, MEAN, size)
            _copy(_floats(task[LAST_BEFORE], start), w, LAST, size)
            for k in range(task[STEPS]):
                x, y = _floats(task[CURRENT], k * stride + start), _floats(task[VALUES], k * neurons + start)
                if task[CURRENT] == task[VALUES]:  # y takes the place of x
                    _copy(x, w, X, size)
                    x = _at(w, X)
                if done + k == 0:
                    _count(task, k, start, _first_row(w, x, y, size))
                    continue
                if use_dtt:
                    _decay_row(w, p, size, raw)
                else:
                    _zero_row(w, size)
                if use_det:
                    _drive_row(w, x, p, size, instant)
                _count(task, k, start, _fire_row(w, x, y, p, size, np.float32(1.0 / (done + k + 1)), linear))
            _copy_out(w, V, _floats(task[POTENTIAL_AFTER], start), size)
            _copy_out(w, MEAN, _floats(task[MEAN_AFTER], start), size)
            _copy_out(w, LAST, _floats(task[LAST_AFTER], start), size)
            start += size


def _msat_kernel(task: Any) -> None:
    """MSAT."""
    _adapt(task, False)


def _bdett_kernel(task: Any) -> None:
    """BDETT."""
    _adapt(task, True)


def _function_kernel(task: Any) -> None:
    """exp, softplus and sigmoid of the current, for the tests of their accuracy."""
    x, y, size = _floats(task[CURRENT], 0), _floats(task[VALUES], 0), task[NEURONS]
    for j in range(size):
        y[j], y[size + j], y[2 * size + j] = exp(x[j]), softplus(x[j]), fraction(ONE, -x[j])


_KERNELS = {"if": _if_kernel, "msat": _msat_kernel, "bdett": _bdett_kernel, "functions": _function_kernel}


@cache
def compiled(name: str) -> Any:
    """The C function of kernel ``name``, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_KERNELS[name])
