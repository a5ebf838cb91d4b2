"""The rows of the table of methods: a name, what its spikes are, and the method for T steps.

Settings are the same for every network. Numbers of iterations and learning rates were chosen by a few trials on
ResNet-20, by training images held out from calibration; the same trials also printed 2,000 test images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rheobase.methods import (
    BDETT,
    BSNN,
    COS,
    MSAT,
    QCFS,
    RMP,
    SNNC,
    SRP,
    TPP,
    TSC,
    AdaFire,
    AnnealedDelta,
    Auto,
    Burst,
    CalibratedMSAT,
    CanonicSigned,
    ConstantThreshold,
    DeltaCoding,
    DifferentialCoding,
    DoubleThreshold,
    GroupNeurons,
    LocalBalancing,
    MultiLevel,
    Opt,
    ParallelConversion,
    PotentialInit,
    RateCoding,
    RobustNorm,
    SigmaDelta,
    SignedMemory,
    SignedMSAT,
    SpiCalib,
    SpikeConverter,
    SpikeNorm,
    TemporalBias,
    ThresholdBalancing,
    TwoStage,
)
from rheobase.methods._base import Method

__all__ = ["BARS", "ENTRIES", "PUBLISHED", "TRAINED", "Bar", "Entry"]


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
        fixed: whether the method is the same for every T, so that one simulation of ``last`` steps says all.
        tuned: whether gradients calibrate it, which takes minutes.
        pools: whether it is another method only where the network has max pooling.
    """

    name: str
    group: str
    make: Callable[[int], Method]
    paper: str = ""
    first: int = 1
    last: int = 32
    fixed: bool = False
    tuned: bool = False
    pools: bool = False


BINARY, BINARY_WEIGHTED, TERNARY = "binary, causal", "binary, causal, step-weighted", "ternary, causal"
WEIGHTED, GRADED = "ternary, causal, step-weighted", "signed power of two (4), causal, step-weighted"
INTEGER, REAL, SYNCHRONOUS = "integer (15), causal", "real, causal", "binary, layer-synchronous"

