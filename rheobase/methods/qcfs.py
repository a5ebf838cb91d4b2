"""QCFS: networks that were trained with few levels become integrate-and-fire networks.

References:
    Bu et al. 2022, arXiv 2303.04347, "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking
    neural networks" (ICLR 2022). The activation to train with is `rheobase.qcfs.ClipFloorShift`.

Its relative, dual-phase conversion (Wang et al. 2022, "Towards lossless ANN-SNN conversion under ultra-low latency
with dual-phase optimization", code: Windere/snn-cvt-dual-phase), is not in this library. Its first phase retrains the
network with clip(round((z - th/2N) N/th)/N, 0, 1) under random quantisation, and its second fine-tunes weights,
thresholds and initial potentials of each layer on spike trains; neither works without training. What is left without
it is a QCFS network that floors instead of rounding; `PotentialInit` keeps the trained thresholds, and can be tuned.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.graph import Graph
from rheobase.methods.parts.scaled import Scaled
from rheobase.neurons import IF
from rheobase.observers import Statistics
from rheobase.plan import Plan

__all__ = ["QCFS"]


@dataclass(frozen=True, repr=False)
class QCFS(Scaled):
    """Integrate and fire from half of the threshold that the network was trained with.

    A site with L levels sends the ANN's activations exactly after T = L steps of constant currents, as in the first
    layer. In later layers the order in which spikes come leaves an error that falls with T. `ParallelConversion`
    (and `COS`, `SRP`, `TPP`) take the trained thresholds too; the first is exact in all layers where T = L and
    ``calibrate=False``.

    A site that is a plain ReLU gets a threshold by the rule, as in the other methods.

    Arguments and errors are those of `rheobase.methods.parts.scaled.Scaled`.
    """

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        return Plan(repr(self), {site: IF(th, th / 2) for site, th in self.scales(graph, statistics).items()})
