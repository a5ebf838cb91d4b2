"""Delta coding from its parts: neurons send changes, in steps of a schedule that the receiver knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rheobase.coding import RunningSum, SentOnce
from rheobase.errors import nonpositive
from rheobase.graph import Graph
from rheobase.methods.parts.calibrated import Calibrated
from rheobase.methods.parts.scaled import ThresholdRule
from rheobase.neurons import GradedIF
from rheobase.observers import Statistics
from rheobase.plan import Plan

__all__ = ["DeltaCoding"]


@dataclass(frozen=True, repr=False)
class DeltaCoding(Calibrated):
    r"""Each neuron sends the change of its activation; receivers add up what they get.

    .. code-block:: text

        C(t) = sum of all currents so far (the input and the biases come once, at t = 1)
        r(t) = sum of what the neuron sent so far
        sent at t: (relu(C(t)) - r(t-1)) / theta(t), rounded to a level, times theta(t)

        theta(t) = first M                constant
                   first M / t            harmonic
                   first M decay^(t-1)    geometric
        theta(1) = first M / 2            with doubled: at t = 1, twice as many positive levels and no negative ones

    with M the scale of the channel. The answer is the sum of the outputs.

    Args:
        schedule: how the threshold shrinks.
        first: the threshold of the first step, as a share of M; greater than 0.
        decay: of the geometric schedule, above 0 and at most 1; None takes one for T.
        shifts: each threshold of a channel is a power of two times its first one, also after tuning.
        doubled: in the first step, where nothing can be taken back, the symbols of negative spikes stand for larger
            positive ones; see `rheobase.neurons.GradedIF`. For signed levels that are no powers, with a schedule that
            falls.

    The other arguments are those of `Calibrated`.
    """

    steps: int = 8
    threshold: ThresholdRule = 99.9
    signed: bool = True
    schedule: Literal["constant", "harmonic", "geometric"] = "geometric"
    first: float = 0.5
    decay: float | None = None
    shifts: bool = False
    doubled: bool = False

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.schedule not in ("constant", "harmonic", "geometric"):
            problems.append(f"schedule is {self.schedule!r}; it must be constant, harmonic or geometric")
        problems += nonpositive("first", self.first)
        if self.decay is not None and not 0 < self.decay <= 1:
            problems.append(f"decay is {self.decay}; it must be above 0 and at most 1")
        if self.doubled and (self.powers or not self.signed or self.schedule == "constant"):
            found = "powers=True" if self.powers else "schedule='constant'" if self.signed else "signed=False"
            problems.append(f"doubled is True; with {found} it must be False")
        return problems

    def sends_changes(self) -> bool:
        return True

    def clips(self) -> bool:
        return False  # the sum of all steps is that of a ReLU

    def shares(self) -> Tensor:
        """theta(t) / M for t = 1 ... T. Shape (T,)."""
        t = torch.arange(self.steps, dtype=torch.float64)
        if self.schedule == "constant":
            return torch.full_like(t, self.first)
        decay = self.decay or 0.7 + 0.15 * min(max(self.steps - 6, 0), 10) / 10
        shares = self.first / (1 + t) if self.schedule == "harmonic" else torch.as_tensor(self.first * decay**t)
        shares[0] /= 2 if self.doubled else 1
        return shares

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        neurons = {}
        for site, scale in self.scales(graph, statistics).items():
            shares = self.shares()[:1] if self.schedule == "constant" else self.shares()
            theta, least = self.scheduled(shares, scale), self.least(self.signed, scale.dtype)
            fire, offset = (torch.full((self.steps, theta.shape[1]), v).to(scale) for v in (least, 0.0))
            neurons[site] = GradedIF(
                theta, self.levels, self.powers, self.signed, self.signed, fire, offset, self.shifts, self.doubled
            )
        return Plan(repr(self), neurons, SentOnce(), RunningSum())
