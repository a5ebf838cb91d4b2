"""MSAT: thresholds that adapt to each neuron's potential and input, and spike confidence.

References:
    He, Li, Zhao, Kong, Zeng 2023, "Biologically Inspired Multi-Stage Adaptive Threshold for
    Conversion of Spiking Neural Networks", arXiv 2303.13080.

Where the paper and its released code (github.com/Brain-Cog-Lab/MSAT) differ, the defaults follow
the paper and `MSAT.release` gives the code:

=====================================  ===============================  =========================
what                                   paper                            released code
=====================================  ===============================  =========================
rate of depolarisation in Eq. 13       change of the potential before   input current
                                       firing
tau_rd (Eqs. 11 and 13)                twice                            once
V_T (Eq. 12)                           "parameter to optimise"          minus the layer's maximum
charge of a filtered spike (Eq. 15)    kept                             lost
spike confidence measured on           not said                         test images
units of the potentials                not said                         raw
=====================================  ===============================  =========================

In raw units the sigmoid makes the threshold of a layer with a maximum above about 10 vanish, so
normalised units are the default here, also in `release`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from rheobase.batches import Batches
from rheobase.calibration import measure_confidence
from rheobase.errors import SettingError, miscounts
from rheobase.graph import Graph
from rheobase.methods._base import Method
from rheobase.neurons import MSAT as MSATNeuron
from rheobase.neurons import Adaptation, SpikeConfidence
from rheobase.observers import Max, Observer, Statistics
from rheobase.plan import Plan
from rheobase.spiking import SpikingModel
from rheobase.thresholds import scales

__all__ = ["MSAT"]


@dataclass(frozen=True, repr=False)
class MSAT(Method, Adaptation):
    """Multi-stage adaptive threshold; the fields of `Adaptation` are its own.

    .. code-block:: text

        th(t) = M sigmoid(tau_mp DTT(t) + tau_rd DET(t)),  th(1) = M
        DTT   = alpha u + V_T + ka ln(1 + exp(u / ki))     u the potential above its own mean, in units of M
        DET   = tau_rd exp(-d / c)                         d the rate of depolarisation, in units of M

    Args:
        confidence: filter early spikes by spike confidence (Eqs. 14 and 15).
        confidence_steps: E, how many early steps.
        confidence_sites: "last" spiking layer (paper), "all", or the names of sites.
        keep_charge: whether a filtered spike stays in the potential (paper).

    Raises:
        SettingError: a value is outside its range.
    """

    confidence: bool = False
    confidence_steps: int = 16
    confidence_sites: str | tuple[str, ...] = "last"
    keep_charge: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if problems := miscounts(self, "confidence_steps"):
            raise SettingError(f"MSAT: {problems[0]}.")
        sites = self.confidence_sites
        if isinstance(sites, list):
            object.__setattr__(self, "confidence_sites", tuple(sites))
        elif not isinstance(sites, str | tuple):
            raise SettingError(f'MSAT: confidence_sites is {sites!r}; it must be "last", "all" or the names of sites.')

    @classmethod
    def release(cls, **changes: Any) -> Self:
        """The variant of the authors' released code, with the hyper-parameters of ResNet20."""
        return cls(**{"depolarisation": "current", "tau_rd_twice": False, "keep_charge": False, **changes})

    def observer(self) -> Observer:
        return Max()

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        self._sites(graph)  # a wrong name is found before anything is simulated
        adaptation = self.adaptation()
        return Plan(repr(self), {site: MSATNeuron(m, adaptation) for site, m in scales(statistics).items()})

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        if not self.confidence:
            return snn
        plan = snn.plan
        confidence = measure_confidence(snn, graph, batches, self._sites(graph), self.confidence_steps)
        for site, p in confidence.items():
            filtered = SpikeConfidence(plan.neurons[site], p, self.confidence_steps, self.keep_charge)
            plan = plan.with_neuron(site, filtered)
        return SpikingModel(graph, plan)

    def _sites(self, graph: Graph) -> Sequence[str]:
        if self.confidence_sites == "all":
            return graph.sites
        if self.confidence_sites == "last":
            return graph.sites[-1:]
        named = (self.confidence_sites,) if isinstance(self.confidence_sites, str) else self.confidence_sites
        unknown = [site for site in named if site not in graph.sites]
        if unknown:
            raise SettingError(
                f'MSAT: confidence_sites names {unknown}; accepted are "last", "all" and {list(graph.sites)}.'
            )
        return named
