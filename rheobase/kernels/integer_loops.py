"""The compiled loop that turns spikes into the bytes of an integer convolution. See `loops`."""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from rheobase.kernels.basic_loops import BLOCK, _fetch_add, _floats, _load, _pairs, _wide, _workspace
from rheobase.kernels.compilation import compile_kernel
from rheobase.kernels.loops import CURRENT, NEURONS, PERIOD, SPAN, TH, THRESHOLD, VALUES

__all__ = ["BASE", "ZERO_POINT", "compiled"]

BASE, ZERO_POINT = 8, 9
"""The slots of a task are those of a scan; the inverse units stand for the thresholds."""

NEAREST = np.float32(1.5 * 2**23)  # adding it rounds to a whole number n; its low bits are those of n


@intrinsic
def _whole(typing: Any, shifted: Any) -> Any:
    """n from ``NEAREST + n``, with -2^15 <= n < 2^15."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.trunc(builder.bitcast(args[0], ir.IntType(32)), ir.IntType(16))

    return types.uint16(types.float32), generate


@njit(forceinline=True, error_model="numpy")
def _pack_row(w: Any, x: Any, y: Any, size: int, low: Any, high: Any) -> None:
    """n = round(x / unit); the bytes of y are base n + zero point and n + zero point."""
    _wide()
    for j in range(size):
        n = _whole(x[j] * w[TH + j] + NEAREST)
        y[j] = np.uint16(np.uint16(n * low) + high)


def _pack_kernel(task: Any) -> None:
    """Two bytes for each element."""
    neurons, zero = task[NEURONS], task[ZERO_POINT]
    low = np.uint16(task[BASE] + 256)  # n (base + 256) + zero point (1 + 256): the first byte, and the second
    high = np.uint16(zero * 257)
    w = _workspace()
    while True:
        first = _fetch_add(task, 1) * SPAN
        if first >= neurons:
            break
        for start in range(first, min(first + SPAN, neurons), BLOCK):
            size = min(BLOCK, neurons - start)
            _load(w, TH, start, size, task[THRESHOLD], task[PERIOD])
            _pack_row(w, _floats(task[CURRENT], start), _pairs(task[VALUES], start), size, low, high)


_KERNELS = {"pack": _pack_kernel}


@cache
def compiled(name: str) -> Any:
    """The C function of kernel ``name``, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_KERNELS[name])
