"""Rate coding from its parts: a threshold rule, a neuron, and calibration passes.

Most published methods are one choice of these; see the files beside this one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from rheobase.coding import RunningSum, SentOnce
from rheobase.errors import nonpositive
from rheobase.graph import Graph
from rheobase.methods.parts.calibrated import Calibrated
from rheobase.neurons import Biased, Differential, Neuron
from rheobase.observers import Statistics
from rheobase.plan import Plan
from rheobase.spiking import SpikingModel

__all__ = ["RateCoding"]


@dataclass(frozen=True, repr=False)
class RateCoding(Calibrated):
    """Rate coding with any of the library's parts; the mean of what a neuron sends is its activation.

    ``RateCoding(signed=True, calibration="temporal")`` is a signed neuron with memory, thresholds of least
    squared error for each channel, and temporal bias correction.

    Args:
        memory: let negative spikes take back what was sent, and (but for the size of a step) no more.
        spread: add threshold / (2 T), with powers of two that of the lowest level, to the current of each step, which
            rounds the rate at T (Deng & Gu 2021).
        fraction: of the scale that is the top level's threshold, greater than 0.
        differential: make a spike of step t count a t-th, and correct the value that receivers hold, whatever the
            neuron (`rheobase.neurons.Differential`; Huang et al. 2025). For signed spikes, which alone take back, and
            without ``spread``.

    The other arguments are those of `Calibrated`.
    """

    memory: bool = True
    spread: bool = False
    fraction: float = 1.0
    differential: bool = False

    def _problems(self) -> list[str]:
        problems = super()._problems() + nonpositive("fraction", self.fraction)
        problems += ["spread must be off where differential is on"] if self.differential and self.spread else []
        if self.differential and not self.takes_back():
            problems.append("differential must be off where no spike can take back; signed=True sends such spikes")
        return problems

    def takes_back(self) -> bool:
        """Whether negative spikes may correct what was sent."""
        return self.signed

    def sends_changes(self) -> bool:
        return self.differential

    def clips(self) -> bool:
        return self.fraction <= 1 and not self.differential

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        neurons = {site: self.neuron(scale) for site, scale in self.scales(graph, statistics).items()}
        if not self.differential:
            return Plan(repr(self), neurons)
        weights = 1 / torch.arange(1.0, self.steps + 1)[:, None]
        changing: dict[str, Neuron] = {site: Differential(neuron, weights) for site, neuron in neurons.items()}
        return Plan(repr(self), changing, SentOnce(), RunningSum())

    def neuron(self, scale: Tensor) -> Neuron:
        """The neuron of a site whose largest rate is to be ``scale``. Shape () or (C,)."""
        threshold = self.lowest(self.fraction * scale)
        inner = self.graded(threshold, self.memory)
        lowest = threshold / 2 ** (self.levels - 1) if self.powers else threshold
        return Biased(inner, lowest / (2 * self.steps)) if self.spread else inner

    def to_tune(self, snn: SpikingModel) -> SpikingModel:
        return with_temporal_bias(snn, self.steps)


def with_temporal_bias(snn: SpikingModel, steps: int) -> SpikingModel:
    """The same network with a bias of its own for each channel and step, for tuning to start from."""
    neurons: dict[str, Neuron] = {}
    for site, neuron in snn.plan.neurons.items():
        biased = neuron if isinstance(neuron, Biased) else Biased(neuron)
        bias = biased.bias
        channels = snn.graph.channels(site)
        rows = bias if bias.ndim == 2 else bias.expand(steps, channels)
        neurons[site] = Biased(biased.neuron, rows.clone(), biased.potential, not snn.plan.encoder.changes)
    return SpikingModel(snn.graph, dataclasses.replace(snn.plan, neurons=neurons))
