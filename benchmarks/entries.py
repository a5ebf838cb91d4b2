"""The rows of the table of methods: a name, what its spikes are, and the method for T steps.

Settings are the same for every network. Numbers of iterations and learning rates were chosen by a few trials on
ResNet-20, by training images held out from calibration; the same trials also printed 2,000 test images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rheobase.methods import (
    COS,
    MSAT,
    SNNC,
    AnnealedDelta,
    Burst,
    DeltaCoding,
    DifferentialCoding,
    ParallelConversion,
    RateCoding,
    SigmaDelta,
    SignedMemory,
    SignedMSAT,
    SpikeConverter,
    TemporalBias,
)
from rheobase.methods._base import Method

__all__ = ["BARS", "ENTRIES", "Bar", "Entry"]


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
    Entry("MMSE", BINARY, lambda t: RateCoding(steps=t), "Li et al. 2021, thresholds alone", 4),
    Entry("SNNC, light", BINARY, lambda t: SNNC(steps=t), "Li et al. 2021", 8),
    Entry("FTBC", BINARY, lambda t: TemporalBias(steps=t), "Wu et al. 2024", 4),
    Entry("FTBC, tuned", BINARY, lambda t: TemporalBias(steps=t, iterations=100, weight_rate=3e-4), "ours", 8, 16),
    Entry("DA-parallel", SYNCHRONOUS, lambda t: ParallelConversion(steps=t), "Hao et al. 2025", 4, 16),
    Entry("DA-parallel, tuned", SYNCHRONOUS,
          lambda t: ParallelConversion(steps=t, iterations=100, weight_rate=3e-4), "ours", 4, 16),
    Entry("COS", SYNCHRONOUS, lambda t: COS(steps=t), "Hao et al. 2023", 4, 16),
    Entry("SpikeConverter, k = 2", "binary, layer-synchronous, step-weighted", lambda t: SpikeConverter(steps=t),
          "Liu et al. 2022", 2, 8),
    Entry("SNM", TERNARY, lambda t: SignedMemory(steps=t), "Wang et al. 2022", 4),
    Entry("SNM, FTBC", TERNARY, lambda t: SignedMemory(steps=t, calibration="temporal", passes=10),
          "combination", 4, 16),
    Entry("SNM, FTBC, tuned", TERNARY,
          lambda t: SignedMemory(steps=t, calibration="temporal", passes=5, iterations=150, weight_rate=4e-4),
          "ours", 4, 8),
    Entry("Sigma-Delta", "integer, causal", lambda t: SigmaDelta(steps=t), "O'Connor & Welling 2017", 2, 8),
    Entry("differential coding, n = 1", WEIGHTED, lambda t: DifferentialCoding(steps=t, levels=1, fire=0.5),
          "Huang et al. 2025", 4, 16),
    Entry("delta coding", WEIGHTED, lambda t: DeltaCoding(steps=t), "untuned", 2, 16),
    Entry("annealed delta", WEIGHTED, lambda t: AnnealedDelta(steps=t), "ours", 2, 8),
    Entry("differential coding, n = 4", GRADED, lambda t: DifferentialCoding(steps=t), "Huang et al. 2025", 1, 8),
    Entry("differential coding, n = 4, tuned", GRADED,
          lambda t: DifferentialCoding(steps=t, iterations=120, weight_rate=5e-4), "ours", 1, 4),
    Entry("burst", "integer (5), causal", lambda t: Burst(), "Li & Zeng 2022", 8, 32),
    Entry("levels", INTEGER, lambda t: RateCoding(steps=t, levels=15), "GN, burst, H-MT", 1, 4),
    Entry("levels, tuned", INTEGER, lambda t: RateCoding(steps=t, levels=15, iterations=60, weight_rate=3e-4),
          "ours", 1, 2),
    Entry("MSAT", REAL, lambda t: MSAT(), "He et al. 2023", 8, 32),
    Entry("signed MSAT, FTBC", REAL, lambda t: SignedMSAT(steps=t, fraction=2.0), "ours", 4, 16),
    Entry("signed MSAT, FTBC, tuned", REAL,
          lambda t: SignedMSAT(steps=t, fraction=2.0, iterations=100, weight_rate=4e-4), "ours", 4, 8),
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """What was set as a goal: at most so many points below the ANN at T.

    Attributes:
        group: the spikes.
        make: the method that is to meet it.
        steps: T.
        drop: points of accuracy.
    """

    group: str
    make: Callable[[int], Method]
    steps: int
    drop: float


def _ftbc(iterations: int) -> Callable[[int], Method]:
    return lambda t: TemporalBias(steps=t, iterations=iterations, weight_rate=3e-4)


def _snm(iterations: int, rate: float) -> Callable[[int], Method]:
    return lambda t: SignedMemory(steps=t, calibration="temporal", passes=5, iterations=iterations, weight_rate=rate)


def _annealed(iterations: int) -> Callable[[int], Method]:
    return lambda t: AnnealedDelta(steps=t, iterations=iterations)


def _parallel(t: int) -> Method:
    return ParallelConversion(steps=t, iterations=300 if t < 16 else 100, weight_rate=3e-4)


def _powers(iterations: int, rate: float) -> Callable[[int], Method]:
    return lambda t: DifferentialCoding(steps=t, iterations=iterations, weight_rate=rate)


def _levels(t: int) -> Method:
    return RateCoding(steps=t, levels=15, iterations=60, weight_rate=3e-4)


def _msat(t: int) -> Method:
    return SignedMSAT(steps=t, fraction=2.0, iterations=100 if t < 16 else 60, weight_rate=4e-4)


BARS = (
    Bar(INTEGER, _levels, 1, 0.5),
    Bar(INTEGER, _levels, 2, 0.1),
    Bar(GRADED, _powers(120, 5e-4), 2, 1.5),
    Bar(GRADED, _powers(200, 4e-4), 4, 0.2),
    Bar(SYNCHRONOUS, _parallel, 8, 1.0),
    Bar(SYNCHRONOUS, _parallel, 16, 0.3),
    Bar(WEIGHTED, _annealed(1500), 2, 8.0),
    Bar(WEIGHTED, _annealed(600), 4, 2.0),
    Bar(WEIGHTED, _annealed(500), 6, 0.5),
    Bar(WEIGHTED, _annealed(160), 8, 0.2),
    Bar(TERNARY, _snm(150, 5e-4), 4, 4.0),
    Bar(TERNARY, _snm(150, 4e-4), 8, 1.0),
    Bar(TERNARY, _snm(60, 3e-4), 16, 0.2),
    Bar(BINARY, _ftbc(100), 16, 1.5),
    Bar(BINARY, _ftbc(60), 32, 0.4),
    Bar(REAL, _msat, 8, 1.0),
    Bar(REAL, _msat, 16, 0.3),
)
