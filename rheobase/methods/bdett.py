"""BDETT: thresholds that follow the potential.

References:
    Ding et al. 2022, "Biologically inspired dynamic thresholds for spiking neural networks", NeurIPS 2022,
    arXiv 2206.04426.

The paper trains networks for control; here its neuron takes the place of a ReLU, with the largest activation as scale
and constants where the paper has statistics of the layer at each step. `MSAT` puts the same rule through a sigmoid.
Spikes carry the threshold, a real number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rheobase.errors import SettingError, nonpositive
from rheobase.graph import Graph
from rheobase.methods._base import Method
from rheobase.neurons.bdett import BDETT as BDETTNeuron
from rheobase.observers import Max, Observer, Statistics
from rheobase.plan import Plan
from rheobase.thresholds import scales

__all__ = ["BDETT"]


@dataclass(frozen=True, repr=False)
class BDETT(Method):
    """Integrate-and-fire neurons with dynamic thresholds; see the neuron of the same name.

    .. code-block:: text

        th(t) = M max((E(t) + H(t)) / 2, 0.05),  th(1) = M    M the largest activation of the layer
        E(t)  = eta u + rest + ln(1 + exp(u / psi))           u the potential above its own mean, in units of M
        H(t)  = a + exp(-d / c)                               d the rate of depolarisation, in units of M

    Args:
        eta: slope of the energy term.
        psi: width of its softplus, greater than 0.
        rest: its offset.
        a: offset of the temporal term.
        c: its sensitivity, greater than 0.

    Raises:
        SettingError: a value is outside its range.
    """

    eta: float = 0.3
    psi: float = 4.0
    rest: float = 0.0
    a: float = 0.0
    c: float = 5.0

    def __post_init__(self) -> None:
        problems = nonpositive("psi", self.psi) + nonpositive("c", self.c)
        problems += [f"{n} is not finite" for n in ("eta", "rest", "a")
                     if not math.isfinite(getattr(self, n))]  # fmt: skip
        if problems:
            raise SettingError("BDETT: " + "; ".join(problems) + ".")

    def observer(self) -> Observer:
        return Max()

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        numbers = (self.eta, self.psi, self.rest, self.a, self.c)
        return Plan(repr(self), {site: BDETTNeuron(m, *numbers) for site, m in scales(statistics).items()})