ENTRIES = (
    Entry("weights normalised, hard reset", BINARY, lambda t: ThresholdBalancing(), "Diehl et al. 2015", 1, 128, True),
    Entry("weights normalised, hard reset, Poisson input", BINARY, lambda t: ThresholdBalancing(poisson=True),
          "Diehl et al. 2015", 1, 128, True),
    Entry("robust normalisation", BINARY, lambda t: RobustNorm(), "Rueckauer et al. 2017", 1, 128, True),
    Entry("robust normalisation, pooling by a gate", BINARY, lambda t: RobustNorm(gate=True),
          "Rueckauer et al. 2017", 1, 128, True, pools=True),
    Entry("Spike-Norm", BINARY, lambda t: SpikeNorm(), "Sengupta et al. 2019", 1, 128, True),
    Entry("RMP-SNN", BINARY, lambda t: RMP(), "Han et al. 2020", 1, 128, True),
    Entry("TSC, events are edges", TERNARY, lambda t: TSC(), "Han & Roy 2020", 1, 128, True),
    Entry("half of the maximum", BINARY, lambda t: ConstantThreshold(0.5), "He et al. 2023, Fig. 4", 1, 128, True),
    Entry("Opt", BINARY, lambda t: Opt(steps=t), "Deng & Gu 2021", 1, 128),
    Entry("potential initialisation", BINARY, lambda t: PotentialInit(steps=t), "Bu et al. 2022", 1, 128),
    Entry("two-stage thresholds", BINARY_WEIGHTED, lambda t: TwoStage(steps=t), "Kim et al. 2020", 1, 128),
    Entry("two-stage thresholds, searched", BINARY_WEIGHTED, lambda t: TwoStage(steps=t, trials=30), "Kim et al. 2020",
          4, 128),
    Entry("MMSE", BINARY, lambda t: RateCoding(steps=t), "Li et al. 2021, thresholds alone", 1, 128),
    Entry("SNNC, light", BINARY, lambda t: SNNC(steps=t), "Li et al. 2021", 1, 128),
    Entry("SNNC, light, rounding", BINARY, lambda t: SNNC(steps=t, fire=0.5, spread=False),
          "Li et al. 2021, half a threshold first", 1, 32),
    Entry("SNNC, advanced", BINARY, lambda t: SNNC(steps=t, calibration="potential"), "Li et al. 2021", 1, 128),
    Entry("SNNC, advanced, with weights", BINARY,
          lambda t: SNNC(steps=t, calibration="potential", weight_iterations=100), "Li et al. 2021", 1, 128),
    Entry("LTB, read late", BINARY, lambda t: LocalBalancing(steps=t), "Bu et al. 2025", 1, 128),
    Entry("SRP, 8 steps first", BINARY, lambda t: SRP(steps=t - 8), "Hao et al. 2023", 16, 64),
    Entry("FTBC", BINARY, lambda t: TemporalBias(steps=t), "Wu et al. 2024", 1, 128),
    Entry("FTBC, tuned", BINARY, lambda t: TemporalBias(steps=t, iterations=100, weight_rate=5e-3), "ours", 1, 32,
          tuned=True),
    Entry("Auto", BINARY, lambda t: Auto(alphabet="binary", steps=t), "ours", 4, 32, tuned=True),
    Entry("phases of BSNN alone, K = 4", BINARY_WEIGHTED, lambda t: BSNN(steps=t), "Li et al. 2021b", 1, 128),
    Entry("SpiCalib", TERNARY, lambda t: SpiCalib(steps=t), "Li, He et al. 2022", 1, 128),
    Entry("DA-parallel", SYNCHRONOUS, lambda t: ParallelConversion(steps=t), "Hao et al. 2025", 1, 32),
    Entry("DA-parallel, tuned", SYNCHRONOUS,
          lambda t: ParallelConversion(steps=t, iterations=100, weight_rate=5e-3), "ours", 2, 16, tuned=True),
    Entry("Auto", SYNCHRONOUS, lambda t: Auto("binary", step_weighted=False, causal=False, steps=t), "ours", 4, 16,
          tuned=True),
    Entry("COS", SYNCHRONOUS, lambda t: COS(steps=t), "Hao et al. 2023", 1, 32),
    Entry("TPP, random", SYNCHRONOUS, lambda t: TPP(steps=t), "Bojkovic et al. 2025", 1, 64),
    Entry("SpikeConverter, k = 2", "binary, layer-synchronous, step-weighted", lambda t: SpikeConverter(steps=t),
          "Liu et al. 2022", 1, 8),
    Entry("Auto", "binary, layer-synchronous, step-weighted", lambda t: Auto("binary", causal=False, steps=t), "ours",
          2, 4, tuned=True),
    Entry("double threshold", TERNARY, lambda t: DoubleThreshold(steps=t), "Yu et al. 2021", 1, 128),
    Entry("double threshold, augmented spikes", "signed integer (16), causal",
          lambda t: DoubleThreshold.augmented(steps=t), "Yu et al. 2021", 1, 128),
    Entry("SNM", TERNARY, lambda t: SignedMemory(steps=t), "Wang et al. 2022", 1, 64),
    Entry("SNM, FTBC", TERNARY, lambda t: SignedMemory(steps=t, calibration="temporal", passes=10),
          "combination", 1, 32),
    Entry("SNM, FTBC, tuned", TERNARY,
          lambda t: SignedMemory(steps=t, calibration="temporal", passes=5, iterations=150, weight_rate=5e-3),
          "ours", 2, 16, tuned=True),
    Entry("Auto", TERNARY, lambda t: Auto(step_weighted=False, steps=t), "ours", 2, 16, tuned=True),
    Entry("differential SNM, FTBC", WEIGHTED,
          lambda t: SignedMemory(steps=t, differential=True, calibration="temporal", passes=10), "combination", 1, 16),
    Entry("differential coding, n = 1", WEIGHTED, lambda t: DifferentialCoding(steps=t, levels=1, fire=0.5),
          "Huang et al. 2025", 1, 32),
    Entry("canonic signed spikes", WEIGHTED, lambda t: CanonicSigned(steps=t), "Gu et al. 2024", 1, 128),
    Entry("delta coding", WEIGHTED, lambda t: DeltaCoding(steps=t), "untuned", 1, 32),
    Entry("annealed delta, not tuned", WEIGHTED, lambda t: AnnealedDelta(steps=t, iterations=0), "ours", 1, 64),
    Entry("annealed delta, not tuned, FTBC", WEIGHTED,
          lambda t: AnnealedDelta(steps=t, iterations=0, calibration="temporal", passes=5), "ours", 1, 64),
    Entry("annealed delta", WEIGHTED, lambda t: AnnealedDelta(steps=t), "ours", 1, 8, tuned=True),
    Entry("Auto", WEIGHTED, lambda t: Auto(steps=t), "ours", 2, 8, tuned=True),
    Entry("multi-level, n = 4", "signed integer (15), causal", lambda t: MultiLevel(steps=t), "H-MT, AAAI 2026", 1, 8),
    Entry("multi-level, n = 4, Gaussian thresholds", "signed integer (15), causal",
          lambda t: MultiLevel(steps=t, threshold="gaussian"), "H-MT, AAAI 2026", 1, 8),
    Entry("differential coding, n = 4", GRADED, lambda t: DifferentialCoding(steps=t), "Huang et al. 2025", 1, 8),
    Entry("differential coding, n = 4, Gaussian thresholds", GRADED,
          lambda t: DifferentialCoding(steps=t, threshold="gaussian"), "Huang et al. 2025", 1, 8),
    Entry("differential coding, n = 4, FTBC", GRADED,
          lambda t: DifferentialCoding(steps=t, calibration="temporal", passes=5), "combination", 1, 8),
    Entry("differential coding, n = 4, tuned", GRADED,
          lambda t: DifferentialCoding(steps=t, iterations=120, weight_rate=5e-3), "ours", 1, 4, tuned=True),
    Entry("Auto", GRADED, lambda t: Auto(alphabet="power_of_two", steps=t), "ours", 1, 4, tuned=True),
    Entry("powers of two, rates", "signed power of two (4), causal",
          lambda t: RateCoding(steps=t, levels=4, powers=True, signed=True, fire=0.75), "Huang et al. 2024", 1, 16),
    Entry("Auto", "signed power of two (4), causal", lambda t: Auto("power_of_two", step_weighted=False, steps=t),
          "ours", 2, 4, tuned=True),
    Entry("burst", "integer (5), causal", lambda t: Burst(), "Li & Zeng 2022", 1, 128, True),
    Entry("group neurons", "integer (4), causal", lambda t: GroupNeurons(steps=t), "Lv et al. 2024", 1, 32),
    Entry("levels, n = 4", "integer (4), causal", lambda t: RateCoding(steps=t, levels=4), "GN, burst", 1, 16),
    Entry("levels, n = 4, FTBC, tuned", "integer (4), causal",
          lambda t: TemporalBias(steps=t, levels=4, iterations=100, weight_rate=5e-3), "ours", 1, 4, tuned=True),
    Entry("AdaFire", "integer (4), causal", lambda t: AdaFire(steps=t), "Wang et al. 2025", 1, 64),
    Entry("AdaFire, twice the events", "integer (4), causal", lambda t: AdaFire(steps=t, budget=2.0),
          "Wang et al. 2025", 1, 64),
    Entry("Auto", "integer (4), causal", lambda t: Auto("integer", step_weighted=False, signed=False, steps=t), "ours",
          1, 4, tuned=True),
    Entry("annealed delta, n = 4", "signed integer (4), causal, step-weighted",
          lambda t: AnnealedDelta(steps=t, levels=4), "ours", 1, 4, tuned=True),
    Entry("Auto", "signed integer (4), causal, step-weighted", lambda t: Auto(alphabet="integer", steps=t), "ours",
          1, 4, tuned=True),
    Entry("Sigma-Delta", "signed integer (15), causal", lambda t: SigmaDelta(steps=t), "O'Connor & Welling 2017", 1, 8),
    Entry("levels", INTEGER, lambda t: RateCoding(steps=t, levels=15), "GN, burst, H-MT", 1, 4),
    Entry("levels, tuned", INTEGER, lambda t: RateCoding(steps=t, levels=15, iterations=60, weight_rate=5e-3),
          "ours", 1, 2, tuned=True),
    Entry("Auto", INTEGER, lambda t: Auto("integer", levels=15, step_weighted=False, signed=False, steps=t), "ours",
          1, 2, tuned=True),
    Entry("levels", "integer (255), causal", lambda t: RateCoding(steps=t, levels=255), "8-bit activations", 1, 2),
    Entry("MSAT", REAL, lambda t: MSAT(), "He et al. 2023, constants for ResNet-20", 1, 128, True),
    Entry("MSAT, constants for VGG16", REAL, lambda t: MSAT.vgg16(), "He et al. 2023", 1, 128, True),
    Entry("BDETT", REAL, lambda t: BDETT(), "Ding et al. 2022", 1, 128, True),
    Entry("calibrated MSAT, FTBC", REAL, lambda t: CalibratedMSAT(steps=t), "ours", 1, 128),
    Entry("calibrated MSAT, FTBC, tuned", REAL,
          lambda t: CalibratedMSAT(steps=t, iterations=100, weight_rate=5e-3), "ours", 8, 16, tuned=True),
    Entry("calibrated MSAT, FTBC, rounded", "power of two (4), causal", lambda t: CalibratedMSAT(steps=t, payload=4),
          "ours", 1, 64),
    Entry("calibrated MSAT, FTBC, rounded, tuned", "power of two (4), causal",
          lambda t: CalibratedMSAT(steps=t, payload=4, iterations=100, weight_rate=5e-3), "ours", 8, 16, tuned=True),
    Entry("signed MSAT, FTBC", REAL, lambda t: SignedMSAT(steps=t, fraction=2.0), "ours", 1, 32),
    Entry("differential signed MSAT, FTBC", "real, causal, step-weighted",
          lambda t: SignedMSAT(steps=t, fraction=2.0, differential=True), "ours", 1, 16),
    Entry("signed MSAT, FTBC, tuned", REAL,
          lambda t: SignedMSAT(steps=t, fraction=2.0, iterations=100, weight_rate=5e-3), "ours", 2, 16, tuned=True),
    Entry("Auto", REAL, lambda t: Auto("real", steps=t), "ours", 1, 2, tuned=True),
)  # fmt: skip


