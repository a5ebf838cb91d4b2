"""What a neuron sends, and the slopes that stand for its derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["NEAR", "TOP", "fired", "level", "nearest_power", "spikes_of"]

NEAR, TOP = 0.7, 1.2
"""Where a spike has slopes: for the potential where |q - 1| <= NEAR, for the threshold where 0 <= q <= TOP."""


def level(q: Tensor, fire: Tensor, levels: int = 1, powers: bool = False, signed: bool = True) -> Tensor:
    """The signed level of q, with the surrogate gradients of `graded_scan`. Shape (N, ...); fire broadcasts to it."""
    result: Tensor = _Level.apply(q, fire.expand_as(q), levels, powers, signed)  # type: ignore[no-untyped-call]
    return result


def spikes_of(potential: Tensor, threshold: Tensor, share: Tensor | None = None, payload: int = 0) -> Tensor:
    """What a neuron with spikes of one sign sends: see `fired`, where th is the threshold, or a share of it.

    Where a gradient is asked for, ds/dq of q = potential / th is 1 for 0.3 <= q <= 1.7 as far as the potential
    is concerned: 0.7 on either side of where it fires, as in `graded_scan` for fire = 1/2. A ramp that reaches further
    down lets gradients pass neurons that are silent, and they grow from layer to layer. For the threshold it is 1 for
    0 <= q <= 1.2: one that is far too high is lowered also where no potential comes near it. The share, and what
    rounding makes of th, are constants.

    Shape: potential (N, ...), threshold and share broadcastable to it.
    """
    if torch.is_grad_enabled() and (potential.requires_grad or threshold.requires_grad):
        spikes: Tensor = _Spikes.apply(potential, threshold.expand_as(potential), share, payload)  # type: ignore[no-untyped-call]
        return spikes
    return _Spikes.sent(potential, threshold, share, payload)


def fired(potential: Tensor, th: Tensor, unit: Tensor, payload: int = 0) -> Tensor:
    """th where the potential has reached it, else 0; with a payload, what `nearest_power` of the unit makes of th."""
    return torch.where(potential >= th, nearest_power(th, unit, payload) if payload else th, 0.0)


def nearest_power(values: Tensor, unit: Tensor, levels: int) -> Tensor:
    """Values rounded to powers of two of a unit: unit 2^-k, k the whole number nearest to -log2(value / unit).

    k is from 0 to levels - 1: what is smaller, and 0, gives the smallest power. Where the unit is 0, it is 0.

    Shape: values (N, ...), unit broadcastable to it.
    """
    ratio = torch.where(unit > 0, values / unit, 1.0).clamp(2.0 ** (1 - levels), 1.0)
    return unit * torch.exp2(torch.log2(ratio).round())


class _Spikes(torch.autograd.Function):
    """Spikes, and the slopes that stand for their derivatives; it keeps the potential and the share alone."""

    @staticmethod
    def sent(potential: Tensor, threshold: Tensor, share: Tensor | None, payload: int) -> Tensor:
        return fired(potential, threshold if share is None else threshold * share, threshold, payload)

    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: Tensor, share: Tensor | None, payload: int) -> Tensor:
        ctx.save_for_backward(potential, threshold, share)
        ctx.payload = payload
        return _Spikes.sent(potential, threshold, share, payload)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        potential, threshold, share = ctx.saved_tensors
        th = threshold if share is None else threshold * share
        sent = nearest_power(th, threshold, ctx.payload) if ctx.payload else th
        q = potential / th
        fires, near, below = potential >= th, (q - 1).abs() <= NEAR, (q >= 0) & (q <= TOP)
        size = sent / threshold  # the slope of sent, as th is a share of the threshold; q may be infinite, where unused
        of_threshold = torch.where(fires, size, 0.0) - torch.where(below, size * q, 0.0)
        return torch.where(near, gradient * (sent / th), 0.0), gradient * of_threshold, None, None


class _Level(torch.autograd.Function):
    """The signed level of q, and the slopes that stand for its derivatives."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, fire: Tensor, levels: int, powers: bool, signed: bool) -> Tensor:
        ctx.save_for_backward(q, fire)
        ctx.top, ctx.signed = (1 if powers else levels) + 0.2, signed
        m = q.abs()
        if powers:
            k = torch.zeros_like(m)
            for i in reversed(range(levels)):
                k = torch.where(m >= fire * 0.5**i, 0.5**i, k)
        else:
            k = torch.floor(m + (1 - fire)).clamp(0, levels)
        return torch.where(q > 0, k, -k if signed else 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        q, fire = ctx.saved_tensors
        m = q.abs()
        inside = m <= ctx.top if ctx.signed else (q <= ctx.top) & (q >= -0.2)
        sign = torch.where(q > 0, 1.0, -1.0 if ctx.signed else 0.0)
        near = (1 - 2 * (m - fire).abs()).clamp(min=0)
        return gradient * inside, -gradient * sign * near, None, None, None
