"""Conversion methods, one published method a file. What is in ``__all__`` is on every bench."""

from rheobase.methods.annealed_delta import AnnealedDelta
from rheobase.methods.constant import ConstantThreshold
from rheobase.methods.delta import DeltaCoding
from rheobase.methods.differential import DifferentialCoding
from rheobase.methods.msat import MSAT
from rheobase.methods.opt import Opt
from rheobase.methods.potential_init import PotentialInit
from rheobase.methods.rate import RateCoding
from rheobase.methods.rmp import RMP
from rheobase.methods.robust_norm import RobustNorm
from rheobase.methods.signed_memory import SignedMemory
from rheobase.methods.snnc import SNNC
from rheobase.methods.spike_norm import SpikeNorm
from rheobase.methods.temporal_bias import TemporalBias
from rheobase.methods.threshold_balancing import ThresholdBalancing

__all__ = [
    "MSAT",
    "RMP",
    "SNNC",
    "AnnealedDelta",
    "ConstantThreshold",
    "DeltaCoding",
    "DifferentialCoding",
    "Opt",
    "PotentialInit",
    "RateCoding",
    "RobustNorm",
    "SignedMemory",
    "SpikeNorm",
    "TemporalBias",
    "ThresholdBalancing",
]