# Of a network that was trained with few levels (QCFS): what keeps to its thresholds.
TRAINED = (
    Entry("QCFS", BINARY, lambda t: QCFS(steps=t), "Bu et al. 2022", 1, 64, True),
    Entry("FTBC", BINARY, lambda t: TemporalBias(steps=t), "Wu et al. 2024", 1, 32),
    Entry("SRP, 8 steps first", BINARY, lambda t: SRP(steps=t - 8), "Hao et al. 2023", 16, 64),
    Entry("layers that wait", SYNCHRONOUS, lambda t: ParallelConversion(steps=t, calibrate=False),
          "exact at T = L", 1, 16),
    Entry("COS", SYNCHRONOUS, lambda t: COS(steps=t), "Hao et al. 2023", 1, 16),
    Entry("SNM", TERNARY, lambda t: SignedMemory(steps=t), "Wang et al. 2022", 1, 32),
    Entry("SNM, FTBC", TERNARY, lambda t: SignedMemory(steps=t, calibration="temporal", passes=10),
          "combination", 1, 32),
)  # fmt: skip


# Points below their ANN, and their T, as Table 3 of He et al. 2023 has them: of other weights than ours, some of other
# widths. Where its loss is not the difference of its accuracies (burst), the difference is given.
PUBLISHED: dict[str, dict[str, str]] = {
    "resnet20-cifar10": {
        "RMP-SNN": "0.11 (2048)",
        "TSC, events are edges": "0.05 (2048)",
        "Opt": "0.05 (128)",
        "burst": "-0.03 (<256)",
        "MSAT": "0.01 (174)",
    },
    "vgg16-cifar10": {
        "RMP-SNN": "<0.01 (2048)",
        "TSC, events are edges": "<0.01 (2048)",
        "Opt": "0.10 (128)",
        "burst": "-0.01 (256)",
        "MSAT, constants for VGG16": "0.00 (112)",
    },
}


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
    return lambda t: TemporalBias(steps=t, iterations=iterations, weight_rate=5e-3)


