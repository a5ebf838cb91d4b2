"""Exact max pooling of a signal that arrives in steps.

References:
    Li & Zeng 2022, arXiv 2204.13271 (LIPooling, whose closed form this is).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rheobase.neurons._base import Temporal

__all__ = ["CumulativeMaxPool", "MaxPoolState"]


class MaxPoolState(NamedTuple):
    """The running sum C and its pooled value. Shapes (N, C, ...) and (N, C, pooled ...)."""

    total: Tensor
    pooled: Tensor


class CumulativeMaxPool(Temporal):
    """Max pooling that acts on the running sum, and sends its change.

    .. code-block:: text

        C(t) = C(t-1) + x(t)
        y(t) = maxpool(C(t)) - maxpool(C(t-1)),   maxpool(C(0)) = 0

    so that sum over t of y(t) = maxpool(sum over t of x(t)) exactly, whatever the kernel, stride,
    padding, dilation or sign. Pooling each step by itself would give more than that.

    Args:
        pool: the max pooling module, of any dimension, fixed or adaptive.

    Shape:
        (K, N, C, ...) -> (K, N, C, pooled ...).
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def initial_state(self, current: Tensor) -> MaxPoolState:
        zero = torch.zeros_like(current)
        return MaxPoolState(zero, torch.zeros_like(self.pool(zero)))

    def step(self, current: Tensor, state: MaxPoolState) -> tuple[Tensor, MaxPoolState]:
        total = state.total + current
        pooled = self.pool(total)
        return pooled - state.pooled, MaxPoolState(total, pooled)
