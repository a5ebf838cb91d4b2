"""Spike confidence: in the first steps, each spike is sent only with a certain probability.

References:
    He et al. 2023, arXiv 2303.13080, section 4.2, equations 14 and 15.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rheobase.errors import SettingError, miscounted
from rheobase.neurons._base import Neuron, Wrapper

__all__ = ["ConfidenceState", "SpikeConfidence"]


class ConfidenceState(NamedTuple):
    """The state of the neuron inside, and how many steps have been done."""

    inner: Any
    steps: int


class SpikeConfidence(Wrapper):
    r"""A neuron whose spikes pass a random filter in the first steps (Eqs. 14 and 15).

    .. code-block:: text

        c(t) ~ Bernoulli(probability) for t <= steps, else 1     (a draw for each neuron and step)
        y(t) = c(t) y_inner(t)

    With ``keep_charge`` (paper, Eq. 15) the neuron inside subtracts only what was sent, so a
    filtered spike is delayed; without (the authors' released code) its charge is lost.

    The draws depend on the key given to `reset` and on t alone: a run repeats exactly, however
    its steps are divided into chunks.

    Args:
        neuron: the neuron whose spikes are filtered.
        probability: p, from 0 to 1: one minus the share of inactivated neurons among those that fire.
        steps: E, the number of early steps in which the filter acts.
        keep_charge: whether filtered spikes stay in the potential.

    Raises:
        SettingError: a value is outside its range, or with ``keep_charge`` the neuron cannot take back a spike.
    """

    def __init__(self, neuron: Neuron, probability: float, steps: int = 16, keep_charge: bool = True) -> None:
        super().__init__(neuron)
        self.random = True
        problems = []
        if not 0.0 <= probability <= 1.0:
            problems.append(f"probability is {probability}; it must be from 0 to 1")
        problems += miscounted("steps", steps, 0)
        if keep_charge and not neuron.refunds:
            problems.append(
                f"{type(neuron).__name__} cannot take back a spike, so that a filtered one cannot keep its charge; use "
                "a neuron with soft reset, or keep_charge=False"
            )
        if problems:
            raise SettingError("SpikeConfidence: " + "; ".join(problems) + ".")
        self.alphabet = neuron.alphabet
        self.probability = probability
        self.steps = steps
        self.keep_charge = keep_charge

    def initial_state(self, current: Tensor) -> ConfidenceState:
        return ConfidenceState(self.neuron.initial_state(current), 0)

    def step(self, current: Tensor, state: ConfidenceState) -> tuple[Tensor, ConfidenceState]:
        y, inner = self.neuron.step(current, state.inner)
        t = state.steps + 1
        if t <= self.steps:
            keep = self.draw(t, y)
            if self.keep_charge:
                inner = self.neuron.refund(inner, y * ~keep)
            y = y * keep
        return y, ConfidenceState(inner, t)

    def scan(self, current: Tensor, state: ConfidenceState) -> tuple[Tensor, ConfidenceState]:
        early = min(max(self.steps - state.steps, 0), current.shape[0])
        if early == 0:
            y, inner = self.neuron.scan(current, state.inner)
            return y, ConfidenceState(inner, state.steps + current.shape[0])
        y, state = super().scan(current[:early], state)
        if early == current.shape[0]:
            return y, state
        late, state = self.scan(current[early:], state)
        return torch.cat([y, late]), state

    def draw(self, t: int, like: Tensor) -> Tensor:
        """The filter of step t, True where a spike may pass. Shape of ``like``."""
        return (self.uniform(t, like) < self.probability).to(like.device)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """The rate of the neuron inside: the filter delays spikes, for at most the early steps."""
        return self.neuron.expected_rate(current, steps)

    def rate_bound(self, steps: int) -> float:
        return self.neuron.rate_bound(steps) + (self.steps + 1) / steps

    def extra_repr(self) -> str:
        return f"probability={self.probability:.4g}, steps={self.steps}, keep_charge={self.keep_charge}"
