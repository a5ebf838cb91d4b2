"""SpiCalib: a negative spike takes one back where a neuron has been silent for longer than usual.

References:
    Li, He, Dong, Kong, Zeng 2022, "Spike calibration: fast and accurate conversion of spiking neural network for
    object detection and segmentation", arXiv 2207.02702.

Neurons whose activation is negative may fire before their negative currents arrive; those spikes are the error that
this removes. Written from a summary: the charge of a negative spike goes back to the potential here, so that nothing
is lost, and the paper's allowance (a hyper-parameter) is 4 steps. The paper combines it with burst spikes; here
neurons are binary.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rheobase.methods.parts.scaled import ThresholdRule
from rheobase.methods.rate import RateCoding
from rheobase.neurons import Neuron
from rheobase.neurons.retracting import Retracting

__all__ = ["SpiCalib"]


@dataclass(frozen=True, repr=False)
class SpiCalib(RateCoding):
    """Binary rate coding with percentile thresholds and negative spikes after long silence.

    .. code-block:: text

        y(t) = -threshold   where nothing fires, n(t-1) > 0 and the silence > mean interval + allowance
        n(t) = n(t-1) + y(t) / threshold

    Args:
        allowance: how much longer than the mean interval a silence must be, in steps; at least 1.

    The other arguments are those of `RateCoding`; spikes are binary before they are taken back.
    """

    steps: int = 32
    threshold: ThresholdRule = 99.9
    per_channel: bool = False
    fire: float = 1.0
    allowance: float = 4.0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        problems += [f"allowance is {self.allowance}; it must be at least 1"] if not self.allowance >= 1 else []
        if self.signed or self.levels > 1 or self.spread:
            problems.append("signed, levels and spread must be off; the neuron inside is binary")
        if self.iterations or self.layer_iterations:
            problems.append("iterations and layer_iterations must be 0; what is taken back has no gradient")
        return problems

    def takes_back(self) -> bool:
        return True

    def neuron(self, scale: Tensor) -> Neuron:
        return Retracting(super().neuron(scale), self.allowance)
