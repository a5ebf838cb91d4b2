"""How the input is coded into steps, and how the output is read from them.

A method says which encoder and which read-out its network needs; the plan carries them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rheobase.errors import SettingError, miscounted, nonpositive
from rheobase.precision import type_of_sums

__all__ = [
    "ConstantCurrent",
    "Delayed",
    "Encoder",
    "Mean",
    "MeanOfSums",
    "Poisson",
    "Readout",
    "RunningSum",
    "SentOnce",
]


@dataclass(frozen=True)
class Encoder(ABC):
    """What the network receives at each step, given the input.

    Attributes:
        constant: whether it is the same at each step, so that everything before the first neurons is
            computed once a batch.
        changes: whether neurons receive the changes of their currents instead of the currents.
        random: whether it depends on a generator.
    """

    constant = True
    changes = False
    random = False

    @abstractmethod
    def encode(self, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        """The input of the next steps. Shape: (N, ...) -> (K, N, ...)."""


@dataclass(frozen=True)
class ConstantCurrent(Encoder):
    """The analog input itself, the same at each step (also called direct coding)."""

    def encode(self, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        return x.expand(steps, *x.shape)


@dataclass(frozen=True)
class SentOnce(Encoder):
    """The analog input, sent whole at t = 1 and never again: from then on only changes travel.

    With z(t) what a layer computes from the values of step t, and z_0 what it computes when nothing is
    sent (biases, and whatever comes from the input directly), its neurons receive

    .. code-block:: text

        x(1) = z(1),   x(t) = z(t) - z_0 for t > 1

    so that the sum over t of x(t) is z of the sum of all values sent. The output is coded in the same way,
    and read by `RunningSum`.
    """

    changes = True

    def encode(self, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        return x.expand(steps, *x.shape)


@dataclass(frozen=True)
class Poisson(Encoder):
    """Random spikes of the input's size: sign(x) scale with the probability |x| / scale at each step, else 0.

    Args:
        scale: the value of a spike, at least the largest |x|; larger inputs are clipped.

    Raises:
        SettingError: the scale is not positive.

    References:
        Diehl et al. 2015, "Fast-classifying, high-accuracy spiking deep networks through weight and
        threshold balancing". Inputs there are not negative; the sign is for normalised images.
    """

    scale: float = 1.0

    constant = False
    random = True

    def __post_init__(self) -> None:
        if problems := nonpositive("scale", self.scale):
            raise SettingError(f"Poisson: {problems[0]}.")

    def encode(self, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        uniform = torch.rand((steps, *x.shape), generator=generator, dtype=torch.float32, device="cpu").to(x)
        return torch.where(uniform < x.abs() / self.scale, x.sign() * self.scale, 0.0)


class Readout(ABC):
    """The network's answer after t steps, from the analog outputs of its last layer."""

    @abstractmethod
    def read(self, outputs: Tensor, first_step: int, state: Any) -> tuple[Tensor, Any]:
        """The answers after steps t = first_step, first_step + 1, ...

        Args:
            outputs: o(t) of each of these steps. Shape (K, N, ...).
            first_step: t of the first entry, counted from 1.
            state: what the last call returned; None before the first step.

        Returns:
            The answers, shape (K, N, ...), and the state for the next steps.
        """


def _sums(outputs: Tensor, before: Tensor | None) -> Tensor:
    """The sums of all outputs up to each step, in the type of sums. Shape (K, N, ...)."""
    outputs = outputs.to(type_of_sums(outputs.dtype))
    if before is not None:
        outputs = torch.cat([outputs[:1] + before, outputs[1:]])
    return outputs.cumsum(0)


def _divided(totals: Tensor, first: int) -> Tensor:
    """totals / t for t = first, first + 1, ..., with t at least 1."""
    steps = torch.arange(first, first + len(totals), dtype=totals.dtype, device=totals.device).clamp(min=1.0)
    return totals / steps.view(-1, *[1] * (totals.ndim - 1))


@dataclass(frozen=True)
class Mean(Readout):
    """The mean of the outputs so far, (1/t) sum over t' <= t of o(t')."""

    def read(self, outputs: Tensor, first_step: int, state: Any) -> tuple[Tensor, Any]:
        totals = _sums(outputs, state)
        return _divided(totals, first_step).to(outputs.dtype), totals[-1]


@dataclass(frozen=True)
class RunningSum(Readout):
    """The sum of the outputs so far, for networks whose outputs are changes (see `SentOnce`)."""

    def read(self, outputs: Tensor, first_step: int, state: Any) -> tuple[Tensor, Any]:
        totals = _sums(outputs, state)
        return totals.to(outputs.dtype), totals[-1]


@dataclass(frozen=True)
class MeanOfSums(Readout):
    """The mean over the steps of the sum so far: outputs are changes of a value that is held (TSC)."""

    def read(self, outputs: Tensor, first_step: int, state: Any) -> tuple[Tensor, Any]:
        held = _sums(outputs, None if state is None else state[0])
        totals = _sums(held, None if state is None else state[1])
        return _divided(totals, first_step).to(outputs.dtype), (held[-1], totals[-1])


@dataclass(frozen=True)
class Delayed(Readout):
    """The mean of the outputs after step ``after``; before that, of all so far.

    .. code-block:: text

        (1 / (t - after)) sum over after < t' <= t of o(t')      for t > after

    Args:
        after: how many early steps are left out, at least 0.

    Raises:
        SettingError: after is negative.

    References:
        Bu, Li, Yu 2025, "Inference-scale complexity in ANN-SNN conversion for high-performance and low-power
        applications" (delayed evaluation).
        Hao et al. 2023, arXiv 2302.02091, "Reducing ANN-SNN conversion error through residual membrane
        potential" (its first phase is not read).
    """

    after: int = 0

    def __post_init__(self) -> None:
        if problems := miscounted("after", self.after, 0):
            raise SettingError(f"Delayed: {problems[0]}.")

    def read(self, outputs: Tensor, first_step: int, state: Any) -> tuple[Tensor, Any]:
        early = min(max(self.after + 1 - first_step, 0), len(outputs))
        parts = []
        if early:
            totals = _sums(outputs[:early], state)
            parts.append(_divided(totals, first_step))
            state = None if first_step + early > self.after else totals[-1]
        if early < len(outputs):
            totals = _sums(outputs[early:], state)
            parts.append(_divided(totals, first_step + early - self.after))
            state = totals[-1]
        return torch.cat(parts).to(outputs.dtype), state
