"""A conversion method of one's own in a file of one's own; nothing has to be registered.

    rheobase evaluate --config examples/digits.toml --method 'examples/half_step.py:HalfStep(fraction=0.8)'

The idea: a neuron that starts with half a threshold in its potential rounds the activation to the nearest number
of spikes, where one that starts with none rounds it down (Bu et al. 2022, arXiv 2202.01440).
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.graph import Graph
from rheobase.methods._base import Method
from rheobase.neurons import IF
from rheobase.observers import Max, Observer, Statistics
from rheobase.plan import Plan
from rheobase.thresholds import scales


@dataclass(frozen=True, repr=False)
class HalfStep(Method):
    """Integrate and fire with threshold = fraction * maximum, starting at half of it."""

    fraction: float = 1.0

    def observer(self) -> Observer:
        return Max()

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        thresholds = {site: self.fraction * maximum for site, maximum in scales(statistics).items()}
        return Plan(repr(self), {site: IF(th, th / 2) for site, th in thresholds.items()})
