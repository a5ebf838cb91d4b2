"""The compiled loops that count: non-zero elements of each step, plain or with weights. See `loops`."""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from rheobase.kernels.basic_loops import BLOCK, ZERO, _fetch_add, _floats, _integers, _wide, _words
from rheobase.kernels.compilation import compile_kernel
from rheobase.kernels.loops import CURRENT, NEURONS, PERIOD, STEPS, STRIDE, THRESHOLD

__all__ = ["compiled"]

WEIGHTS = THRESHOLD
"""The slots of a task are those of a scan; one weight for each element of a sample stands for the thresholds."""
COUNTS = 8


@njit(forceinline=True, error_model="numpy")
def _count_row(row: Any, size: int) -> Any:
    """Non-zero elements of a row, at most 2^31."""
    _wide()
    total = np.int32(0)
    for j in range(size):
        total = np.int32(total + np.int32(row[j] != ZERO))
    return total


def _count_kernel(task: Any) -> None:
    """Non-zero elements of each step, added to COUNTS."""
    neurons, span = task[NEURONS], 64 * BLOCK
    blocks = (neurons + span - 1) // span
    while True:
        ticket = _fetch_add(task, 1)
        if ticket >= blocks * task[STEPS]:
            break
        k, start = ticket // blocks, ticket % blocks * span
        row = _floats(task[CURRENT], k * task[STRIDE] + start)
        _fetch_add(_integers(task[COUNTS] + 8 * k), _count_row(row, min(span, neurons - start)))


@njit(forceinline=True, error_model="numpy")
def _weigh_row(row: Any, weights: Any, size: int) -> Any:
    """The sum of the int32 weights of the non-zero elements of a row, at most 2^31."""
    _wide()
    total = np.int32(0)
    for j in range(size):
        total = np.int32(total + (weights[j] if row[j] != ZERO else np.int32(0)))
    return total


def _weigh_kernel(task: Any) -> None:
    """Weights (of one sample, PERIOD of them) of the non-zero elements of each step, added to COUNTS."""
    size, span = task[PERIOD], 16 * BLOCK
    blocks = (size + span - 1) // span
    samples = task[NEURONS] // size
    while True:
        ticket = _fetch_add(task, 1)
        if ticket >= blocks * samples * task[STEPS]:
            break
        start = ticket % blocks * span
        k, sample = ticket // blocks // samples, ticket // blocks % samples
        row = _floats(task[CURRENT], k * task[STRIDE] + sample * size + start)
        weights = _words(task[WEIGHTS], start)
        _fetch_add(_integers(task[COUNTS] + 8 * k), _weigh_row(row, weights, min(span, size - start)))


_KERNELS = {"count": _count_kernel, "weigh": _weigh_kernel}


@cache
def compiled(name: str) -> Any:
    """The C function of kernel ``name``, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_KERNELS[name])