def _snm(iterations: int) -> Callable[[int], Method]:
    return lambda t: SignedMemory(steps=t, calibration="temporal", passes=5, iterations=iterations, weight_rate=5e-3)


def _annealed(t: int) -> Method:
    return AnnealedDelta(steps=t, iterations=400, anytime=0.0)  # the goal is for T alone


def _parallel(iterations: int) -> Callable[[int], Method]:
    return lambda t: ParallelConversion(steps=t, iterations=iterations, weight_rate=5e-3)


def _powers(iterations: int) -> Callable[[int], Method]:
    return lambda t: DifferentialCoding(steps=t, iterations=iterations, weight_rate=5e-3)


def _levels(t: int) -> Method:
    return RateCoding(steps=t, levels=15, iterations=300 if t == 1 else 60, weight_rate=5e-3)


def _msat(t: int) -> Method:
    return SignedMSAT(steps=t, fraction=2.0, iterations=200 if t < 16 else 100, weight_rate=5e-3)


BARS = (
    Bar(INTEGER, _levels, 1, 0.5),
    Bar(INTEGER, _levels, 2, 0.1),
    Bar(GRADED, _powers(120), 2, 1.5),
    Bar(GRADED, _powers(200), 4, 0.2),
    Bar(SYNCHRONOUS, _parallel(600), 8, 1.0),
    Bar(SYNCHRONOUS, _parallel(300), 16, 0.3),
    Bar(WEIGHTED, _annealed, 2, 8.0),
    Bar(WEIGHTED, _annealed, 4, 2.0),
    Bar(WEIGHTED, _annealed, 6, 0.5),
    Bar(WEIGHTED, _annealed, 8, 0.2),
    Bar(TERNARY, _snm(400), 4, 4.0),
    Bar(TERNARY, _snm(150), 8, 1.0),
    Bar(TERNARY, _snm(60), 16, 0.2),
    Bar(BINARY, _ftbc(100), 16, 1.5),
    Bar(BINARY, _ftbc(60), 32, 0.4),
    Bar(REAL, _msat, 8, 1.0),
    Bar(REAL, _msat, 16, 0.3),
)
