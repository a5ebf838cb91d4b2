"""Conversion methods, one published method a file. What is in ``__all__`` is on every bench."""

from rheobase.methods.adafire import AdaFire
from rheobase.methods.annealed_delta import AnnealedDelta
from rheobase.methods.burst import Burst
from rheobase.methods.constant import ConstantThreshold
from rheobase.methods.delta import DeltaCoding
from rheobase.methods.differential import DifferentialCoding
from rheobase.methods.double_threshold import DoubleThreshold
from rheobase.methods.group_neurons import GroupNeurons
from rheobase.methods.local_balancing import LocalBalancing
from rheobase.methods.msat import MSAT
from rheobase.methods.multi_level import MultiLevel
from rheobase.methods.opt import Opt
from rheobase.methods.potential_init import PotentialInit
from rheobase.methods.rate import RateCoding
from rheobase.methods.rmp import RMP
from rheobase.methods.robust_norm import RobustNorm
from rheobase.methods.signed_memory import SignedMemory
from rheobase.methods.snnc import SNNC
from rheobase.methods.spicalib import SpiCalib
from rheobase.methods.spike_norm import SpikeNorm
from rheobase.methods.temporal_bias import TemporalBias
from rheobase.methods.threshold_balancing import ThresholdBalancing
from rheobase.methods.tsc import TSC

__all__ = [
    "MSAT",
    "RMP",
    "SNNC",
    "TSC",
    "AdaFire",
    "AnnealedDelta",
    "Burst",
    "ConstantThreshold",
    "DeltaCoding",
    "DifferentialCoding",
    "DoubleThreshold",
    "GroupNeurons",
    "LocalBalancing",
    "MultiLevel",
    "Opt",
    "PotentialInit",
    "RateCoding",
    "RobustNorm",
    "SignedMemory",
    "SpiCalib",
    "SpikeNorm",
    "TemporalBias",
    "ThresholdBalancing",
]
