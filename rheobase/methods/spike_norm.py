"""Spike-Norm: thresholds from the currents of the spiking network itself, one layer after the other.

References:
    Sengupta, Ye, Wang, Liu, Roy 2019, "Going deeper in spiking neural networks: VGG and residual architectures",
    arXiv 1802.02627.

Departures: input is the analog image unless ``poisson=True`` (the paper has Poisson spikes); biases are kept; the two
branches of a residual block keep thresholds of their own, since spikes here carry their threshold. The maximum grows
with the steps and images that are simulated. The reset to zero loses charge (see `ThresholdBalancing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from rheobase.batches import Batches
from rheobase.calibration import Layer, layerwise
from rheobase.errors import SettingError, miscounts, nonpositive
from rheobase.graph import Graph
from rheobase.methods._base import Method
from rheobase.methods.threshold_balancing import poisson_input
from rheobase.neurons import IF, Neuron
from rheobase.observers import Max, Observer, Statistics
from rheobase.plan import Plan
from rheobase.spiking import SpikingModel
from rheobase.thresholds import scales

__all__ = ["SpikeNorm"]


@dataclass(frozen=True, repr=False)
class SpikeNorm(Method):
    """threshold = alpha * the largest current that any neuron of the layer (or channel) receives in any step.

    .. code-block:: text

        y(t) = threshold if v(t-1) + x(t) >= threshold, else 0, with the reset that is given

    Args:
        steps: how many are simulated for it, at least 1.
        alpha: greater than 0.
        reset: "soft" (by subtraction) or "hard" (to zero).
        poisson: code the input as Poisson spikes, of the size of the largest input in the calibration data.
        images: how many calibration samples are simulated, at least 1.
        per_channel: one threshold for each channel (dimension 1) instead of one for the layer (paper).

    Raises:
        SettingError: a value is outside its range.
    """

    measures: ClassVar[str] = "currents of the spiking network"

    steps: int = 64
    alpha: float = 1.0
    reset: Literal["soft", "hard"] = "hard"
    poisson: bool = False
    images: int = 32
    per_channel: bool = False

    def __post_init__(self) -> None:
        problems = miscounts(self, "steps", "images") + nonpositive("alpha", self.alpha)
        if self.reset not in ("soft", "hard"):
            problems.append(f'reset is {self.reset!r}; it must be "soft" or "hard"')
        if problems:
            raise SettingError(f"{type(self).__name__}: " + "; ".join(problems) + ".")

    def total_steps(self) -> None:
        """None: ``steps`` are those of the calibration, and the thresholds serve any number."""

    def observer(self) -> Observer:
        return Max(per_channel=self.per_channel)

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        """The largest activations, for `refine` to start from."""
        return Plan(repr(self), {site: IF(m, reset=self.reset) for site, m in scales(statistics).items()})

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        snn = poisson_input(snn, graph, batches) if self.poisson else snn

        def adjust(layer: Layer) -> Neuron:
            kept = 2 if self.per_channel else -1
            largest = self.alpha * layer.currents.amax([d for d in range(layer.currents.ndim) if d != kept])
            observed = layer.neuron.get_buffer("threshold")  # where nothing arrives
            return IF(torch.where(largest > 0, largest, observed), reset=self.reset)

        return layerwise(snn, graph, batches, self.steps, adjust, images=self.images)
