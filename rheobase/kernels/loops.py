"""The compiled loops (Numba) of integrate and fire, and of thresholds that adapt: one C function for each kernel.

A kernel is a C function ``void kernel(int64 *task)``. The task holds a ticket counter, sizes and
addresses; every thread that calls the kernel with the same task draws blocks of neurons from the
counter until none is left, so any number of threads may help, and none has to know of the others.
A block of neurons stays in the first-level cache while the kernel scans its K steps.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from rheobase.kernels.basic_loops import (
    BLOCK,
    ONE,
    PITCH,
    ZERO,
    _at,
    _copy,
    _copy_out,
    _fetch_add,
    _fill,
    _floats,
    _fma,
    _integers,
    _load,
    _wide,
    _workspace,
    exp,
    fraction,
    nearest_power,
    softplus,
)
from rheobase.kernels.compilation import compile_kernel

__all__ = ["SLOTS", "SPAN", "compiled"]

SPAN = 16 * BLOCK
"""Neurons that one thread takes at a time: enough for the processor to fetch ahead, and to draw few tickets."""

V, MEAN, LAST, TH, DECAY, DRIVE, Z, X = (row * PITCH for row in range(8))
"""Where the rows of a block lie in a thread's workspace: state, threshold, units, the exponent of the sigmoid."""

TICKET, NEURONS, STEPS, STRIDE, PERIOD, CURRENT, THRESHOLD, VALUES = range(8)
POTENTIAL, POTENTIAL_AFTER, MEAN_BEFORE, MEAN_AFTER, LAST_BEFORE, LAST_AFTER = range(8, 14)
HARD = 14  # IF
DONE, USE_DTT, USE_DET, INSTANT, RAW, PARAMETERS = range(14, 20)  # MSAT
PER_KI, PER_C, SLOPE, HEIGHT, REST, GAIN, LEAST, MOST_POWER = range(8)
"""The parameters of MSAT: 1 / ki, -1 / C, and the weights of d / ki, softplus, V_T and DET in the exponent z.

BDETT has the same, with th = M max(-z, LEAST) in place of the sigmoid. Rounded payloads are M, M / 2 and so on down to
M / MOST_POWER.
"""
COUNTS, SAMPLE = 20, 21  # where spikes are counted, by step and sample, or 0; neurons of a sample
THRESHOLDS = 22  # where the thresholds of each step are written down, or 0
SCANNED = 23  # how many neurons are scanned, the first ones
SLOTS = 24
"""The int64 slots of a task: sizes, addresses and switches."""


@njit(forceinline=True, error_model="numpy")
def _load_units(w: Any, p: Any, size: int, raw: bool) -> None:
    """What DTT multiplies potentials by, u / ki, and DET the drive, -u / C; u = 1 / M, or 1 in raw units.

    Where M = 0, th is 0 whatever u is.
    """
    for j in range(size):
        u = ONE if raw else ONE / w[TH + j]
        w[DECAY + j], w[DRIVE + j] = u * p[PER_KI], u * p[PER_C]


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
def _input(task: Any, w: Any, k: Any, start: Any, size: int) -> Any:
    """The currents of a block in step k: a copy of them where the values are to take their place."""
    x = _floats(task[CURRENT], k * task[STRIDE] + start)
    if task[CURRENT] == task[VALUES]:
        _copy(x, w, X, size)
        x = _at(w, X)
    return x


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
def _threshold(m: Any, z: Any, p: Any, linear: bool) -> Any:
    """th = M / (1 + e^z), or M max(-z, LEAST) (linear)."""
    return m * max(-z, p[LEAST]) if linear else fraction(m, z)


@njit(forceinline=True, error_model="numpy")
def _threshold_row(w: Any, thresholds: Any, p: Any, size: int, linear: bool) -> None:
    """Write the thresholds down."""
    _wide()
    for j in range(size):
        thresholds[j] = _threshold(w[TH + j], w[Z + j], p, linear)


