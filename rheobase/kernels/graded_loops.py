"""The compiled loop (Numba) of the gradient of the graded neuron, whose scan is in `graded_scan_loops`.

As in `loops`, a kernel is a C function ``void kernel(int64 *task)``, and threads draw blocks of neurons from
its counter. The parameters of a step lie in a table whose rows repeat every ``width`` neurons; a block never
crosses the end of a row, so that row and block are read side by side. A step has four rows: threshold, its reciprocal,
lowest level that fires, offset.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from rheobase.kernels.basic_loops import ONE, ZERO, _fetch_add, _floats, _wide, _workspace
from rheobase.kernels.compilation import compile_kernel

__all__ = ["compiled"]

TICKET, NEURONS, STEPS, WIDTH, PIECE, STRIDE, TABLE, TABLE_STRIDE = range(8)
CURRENT, VALUES, POTENTIAL, SENT, POTENTIAL_AFTER, SENT_AFTER = range(8, 14)
LEVELS, POWERS, SIGNED, MEMORY, GRADIENT, CURRENT_GRADIENT, SUMS, SLOTS, FIRST_LEVELS = range(14, 23)
Q, K, TOTAL, SLOPE = (row * 464 for row in range(4))
"""Where the rows of a piece lie in a thread's workspace."""
HALF = np.float32(0.5)
MARGIN = np.float32(0.2)


@njit(forceinline=True, error_model="numpy")
def _span(task: Any, block: int) -> Any:
    """Where a block starts, where in the table, and how long it is."""
    width, piece = task[WIDTH], task[PIECE]
    pieces = (width + piece - 1) // piece
    offset = block % pieces * piece
    start = block // pieces * width + offset
    return start, offset, min(piece, min(width - offset, task[NEURONS] - start))


@njit(forceinline=True, error_model="numpy")
def _undo_row(x: Any, y: Any, v: Any, r: Any, p: Any, w: Any, width: int, size: int, memory: bool) -> None:
    """The q of a step, and whether it came from -r, from the states after it; then the states before it."""
    _wide()
    for j in range(size):
        pre, sent = v[j] + y[j], r[j] - y[j]
        gated = memory & (pre < -sent)
        w[Q + j] = (-sent if gated else pre) * p[width + j] + p[3 * width + j]
        w[K + j] = ZERO if gated else ONE
    for j in range(size):
        v[j] = v[j] + y[j] - x[j]
    for j in range(size):
        r[j] -= y[j]


@njit(forceinline=True, error_model="numpy")
def _slope_row(p: Any, g: Any, gv: Any, gr: Any, w: Any, width: int, size: int, top: Any, signed: bool) -> None:
    """What the emitted value is worth, and through the ramp the error q."""
    _wide()
    for j in range(size):
        q = w[Q + j]
        inside = abs(q) <= top if signed else (q <= top) & (q >= -MARGIN)
        total = g[j] - gv[j] + gr[j]
        w[TOTAL + j] = total
        w[SLOPE + j] = total * p[j] if inside else ZERO


@njit(forceinline=True, error_model="numpy")
def _sum_row(y: Any, p: Any, s: Any, w: Any, width: int, size: int, signed: bool) -> None:
    """The gradients of threshold, lowest firing level and offset."""
    _wide()
    for j in range(size):
        q, total, inverse = w[Q + j], w[TOTAL + j], p[width + j]
        scaled = (q - p[3 * width + j]) * inverse
        s[j] += y[j] * inverse * total - w[SLOPE + j] * scaled
        near = max(ZERO, ONE - abs(abs(q) - p[2 * width + j]) / HALF)
        sign = ONE if q > ZERO else (-ONE if signed else ZERO)
        s[width + j] -= total * p[j] * sign * near
        s[2 * width + j] += w[SLOPE + j]


@njit(forceinline=True, error_model="numpy")
def _pass_row(p: Any, gx: Any, gv: Any, gr: Any, w: Any, width: int, size: int) -> None:
    """The gradients of potential, sent value and current before the step."""
    _wide()
    for j in range(size):
        ge = w[SLOPE + j] * p[width + j]
        after = gv[j] + ge * w[K + j]
        gr[j] -= ge * (ONE - w[K + j])
        gv[j] = after
        gx[j] = after


def _gradient_kernel(task: Any) -> None:
    """Backwards through K steps. Each slot sums the gradients of its own blocks, so that they do not depend on threads.

    POTENTIAL and SENT hold the gradients of the last states and then of the first, the _AFTER ones the neuron's states,
    which are undone.
    """
    neurons, width, steps, slots = task[NEURONS], task[WIDTH], task[STEPS], task[SLOTS]
    powers, signed, memory = task[POWERS] != 0, task[SIGNED] != 0, task[MEMORY] != 0
    first_levels = task[FIRST_LEVELS]
    repeats = (neurons + width - 1) // width
    pieces = (width + task[PIECE] - 1) // task[PIECE]
    w = _workspace()
    while True:
        slot = _fetch_add(task, 1)
        if slot >= slots:
            break
        for block in range(repeats * slot // slots * pieces, repeats * (slot + 1) // slots * pieces):
            start, offset, size = _span(task, block)
            if size <= 0:
                continue
            v, r = _floats(task[POTENTIAL_AFTER], start), _floats(task[SENT_AFTER], start)
            gv, gr = _floats(task[POTENTIAL], start), _floats(task[SENT], start)
            for back in range(steps):
                k = steps - 1 - back
                x, y = _floats(task[CURRENT], k * task[STRIDE] + start), _floats(task[VALUES], k * neurons + start)
                g, gx = (
                    _floats(task[GRADIENT], k * neurons + start),
                    _floats(task[CURRENT_GRADIENT], k * neurons + start),
                )
                p = _floats(task[TABLE], k * task[TABLE_STRIDE] + offset)
                opening = (k == 0) & (first_levels > 0)
                both = signed & (not opening)
                top = (ONE if powers else np.float32(first_levels if opening else task[LEVELS])) + MARGIN
                _undo_row(x, y, v, r, p, w, width, size, memory)
                _slope_row(p, g, gv, gr, w, width, size, top, both)
                _sum_row(y, p, _floats(task[SUMS], (slot * steps + k) * 3 * width + offset), w, width, size, both)
                _pass_row(p, gx, gv, gr, w, width, size)


@cache
def compiled() -> Any:
    """The C function, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_gradient_kernel)
