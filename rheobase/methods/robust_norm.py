"""Robust normalisation: a percentile of the activations, and soft reset.

References:
    Rueckauer, Lungu, Hu, Pfeiffer, Liu 2017, "Conversion of continuous-valued deep networks to efficient event-driven
    networks for image classification", Frontiers in Neuroscience 11:682.

Departures: the percentile is over all activations of a layer, zeros included, by default (their toolbox leaves zeros
out, which makes 99.9 % a higher value: ``nonzero=True``). Max pooling is exact by default; their gate is ``gate=True``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rheobase.graph import Graph
from rheobase.methods.constant import ConstantThreshold
from rheobase.observers import Observer, Percentile, Statistics
from rheobase.plan import Plan

__all__ = ["RobustNorm"]


@dataclass(frozen=True, repr=False)
class RobustNorm(ConstantThreshold):
    """Integrate-and-fire neurons with soft reset, whose threshold is the 99.9th percentile of the layer.

    .. code-block:: text

        threshold = quantile(a, percentile)
        y(t)      = threshold if v(t-1) + x(t) >= threshold, else 0;  v(t) = v(t-1) + x(t) - y(t)

    Args:
        gate: max pooling passes on the spikes of the unit that has sent the most. A pooling between a layer and its
            ReLU, or right behind that, then reads the neurons' spikes, and there are neurons for each of its inputs.
        nonzero: rank activations above 0 alone.

    The other arguments are those of `ConstantThreshold`.
    """

    percentile: float = 99.9
    gate: bool = False
    nonzero: bool = False

    def observer(self) -> Observer:
        observer = super().observer()
        return dataclasses.replace(observer, nonzero=self.nonzero) if isinstance(observer, Percentile) else observer

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        plan = super().plan(graph, statistics)
        return dataclasses.replace(plan, pooling="gate") if self.gate else plan
