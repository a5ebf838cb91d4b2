"""FTBC: a bias for each channel and step.

References:
    Wu et al. 2024, "FTBC: forward temporal bias correction for optimizing ANN-SNN conversion", arXiv 2403.18388.

Departures: the rate is rounded by starting from half a threshold, not by a shift of threshold / (2 T) a step
(``spread=True, fire=1`` is theirs, also in that thresholds are for neurons that floor); ten passes over 256 samples at
once, not over batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rheobase.methods.rate import RateCoding

__all__ = ["TemporalBias"]


@dataclass(frozen=True, repr=False)
class TemporalBias(RateCoding):
    """Binary rate coding with thresholds of least squared error and a bias that makes each step's mean right.

    Arguments are those of `RateCoding`; ``signed=True`` combines it with `SignedMemory`.
    """

    calibration: Literal["none", "bias", "potential", "temporal"] = "temporal"
    passes: int = 10
