"""SRP: neurons with a negative residual potential are silenced after a first phase.

References:
    Hao et al. 2023, arXiv 2302.02091, "Reducing ANN-SNN conversion error through residual membrane potential"
    (AAAI 2023). The paper's networks are trained with QCFS (`rheobase.qcfs`) and take tau = 4 to 14; any ReLU network
    is accepted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.coding import Delayed
from rheobase.errors import miscounts
from rheobase.graph import Graph
from rheobase.methods.parts.scaled import Scaled
from rheobase.neurons import ResidualIF
from rheobase.observers import Statistics
from rheobase.plan import Plan

__all__ = ["SRP"]


@dataclass(frozen=True, repr=False)
class SRP(Scaled):
    """The network runs tau steps, silences the neurons whose residual potential is not above 0, and starts again.

    .. code-block:: text

        v(0) = threshold / 2, tau steps, then  m = 1[v(tau) > threshold / 1000]  and  v = threshold / 2 again
        y(t) = m threshold if v_pre(t) >= threshold, else 0

    Causal: each layer works in the same step as the one before it. The T steps that are read take tau + T steps,
    so the network is to be simulated for first_phase + steps steps; answers up to step tau are the mean so far, and
    later ones the mean since. Max pooling that reads spikes keeps its sums over the two phases.

    A neuron that was silenced by mistake stays so, and no number of steps T makes up for it: a network that was not
    trained with few levels needs a longer first phase.

    Args:
        first_phase: tau, at least 1.

    The other arguments and errors are those of `rheobase.methods.parts.scaled.Scaled`.
    """

    first_phase: int = 8

    def _problems(self) -> list[str]:
        return miscounts(self, "first_phase")

    def total_steps(self) -> int:
        return self.first_phase + self.steps

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        neurons = {site: ResidualIF(th, self.first_phase) for site, th in self.scales(graph, statistics).items()}
        return Plan(repr(self), neurons, readout=Delayed(self.first_phase))
