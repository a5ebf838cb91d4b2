"""Potential initialisation: start at half a threshold, so that the rate is rounded instead of floored.

References:
    Bu, Ding, Yu, Huang 2022, "Optimized potential initialization for low-latency spiking neural networks", AAAI 2022,
    arXiv 2202.01440.

Departure: the paper's networks are trained with an activation clipped at a trained threshold; here the threshold is
the 99.9th percentile of the layer's activations.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.methods.parts.scaled import ThresholdRule
from rheobase.methods.rate import RateCoding

__all__ = ["PotentialInit"]


@dataclass(frozen=True, repr=False)
class PotentialInit(RateCoding):
    """Binary rate coding from v(0) = threshold / 2, which is firing from half a threshold on (``fire=0.5``).

    Arguments are those of `RateCoding`.
    """

    threshold: ThresholdRule = 99.9
    per_channel: bool = False
