"""Negative spikes for neurons that fell silent: they take back what was sent too early.

References:
    Li, He, Dong, Kong, Zeng 2022, "Spike calibration: fast and accurate conversion of spiking neural network for
    object detection and segmentation", arXiv 2207.02702 (SpiCalib).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.neurons._base import Neuron, Wrapper, along_channels
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.precision import type_of_sums

__all__ = ["Retracting", "RetractingState"]


class RetractingState(NamedTuple):
    """The state of the neuron inside; spikes sent in all, those taken back (n), and the steps of the last ones.

    Numbers of spikes and steps are in float32 where the currents are of half precision.

    Attributes:
        inner: of the neuron inside.
        sent: n, spikes sent less those taken back. Shape (N, ...).
        fired: how many spikes the neuron inside has sent. Shape (N, ...).
        last: the step of its last spike. Shape (N, ...).
        quiet: how many steps have gone by since anything was sent. Shape (N, ...).
        steps: how many have been done.
    """

    inner: Any
    sent: Tensor
    fired: Tensor
    last: Tensor
    quiet: Tensor
    steps: int


class Retracting(Wrapper):
    r"""A binary neuron that sends a negative spike where it has been silent for longer than usual.

    .. code-block:: text

        s(t)     = what the neuron inside sends, in thresholds
        interval = (step of the last spike) / (number of spikes)
        y(t)     = -threshold where s(t) = 0, n(t-1) > 0 and the silence > interval + allowance, else threshold s(t)
        n(t)     = n(t-1) + y(t) / threshold

    A negative spike gives its charge back to the potential and begins the silence anew.

    Args:
        neuron: the binary neuron inside, with soft reset.
        allowance: steps of grace, 1 or more.

    Raises:
        SettingError: the neuron is not binary with one threshold for all steps, or the allowance is below 1.
    """

    alphabet = Alphabet(Payload.TERNARY)

    def __init__(self, neuron: Neuron, allowance: float = 4.0) -> None:
        super().__init__(neuron)
        if neuron.alphabet != Alphabet(Payload.BINARY):
            raise SettingError(f"Retracting: the neuron inside sends {neuron.alphabet} spikes; it must be binary.")
        if not neuron.refunds:
            raise SettingError(f"Retracting: {type(neuron).__name__} cannot take back a spike; it must reset softly.")
        if not allowance >= 1:
            raise SettingError(f"Retracting: allowance is {allowance}; it must be at least 1.")
        self.allowance = allowance

    def initial_state(self, current: Tensor) -> RetractingState:
        zero = torch.zeros_like(current, dtype=type_of_sums(current.dtype))
        return RetractingState(self.neuron.initial_state(current), zero, zero, zero, zero, 0)

    def step(self, current: Tensor, state: RetractingState) -> tuple[Tensor, RetractingState]:
        y, inner = self.neuron.step(current, state.inner)
        t = state.steps + 1
        spike = y != 0
        fired = state.fired + spike
        last = state.last.masked_fill(spike, t)
        quiet = (state.quiet + 1).masked_fill(spike, 0)
        back = ~spike & (state.sent > 0) & (quiet > last / fired.clamp(min=1) + self.allowance)
        charge = along_channels(self.threshold, current) * back
        inner = self.neuron.refund(inner, charge)
        sent = state.sent + spike - back.to(state.sent.dtype)
        return y - charge, RetractingState(inner, sent, fired, last, quiet.masked_fill(back, 0), t)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """That of the neuron inside: under a constant current its silences are regular."""
        return self.neuron.expected_rate(current, steps)

    def rate_bound(self, steps: int) -> float:
        """That of the neuron inside, and 2 / T for a spike taken back and sent again."""
        return self.neuron.rate_bound(steps) + 2.0 / steps

    def extra_repr(self) -> str:
        return f"allowance={self.allowance}"
