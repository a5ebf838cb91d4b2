"""TSC, temporal switch coding: spikes switch currents on and off.

References:
    Han & Roy 2020, "Deep spiking neural network: energy efficiency through time based coding", ECCV 2020.

Written from the abstract (low confidence on details). A neuron's train of spikes travels as its edges: +1 where a run
of spikes begins and -1 where it ends, and receivers hold the current between. What is computed is exactly what
`ConstantThreshold` with the same settings computes; only the count of events differs. Departures: a pixel is an analog
current, switched on once, where theirs is a pair of spikes whose distance is its intensity; the paper's thresholds
are those of `RMP`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rheobase.coding import MeanOfSums, SentOnce
from rheobase.graph import Graph
from rheobase.methods.constant import ConstantThreshold
from rheobase.neurons.edges import EdgeTransmission
from rheobase.observers import Statistics
from rheobase.plan import Plan

__all__ = ["TSC"]


@dataclass(frozen=True, repr=False)
class TSC(ConstantThreshold):
    """Integrate-and-fire neurons whose spikes are sent as edges; arguments are those of `ConstantThreshold`.

    .. code-block:: text

        sent at t: y(t) - y(t-1), y the spikes of `ConstantThreshold`;  x(t) = x(t-1) + W (what arrives)
    """

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        plan = super().plan(graph, statistics)
        neurons = {site: EdgeTransmission(neuron) for site, neuron in plan.neurons.items()}
        return dataclasses.replace(plan, neurons=neurons, encoder=SentOnce(), readout=MeanOfSums(), pooling="edges")
