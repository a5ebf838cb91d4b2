"""Annealed delta coding: ternary changes whose size shrinks by a calibrated schedule. Our own.

Nearest relatives:
    O'Connor & Welling 2017, "Sigma delta quantized networks", arXiv 1611.02024 (integers, a fixed step).
    Huang et al. 2025, "Differential coding for training-free ANN-to-SNN conversion" (steps falling as 1/t, powers
    of two).
    Gu et al. 2024, "Canonic signed spikes", arXiv 2408.17245 (geometric weights, a silent step a layer).
    Stoeckl & Maass 2021, "Optimized spiking neurons can classify images with high accuracy through temporal coding
    with two spikes", arXiv 2002.00860 (few-spikes neurons, layer-synchronous).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from rheobase.methods.delta import DeltaCoding

__all__ = ["AnnealedDelta"]


@dataclass(frozen=True, repr=False)
class AnnealedDelta(DeltaCoding):
    """Ternary delta coding with a geometric schedule to start from, and everything tuned by gradient.

    .. code-block:: text

        C(t) = C(t-1) + x(t)                                  (the input and the biases come once, at t = 1)
        q(t) = (relu(C(t)) - r(t-1)) / theta(t) + offset(t)
        s(1) = 2 if q(1) >= 1 + fire(1), 1 if q(1) >= fire(1), else 0      (``doubled``)
        s(t) = 1 if q(t) >= fire(t), -1 if q(t) <= -fire(t), else 0
        r(t) = r(t-1) + theta(t) s(t),    theta(t) = M f g^(t-1) to start from

    Tuned are the threshold of each channel and step (by its logarithm), the level that fires, an offset, and the
    weights and biases, on at most some 1,000 images without labels. Each layer works in the same step as the one
    before it (causal). The alphabet is ternary and step-weighted: an event is one of two symbols, and the step says
    what they are worth, theta(1) and 2 theta(1) in the first, theta(t) and -theta(t) later (``doubled``).

    Args:
        iterations: of 32 images each; `fast` and `best` are presets.

    The other arguments are those of `DeltaCoding` and `Calibrated`.
    """

    iterations: int = 160
    weight_rate: float = 5e-3
    anytime: float = 1.0
    doubled: bool = True

    @classmethod
    def fast(cls, **changes: object) -> Self:
        """Within two minutes for a ResNet-20 of 8 steps on two cores."""
        return cls(**{"iterations": 100, **changes})  # type: ignore[arg-type]

    @classmethod
    def best(cls, **changes: object) -> Self:
        """Five times the iterations of the default."""
        return cls(**{"iterations": 800, **changes})  # type: ignore[arg-type]
