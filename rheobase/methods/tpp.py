"""TPP: two-phase probabilistic neurons.

References:
    Bojkovic, Wu & Gu 2025, arXiv 2502.14487, "Temporal misalignment in ANN-SNN conversion and its mitigation via
    probabilistic spiking neurons" (ICML 2025). Written from the paper's text, without its code: treat a difference
    from its figures as ours. The paper combines it with QCFS networks and with calibrated ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.graph import Graph
from rheobase.methods.parts.scaled import Scaled
from rheobase.neurons import Probabilistic
from rheobase.observers import Statistics
from rheobase.plan import Plan

__all__ = ["TPP"]


@dataclass(frozen=True, repr=False)
class TPP(Scaled):
    """Each layer waits for all T steps, and sends spikes at random, with the frequency that its mean current asks for.

    .. code-block:: text

        v(0) = sum over t of x(t),  p(t) = clip(v(t-1) / (threshold (T - t + 1)), 0, 1)
        y(t) = threshold with probability p(t), else 0;  v(t) = v(t-1) - y(t)

    Layer-synchronous: T steps of spikes take T steps for each layer of the longest chain. Random, so it is to be
    evaluated with several seeds. See `rheobase.neurons.Probabilistic`.

    Arguments and errors are those of `rheobase.methods.parts.scaled.Scaled`.
    """

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        return Plan(repr(self), {site: Probabilistic(th) for site, th in self.scales(graph, statistics).items()})
