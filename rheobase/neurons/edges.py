"""Neurons whose output is held by the receiver, so that only its changes travel.

References:
    Han & Roy 2020, "Deep spiking neural network: energy efficiency through time based coding", ECCV 2020
    (temporal switch coding, TSC).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.neurons._base import Neuron, Wrapper
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.precision import type_of_sums

__all__ = ["EdgeState", "EdgeTransmission"]


class EdgeState(NamedTuple):
    """The state of the neuron inside, the held current h, and what the neuron sent last. Shapes (N, ...).

    In half precision, h is in float32.
    """

    inner: Any
    held: Tensor
    sent: Tensor


class EdgeTransmission(Wrapper):
    r"""A neuron that switches currents on and off at its receivers, and is itself driven so.

    .. code-block:: text

        h(t) = h(t-1) + x(t)               (x is the change of the current)
        u(t) = what the neuron inside sends for h(t)
        y(t) = u(t) - u(t-1),  u(0) = 0

    With `SentOnce` and `MeanOfSums` around, the network computes what the neurons inside would with currents
    and `Mean`; a train of equal spikes costs two events.

    Args:
        neuron: the binary neuron inside.

    Raises:
        SettingError: the neuron inside is not binary.
    """

    alphabet = Alphabet(Payload.TERNARY)

    def __init__(self, neuron: Neuron) -> None:
        super().__init__(neuron)
        if neuron.alphabet != Alphabet(Payload.BINARY):
            raise SettingError(f"EdgeTransmission: the neuron inside sends {neuron.alphabet} spikes, not binary ones.")

    def initial_state(self, current: Tensor) -> EdgeState:
        zero = torch.zeros_like(current)
        return EdgeState(self.neuron.initial_state(current), zero.to(type_of_sums(zero.dtype)), zero)

    def step(self, current: Tensor, state: EdgeState) -> tuple[Tensor, EdgeState]:
        y, new = self.scan(current.unsqueeze(0), state)
        return y.squeeze(0), new

    def scan(self, current: Tensor, state: EdgeState) -> tuple[Tensor, EdgeState]:
        held = torch.cat([state.held.unsqueeze(0), current]).cumsum(0)[1:]
        sent, inner = self.neuron.scan(held.to(current.dtype), state.inner)
        before = torch.cat([state.sent.unsqueeze(0), sent[:-1]])
        return sent - before, EdgeState(inner, held[-1], sent[-1])

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """0: the changes add up to u(T), which is 0 or the threshold."""
        return torch.zeros_like(current)

    def rate_bound(self, steps: int) -> float:
        """1 / T."""
        return 1.0 / steps
