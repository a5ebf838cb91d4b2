"""MSAT with signed spikes, calibrated thresholds, temporal biases, and gradient tuning. Our own.

References:
    He, Li, Zhao, Kong, Zeng 2023, "Biologically Inspired Multi-Stage Adaptive Threshold for Conversion of Spiking
    Neural Networks", arXiv 2303.13080 (the threshold).
    Wang et al. 2022, "Signed neuron with memory", IJCAI 2022 (negative spikes).
    Wu et al. 2024, arXiv 2403.18388 (FTBC: the biases).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rheobase.methods.rate import RateCoding
from rheobase.neurons import Adaptation, Neuron
from rheobase.neurons import SignedMSAT as SignedMSATNeuron

__all__ = ["SignedMSAT"]


@dataclass(frozen=True, repr=False)
class SignedMSAT(RateCoding):
    """MSAT whose negative spikes take back what was sent too much; M is a calibrated scale of each channel.

    Args:
        fraction: M as a share of the scale. The threshold rests near half of M, hence more than 1.
        alpha: slope of the tracking threshold.
        tau_mp: weight of the tracking threshold.
        tau_rd: weight of the evoked threshold.
        c: sensitivity of the evoked threshold.
        v_t: V_T, in units of M.

    Of the other arguments, those of `RateCoding`, levels, powers, memory and spread have no meaning here.
    """

    signed: bool = True
    calibration: Literal["none", "bias", "potential", "temporal"] = "temporal"
    passes: int = 5
    fraction: float = 1.5
    alpha: float = 0.3
    tau_mp: float = 0.5
    tau_rd: float = 0.5
    c: float = 5.0
    v_t: float = -1.0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not self.signed or not self.memory or self.levels > 1 or self.powers or self.spread:
            problems.append("signed and memory must be on, levels 1, and powers and spread off; it has nothing else")
        return problems

    def clips(self) -> bool:
        return False  # the threshold rises above the scale

    def neuron(self, scale: Tensor) -> Neuron:
        adaptation = Adaptation(self.alpha, tau_mp=self.tau_mp, tau_rd=self.tau_rd, c=self.c, v_t=self.v_t)
        return SignedMSATNeuron(self.fraction * scale, adaptation, self.fire)
