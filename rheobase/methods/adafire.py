"""AdaFire: how many spikes each layer may send in a step, chosen under a budget of events.

References:
    Wang et al. 2025, "Adaptive calibration: a unified conversion framework of spiking neural networks", AAAI 2025.

For each layer and each number of levels phi in 1, 2, 4, ... the network is simulated with the most levels everywhere
else. The loss is the symmetric Kullback-Leibler divergence of its answers from those of the ANN, the cost the events
of that layer, a burst being one event. Choices are combined layer by layer, and of the combinations only those are
kept that no other beats in both; the best within the budget is taken. Losses are added over the layers as in the
paper, and thresholds are of least squared error (for neurons that floor) for each channel and each phi. Departures:
their compression of thresholds (SSC) and early exit (IAT) are left out.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rheobase.batches import Batches
from rheobase.calibration.layerwise import first_samples
from rheobase.errors import ConversionWarning, miscounts, nonpositive
from rheobase.graph import Graph
from rheobase.methods.rate import RateCoding
from rheobase.neurons import Neuron
from rheobase.observers import observe
from rheobase.plan import Plan
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

__all__ = ["AdaFire"]

_KEPT = 1000  # combinations after each layer


@dataclass(frozen=True, repr=False)
class AdaFire(RateCoding):
    """Burst spikes with a number of levels for each layer; ``levels`` is the most.

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t) + threshold / (2 T)
        n(t)     = clip(floor(v_pre(t) / threshold), 0, phi),  y(t) = n(t) threshold,  v(t) = v_pre(t) - y(t)
        phi      = argmin over choices for all layers of  sum of S_l(phi_l),  sum of E_l(phi_l) <= budget sum of E_l(1)

    with S_l the symmetric divergence of the answers and E_l the events of layer l where it may send phi_l at once.

    Args:
        budget: events in all, in units of what one level everywhere costs; greater than 0. The cheapest choice is
            taken where nothing stays within it.
        probe: how many calibration samples are simulated for each choice, at least 1.

    The other arguments are those of `RateCoding`.
    """

    measures: ClassVar[str] = "levels of each layer"

    steps: int = 8
    levels: int = 4
    fire: float = 1.0
    spread: bool = True
    calibration: Literal["none", "bias", "potential", "temporal"] = "bias"
    budget: float = 1.5
    probe: int = 64

    def _problems(self) -> list[str]:
        return super()._problems() + nonpositive("budget", self.budget) + miscounts(self, "probe")

    def spikes(self) -> str:
        return f"integer(1 to {self.levels})"  # each layer has its own

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        x = first_samples(batches, self.probe)
        with torch.no_grad():
            wanted = graph.answers(x)
        numbers = sorted({*(2**k for k in range(int(math.log2(self.levels)) + 1)), self.levels})
        plan = snn.plan
        plans = [self._with_levels(n, graph, batches) for n in numbers[:-1]] + [plan]
        choices = {site: [each.neurons[site] for each in plans] for site in plan.neurons}
        found = {
            site: [_measured(graph, plan, site, neuron, x, self.steps, wanted) for neuron in neurons]
            for site, neurons in choices.items()
        }
        limit = self.budget * sum(options[0][0] for options in found.values())
        chosen = best_within(list(found.values()), limit)
        spent = sum(options[k][0] for options, k in zip(found.values(), chosen, strict=True))
        if spent > limit:
            warnings.warn(
                f"AdaFire: no choice of levels stays within budget={self.budget:g}; the cheapest, which is taken, "
                f"spends {self.budget * spent / limit:.3g} times what one level everywhere costs. Allow a larger one.",
                ConversionWarning,
                stacklevel=3,
            )
        for site, k in zip(found, chosen, strict=True):
            plan = plan.with_neuron(site, choices[site][k])
        return super().refine(SpikingModel(graph, plan), graph, batches)

    def _with_levels(self, levels: int, graph: Graph, batches: Batches) -> Plan:
        """The neurons with so many levels everywhere."""
        fewer = dataclasses.replace(self, levels=levels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConversionWarning)  # of silent sites, which the first plan has warned of
            return fewer.plan(graph, observe(graph, batches, fewer.observer()))


def _measured(
    graph: Graph, plan: Plan, site: str, neuron: Neuron, x: Tensor, steps: int, wanted: Tensor
) -> tuple[float, float]:
    """The events of the site and the divergence of the answers, with this neuron there; of numbers, their error."""
    run = simulate(SpikingModel(graph, plan.with_neuron(site, neuron)), x, steps)
    a, b = wanted.double(), run.output.double()
    if a.ndim < 2 or a.shape[1] == 1:
        divergence = (a - b).square().sum() / len(x)
    else:
        p, q = a.log_softmax(1), b.log_softmax(1)
        divergence = ((p.exp() - q.exp()) * (p - q)).sum() / len(x)  # KL(p || q) + KL(q || p)
    return float(run.spikes[site].sum()), float(divergence)


def best_within(options: Sequence[Sequence[tuple[float, float]]], limit: float) -> tuple[int, ...]:
    """Choose one of the (cost, loss) pairs of each layer: the least sum of losses within the limit of costs.

    Exact while no more than 1,000 combinations stay unbeaten after a layer; beyond, every so many is kept.
    """
    nodes: list[tuple[float, float, tuple[int, ...]]] = [(0.0, 0.0, ())]
    for pairs in options:
        grown = sorted((c + cost, s + loss, (*chosen, k)) for c, s, chosen in nodes
                       for k, (cost, loss) in enumerate(pairs))  # fmt: skip
        nodes = []
        for node in grown:
            if not nodes or node[1] < nodes[-1][1]:
                nodes.append(node)
        nodes = [*nodes[: -1 : -(-len(nodes) // _KEPT)], nodes[-1]]
    within = [node for node in nodes if node[0] <= limit]
    return (within or nodes[:1])[-1][2]
