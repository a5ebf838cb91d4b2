"""Local threshold balancing with delayed read-out.

References:
    Bu, Li, Yu 2025, "Inference-scale complexity in ANN-SNN conversion for high-performance and low-power
    applications", CVPR 2025, arXiv 2409.03368.

Answers are the mean over the steps after t0, when every layer can have begun to fire:

.. code-block:: text

    t0 = sum over layers of (threshold - v(0)) / (the largest mean activation of a channel),  at most T - 4

with the threshold of that channel. Departures: t0 is measured on calibration images, on channels instead of neurons;
the rule iterates over all the data at once (see the observer `LTB`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from rheobase.batches import Batches
from rheobase.calibration.activations import activations
from rheobase.calibration.layerwise import channel_mean, first_samples
from rheobase.coding import Delayed
from rheobase.graph import Graph
from rheobase.methods.parts.scaled import ThresholdRule
from rheobase.methods.rate import RateCoding
from rheobase.neurons import Biased
from rheobase.spiking import SpikingModel

__all__ = ["LocalBalancing"]


@dataclass(frozen=True, repr=False)
class LocalBalancing(RateCoding):
    """Binary rate coding with thresholds that grew until little is clipped, read after a delay.

    .. code-block:: text

        th   <- th + rate mean(2 (a - th) 1[a > th]), from 0
        o(T) = 1 / (T - t0) times the sum over t > t0 of the outputs

    Args:
        delay: how many early steps are not read, fewer than ``steps``; None computes t0.

    The other arguments are those of `RateCoding`.
    """

    measures: ClassVar[str] = "delay"

    steps: int = 64
    threshold: ThresholdRule = "ltb"
    delay: int | None = None

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.delay is not None and not 0 <= self.delay < self.steps:
            problems.append(f"delay is {self.delay}; it must be at least 0 and below steps, {self.steps}")
        return problems + (["differential must be off; a sum cannot be read late"] if self.differential else [])

    def calibrated(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        """The calibrated network, read late: also while it is tuned."""
        snn = super().calibrated(snn, graph, batches)
        delay = self._wait(snn, graph, batches) if self.delay is None else self.delay
        return SpikingModel(graph, dataclasses.replace(snn.plan, readout=Delayed(delay)))

    @torch.no_grad()
    def _wait(self, snn: SpikingModel, graph: Graph, batches: Batches) -> int:
        with activations(graph) as seen:
            graph.module(first_samples(batches, self.images))
        wait = 0.0
        for site, activation in seen.items():
            neuron = snn.plan.neurons[site]
            threshold = neuron.threshold if isinstance(neuron, Biased) else neuron.get_buffer("threshold")
            largest, channel = channel_mean(activation).max(0)
            if float(largest) > 0:
                place = min(int(channel), threshold.numel() - 1)
                wait += self.fire * float(threshold.flatten()[place]) / float(largest)
        return max(0, min(round(wait), self.steps - 4))
