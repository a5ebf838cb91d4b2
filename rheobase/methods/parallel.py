"""Parallel conversion with distribution-aware calibration (DA-QCFS).

References:
    Hao et al. 2025, "Parallel conversion" (ICML 2025; code: hzc1208/Parallel_Conversion).

There threshold, psi and phi are running values over one epoch of training data: the largest activation of each
channel, and exponential averages of the gaps between the ANN and a quantised copy that runs beside it. Here they are
exact means over the calibration samples, taken layer by layer, each with the currents that the corrected layers before
it give; no step is left to a decay rate, and the order of the samples has no effect. ``threshold="max"`` gives the
paper's threshold; by default it is the one of least squared error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rheobase.batches import Batches
from rheobase.calibration import Layer, layerwise
from rheobase.calibration.layerwise import channel_mean
from rheobase.errors import miscounts
from rheobase.graph import Graph
from rheobase.methods.parts.tuned import Tuned
from rheobase.neurons import Neuron, Parallel
from rheobase.observers import Statistics
from rheobase.plan import Plan
from rheobase.spiking import SpikingModel

__all__ = ["ParallelConversion"]


@dataclass(frozen=True, repr=False)
class ParallelConversion(Tuned):
    r"""Each layer waits for all T steps, and sends its quantised mean current as spikes of equal weight.

    .. code-block:: text

        psi = E[z - m]              what the ANN's pre-activation is above the mean current, for each channel
        phi = E[a - k threshold/T]  what the activation is above the rate, for each channel
        y(t) = threshold + phi for t <= k, else 0       (see `rheobase.neurons.Parallel`)

    Layer-synchronous: T steps of spikes take T steps for each layer of the longest chain.

    Args:
        calibrate: whether psi and phi are measured; otherwise they are 0.
        images: how many calibration samples are used for it, at least 1.

    The other arguments and errors are those of `rheobase.methods.parts.tuned.Tuned`.
    """

    measures: ClassVar[str] = "mean currents and rates"

    calibrate: bool = True
    images: int = 256

    def _problems(self) -> list[str]:
        return super()._problems() + miscounts(self, "images")

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        return Plan(repr(self), {site: Parallel(th) for site, th in self.scales(graph, statistics).items()})

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        if self.calibrate:
            snn = layerwise(snn, graph, batches, self.steps, _corrected, images=self.images)
        return super().refine(snn, graph, batches)


def _corrected(layer: Layer) -> Neuron:
    assert isinstance(layer.neuron, Parallel)
    threshold = layer.neuron.threshold
    psi = channel_mean(layer.pre_activation) - channel_mean(layer.currents.mean(0))
    rate = layer.emit(Parallel(threshold, psi)).mean(0)
    return Parallel(threshold, psi, channel_mean(layer.activation) - channel_mean(rate))
