"""The compiled loops (Numba) of neurons that see all T steps before they fire: parallel, radix and offset.

As in `loops`, a kernel is a C function ``void kernel(int64 *task)``, threads draw blocks of neurons from its counter,
and the values may take the place of the current. A block reads the currents of all its steps before it writes.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from rheobase.kernels.basic_loops import PITCH, ZERO, _at, _copy, _fetch_add, _fill, _floats, _load, _wide, _workspace
from rheobase.kernels.compilation import compile_kernel
from rheobase.kernels.loops import (
    CURRENT,
    NEURONS,
    PERIOD,
    SPAN,
    STEPS,
    STRIDE,
    TH,
    THRESHOLD,
    VALUES,
    V,
    _block,
    _count,
    _if_row,
    _input,
)

__all__ = ["compiled"]

BIAS, VALUE, CONSTANTS, TRIAL, ITERATIONS = range(8, 13)
"""The slots of a task after those of every scan; ITERATIONS of TRIAL steps are those of a trial run."""
HIGH, LOW, TOP, START = (row * PITCH for row in (1, 2, 4, 5))
"""Where rows lie in a thread's workspace, beside V, TH and X; each kernel has its own use for them."""
HALF = np.float32(0.5)


@njit(forceinline=True, error_model="numpy")
def _add_row(w: Any, row: int, x: Any, size: int) -> None:
    """w[row + j] += x[j]."""
    _wide()
    for j in range(size):
        w[row + j] += x[j]


@njit(forceinline=True, error_model="numpy")
def _carry(w: Any, row: int, above: int, size: int) -> None:
    """Add a row to the one above, and begin it anew."""
    _wide()
    for j in range(size):
        w[above + j] += w[row + j]
        w[row + j] = ZERO


@njit(forceinline=True, error_model="numpy")
def _mean(task: Any, w: Any, start: int, size: int) -> None:
    """V = (1/T) sum_t x(t), the sum as PyTorch has it: of 16 steps, of 16 such sums, and of these.

    A constant current (stride 0) is its own mean.
    """
    _wide()
    steps = task[STEPS]
    if task[STRIDE] == 0:
        _copy(_floats(task[CURRENT], start), w, V, size)
        return
    _fill(w, LOW, ZERO, size)
    _fill(w, HIGH, ZERO, size)
    _fill(w, TOP, ZERO, size)
    for k in range(steps):
        _add_row(w, LOW, _floats(task[CURRENT], k * task[STRIDE] + start), size)
        if (k + 1) % 16 == 0:
            _carry(w, LOW, HIGH, size)
            if (k + 1) % 256 == 0:
                _carry(w, HIGH, TOP, size)
    number = np.float32(steps)
    for j in range(size):
        w[V + j] = (w[LOW + j] + w[HIGH + j] + w[TOP + j]) / number


@njit(forceinline=True, error_model="numpy")
def _number_row(w: Any, size: int, steps: int) -> None:
    """V = k = clip(floor((m + bias) T / threshold + 1/2), 0, T), with m in V and the bias in LOW."""
    _wide()
    most = np.float32(steps)
    for j in range(size):
        k = np.floor((w[V + j] + w[LOW + j]) * most / w[TH + j] + HALF)
        k = k if k > ZERO else ZERO
        w[V + j] = k if k < most else most


@njit(forceinline=True, error_model="numpy")
def _first_spikes_row(w: Any, y: Any, size: int, t: Any) -> Any:
    """y = value where t <= k, with k in V and the value in LOW. The number of spikes."""
    _wide()
    spikes = np.int32(0)
    for j in range(size):
        fired = t <= w[V + j]
        y[j] = w[LOW + j] if fired else ZERO
        spikes = np.int32(spikes + np.int32(fired))
    return spikes


def _parallel_kernel(task: Any) -> None:
    """Parallel."""
    neurons, period = task[NEURONS], task[PERIOD]
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= neurons:
            break
        start, limit = first, min(first + SPAN, neurons)
        while start < limit:
            size = _block(task, start, limit)
            _mean(task, w, start, size)
            _load(w, TH, start, size, task[THRESHOLD], period)
            _load(w, LOW, start, size, task[BIAS], period)
            _number_row(w, size, task[STEPS])
            _load(w, LOW, start, size, task[VALUE], period)
            for k in range(task[STEPS]):
                y = _floats(task[VALUES], k * neurons + start)
                _count(task, k, start, _first_spikes_row(w, y, size, np.float32(k + 1)))
            start += size


