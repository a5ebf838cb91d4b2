"""FTBC: a bias for each channel and step.

References:
    Wu et al. 2024, "FTBC: forward temporal bias correction for optimizing ANN-SNN conversion", arXiv 2403.18388.
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