@njit(forceinline=True, error_model="numpy")
def _fire_row(w: Any, x: Any, y: Any, p: Any, size: int, share: Any, linear: bool, rounded: bool) -> Any:
    """th, see `_threshold`; s = [v + x >= th]; y = s th; v = v + x - y; the mean of v.

    With ``rounded``, y is s M times the power of two nearest to th / M.

    The number of y > 0.
    """
    _wide()
    spikes = np.int32(0)
    for j in range(size):
        pre = w[V + j] + x[j]
        th = _threshold(w[TH + j], w[Z + j], p, linear)
        sent = w[TH + j] * nearest_power(ONE + exp(w[Z + j]), p[MOST_POWER]) if rounded else th
        emitted = sent if pre >= th else ZERO
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
    neurons, scanned, hard = task[NEURONS], task[SCANNED], task[HARD] != 0
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= scanned:
            break
        start, limit = first, min(first + SPAN, scanned)
        while start < limit:
            size = _block(task, start, limit)
            _load(w, TH, start, size, task[THRESHOLD], task[PERIOD])
            _copy(_floats(task[POTENTIAL], start), w, V, size)
            for k in range(task[STEPS]):
                x, y = _input(task, w, k, start, size), _floats(task[VALUES], k * neurons + start)
                _count(task, k, start, _if_row(w, x, y, size, hard))
            _copy_out(w, V, _floats(task[POTENTIAL_AFTER], start), size)
            start += size


@njit(forceinline=True, error_model="numpy")
def _adapt(task: Any, linear: bool, rounded: bool) -> None:
    """MSAT, whose payloads may be rounded, or BDETT (linear)."""
    neurons, scanned, done = task[NEURONS], task[SCANNED], task[DONE]
    use_dtt, use_det, instant, raw = task[USE_DTT] != 0, task[USE_DET] != 0, task[INSTANT] != 0, task[RAW] != 0
    p = _floats(task[PARAMETERS], 0)
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= scanned:
            break
        start, limit = first, min(first + SPAN, scanned)
        while start < limit:
            size = _block(task, start, limit)
            _load(w, TH, start, size, task[THRESHOLD], task[PERIOD])
            _load_units(w, p, size, raw)
            _copy(_floats(task[POTENTIAL], start), w, V, size)
            _copy(_floats(task[MEAN_BEFORE], start), w, MEAN, size)
            _copy(_floats(task[LAST_BEFORE], start), w, LAST, size)
            for k in range(task[STEPS]):
                x, y = _input(task, w, k, start, size), _floats(task[VALUES], k * neurons + start)
                if done + k == 0:
                    _count(task, k, start, _first_row(w, x, y, size))
                    if task[THRESHOLDS]:
                        _copy_out(w, TH, _floats(task[THRESHOLDS], start), size)
                    continue
                if use_dtt:
                    _decay_row(w, p, size, raw)
                else:
                    _fill(w, Z, ZERO, size)
                if use_det:
                    _drive_row(w, x, p, size, instant)
                if task[THRESHOLDS]:
                    _threshold_row(w, _floats(task[THRESHOLDS], k * neurons + start), p, size, linear)
                share = np.float32(1.0 / (done + k + 1))
                _count(task, k, start, _fire_row(w, x, y, p, size, share, linear, rounded))
            _copy_out(w, V, _floats(task[POTENTIAL_AFTER], start), size)
            _copy_out(w, MEAN, _floats(task[MEAN_AFTER], start), size)
            _copy_out(w, LAST, _floats(task[LAST_AFTER], start), size)
            start += size


def _msat_kernel(task: Any) -> None:
    """MSAT."""
    _adapt(task, False, False)


def _rounded_msat_kernel(task: Any) -> None:
    """MSAT with payloads of powers of two."""
    _adapt(task, False, True)


def _bdett_kernel(task: Any) -> None:
    """BDETT."""
    _adapt(task, True, False)


def _function_kernel(task: Any) -> None:
    """exp, softplus and sigmoid of the current, for the tests of their accuracy."""
    x, y, size = _floats(task[CURRENT], 0), _floats(task[VALUES], 0), task[NEURONS]
    for j in range(size):
        y[j], y[size + j], y[2 * size + j] = exp(x[j]), softplus(x[j]), fraction(ONE, -x[j])


_KERNELS = {
    "if": _if_kernel,
    "msat": _msat_kernel,
    "rounded_msat": _rounded_msat_kernel,
    "bdett": _bdett_kernel,
    "functions": _function_kernel,
}


@cache
def compiled(name: str) -> Any:
    """The C function of kernel ``name``, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_KERNELS[name])
