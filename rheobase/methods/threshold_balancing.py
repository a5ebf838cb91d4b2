"""Diehl's weight and threshold balancing: hard reset, the largest activation, Poisson input on demand.

References:
    Diehl, Neil, Binas, Cook, Liu, Pfeiffer 2015, "Fast-classifying, high-accuracy spiking deep networks through
    weight and threshold balancing", IJCNN 2015.

The paper divides the weights of a layer by its scale and multiplies them by that of the layer before, at a threshold
of 1; a threshold equal to the scale is the same network. Departures: biases are kept (the paper's networks have
none), and the scale is the largest activation alone (theirs is also at least the largest weight).

Trap: the reset to zero loses the charge above the threshold, so the rate of a constant current x is
threshold / ceil(threshold / x), and more steps do not close that gap.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from rheobase.batches import Batches
from rheobase.coding import Poisson
from rheobase.graph import Graph
from rheobase.methods.constant import ConstantThreshold
from rheobase.reading import Reading
from rheobase.spiking import SpikingModel

__all__ = ["ThresholdBalancing", "poisson_input"]


@dataclass(frozen=True, repr=False)
class ThresholdBalancing(ConstantThreshold):
    """Integrate-and-fire neurons with hard reset, whose threshold is the layer's largest activation.

    .. code-block:: text

        threshold = max a
        y(t)      = threshold if v(t-1) + x(t) >= threshold, else 0;  v(t) = 0 where it fired, else v(t-1) + x(t)

    Args:
        poisson: code the input as Poisson spikes, of the size of the largest input in the calibration data.

    The other arguments are those of `ConstantThreshold`.
    """

    reset: Literal["soft", "hard"] = "hard"
    poisson: bool = False

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        return poisson_input(snn, graph, batches) if self.poisson else snn


def poisson_input(snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
    """The same network with Poisson input, whose spikes have the size of the largest input seen."""
    read = Reading(batches)
    scale = read.alike(lambda: max(float(x.abs().max()) for x, _ in read))
    return SpikingModel(graph, dataclasses.replace(snn.plan, encoder=Poisson(scale or 1.0)))
