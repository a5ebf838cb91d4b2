"""Rate coding from its parts: a threshold rule, a neuron, and calibration passes.

Most published methods are one choice of these; see the files beside this one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rheobase.batches import Batches
from rheobase.calibration import calibrate_bias, calibrate_potential, calibrate_temporal_bias
from rheobase.coding import RunningSum, SentOnce
from rheobase.graph import Graph
from rheobase.methods.scaled import Scaled, ThresholdRule
from rheobase.methods.tuned import Tuned
from rheobase.neurons import Biased, Differential, GradedIF, Neuron
from rheobase.neurons.alphabet import mislevelled
from rheobase.observers import Statistics
from rheobase.plan import Plan
from rheobase.spiking import SpikingModel

__all__ = ["Calibrated", "Levelled", "RateCoding", "ThresholdRule"]

_ROUNDING = 2.0**-12
"""The share of a threshold that rounding may take: a neuron that sent n spikes and must take them back is at -r, and
r, a sum of n rounded numbers, times the reciprocal of the threshold need not be a whole number."""


@dataclass(frozen=True, repr=False)
class Levelled(Scaled):
    """Neurons with spikes of several levels.

    Args:
        levels: magnitudes of a spike, from 1 to 65,536, with powers of two to 16.
        powers: whether they are powers of two.
        signed: whether spikes may be negative.
        fire: the smallest potential that fires, in thresholds (of the lowest level); with 1 and a memory, one that
            differs from it by rounding alone fires too.

    The other arguments and errors are those of `rheobase.methods.scaled.Scaled`.
    """

    levels: int = 1
    powers: bool = False
    signed: bool = False
    fire: float = 0.5

    def _problems(self) -> list[str]:
        problems = super()._problems()
        problems += mislevelled("levels", self.levels, self.powers)
        problems += [f"fire is {self.fire}; it must be greater than 0"] if not 0 < self.fire < float("inf") else []
        return problems

    def resolution(self) -> int:
        return self.steps * (2 ** (self.levels - 1) if self.powers else self.levels)

    def rounds(self) -> bool:
        return self.fire < 1

    def lowest(self, scale: Tensor) -> Tensor:
        """The threshold of a spike, without powers of two that of one level, for the scale that all levels make."""
        return scale / (1 if self.powers else self.levels)

    def scheduled(self, shares: Tensor, scale: Tensor) -> Tensor:
        """The threshold of each step, for shares of the scale. (T,), () or (C,) -> (T, C)."""
        return self.lowest(shares.to(scale)[:, None] * scale.reshape(1, -1))

    def least(self, memory: bool) -> float:
        """The potential that fires; rounding may leave one with spikes to take back below a whole threshold."""
        return self.fire - _ROUNDING if memory and self.signed and self.fire == 1 else self.fire

    def graded(self, threshold: Tensor, memory: bool) -> GradedIF:
        """The neuron with this threshold, and with these levels and signs."""
        memory = memory and self.signed
        return GradedIF(threshold, self.levels, self.powers, self.signed, memory, self.least(memory))


@dataclass(frozen=True, repr=False)
class Calibrated(Tuned, Levelled):
    """What rate and delta coding share: spikes of several levels, calibration layer by layer, and tuning by gradient.

    Args:
        calibration: "none", a "bias" a channel, a "potential" a neuron, or a "temporal" bias a channel and step. What
            sends changes has the last alone.
        passes: of that calibration, at least 1.
        images: how many calibration samples it uses. Gradients use the first 1,024, whatever this is.

    The other arguments and errors are those of `Levelled` and of `rheobase.methods.tuned.Tuned`.
    """

    calibration: Literal["none", "bias", "potential", "temporal"] = "none"
    passes: int = 1
    images: int = 256

    def _problems(self) -> list[str]:
        problems = super()._problems()
        problems += [f"{n} is {getattr(self, n)}; it must be at least 1" for n in ("passes", "images")
                     if getattr(self, n) < 1]  # fmt: skip
        accepted = ("none", "temporal") if self.sends_changes() else ("none", "bias", "potential", "temporal")
        if self.calibration not in accepted:
            known = f"{', '.join(accepted[:-1])} or {accepted[-1]}"
            problems.append(f"calibration is {self.calibration!r}; it must be {known}")
        return problems

    def sends_changes(self) -> bool:
        """Whether neurons send changes of their activations."""
        return False

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        snn = self.calibrated(snn, graph, batches)
        if self.iterations or self.layer_iterations:
            snn = super().refine(self.to_tune(snn), graph, batches)
        return snn

    def calibrated(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        """The network after the calibration layer by layer."""
        if self.calibration == "none":
            return snn
        calibrate = {
            "bias": calibrate_bias,
            "potential": calibrate_potential,
            "temporal": calibrate_temporal_bias,
        }[self.calibration]
        return calibrate(snn, graph, batches, self.steps, passes=self.passes, images=self.images)

    def to_tune(self, snn: SpikingModel) -> SpikingModel:
        """What tuning starts from."""
        return snn


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
        problems = super()._problems()
        if not 0 < self.fraction < float("inf"):
            problems.append(f"fraction is {self.fraction}; it must be greater than 0")
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
