"""MSAT with calibrated thresholds, a start from half, temporal biases, and rounded payloads on demand. Our own.

References:
    He, Li, Zhao, Kong, Zeng 2023, "Biologically Inspired Multi-Stage Adaptive Threshold for Conversion of Spiking
    Neural Networks", arXiv 2303.13080 (the neuron).
    Wu et al. 2024, arXiv 2403.18388 (FTBC: the biases).
    Bu et al. 2022, AAAI 2022 (half a threshold at the start).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rheobase.methods.rate import RateCoding
from rheobase.neurons import MSAT, Adaptation, Biased, Neuron
from rheobase.neurons.rounded import Rounded

__all__ = ["CalibratedMSAT"]


@dataclass(frozen=True, repr=False)
class CalibratedMSAT(RateCoding):
    """MSAT neurons whose M is a calibrated scale of each channel; other settings of `Adaptation` have its defaults.

    Args:
        start: v(0) as a share of M, from 0 to 1.
        payload: 0 for the threshold itself (a real number), or how many powers of two it is rounded to, up to 16.
        alpha: slope of the tracking threshold.
        tau_mp: weight of the tracking threshold.
        tau_rd: weight of the evoked threshold.
        v_t: V_T, in units of M.

    Of the other arguments, those of `RateCoding`, levels, powers, signed, memory and fire do not act on this neuron,
    and ``fire`` below 1 only says that thresholds are measured for rounding.
    """

    calibration: Literal["none", "bias", "potential", "temporal"] = "temporal"
    passes: int = 10
    start: float = 0.5
    payload: int = 0
    alpha: float = 0.3
    tau_mp: float = 0.5
    tau_rd: float = 0.5
    v_t: float = -1.0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        problems += [f"start is {self.start}; it must be from 0 to 1"] if not 0 <= self.start <= 1 else []
        problems += [f"payload is {self.payload}; it must be from 0 to 16"] if not 0 <= self.payload <= 16 else []
        if self.signed or self.levels > 1 or self.powers or self.spread:
            problems.append("signed, levels, powers and spread must be off; MSAT has none of them")
        if self.payload and (self.iterations or self.layer_iterations):
            problems.append("payload must be 0 where there are iterations; what is rounded cannot be tuned")
        return problems

    def neuron(self, scale: Tensor) -> Neuron:
        adaptation = Adaptation(self.alpha, tau_mp=self.tau_mp, tau_rd=self.tau_rd, v_t=self.v_t)
        inner: Neuron = MSAT(self.fraction * scale, adaptation)
        inner = Rounded(inner, self.payload) if self.payload else inner
        return Biased(inner, potential=self.start * self.fraction * scale)
