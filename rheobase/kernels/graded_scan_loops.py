"""The compiled loop (Numba) of the graded integrate-and-fire neuron; its gradient is in `graded_loops`.

As in `loops`, a kernel is a C function ``void kernel(int64 *task)``, and threads draw blocks of neurons from its
counter; state and parameters of a block stay in the first-level cache while its steps go by. The parameters lie in a
table whose rows repeat every ``width`` neurons; a block never crosses the end of a row.
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
    _copy,
    _copy_out,
    _fetch_add,
    _floats,
    _integers,
    _wide,
    _workspace,
)
from rheobase.kernels.compilation import compile_kernel
from rheobase.kernels.loops import (
    COUNTS,
    CURRENT,
    NEURONS,
    PERIOD,
    POTENTIAL,
    POTENTIAL_AFTER,
    SAMPLE,
    SCANNED,
    STEPS,
    STRIDE,
    THRESHOLD,
    VALUES,
)

__all__ = ["compiled"]

SENT, SENT_AFTER = 10, 11
LEVELS, POWERS, SIGNED, MEMORY, FIRST_LEVELS, TABLE_STRIDE, BIASED = 14, 15, 16, 17, 18, 19, 22
"""Slots besides those of `loops`: THRESHOLD is where the table begins, and PERIOD the width of its rows."""
V, R, X, TH, INVERSE, FIRE, OFFSET, K = (row * PITCH for row in range(8))
"""Where the rows of a block lie in a thread's workspace: states, current, the four parameters, levels."""
RUN = 16
"""Blocks that one thread takes at a time."""


@njit(forceinline=True, error_model="numpy")
def _load_parameters(w: Any, p: Any, width: int, size: int) -> None:
    """Threshold, its reciprocal, lowest level that fires, offset."""
    for j in range(size):
        w[TH + j], w[INVERSE + j] = p[j], p[width + j]
        w[FIRE + j], w[OFFSET + j] = p[2 * width + j], p[3 * width + j]


@njit(forceinline=True, error_model="numpy")
def _load_current(w: Any, x: Any, bias: Any, size: int, biased: bool) -> None:
    """The currents of a block in one step, with their bias."""
    if biased:
        for j in range(size):
            w[X + j] = x[j] + bias[j]
    else:
        _copy(x, w, X, size)


@njit(forceinline=True, error_model="numpy")
def _level_row(y: Any, w: Any, size: int, levels: int, signed: bool, memory: bool) -> Any:
    """v += x; q = e / threshold + offset, e = max(v, -r) with memory, else v; k = min(floor(|q| + 1 - fire), levels).

    y = k sign(q) threshold, 0 where q < 0 and not signed; v -= y; r += y. The number of y that are not 0.
    """
    _wide()
    top, spikes = np.float32(levels), np.int32(0)
    for j in range(size):
        pre, sent = w[V + j] + w[X + j], w[R + j]
        e = max(pre, -sent) if memory else pre
        q = e * w[INVERSE + j] + w[OFFSET + j]
        k = min(max(np.floor(abs(q) + (ONE - w[FIRE + j])), ZERO), top)
        k = k if q > ZERO else (-k if signed else ZERO)
        out = k * w[TH + j]
        y[j], w[V + j], w[R + j] = out, pre - out, sent + out
        spikes = np.int32(spikes + np.int32(out != ZERO))
    return spikes


@njit(forceinline=True, error_model="numpy")
def _power_row(y: Any, w: Any, size: int, levels: int, signed: bool, memory: bool) -> Any:
    """The same, where k is the largest 2^-i with |q| >= fire 2^-i, i < levels, or 0."""
    _wide()
    for j in range(size):
        pre = w[V + j] + w[X + j]
        e = max(pre, -w[R + j]) if memory else pre
        w[V + j], w[X + j], w[K + j] = pre, e * w[INVERSE + j] + w[OFFSET + j], ZERO
    unit = np.float32(0.5 ** (levels - 1))
    for _ in range(levels):
        for j in range(size):
            w[K + j] = unit if abs(w[X + j]) >= w[FIRE + j] * unit else w[K + j]
        unit = np.float32(2.0) * unit
    spikes = np.int32(0)
    for j in range(size):
        k = w[K + j]
        k = k if w[X + j] > ZERO else (-k if signed else ZERO)
        out = k * w[TH + j]
        y[j], w[V + j], w[R + j] = out, w[V + j] - out, w[R + j] + out
        spikes = np.int32(spikes + np.int32(out != ZERO))
    return spikes


@njit(forceinline=True, error_model="numpy")
def _count(task: Any, k: Any, start: Any, size: int, y: Any, spikes: Any) -> None:
    """Add the spikes of a block in step k, which may be of two samples, where they are counted."""
    if task[COUNTS] == 0:
        return
    sample = start // task[SAMPLE]
    place = _integers(task[COUNTS] + 8 * (k * (task[NEURONS] // task[SAMPLE]) + sample))
    first = (sample + 1) * task[SAMPLE] - start
    if first < size:
        own = np.int32(0)
        for j in range(first):
            own = np.int32(own + np.int32(y[j] != ZERO))
        _fetch_add(place, own)
        _fetch_add(_integers(task[COUNTS] + 8 * (k * (task[NEURONS] // task[SAMPLE]) + sample + 1)), spikes - own)
    else:
        _fetch_add(place, spikes)


def _kernel(task: Any) -> None:
    """K steps."""
    neurons, scanned, width, stride = task[NEURONS], task[SCANNED], task[PERIOD], task[TABLE_STRIDE]
    powers, signed, memory, biased = task[POWERS] != 0, task[SIGNED] != 0, task[MEMORY] != 0, task[BIASED] != 0
    pieces = (width + BLOCK - 1) // BLOCK  # of a row
    piece = (width + pieces - 1) // pieces
    blocks = (scanned + width - 1) // width * pieces
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * RUN
        if first >= blocks:
            break
        for block in range(first, min(first + RUN, blocks)):
            offset = block % pieces * piece
            start = block // pieces * width + offset
            size = min(piece, min(width - offset, scanned - start))
            if size <= 0:
                continue
            _copy(_floats(task[POTENTIAL], start), w, V, size)
            _copy(_floats(task[SENT], start), w, R, size)
            for k in range(task[STEPS]):
                p = task[THRESHOLD] + 4 * (k * stride + offset)
                if k == 0 or stride:
                    _load_parameters(w, _floats(p, 0), width, size)
                x, y = _floats(task[CURRENT], k * task[STRIDE] + start), _floats(task[VALUES], k * neurons + start)
                _load_current(w, x, _floats(p, 4 * width), size, biased)
                opening = (k == 0) & (task[FIRST_LEVELS] > 0)  # all its levels are positive
                if powers:
                    spikes = _power_row(y, w, size, task[LEVELS], signed, memory)
                elif opening:
                    spikes = _level_row(y, w, size, task[FIRST_LEVELS], False, memory)
                else:
                    spikes = _level_row(y, w, size, task[LEVELS], signed, memory)
                _count(task, k, start, size, y, spikes)
            _copy_out(w, V, _floats(task[POTENTIAL_AFTER], start), size)
            _copy_out(w, R, _floats(task[SENT_AFTER], start), size)


@cache
def compiled() -> Any:
    """The C function, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_kernel)
