"""Conversion methods, one published method a file. What is in ``__all__`` is on every bench."""

from rheobase.methods.annealed_delta import AnnealedDelta
from rheobase.methods.auto import Auto
from rheobase.methods.constant import ConstantThreshold
from rheobase.methods.cos import COS
from rheobase.methods.delta import DeltaCoding
from rheobase.methods.differential import DifferentialCoding
from rheobase.methods.msat import MSAT
from rheobase.methods.parallel import ParallelConversion
from rheobase.methods.qcfs import QCFS
from rheobase.methods.rate import RateCoding
from rheobase.methods.signed_memory import SignedMemory
from rheobase.methods.spike_converter import SpikeConverter
from rheobase.methods.srp import SRP
from rheobase.methods.temporal_bias import TemporalBias
from rheobase.methods.tpp import TPP

__all__ = [
    "COS",
    "MSAT",
    "QCFS",
    "SRP",
    "TPP",
    "AnnealedDelta",
    "Auto",
    "ConstantThreshold",
    "DeltaCoding",
    "DifferentialCoding",
    "ParallelConversion",
    "RateCoding",
    "SignedMemory",
    "SpikeConverter",
    "TemporalBias",
]
