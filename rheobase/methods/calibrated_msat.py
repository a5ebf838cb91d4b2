"""MSAT with calibrated thresholds, a start from half, temporal biases, and rounded payloads on demand. Our own.

References:
    He, Li, Zhao, Kong, Zeng 2023, "Biologically Inspired Multi-Stage Adaptive Threshold for Conversion of Spiking
    Neural Networks", arXiv 2303.13080 (the neuron).
    Wu et al. 2024, arXiv 2403.18388 (FTBC: the biases).
    Bu et al. 2022, AAAI 2022 (half a threshold at the start).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rheobase.methods.parts.adapted import Adapted
from rheobase.neurons import MSAT, Biased, Neuron
from rheobase.neurons.alphabet import mislevelled
from rheobase.neurons.rounded import Rounded

__all__ = ["CalibratedMSAT"]


@dataclass(frozen=True, repr=False)
class CalibratedMSAT(Adapted):
    """MSAT neurons whose M is a calibrated scale of each channel.

    .. code-block:: text

        v(0) = start M,  v_pre(t) = v(t-1) + x(t) + bias(t)
        y(t) = th(t) if v_pre(t) >= th(t), else 0;  v(t) = v_pre(t) - y(t)

    with th(t) = M sigmoid(...) of `rheobase.neurons.MSAT`, rounded to a power of two times M where there is a payload.

    Such a scale suits T steps already, where the paper's M, the largest activation, is far too high. A threshold that
    rests at half of it, as with the paper's V_T, is then too low: here it rests at M sigmoid(2 ln 2 + 1/4) = 0.84 M.

    Args:
        start: v(0) as a share of M, from 0 to 1.
        payload: 0 for the threshold itself (a real number), or how many powers of two it is rounded to, up to 16.

    Of the other arguments, those of `rheobase.methods.parts.adapted.Adapted`, levels, powers, signed and memory have
    no meaning here, and ``fire`` below 1 only says that thresholds are measured for rounding.
    """

    passes: int = 10
    tau_mp: float = 2.0
    v_t: float = 0.0
    start: float = 0.5
    payload: int = 0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        problems += [f"start is {self.start}; it must be from 0 to 1"] if not 0 <= self.start <= 1 else []
        problems += mislevelled("payload", self.payload, powers=True, least=0)
        if self.signed or not self.memory or self.levels > 1 or self.powers or self.spread:
            problems.append("signed, powers and spread must be off, levels 1 and memory on; MSAT has nothing else")
        problems += ["differential must be off; SignedMSAT has it"] if self.differential else []
        return problems

    def neuron(self, scale: Tensor) -> Neuron:
        inner: Neuron = MSAT(self.fraction * scale, self.adaptation())
        inner = Rounded(inner, self.payload) if self.payload else inner
        return Biased(inner, potential=self.start * self.fraction * scale)
