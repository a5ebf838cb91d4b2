"""SpikeConverter: layers accumulate, then send digits.

References:
    Liu et al. 2022, "SpikeConverter: an efficient conversion framework zipping the gap between artificial neural
    networks and spiking neural networks" (AAAI 2022). No code was published; this is written from the paper's text.
    Few-spikes neurons (Stoeckl & Maass 2021, arXiv 2002.00860) send binary digits too.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.graph import Graph
from rheobase.methods.parts.scaled import Scaled
from rheobase.neurons import Radix
from rheobase.observers import Statistics
from rheobase.plan import Plan

__all__ = ["SpikeConverter"]


@dataclass(frozen=True, repr=False)
class SpikeConverter(Scaled):
    """Each layer waits for all T steps, and sends the digits of its mean current, the most significant first.

    Layer-synchronous: T steps of spikes take T steps for each layer of the longest chain. The values of spikes depend
    on the step (step-weighted) unless the radix is 1; see `rheobase.neurons.Radix`. An answer before the last step
    is made of the leading digits alone, so only the one after T = steps is of use.

    Args:
        radix: from 1 (rate coding) to 2 (binary digits). The paper searches for it; 2 has the most levels.

    The other arguments and errors are those of `rheobase.methods.parts.scaled.Scaled`.
    """

    steps: int = 8
    radix: float = 2.0

    def _problems(self) -> list[str]:
        return [] if 1 <= self.radix <= 2 else [f"radix is {self.radix}; it must be from 1 to 2"]

    def resolution(self) -> int:
        shortest = sum(self.radix**t for t in range(min(self.steps, 64)))  # the scale in units of the last digit
        shortest = max(shortest, float(self.steps)) if self.radix == 1 else shortest
        return max(1, round(min(shortest, 4096.0)))

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        return Plan(repr(self), {site: Radix(th, self.radix) for site, th in self.scales(graph, statistics).items()})
