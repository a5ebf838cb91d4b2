"""BSNN, the part that needs no bistable neuron: thresholds that follow the phase of a clock.

References:
    Li et al. 2021, "BSNN: towards faster and better conversion of artificial neural networks to spiking neural
    networks with bistable neurons".

Low confidence: written from a short summary. In the paper the weight of a spike is 2^-(1 + t mod K), and a bistable
neuron alternates between a silent period, in which it gathers its input, and an active one; synchronous neurons wait
on skip paths. Here there is no silent period, so that layers work in the same step; and as the input arrives in all
steps, the threshold is K times as large: the spikes of one period can carry the current of one period.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rheobase.errors import miscounts
from rheobase.methods.parts.scaled import ThresholdRule
from rheobase.methods.rate import RateCoding
from rheobase.neurons import Neuron

__all__ = ["BSNN"]


@dataclass(frozen=True, repr=False)
class BSNN(RateCoding):
    """threshold(t) = K scale 2^-(1 + (t - 1) mod K): binary, step-weighted.

    Args:
        steps: T; in later steps the threshold stays as in the last one, so simulate no more.
        period: K, at least 1.

    The other arguments are those of `RateCoding`.
    """

    steps: int = 32
    threshold: ThresholdRule = 99.9
    per_channel: bool = False
    fire: float = 1.0
    period: int = 4

    def _problems(self) -> list[str]:
        problems = super()._problems() + miscounts(self, "period")
        problems += ["spread must be off; each phase has a threshold of its own"] if self.spread else []
        return problems

    def neuron(self, scale: Tensor) -> Neuron:
        phase = torch.arange(self.steps) % self.period
        share = self.fraction * self.period * 0.5 ** (1 + phase)  # (T,)
        return self.graded(self.scheduled(share, scale), self.memory)

    def clips(self) -> bool:
        return self.steps % self.period == 0 and super().clips()  # the first phases may send more than their share
