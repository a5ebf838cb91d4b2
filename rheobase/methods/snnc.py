"""SNNC, "calibration": thresholds of least squared error, and biases or potentials fitted layer by layer.

References:
    Li, Deng, Dong, Gong, Gu 2021, "A free lunch from ANN: towards efficient, accurate spiking neural networks
    calibration", ICML 2021, arXiv 2106.06984.

``SNNC.light()`` fits a bias for each channel, ``SNNC.advanced()`` an initial potential for each neuron (what the
authors' CIFAR script does). Their ImageNet script also fits weights, layer by layer; here weights are tuned end to end
(``iterations=160, weight_rate=5e-3``; see `rheobase.calibration.tune`). Their grid of thresholds averages over some
batches; here it is the exact minimum of a histogram of all of them. Their script for CIFAR runs 32 steps whatever it
is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from rheobase.methods.rate import RateCoding

__all__ = ["SNNC"]


@dataclass(frozen=True, repr=False)
class SNNC(RateCoding):
    """Binary rate coding with half a threshold spread over the steps, and calibrated biases or potentials.

    Arguments are those of `RateCoding`.
    """

    fire: float = 1.0
    spread: bool = True
    calibration: Literal["none", "bias", "potential", "temporal"] = "bias"

    @classmethod
    def light(cls, **changes: Any) -> Self:
        """Biases (the default)."""
        return cls(**{"calibration": "bias", **changes})

    @classmethod
    def advanced(cls, **changes: Any) -> Self:
        """Initial potentials."""
        return cls(**{"calibration": "potential", **changes})
