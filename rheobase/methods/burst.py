"""Burst spikes: up to five thresholds at once.

References:
    Li & Zeng 2022, "Efficient and accurate conversion of spiking neural network with burst spikes", IJCAI 2022,
    arXiv 2204.13271.

Their LIPooling is the exact pooling of running sums that the library always does (`CumulativeMaxPool`). Their
threshold is a percentile, by layer or channel; the example in their code has 99 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rheobase.methods.parts.scaled import ThresholdRule
from rheobase.methods.rate import RateCoding
from rheobase.neurons import Neuron

__all__ = ["Burst"]


@dataclass(frozen=True, repr=False)
class Burst(RateCoding):
    """A neuron sends floor(v / threshold) spikes in one step, at most ``levels`` (the paper's Gamma).

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t)
        n(t)     = min(floor(v_pre(t) / threshold), levels) where that is positive, else 0
        y(t)     = n(t) threshold,  v(t) = v_pre(t) - y(t)

    The scale is the threshold of one spike, not of a whole burst as in `RateCoding`. Other arguments are the same.
    """

    threshold: ThresholdRule = 99.9
    per_channel: bool = False
    levels: int = 5
    fire: float = 1.0

    def clips(self) -> bool:
        return self.levels == 1 and super().clips()

    def neuron(self, scale: Tensor) -> Neuron:
        return super().neuron(scale * (1 if self.powers else self.levels))
