"""The rows of the table of methods: a name, what its spikes are, and the method for T steps.

Settings are the same for every network. They were chosen on training images held out from calibration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rheobase.methods import (
    MSAT,
    AnnealedDelta,
    ConstantThreshold,
    DeltaCoding,
    DifferentialCoding,
    RateCoding,
    SignedMemory,
    TemporalBias,
)
from rheobase.methods._base import Method

__all__ = ["ENTRIES", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One row.

    Attributes:
        name: as in the table.
        group: what the receiver must be able to take.
        make: the method for T.
        paper: where it comes from.
        first: the fewest steps it is measured at.
        last: the most.
    """

    name: str
    group: str
    make: Callable[[int], Method]
    paper: str = ""
    first: int = 1
    last: int = 32


BINARY, TERNARY = "binary, causal", "ternary, causal"
WEIGHTED, GRADED = "ternary, causal, step-weighted", "power of two (4), causal"
INTEGER, REAL, SYNCHRONOUS = "integer (15), causal", "real, causal", "binary, layer-synchronous"

ENTRIES = (
    Entry("maximum, v(0) = 0", BINARY, lambda t: ConstantThreshold(),
          "Diehl et al. 2015; RMP in the MSAT paper", 8, 128),
    Entry("half of the maximum", BINARY, lambda t: ConstantThreshold(0.5), "He et al. 2023, fig. 4", 8, 128),
    Entry("99.9 %, half threshold at the start", BINARY,
          lambda t: ConstantThreshold(percentile=99.9, per_channel=True, initial_potential=0.5),
          "SpikingJelly's best", 8, 64),
    Entry("MMSE", BINARY, lambda t: RateCoding(steps=t), "Li et al. 2021, thresholds alone", 4),
    Entry("FTBC", BINARY, lambda t: TemporalBias(steps=t), "Wu et al. 2024", 4),
    Entry("FTBC, tuned", BINARY, lambda t: TemporalBias(steps=t, iterations=150, weight_rate=3e-4), "ours", 8),
    Entry("SNM", TERNARY, lambda t: SignedMemory(steps=t), "Wang et al. 2022", 2),
    Entry("SNM, FTBC", TERNARY, lambda t: SignedMemory(steps=t, calibration="temporal", passes=10),
          "combination", 2),
    Entry("SNM, FTBC, tuned", TERNARY,
          lambda t: SignedMemory(steps=t, calibration="temporal", passes=5, iterations=400, weight_rate=5e-4),
          "ours", 2, 16),
    Entry("differential coding, n = 1", WEIGHTED, lambda t: DifferentialCoding(steps=t, levels=1, fire=0.5),
          "Huang et al. 2025", 2),
    Entry("delta coding", WEIGHTED, lambda t: DeltaCoding(steps=t), "untuned", 2),
    Entry("annealed delta", WEIGHTED, lambda t: AnnealedDelta(steps=t, iterations=500), "ours", 2, 8),
    Entry("differential coding, n = 4", GRADED, lambda t: DifferentialCoding(steps=t), "Huang et al. 2025", 1, 16),
    Entry("differential coding, n = 4, tuned", GRADED,
          lambda t: DifferentialCoding(steps=t, iterations=150, weight_rate=5e-4), "ours", 1, 4),
    Entry("levels", INTEGER, lambda t: RateCoding(steps=t, levels=15), "GN, burst, H-MT", 1, 8),
    Entry("levels, tuned", INTEGER, lambda t: RateCoding(steps=t, levels=15, iterations=60, weight_rate=3e-4),
          "ours", 1, 2),
    Entry("MSAT", REAL, lambda t: MSAT(), "He et al. 2023", 8, 128),
)  # fmt: skip
