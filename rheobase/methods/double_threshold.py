"""Double threshold (TerMapping) and augmented spikes (AugMapping).

References:
    Yu et al. 2021, "Constructing accurate and efficient deep spiking neural networks with
    double-threshold and augmented schemes", IEEE TNNLS.

Written from a summary of the paper. A negative threshold alone would let negative activations pass, which a ReLU does
not; so a negative spike is sent only while the sum of what was sent stays at or above 0 (``memory=False`` drops that
rule). An augmented spike carries how many thresholds it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from rheobase.methods.burst import Burst
from rheobase.methods.parts.scaled import ThresholdRule

__all__ = ["DoubleThreshold"]


@dataclass(frozen=True, repr=False)
class DoubleThreshold(Burst):
    """A spike at v >= threshold, a negative one at v <= -threshold, both with soft reset.

    Arguments are those of `Burst`.
    """

    threshold: ThresholdRule = "max"
    levels: int = 1
    signed: bool = True

    @classmethod
    def augmented(cls, **changes: Any) -> Self:
        """Spikes that carry a whole number of thresholds, up to 16."""
        return cls(**{"levels": 16, **changes})
