"""Conversion methods, one published method a file. What is in ``__all__`` is on every bench."""

from rheobase.methods.adafire import AdaFire
from rheobase.methods.annealed_delta import AnnealedDelta
from rheobase.methods.auto import Auto
from rheobase.methods.bdett import BDETT
from rheobase.methods.burst import Burst
from rheobase.methods.calibrated_msat import CalibratedMSAT
from rheobase.methods.canonic_signed import CanonicSigned
from rheobase.methods.constant import ConstantThreshold
from rheobase.methods.cos import COS
from rheobase.methods.delta import DeltaCoding
from rheobase.methods.differential import DifferentialCoding
from rheobase.methods.double_threshold import DoubleThreshold
from rheobase.methods.group_neurons import GroupNeurons
from rheobase.methods.local_balancing import LocalBalancing
from rheobase.methods.msat import MSAT
from rheobase.methods.multi_level import MultiLevel
from rheobase.methods.opt import Opt
from rheobase.methods.parallel import ParallelConversion
from rheobase.methods.phase_coding import BSNN
from rheobase.methods.potential_init import PotentialInit
from rheobase.methods.qcfs import QCFS
from rheobase.methods.rate import RateCoding
from rheobase.methods.rmp import RMP
from rheobase.methods.robust_norm import RobustNorm
from rheobase.methods.sigma_delta import SigmaDelta
from rheobase.methods.signed_memory import SignedMemory
from rheobase.methods.signed_msat import SignedMSAT
from rheobase.methods.snnc import SNNC
from rheobase.methods.spicalib import SpiCalib
from rheobase.methods.spike_converter import SpikeConverter
from rheobase.methods.spike_norm import SpikeNorm
from rheobase.methods.srp import SRP
from rheobase.methods.temporal_bias import TemporalBias
from rheobase.methods.threshold_balancing import ThresholdBalancing
from rheobase.methods.tpp import TPP
from rheobase.methods.tsc import TSC
from rheobase.methods.two_stage import TwoStage

__all__ = [
    "BDETT",
    "BSNN",
    "COS",
    "MSAT",
    "QCFS",
    "RMP",
    "SNNC",
    "SRP",
    "TPP",
    "TSC",
    "AdaFire",
    "AnnealedDelta",
    "Auto",
    "Burst",
    "CalibratedMSAT",
    "CanonicSigned",
    "ConstantThreshold",
    "DeltaCoding",
    "DifferentialCoding",
    "DoubleThreshold",
    "GroupNeurons",
    "LocalBalancing",
    "MultiLevel",
    "Opt",
    "ParallelConversion",
    "PotentialInit",
    "RateCoding",
    "RobustNorm",
    "SigmaDelta",
    "SignedMSAT",
    "SignedMemory",
    "SpiCalib",
    "SpikeConverter",
    "SpikeNorm",
    "TemporalBias",
    "ThresholdBalancing",
    "TwoStage",
]
