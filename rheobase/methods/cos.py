"""COS: offset spikes calibrated by a trial run of each layer.

References:
    Hao et al. 2023, arXiv 2302.10685, "Bridging the gap between ANNs and SNNs by calibrating offset spikes"
    (ICLR 2023). The paper's networks are trained with QCFS (`rheobase.qcfs`); any ReLU network is accepted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rheobase.errors import miscounts
from rheobase.graph import Graph
from rheobase.methods.parts.scaled import Scaled
from rheobase.neurons import OffsetIF
from rheobase.observers import Statistics
from rheobase.plan import Plan

__all__ = ["COS"]


@dataclass(frozen=True, repr=False)
class COS(Scaled):
    """Integrate and fire whose initial potentials are moved where a trial run gave a spike too many or too few.

    .. code-block:: text

        v(0) = threshold / 2, and after a trial run of rho steps
        v(0) -= max(threshold, least v_pre of a spike - threshold)     where v(rho) < 0 and something fired
        v(0) += max(threshold, threshold - largest v_pre of silence)   where v(rho) >= threshold

    Layer-synchronous: T steps of spikes take iterations * pre_steps + T steps for each layer of the longest chain.
    The rule is that of `rheobase.neurons.OffsetIF`.

    Args:
        pre_steps: rho, the steps of a trial run; at least 1, and None takes T.
        iterations: how many of them, at least 1.

    The other arguments and errors are those of `rheobase.methods.parts.scaled.Scaled`.
    """

    measures: ClassVar[str] = "potentials, in each run"

    pre_steps: int | None = None
    iterations: int = 1

    def _problems(self) -> list[str]:
        return miscounts(self, *([] if self.pre_steps is None else ["pre_steps"]), "iterations")

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        thresholds = self.scales(graph, statistics)
        return Plan(repr(self), {s: OffsetIF(th, self.pre_steps, self.iterations) for s, th in thresholds.items()})
