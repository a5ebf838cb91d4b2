"""How the input is coded into steps, and how the output is read from them.

A method says which encoder and which read-out its network needs; the plan carries them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

__all__ = ["ConstantCurrent", "Encoder", "Mean", "Readout"]


class Encoder(ABC):
    """What the network receives at each step, given the input."""

    @abstractmethod
    def encode(self, x: Tensor, steps: int) -> Tensor:
        """The input of the next steps. Shape: (N, ...) -> (K, N, ...)."""


@dataclass(frozen=True)
class ConstantCurrent(Encoder):
    """The analog input itself, the same at each step (also called direct coding).

    Everything before the first neurons is then constant, and is computed once a batch.
    """

    def encode(self, x: Tensor, steps: int) -> Tensor:
        return x.expand(steps, *x.shape)


class Readout(ABC):
    """The network's answer after t steps, from the analog outputs of its last layer."""

    @abstractmethod
    def read(self, totals: Tensor, first_step: int) -> Tensor:
        """The answers after steps t = first_step, first_step + 1, ...

        Args:
            totals: the sum of the outputs up to each of these steps. Shape (K, N, ...).
            first_step: t of the first entry, counted from 1.

        Returns:
            The answers. Shape (K, N, ...).
        """


@dataclass(frozen=True)
class Mean(Readout):
    """The mean of the outputs so far, (1/t) sum over t' <= t of o(t')."""

    def read(self, totals: Tensor, first_step: int) -> Tensor:
        steps = totals.new_tensor(range(first_step, first_step + totals.shape[0]))
        return totals / steps.view(-1, *[1] * (totals.ndim - 1))
