"""Conversion methods, one published method a file. What is in ``__all__`` is on every bench."""

from rheobase.methods.annealed_delta import AnnealedDelta
from rheobase.methods.auto import Auto
from rheobase.methods.constant import ConstantThreshold
from rheobase.methods.delta import DeltaCoding
from rheobase.methods.differential import DifferentialCoding
from rheobase.methods.msat import MSAT
from rheobase.methods.rate import RateCoding
from rheobase.methods.signed_memory import SignedMemory
from rheobase.methods.temporal_bias import TemporalBias

__all__ = [
    "MSAT",
    "AnnealedDelta",
    "Auto",
    "ConstantThreshold",
    "DeltaCoding",
    "DifferentialCoding",
    "RateCoding",
    "SignedMemory",
    "TemporalBias",
]
