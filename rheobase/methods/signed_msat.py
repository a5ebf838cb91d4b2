"""MSAT with signed spikes, calibrated thresholds, temporal biases, and gradient tuning. Our own.

References:
    He, Li, Zhao, Kong, Zeng 2023, "Biologically Inspired Multi-Stage Adaptive Threshold for Conversion of Spiking
    Neural Networks", arXiv 2303.13080 (the threshold).
    Wang et al. 2022, "Signed neuron with memory", IJCAI 2022 (negative spikes).
    Wu et al. 2024, arXiv 2403.18388 (FTBC: the biases).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rheobase.methods.parts.adapted import Adapted
from rheobase.neurons import Neuron
from rheobase.neurons import SignedMSAT as SignedMSATNeuron

__all__ = ["SignedMSAT"]


@dataclass(frozen=True, repr=False)
class SignedMSAT(Adapted):
    """MSAT whose negative spikes take back what was sent too much; M is a calibrated scale of each channel.

    .. code-block:: text

        e(t) = max(v(t-1) + x(t), -r(t-1))                    r the sum of what was sent
        y(t) = th(t) if e(t) >= fire th(t), max(-th(t), -r(t-1)) if e(t) <= -fire th(t), else 0
        v(t) = v(t-1) + x(t) - y(t),  r(t) = r(t-1) + y(t)

    with th(t) that of `MSAT`.

    Args:
        fraction: M as a share of the scale. The threshold rests near half of M, hence more than 1.

    Of the other arguments, those of `rheobase.methods.parts.adapted.Adapted`, levels, powers, memory and spread have no
    meaning here.
    """

    signed: bool = True
    passes: int = 5
    fraction: float = 1.5

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not self.signed or not self.memory or self.levels > 1 or self.powers or self.spread:
            problems.append("signed and memory must be on, levels 1, and powers and spread off; it has nothing else")
        return problems

    def clips(self) -> bool:
        return False  # the threshold rises above the scale

    def neuron(self, scale: Tensor) -> Neuron:
        return SignedMSATNeuron(self.fraction * scale, self.adaptation(), self.fire)
