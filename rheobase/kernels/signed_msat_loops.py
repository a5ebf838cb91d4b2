"""The compiled loops (Numba) of signed MSAT: the scan, and its gradient.

The threshold is computed by the rows of `loops`, and the parameters of a step lie in a table as in `graded_loops`,
whose slots these tasks share. A scan that will be differentiated writes its thresholds down, so that its gradient
needs no exponential.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from rheobase.kernels.basic_loops import (
    ONE,
    ZERO,
    _at,
    _copy,
    _copy_out,
    _fetch_add,
    _fill,
    _floats,
    _wide,
    _workspace,
    fraction,
)
from rheobase.kernels.compilation import compile_kernel
from rheobase.kernels.graded_loops import (
    CURRENT,
    CURRENT_GRADIENT,
    GRADIENT,
    HALF,
    MARGIN,
    NEURONS,
    PIECE,
    POTENTIAL,
    POTENTIAL_AFTER,
    SENT,
    SENT_AFTER,
    SLOTS,
    STEPS,
    STRIDE,
    SUMS,
    TABLE,
    TABLE_STRIDE,
    VALUES,
    WIDTH,
    _span,
)
from rheobase.kernels.loops import LAST, MEAN, TH, V, X, Z, _decay_row, _drive_row, _load_units

__all__ = ["compiled"]

DONE, USE_DTT, USE_DET, INSTANT = range(14, 18)
"""These take the place of the rule of a graded neuron."""
MEAN_BEFORE, MEAN_AFTER, LAST_BEFORE, LAST_AFTER, RAW, PARAMETERS, THRESHOLDS, SCRATCH = range(22, 30)
"""THRESHOLDS: those of each step, to write (or 0) or to read; SCRATCH: v_pre and r before each step, for each slot."""
R = X
"""No scan overwrites its current, so the row for it holds r."""
Q, SHARE, THROUGH, SLOPE, TO_V, FROM_R = V, MEAN, LAST, TH, Z, R
"""The rows of the gradient: q, th / M, what th s and q are worth, and what the potential gains and r loses by them."""


@njit(forceinline=True, error_model="numpy")
def _threshold_row(w: Any, size: int) -> None:
    """z = th = M / (1 + e^z), in place: LLVM does not vectorise the row of `loops` onto its own input."""
    _wide()
    for j in range(size):
        w[Z + j] = fraction(w[TH + j], w[Z + j])


@njit(forceinline=True, error_model="numpy")
def _level(q: Any, fire: Any) -> Any:
    """sign(q) min(floor(|q| + 1 - fire), 1), and at least 0; a NaN stays one."""
    k = np.floor(abs(q) + (ONE - fire))
    k = ZERO if k < ZERO else k
    k = ONE if k > ONE else k
    return k if q > ZERO else -k


@njit(forceinline=True, error_model="numpy")
def _send_row(x: Any, y: Any, p: Any, w: Any, width: int, size: int, share: Any) -> None:
    """e = max(v + x, -r); s = level(e / th + offset); y = max(th s, -r); v += x - y; r += y; mean += (v - mean) / t."""
    _wide()
    for j in range(size):
        pre, th, least = w[V + j] + x[j], w[Z + j], -w[R + j]
        e = least if pre < least else pre
        out = th * _level(e / th + p[2 * width + j], p[width + j])
        out = least if out < least else out
        after = pre - out
        y[j], w[V + j], w[LAST + j], w[R + j] = out, after, pre, w[R + j] + out
        w[MEAN + j] += (after - w[MEAN + j]) * share


def _scan_kernel(task: Any) -> None:
    """K steps."""
    neurons, width, done, scheduled = task[NEURONS], task[WIDTH], task[DONE], task[TABLE_STRIDE] != 0
    use_dtt, use_det, instant, raw = task[USE_DTT] != 0, task[USE_DET] != 0, task[INSTANT] != 0, task[RAW] != 0
    constants = _floats(task[PARAMETERS], 0)
    w = _workspace()
    while True:
        start, offset, size = _span(task, _fetch_add(task, 1))
        if start >= neurons:
            break
        _copy(_floats(task[POTENTIAL], start), w, V, size)
        _copy(_floats(task[SENT], start), w, R, size)
        _copy(_floats(task[MEAN_BEFORE], start), w, MEAN, size)
        _copy(_floats(task[LAST_BEFORE], start), w, LAST, size)
        for k in range(task[STEPS]):
            x, y = _floats(task[CURRENT], k * task[STRIDE] + start), _floats(task[VALUES], k * neurons + start)
            p = _floats(task[TABLE], k * task[TABLE_STRIDE] + offset)
            if k == 0 or scheduled:
                _copy(p, w, TH, size)
                _load_units(w, constants, size, raw)
            if done + k == 0:
                _copy(p, w, Z, size)
            else:
                if use_dtt:
                    _decay_row(w, constants, size, raw)
                else:
                    _fill(w, Z, ZERO, size)
                if use_det:
                    _drive_row(w, x, constants, size, instant)
                _threshold_row(w, size)
            if task[THRESHOLDS]:
                _copy_out(w, Z, _floats(task[THRESHOLDS], k * neurons + start), size)
            _send_row(x, y, p, w, width, size, np.float32(1.0 / (done + k + 1)))
        _copy_out(w, V, _floats(task[POTENTIAL_AFTER], start), size)
        _copy_out(w, R, _floats(task[SENT_AFTER], start), size)
        _copy_out(w, MEAN, _floats(task[MEAN_AFTER], start), size)
        _copy_out(w, LAST, _floats(task[LAST_AFTER], start), size)


@njit(forceinline=True, error_model="numpy")
def _replay_row(x: Any, y: Any, before: Any, w: Any, size: int, piece: int) -> None:
    """v_pre and r before a step, from the states before the scan and the values: the bits of the scan."""
    _wide()
    for j in range(size):
        pre = w[V + j] + x[j]
        before[j], before[piece + j] = pre, w[R + j]
        w[V + j] = pre - y[j]
        w[R + j] += y[j]


@njit(forceinline=True, error_model="numpy")
def _part(a: Any, b: Any) -> Any:
    """The derivative of max(a, b) with respect to a; a tie is shared, as PyTorch does."""
    return ONE if a > b else (HALF if a == b else ZERO)


@njit(forceinline=True, error_model="numpy")
def _slope_row(
    before: Any, th: Any, p: Any, g: Any, gv: Any, gr: Any, w: Any, width: int, size: int, piece: int
) -> None:
    """What th s is worth, through the ramp the error q, and through e the potential and r."""
    _wide()
    for j in range(size):
        pre, least, m = before[j], -before[piece + j], th[j]
        e = max(pre, least)
        q = e / m + p[2 * width + j]
        total = g[j] - gv[j] + gr[j]
        sent = _part(m * _level(q, p[width + j]), least)
        slope = sent * total * m if abs(q) <= ONE + MARGIN else ZERO
        passed = _part(pre, least)
        w[Q + j], w[SHARE + j], w[THROUGH + j], w[SLOPE + j] = q, m / p[j], sent * total, slope
        w[TO_V + j] = slope / m * passed
        w[FROM_R + j] = slope / m * (ONE - passed) + (ONE - sent) * total


@njit(forceinline=True, error_model="numpy")
def _sum_row(th: Any, p: Any, s: Any, w: Any, width: int, size: int) -> None:
    """The gradients of threshold, lowest firing level and offset."""
    _wide()
    for j in range(size):
        q, through, slope = w[Q + j], w[THROUGH + j], w[SLOPE + j]
        ratio = q - p[2 * width + j]  # e / th
        s[j] += (through * _level(q, p[width + j]) - slope * ratio / th[j]) * w[SHARE + j]
        near = max(ZERO, ONE - abs(abs(q) - p[width + j]) / HALF)
        s[width + j] -= through * th[j] * (near if q > ZERO else -near)
        s[2 * width + j] += slope


@njit(forceinline=True, error_model="numpy")
def _pass_row(gx: Any, gv: Any, gr: Any, w: Any, size: int) -> None:
    """The gradients of potential, sent value and current before the step."""
    _wide()
    for j in range(size):
        after = gv[j] + w[TO_V + j]
        gr[j] -= w[FROM_R + j]
        gv[j] = after
        gx[j] = after


def _gradient_kernel(task: Any) -> None:
    """Backwards through K steps; slots and sums as for a graded neuron.

    POTENTIAL and SENT hold the neuron's states before the scan, the _AFTER ones the gradients of the last states and
    then of the first.
    """
    neurons, width, steps, slots, piece = task[NEURONS], task[WIDTH], task[STEPS], task[SLOTS], task[PIECE]
    repeats, pieces = (neurons + width - 1) // width, (width + piece - 1) // piece
    w = _workspace()
    while True:
        slot = _fetch_add(task, 1)
        if slot >= slots:
            break
        scratch = _floats(task[SCRATCH], slot * steps * 2 * piece)
        for block in range(repeats * slot // slots * pieces, repeats * (slot + 1) // slots * pieces):
            start, offset, size = _span(task, block)
            if size <= 0:
                continue
            _copy(_floats(task[POTENTIAL], start), w, V, size)
            _copy(_floats(task[SENT], start), w, R, size)
            for k in range(steps):
                x, y = _floats(task[CURRENT], k * task[STRIDE] + start), _floats(task[VALUES], k * neurons + start)
                _replay_row(x, y, _at(scratch, k * 2 * piece), w, size, piece)
            gv, gr = _floats(task[POTENTIAL_AFTER], start), _floats(task[SENT_AFTER], start)
            for back in range(steps):
                k = steps - 1 - back
                here = k * neurons + start
                th, before = _floats(task[THRESHOLDS], here), _at(scratch, k * 2 * piece)
                p = _floats(task[TABLE], k * task[TABLE_STRIDE] + offset)
                _slope_row(before, th, p, _floats(task[GRADIENT], here), gv, gr, w, width, size, piece)
                _sum_row(th, p, _floats(task[SUMS], (slot * steps + k) * 3 * width + offset), w, width, size)
                _pass_row(_floats(task[CURRENT_GRADIENT], here), gv, gr, w, size)


_KERNELS = {"scan": _scan_kernel, "gradient": _gradient_kernel}


@cache
def compiled(name: str) -> Any:
    """The C function of kernel ``name``, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_KERNELS[name])
