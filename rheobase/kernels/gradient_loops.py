"""The compiled loop (Numba) of the gradient of integrate and fire, and of thresholds that adapt.

As in `loops`, whose slots this task shares as far as HARD. The slopes are those of `surrogate.spikes_of`.
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
    ZERO,
    _at,
    _copy,
    _fetch_add,
    _floats,
    _load,
    _wide,
    _workspace,
    nearest_power,
)
from rheobase.kernels.compilation import compile_kernel
from rheobase.kernels.loops import (
    CURRENT,
    HARD,
    NEURONS,
    PERIOD,
    POTENTIAL,
    POTENTIAL_AFTER,
    SPAN,
    STEPS,
    STRIDE,
    TH,
    THRESHOLD,
    VALUES,
    V,
)
from rheobase.kernels.surrogate import NEAR, TOP

__all__ = ["compiled"]

GRADIENT, CURRENT_GRADIENT, THRESHOLD_GRADIENT, THRESHOLDS = range(10, 14)
"""THRESHOLDS: those of each step, or 0 where they are M; THRESHOLD_GRADIENT: that of M, for each neuron."""
PAYLOAD = 15
"""How many powers of two payloads are rounded to, M, M / 2 and so on; 0 where they are not rounded."""
_NEAR, _TOP = np.float32(NEAR), np.float32(TOP)


@njit(forceinline=True, error_model="numpy")
def _replay_row(x: Any, y: Any, before: Any, w: Any, size: int, hard: bool) -> None:
    """v_pre of a step from the potential before it and the values: the bits of the scan."""
    _wide()
    for j in range(size):
        pre = w[V + j] + x[j]
        before[j] = pre
        w[V + j] = ZERO if hard and pre >= w[TH + j] else pre - y[j]


@njit(forceinline=True, error_model="numpy")
def _back_row(pre: Any, th: Any, g: Any, gv: Any, gm: Any, w: Any, size: int, hard: bool, most: Any) -> None:
    """From the gradients of y and v to those of M, v_pre, which takes the place of v_pre itself, and v before."""
    _wide()
    for j in range(size):
        m, t, v = w[TH + j], th[j], pre[j]
        sent = m * nearest_power(m / t, most) if most > ZERO else t
        share, q, fires = sent / m, v / t, v >= t
        total = g[j] if hard else g[j] - gv[j]
        kept = ZERO if hard and fires else gv[j]
        gm[j] += total * ((share if fires else ZERO) - (share * q if (q >= ZERO) & (q <= _TOP) else ZERO))
        after = kept + (total * (sent / t) if abs(q - ONE) <= _NEAR else ZERO)
        gv[j] = after
        pre[j] = after


def _gradient_kernel(task: Any) -> None:
    """Backwards through K steps.

    POTENTIAL holds the potential before the scan, POTENTIAL_AFTER the gradient of the last one and then of the first.
    """
    neurons, steps, hard, payload = task[NEURONS], task[STEPS], task[HARD] != 0, task[PAYLOAD]
    most = np.float32(np.float64(2.0) ** (payload - 1)) if payload else ZERO
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= neurons:
            break
        for start in range(first, min(first + SPAN, neurons), BLOCK):
            size = min(BLOCK, neurons - start)
            _load(w, TH, start, size, task[THRESHOLD], task[PERIOD])
            _copy(_floats(task[POTENTIAL], start), w, V, size)
            for k in range(steps):
                x, y = _floats(task[CURRENT], k * task[STRIDE] + start), _floats(task[VALUES], k * neurons + start)
                _replay_row(x, y, _floats(task[CURRENT_GRADIENT], k * neurons + start), w, size, hard)
            gv, gm = _floats(task[POTENTIAL_AFTER], start), _floats(task[THRESHOLD_GRADIENT], start)
            for back in range(steps):
                here = (steps - 1 - back) * neurons + start
                th = _floats(task[THRESHOLDS], here) if task[THRESHOLDS] else _at(w, TH)
                pre, g = _floats(task[CURRENT_GRADIENT], here), _floats(task[GRADIENT], here)
                _back_row(pre, th, g, gv, gm, w, size, hard, most)


@cache
def compiled() -> Any:
    """The C function, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_gradient_kernel)