@njit(forceinline=True, error_model="numpy")
def _digit_row(w: Any, y: Any, size: int, share: Any, worth: Any) -> Any:
    """s = [v >= threshold share]; v -= threshold share s; y = threshold worth s. The number of spikes."""
    _wide()
    spikes = np.int32(0)
    for j in range(size):
        v, weight = w[V + j], w[TH + j] * share
        fired = v >= weight
        emitted = w[TH + j] * worth if fired else ZERO  # which is 0 too where a share is too small for float32
        y[j], w[V + j] = emitted, v - weight if fired else v
        spikes = np.int32(spikes + np.int32(emitted != ZERO))
    return spikes


@njit(forceinline=True, error_model="numpy")
def _raise_row(w: Any, size: int, share: Any) -> None:
    """v += threshold share."""
    _wide()
    for j in range(size):
        w[V + j] = w[V + j] + w[TH + j] * share


def _radix_kernel(task: Any) -> None:
    """Radix. Constants: w(T) / 2, w(1) ... w(T), and what they are worth, all in thresholds."""
    neurons, steps = task[NEURONS], task[STEPS]
    constants = _floats(task[CONSTANTS], 0)
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= neurons:
            break
        start, limit = first, min(first + SPAN, neurons)
        while start < limit:
            size = _block(task, start, limit)
            _mean(task, w, start, size)
            _load(w, TH, start, size, task[THRESHOLD], task[PERIOD])
            _raise_row(w, size, constants[0])
            for k in range(steps):
                y = _floats(task[VALUES], k * neurons + start)
                _count(task, k, start, _digit_row(w, y, size, constants[1 + k], constants[1 + steps + k]))
            start += size


@njit(forceinline=True, error_model="numpy")
def _trial_row(w: Any, x: Any, size: int) -> None:
    """One step of integrate and fire; the least v_pre that fired is kept in LOW, the greatest that did not in HIGH."""
    _wide()
    for j in range(size):
        pre, th, least, most = w[V + j] + x[j], w[TH + j], w[LOW + j], w[HIGH + j]
        fired = pre >= th
        w[LOW + j] = pre if fired and pre < least else least
        w[HIGH + j] = most if fired or pre <= most else pre
        w[V + j] = pre - th if fired else pre


@njit(forceinline=True, error_model="numpy")
def _correct_row(w: Any, size: int, below: Any) -> None:
    """Move v(0), in START, after a trial run that ended at V; ``below`` is a little less than a threshold."""
    _wide()
    infinite = np.float32(np.inf)
    for j in range(size):
        v, th, start, least, most = w[V + j], w[TH + j], w[START + j], w[LOW + j], w[HIGH + j]
        down, up = least - below * th, th - most
        down, up = (down if down > th else th), (up if up > th else th)
        moved = start - down if v < ZERO and least < infinite else start
        w[START + j] = moved + up if v >= th and most > -infinite else moved


def _offset_kernel(task: Any) -> None:
    """Offset: trial runs, and integrate and fire."""
    neurons, stride, steps = task[NEURONS], task[STRIDE], task[STEPS]
    below = _floats(task[CONSTANTS], 0)[0]
    infinite = np.float32(np.inf)
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= neurons:
            break
        start, limit = first, min(first + SPAN, neurons)
        while start < limit:
            size = _block(task, start, limit)
            _load(w, TH, start, size, task[THRESHOLD], task[PERIOD])
            for j in range(size):
                w[START + j] = w[TH + j] * HALF
            for _ in range(task[ITERATIONS]):
                _copy(_at(w, START), w, V, size)
                _fill(w, LOW, infinite, size)
                _fill(w, HIGH, -infinite, size)
                for k in range(task[TRIAL]):
                    _trial_row(w, _floats(task[CURRENT], k % steps * stride + start), size)
                _correct_row(w, size, below)
            _copy(_at(w, START), w, V, size)
            for k in range(steps):
                x, y = _input(task, w, k, start, size), _floats(task[VALUES], k * neurons + start)
                _count(task, k, start, _if_row(w, x, y, size, False))
            start += size


_KERNELS = {"parallel": _parallel_kernel, "radix": _radix_kernel, "offset": _offset_kernel}


@cache
def compiled(name: str) -> Any:
    """The C function of kernel ``name``, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_KERNELS[name])
