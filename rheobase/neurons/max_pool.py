"""Max pooling of a signal that arrives in steps.

References:
    Li & Zeng 2022, arXiv 2204.13271 (LIPooling, whose closed form `CumulativeMaxPool` is).
    Rueckauer et al. 2017, "Conversion of continuous-valued deep networks to efficient event-driven
    networks for image classification" (the gate).
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rheobase.neurons._base import Temporal
from rheobase.operations import AmaxPool
from rheobase.precision import type_of_sums

__all__ = ["CumulativeMaxPool", "MaxPoolGate", "MaxPoolState"]


class MaxPoolState(NamedTuple):
    """The running sum C, its pooled value, and with edges the value held and the change sent last.

    In half precision all are in float32, and instead of the pooled value and its change there is what has been sent
    of them.

    Shapes (N, C, ...) and (N, C, pooled ...).
    """

    total: Tensor
    pooled: Tensor
    held: Tensor
    change: Tensor


class CumulativeMaxPool(Temporal):
    """Max pooling that acts on the running sum, and sends its change.

    .. code-block:: text

        C(t) = C(t-1) + x(t)
        y(t) = maxpool(C(t)) - maxpool(C(t-1)),   maxpool(C(0)) = 0

    so that sum over t of y(t) = maxpool(sum over t of x(t)) exactly, whatever the kernel, stride,
    padding, dilation or sign. Pooling each step by itself would give more than that. In half precision C is
    added up in float32, and y(t) = maxpool(C(t)) - sum over t' < t of y(t'), rounded, so that rounding does not add up.

    Args:
        pool: the max pooling module, of any dimension, fixed or adaptive.
        edges: the input is the change of a value that is held, and so is what is sent (see
            `EdgeTransmission`): C(t) adds up the held values, and y(t) - y(t-1) is sent.

    Shape:
        (K, N, C, ...) -> (K, N, C, pooled ...).
    """

    def __init__(self, pool: nn.Module, edges: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.edges = edges

    def initial_state(self, current: Tensor) -> MaxPoolState:
        zero = torch.zeros_like(current, dtype=type_of_sums(current.dtype))
        pooled = torch.zeros_like(self.pool(zero))
        return MaxPoolState(zero, pooled, zero, pooled)

    def step(self, current: Tensor, state: MaxPoolState) -> tuple[Tensor, MaxPoolState]:
        held = state.held + current if self.edges else current
        total = state.total + held
        pooled = self.pool(total)
        change = pooled - state.pooled
        exact = change - state.change if self.edges else change
        sent = exact.to(current.dtype)
        if sent.dtype != exact.dtype:  # go on from what has been sent
            change = state.change + sent if self.edges else sent.to(exact.dtype)
            pooled = state.pooled + change
        return sent, MaxPoolState(total, pooled, held, change)


class MaxPoolGate(Temporal):
    """Max pooling that lets the unit through which has sent the most so far.

    .. code-block:: text

        C(t) = C(t-1) + x(t)
        y(t) = x_j(t),   j = the unit of the window with the largest C_j(t)

    What passes is a spike of the layer before, but the sum over t of y(t) is the largest C only where one
    unit leads all the time: while the lead changes, spikes are lost or counted twice.

    Args:
        pool: the max pooling module, of any dimension, fixed or adaptive.

    Shape:
        (K, N, C, ...) -> (K, N, C, pooled ...). In half precision, C is in float32.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = copy.deepcopy(pool)
        self.pool.return_indices = True  # type: ignore[assignment]

    def initial_state(self, current: Tensor) -> Any:
        return torch.zeros_like(current, dtype=type_of_sums(current.dtype))

    def step(self, current: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        total = state + current
        if isinstance(self.pool, AmaxPool):
            return _at_largest(current, total, self.pool), total
        _, places = self.pool(total)
        return current.flatten(2).gather(2, places.flatten(2)).view(places.shape), total


def _at_largest(current: Tensor, total: Tensor, pool: AmaxPool) -> Tensor:
    """What arrives where the total is the largest of all that a global pooling takes together."""
    pooled = pool(total)
    dims = (pool.dim,) if isinstance(pool.dim, int) else pool.dim
    taken = sorted(d % total.ndim for d in dims)
    order = [*(d for d in range(total.ndim) if d not in taken), *taken]
    flat, largest = (x.permute(order).flatten(total.ndim - len(taken)) for x in (current, total))
    return flat.gather(-1, largest.argmax(-1, keepdim=True)).view(pooled.shape)
